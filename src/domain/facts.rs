//! What of a Node matters to an update, read once where the object comes in.
//!
//! Two facts that are equal lead to the same judgement, so a kubelet's heartbeat, which changes
//! nothing here, costs no evaluation.

use std::sync::Arc;

use jiff::Timestamp;

use super::labels::Labels;
use crate::api::types::ConditionStatus;

/// What of a Node matters to an update.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeFacts {
    /// `metadata.name`.
    pub name: Arc<str>,
    /// `metadata.uid`: another one is another node, even of the same name.
    pub uid: Arc<str>,
    /// `metadata.labels`.
    pub labels: Labels,
    /// `metadata.deletionTimestamp` is set.
    pub deleting: bool,
    /// `spec.unschedulable`, with the time of the taint that goes with it where it is known.
    pub cordoned: Option<Cordon>,
    /// `status.nodeInfo.kubeletVersion`.
    pub kubelet_version: Option<Arc<str>>,
    /// `status.nodeInfo.bootID`.
    pub boot_id: Option<Arc<str>>,
    /// The conditions that matter.
    pub conditions: NodeConditions,
    /// Annotations of the Machine Config Operator.
    pub machine_config: MachineConfigFacts,
    /// Who else wants the node gone, when that is no update.
    pub removal: Option<Removal>,
}

/// The node is cordoned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cordon {
    /// Since when, if it is known.
    pub since: Option<Timestamp>,
}

/// A condition of the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeCondition {
    /// Its status.
    pub status: ConditionStatus,
    /// Since when.
    pub since: Option<Timestamp>,
    /// Why; empty when it was not said.
    pub message: Box<str>,
}

impl NodeCondition {
    /// Whether the condition is there and True.
    #[must_use]
    pub fn is_true(condition: Option<&Self>) -> bool {
        condition.is_some_and(|condition| condition.status == ConditionStatus::True)
    }
}

/// The conditions of a node that matter to an update.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NodeConditions {
    /// The kubelet takes pods.
    pub ready: Option<NodeCondition>,
    /// The disk is full.
    pub disk_pressure: Option<NodeCondition>,
    /// The network is not set up.
    pub network_unavailable: Option<NodeCondition>,
    /// KEP-5683: pods are being evicted.
    pub drain_in_progress: Option<NodeCondition>,
    /// KEP-5683: pods were evicted.
    pub drained: Option<NodeCondition>,
    /// KEP-5683: maintenance is to come.
    pub maintenance_planned: Option<NodeCondition>,
    /// KEP-5683: maintenance is under way.
    pub maintenance_in_progress: Option<NodeCondition>,
    /// KEP-5683: the machine shuts down.
    pub graceful_shutdown_in_progress: Option<NodeCondition>,
}

/// What the Machine Config Operator wrote on the node. An empty annotation is one that is not there.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MachineConfigFacts {
    /// `currentConfig`: the rendered MachineConfig that the node runs.
    pub current_config: Option<Arc<str>>,
    /// `desiredConfig`: the rendered MachineConfig that the node shall run.
    pub desired_config: Option<Arc<str>>,
    /// `currentImage`, in image mode only.
    pub current_image: Option<Arc<str>>,
    /// `desiredImage`, in image mode only.
    pub desired_image: Option<Arc<str>>,
    /// `state`.
    pub state: DaemonState,
    /// `reason`, as it was written.
    pub reason: Option<Box<str>>,
    /// A drain was asked for and is not done: see [`drain_requested`].
    pub drain_requested: bool,
}

/// Whether the Machine Config Operator asked for a drain that is not done yet. The annotations are
/// `drain-<config>` or `uncordon-<config>`; they are equal once the request is served.
#[must_use]
pub fn drain_requested(desired: Option<&str>, last_applied: Option<&str>) -> bool {
    let desired = desired.unwrap_or_default();
    desired != last_applied.unwrap_or_default() && desired.split('-').next() == Some("drain")
}

/// State of the Machine Config Daemon on the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DaemonState {
    /// Nothing to do, or not begun.
    Done,
    /// Changing the node.
    Working,
    /// Restarting the machine.
    Rebooting,
    /// Changing the node failed.
    Degraded,
    /// The change cannot be made on a running node.
    Unreconcilable,
    /// Not there, or a state that we do not know.
    #[default]
    Other,
}

impl DaemonState {
    /// Reads the `state` annotation.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        match text {
            "Done" => Self::Done,
            "Working" => Self::Working,
            "Rebooting" => Self::Rebooting,
            "Degraded" => Self::Degraded,
            "Unreconcilable" => Self::Unreconcilable,
            _ => Self::Other,
        }
    }

    /// Whether the daemon gave up.
    #[must_use]
    pub fn is_failed(self) -> bool {
        matches!(self, Self::Degraded | Self::Unreconcilable)
    }
}

/// Somebody takes the node away for another reason than an update.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removal {
    /// The cluster autoscaler scales down: taint `ToBeDeletedByClusterAutoscaler`.
    ClusterAutoscaler,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drain_is_requested_while_a_drain_annotation_differs_from_the_last_applied_one() {
        assert!(drain_requested(
            Some("drain-rendered-worker-1"),
            Some("uncordon-rendered-worker-0")
        ));
        assert!(drain_requested(Some("drain-rendered-worker-1"), None));
        assert!(!drain_requested(
            Some("drain-rendered-worker-1"),
            Some("drain-rendered-worker-1")
        ));
        assert!(!drain_requested(
            Some("uncordon-rendered-worker-1"),
            Some("drain-rendered-worker-1")
        ));
        assert!(!drain_requested(Some("drained"), Some("x")));
        assert!(!drain_requested(None, None));
    }
}
