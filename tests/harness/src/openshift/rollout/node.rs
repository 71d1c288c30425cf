//! The update of one node, write by write.
//!
//! ```text
//! controller  desiredConfig = new            the node is retargeted, its state still Done
//! daemon      state Working, desiredDrain = drain-new
//! controller  cordon … drain … lastAppliedDrain = drain-new
//! daemon      files and operating system; post-config-action Rebooting, beside the state Working
//! kubelet     silent (Ready Unknown), then another boot ID and version, NotReady, Ready
//! daemon      post-config-action emptied; desiredDrain = uncordon-new
//! controller  uncordon, lastAppliedDrain = uncordon-new
//! daemon      currentConfig = new, state Done
//! ```
//!
//! The order of the last two is from the daemon's `completeUpdate`, which waits until its node is
//! uncordoned before it reports Done. Releases before the end of 2023 had the state Rebooting instead of the
//! post-config-action.

use std::time::Duration;

use anyhow::Result;

use crate::kubernetes::{Pace, Ready};
use crate::openshift::{Editor, kubelet_of, os_image_of};
use crate::truth::{COMPLETED, DRAINING, Phases, REBOOTING, Truth, UPDATING};

// Nominal durations at the pace of the demo, about ten seconds for a node; a real one takes about
// sixty times as long.
const NOTICE: Duration = Duration::from_millis(400);
const DRAIN: Duration = Duration::from_millis(2500);
const APPLY: Duration = Duration::from_millis(2500);
const SHUT_DOWN: Duration = Duration::from_millis(500);
const BOOT: Duration = Duration::from_secs(2);
const SETTLE: Duration = Duration::from_millis(700);
const DEGRADED: Duration = Duration::from_secs(8);

// What is true of the node meanwhile.
const DRAINS: Phases = &[DRAINING];
const CHANGES: Phases = &[UPDATING];
const BOOTS: Phases = &[REBOOTING];

/// The reason that a daemon reports when the disk is full: long and multi-line, like real ones.
pub const DEGRADED_REASON: &str = "failed to update OS to quay.io/openshift-release-dev/ocp-v4.0-art-dev@sha256:5f1e3b6a1c9d4be8f7a2c0d9e6b3f8a1: error running rpm-ostree rebase --experimental ostree-unverified-registry:quay.io/openshift-release-dev/ocp-v4.0-art-dev: exit status 1\nPulling manifest: ostree-unverified-registry:quay.io/openshift-release-dev/ocp-v4.0-art-dev\nImporting: ostree-unverified-registry:quay.io/openshift-release-dev/ocp-v4.0-art-dev (digest: sha256:5f1e3b6a1c9d4be8f7a2c0d9e6b3f8a1)\nostree chunk layers already present: 41\nostree chunk layers needed: 10 (512.3 MB)\nerror: Importing: Unencapsulating base: Layer sha256:9b0c: Writing content object: min-free-space-percent '3%' would be exceeded, at least 412.7 MB requested; the update is tried again until it succeeds";

/// The update of one node to a configuration.
pub(super) struct Update<'a> {
    pub(super) editor: &'a Editor,
    pub(super) pace: Pace,
    pub(super) truth: &'a Truth,
    pub(super) node: &'a str,
    pub(super) config: &'a str,
    pub(super) version: &'a str,
}

impl Update<'_> {
    /// From the new desired configuration to the drained node.
    pub(super) async fn drain(&self) -> Result<()> {
        let drain = format!("drain-{}", self.config);
        self.annotate(DRAINS, &[("desiredConfig", self.config)])
            .await?;
        self.pace.pass(NOTICE).await;
        let annotations = [
            ("state", "Working"),
            ("reason", ""),
            ("desiredDrain", &*drain),
        ];
        self.annotate(DRAINS, &annotations).await?;
        self.pace.pass(NOTICE).await;
        let cordoned = self.editor.cordon(self.node, true);
        self.truth.step(self.node, DRAINS, cordoned).await?;
        self.pace.pass(DRAIN).await;
        self.editor.pods().drain(self.node).await?;
        self.annotate(CHANGES, &[("lastAppliedDrain", &drain)])
            .await
    }

    /// The daemon fails, and continues once there is room on the disk.
    pub(super) async fn fail_and_recover(&self) -> Result<()> {
        self.pace.pass(APPLY).await;
        let failed = self
            .editor
            .set_state(self.node, "Degraded", DEGRADED_REASON);
        self.truth.step(self.node, CHANGES, failed).await?;
        self.pace.pass(DEGRADED).await;
        let goes_on = self.editor.set_state(self.node, "Working", "");
        self.truth.step(self.node, CHANGES, goes_on).await
    }

    /// From the drained node to the updated one.
    pub(super) async fn apply_and_reboot(&self) -> Result<()> {
        self.pace.pass(APPLY).await;
        self.annotate(BOOTS, &[("post-config-action", "Rebooting")])
            .await?;
        self.pace.pass(SHUT_DOWN).await;
        let silent = self.editor.set_ready(self.node, Ready::Unknown);
        self.truth.step(self.node, BOOTS, silent).await?;
        self.pace.pass(BOOT).await;
        let (kubelet, os_image) = (kubelet_of(self.version), os_image_of(self.version));
        let nodes = self.editor.nodes();
        let booted = nodes.boot(self.node, &kubelet, &os_image);
        self.truth.step(self.node, BOOTS, booted).await?;
        self.pace.pass(SETTLE).await;
        let ready = self.editor.set_ready(self.node, Ready::Yes);
        self.truth.step(self.node, BOOTS, ready).await?;
        self.pace.pass(NOTICE).await;
        let uncordon = format!("uncordon-{}", self.config);
        self.annotate(CHANGES, &[("post-config-action", "")])
            .await?;
        self.annotate(CHANGES, &[("desiredDrain", &uncordon)])
            .await?;
        self.pace.pass(NOTICE).await;
        let uncordoned = self.editor.cordon(self.node, false);
        self.truth.step(self.node, CHANGES, uncordoned).await?;
        self.annotate(CHANGES, &[("lastAppliedDrain", &uncordon)])
            .await?;
        self.pace.pass(NOTICE).await;
        let done = [
            ("currentConfig", self.config),
            ("state", "Done"),
            ("reason", ""),
        ];
        self.annotate(&[COMPLETED], &done).await
    }

    /// Annotates the node, after which it is in one of these phases.
    async fn annotate(&self, phases: Phases, annotations: &[(&str, &str)]) -> Result<()> {
        let annotations: Vec<_> = annotations
            .iter()
            .map(|(key, value)| (*key, Some(*value)))
            .collect();
        let annotated = self.editor.annotate(self.node, &annotations);
        self.truth.step(self.node, phases, annotated).await
    }
}
