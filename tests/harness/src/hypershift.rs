//! A simulated hosted cluster of HyperShift: nodes of node pools, and what the control plane in the management
//! cluster and the Machine Config Daemon write on them, one step a request. Nothing runs.
//!
//! ```text
//! control plane  desiredConfig = hash; a pod of the daemon starts on the node
//! daemon         state Working, desiredDrain = drain-hash
//! control plane  cordon … drain … lastAppliedDrain = drain-hash
//! daemon         files and operating system; post-config-action Rebooting, which nothing empties
//! kubelet        silent, then another boot ID and version
//! daemon         currentConfig = hash, state Done, desiredDrain = uncordon-hash
//! control plane  uncordon, lastAppliedDrain = uncordon-hash
//! ```

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use kube::Client;

use crate::kubernetes::node::NodeTemplate;
use crate::kubernetes::{Nodes, Pace, Ready};
use crate::openshift::PREFIX;
use crate::truth::{COMPLETED, DRAINING, REBOOTING, Truth, UPDATING};

/// The label of its nodes.
pub const POOL_LABEL: &str = "hypershift.openshift.io/nodePool";

/// The taint of a node that Cluster API is about to replace.
const OUTDATED: &str = "node.cluster.x-k8s.io/outdated-revision";

/// The operating system of every node.
const OS_IMAGE: &str = "Red Hat Enterprise Linux CoreOS";

// Nominal durations at the pace of the demo.
const NOTICE: Duration = Duration::from_millis(500);
const DRAIN: Duration = Duration::from_millis(2500);
const APPLY: Duration = Duration::from_secs(2);
const BOOT: Duration = Duration::from_secs(2);
const SETTLE: Duration = Duration::from_millis(500);

/// A hosted cluster, for writing.
#[derive(Clone)]
pub struct HyperShift {
    nodes: Nodes,
    truth: Truth,
}

impl HyperShift {
    /// Writes to the server that `client` talks to.
    #[must_use]
    pub fn new(client: &Client) -> Self {
        Self {
            nodes: Nodes::new(client.clone()),
            truth: Truth::default(),
        }
    }

    /// The same, which tells the truth about whole updates.
    #[must_use]
    pub fn telling(self, truth: &Truth) -> Self {
        Self {
            truth: truth.clone(),
            ..self
        }
    }

    /// A node of a node pool joins and becomes ready. It was never updated in place.
    ///
    /// # Errors
    /// When the server refuses; so for every method here.
    pub async fn join(&self, name: &str, pool: &str, version: &str) -> Result<()> {
        let label = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let template = NodeTemplate {
            name: name.to_owned(),
            labels: BTreeMap::from([
                label(POOL_LABEL, pool),
                label("node-role.kubernetes.io/worker", ""),
                label("node.openshift.io/os_id", "rhel"),
            ]),
            annotations: BTreeMap::from([
                label("cluster.x-k8s.io/cluster-name", "guest"),
                label("cluster.x-k8s.io/machine", name),
                label("cluster.x-k8s.io/owner-kind", "MachineSet"),
                label("cluster.x-k8s.io/owner-name", pool),
                label("hypershift.openshift.io/labelsSynced", "true"),
            ]),
            kubelet_version: version.to_owned(),
            os_image: OS_IMAGE.to_owned(),
            images: 0,
        };
        self.nodes.join(&template.object()?).await?;
        self.nodes.become_ready(name).await
    }

    /// Sets the desired config of a node, by its hash.
    ///
    /// # Errors
    /// As [`HyperShift::join`].
    pub async fn retarget(&self, node: &str, config: &str) -> Result<()> {
        self.annotate(node, &[("desiredConfig", config)]).await
    }

    /// The daemon begins, asks for a drain, and the node is cordoned.
    ///
    /// # Errors
    /// As [`HyperShift::join`].
    pub async fn drain(&self, node: &str, config: &str) -> Result<()> {
        let drain = format!("drain-{config}");
        self.annotate(node, &[("state", "Working"), ("desiredDrain", &drain)])
            .await?;
        self.nodes.cordon(node, true).await
    }

    /// The node is drained, and the daemon changes it.
    ///
    /// # Errors
    /// As [`HyperShift::join`].
    pub async fn drained(&self, node: &str, config: &str) -> Result<()> {
        let drain = format!("drain-{config}");
        self.annotate(node, &[("lastAppliedDrain", &drain)]).await
    }

    /// The daemon announces the reboot, and the node stops reporting.
    ///
    /// # Errors
    /// As [`HyperShift::join`].
    pub async fn reboot(&self, node: &str) -> Result<()> {
        self.annotate(node, &[("post-config-action", "Rebooting")])
            .await?;
        self.nodes.set_ready(node, Ready::Unknown).await
    }

    /// The node is back with this kubelet; the daemon is not yet.
    ///
    /// # Errors
    /// As [`HyperShift::join`].
    pub async fn boot(&self, node: &str, version: &str) -> Result<()> {
        self.nodes.boot(node, version, OS_IMAGE).await?;
        self.nodes.set_ready(node, Ready::Yes).await
    }

    /// The daemon reports that the node runs the config, and asks for its uncordon.
    ///
    /// # Errors
    /// As [`HyperShift::join`].
    pub async fn done(&self, node: &str, config: &str) -> Result<()> {
        let uncordon = format!("uncordon-{config}");
        let annotations = [
            ("currentConfig", config),
            ("state", "Done"),
            ("reason", ""),
            ("desiredDrain", &uncordon),
        ];
        self.annotate(node, &annotations).await
    }

    /// The node is uncordoned, and its update complete.
    ///
    /// # Errors
    /// As [`HyperShift::join`].
    pub async fn uncordon(&self, node: &str, config: &str) -> Result<()> {
        self.nodes.cordon(node, false).await?;
        let uncordon = format!("uncordon-{config}");
        self.annotate(node, &[("lastAppliedDrain", &uncordon)])
            .await
    }

    /// The daemon fails.
    ///
    /// # Errors
    /// As [`HyperShift::join`].
    pub async fn degrade(&self, node: &str, reason: &str) -> Result<()> {
        self.annotate(node, &[("state", "Degraded"), ("reason", reason)])
            .await
    }

    /// Cluster API is about to replace a node: its machine is of an older revision.
    ///
    /// # Errors
    /// As [`HyperShift::join`].
    pub async fn outdate(&self, node: &str) -> Result<()> {
        self.nodes.taint(node, OUTDATED, "PreferNoSchedule").await
    }

    /// Updates a node in place, step by step.
    ///
    /// # Errors
    /// As [`HyperShift::join`].
    pub async fn update(&self, node: &str, config: &str, version: &str, pace: Pace) -> Result<()> {
        let truth = &self.truth;
        let retargeted = self.retarget(node, config);
        truth.step(node, &[UPDATING], retargeted).await?;
        pace.pass(NOTICE).await;
        let drains = self.drain(node, config);
        truth.step(node, &[DRAINING], drains).await?;
        pace.pass(DRAIN).await;
        let drained = self.drained(node, config);
        truth.step(node, &[UPDATING], drained).await?;
        pace.pass(APPLY).await;
        truth.step(node, &[REBOOTING], self.reboot(node)).await?;
        pace.pass(BOOT).await;
        // The machine is back, the daemon is not.
        let back = self.boot(node, version);
        truth.step(node, &[REBOOTING, UPDATING], back).await?;
        pace.pass(SETTLE).await;
        let done = self.done(node, config);
        truth.step(node, &[UPDATING], done).await?;
        pace.pass(NOTICE).await;
        let uncordoned = self.uncordon(node, config);
        truth.step(node, &[COMPLETED], uncordoned).await
    }

    async fn annotate(&self, node: &str, annotations: &[(&str, &str)]) -> Result<()> {
        let keys = annotations.iter().map(|(key, _)| format!("{PREFIX}{key}"));
        let keys: Vec<String> = keys.collect();
        let values = annotations.iter().map(|(_, value)| Some(*value));
        let prefixed: Vec<_> = keys.iter().map(String::as_str).zip(values).collect();
        self.nodes.annotate(node, &prefixed).await
    }
}
