//! The step of a node that is updated in place.
//!
//! The desired config of the node is set first; the daemon asks for the drain, changes the node, reboots it, asks for
//! the uncordon and says that it is done. The reboot is announced by an annotation that nothing empties here.
//!
//! Source: openshift/hypershift
//! `control-plane-operator/hostedclusterconfigoperator/controllers/inplaceupgrader/inplaceupgrader.go`.

use std::borrow::Cow;

use crate::api::types::{ConditionStatus, Phase, UpdateKind};
use crate::domain::cordon::Cordoner;
use crate::domain::text;
use crate::providers::Subject;
use crate::providers::inferred::Target;
use crate::providers::openshift::evaluate::{degraded, processing};
use crate::providers::openshift::evidence::{DaemonState, MachineConfigFacts};
use crate::providers::step::Step;

/// Who drains the nodes; the controller runs in the management cluster.
const CORDONER: Cordoner = Cordoner::updater("hypershift");

/// A node that is updated in place.
pub(super) struct InPlace<'a> {
    node: &'a Subject<'a>,
    /// Absent before the first update.
    facts: Option<&'a MachineConfigFacts>,
    /// The kubelet is behind; `None` if it is not.
    change: Option<UpdateKind>,
}

impl<'a> InPlace<'a> {
    pub(super) fn new(
        node: &'a Subject<'a>,
        facts: Option<&'a MachineConfigFacts>,
        target: Option<&Target>,
    ) -> Self {
        Self {
            node,
            facts,
            change: target.and_then(|target| target.change),
        }
    }

    /// The first step that applies. `is_stopped` says whether a degraded node stops the pool.
    pub(super) fn step(&self, is_stopped: impl FnOnce() -> bool) -> Step {
        let Some(facts) = self.facts else {
            return self.at_rest(is_stopped);
        };
        let is_retargeted =
            facts.desired_config.is_some() && facts.desired_config != facts.current_config;
        let step = if is_retargeted {
            self.updating(facts)
        } else if facts.uncordon_requested {
            let message = "The node is updated and waits to be uncordoned";
            Step::new(Phase::Updating, self.kind(), "Uncordoning", message).cordoned_by(CORDONER)
        } else {
            match facts.state {
                DaemonState::Working | DaemonState::Rebooting => {
                    let message = "The node is updated, and its daemon is about to complete";
                    Step::new(Phase::Updating, self.kind(), "Completing", message)
                }
                DaemonState::Done | DaemonState::Degraded | DaemonState::Unreconcilable => {
                    self.at_rest(is_stopped)
                }
                DaemonState::Other => Step::unknown(
                    "DaemonStateUnknown",
                    "The node has a config, and the state of its Machine Config Daemon is missing or unknown",
                ),
            }
        };
        let failure = degraded(facts, None);
        Step {
            failure: (failure.status == ConditionStatus::True).then_some(failure),
            unavailable: processing(facts),
            ..step
        }
    }

    /// The desired config of the node is not its current one; it has none before its first update.
    fn updating(&self, facts: &MachineConfigFacts) -> Step {
        let towards = text::summary(facts.desired_config.as_deref().unwrap_or_default());
        let (phase, reason, message) = if facts.drain_requested {
            let message = format!("Draining the node before the update to config {towards}");
            (Phase::Draining, "Draining", message)
        } else if facts.is_rebooting() {
            let message = format!("Rebooting the node into config {towards}");
            (Phase::Rebooting, "Rebooting", message)
        } else if !self.node.facts.is_ready() {
            let message = match self.node.facts.unready_since() {
                Some(since) => format!("The node has not been ready since {since:.0}"),
                None => "The node is not ready".to_owned(),
            };
            let message = format!("{message}: it reboots into config {towards}");
            (Phase::Rebooting, "Rebooting", message)
        } else {
            let message = format!("Updating the node to config {towards}");
            (Phase::Updating, "Updating", message)
        };
        Step::new(phase, self.kind(), reason, message).cordoned_by(CORDONER)
    }

    /// No update of the node is in progress. Configs are hashes, so only an old kubelet shows that it is outdated.
    fn at_rest(&self, is_stopped: impl FnOnce() -> bool) -> Step {
        let Some(change) = self.change else {
            return Step::completed();
        };
        if is_stopped() {
            let message =
                "The node is outdated; a degraded node stops the update of its whole pool";
            return Step::new(Phase::Pending, change, "PoolDegraded", message);
        }
        let message: Cow<'static, str> = match self.node.facts.unready_since() {
            Some(since) => {
                format!("The node is outdated and has not been ready since {since:.0}").into()
            }
            None => "The node is outdated and waits for its turn".into(),
        };
        Step::new(Phase::Pending, change, "Pending", message)
    }

    /// What the update changes: the kubelet, as long as it is seen to be behind, else whatever the hash covers.
    fn kind(&self) -> UpdateKind {
        let kind = self.change.or(self.node.kind_so_far());
        kind.unwrap_or(UpdateKind::Configuration)
    }
}
