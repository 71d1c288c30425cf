//! What removes, drains or restarts a node without updating it.
//!
//! Sources: kubernetes/autoscaler `cluster-autoscaler/utils/taints/taints.go`, aws/aws-node-termination-handler
//! `pkg/node/node.go`, medik8s/self-node-remediation `internal/controller`, NVIDIA/k8s-operator-libs
//! `pkg/upgrade/consts.go`.

use super::node::NodeObject;

/// Something else than an update that acts on the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interruption {
    /// The cluster autoscaler scales down: taint `ToBeDeletedByClusterAutoscaler`.
    ClusterAutoscaler,
    /// AWS takes the spot instance back.
    SpotInterruption,
    /// AWS maintains the machine.
    ScheduledMaintenance,
    /// The scaling group ends the machine. In a group with an instance refresh, this is an update.
    ScalingGroup,
    /// AWS expects a spot interruption.
    RebalanceRecommendation,
    /// Google Cloud ends the machine: maintenance of its host, or preemption.
    ImpendingTermination,
    /// An unhealthy node is restarted.
    Remediation,
    /// A user declares that the machine is lost.
    OutOfService,
    /// The driver of a GPU or a network card is updated; the node stays as it is.
    DriverUpgrade,
}

/// Taints, each set by one tool for one purpose.
const TAINTS: [(&str, Interruption); 8] = [
    (
        "ToBeDeletedByClusterAutoscaler",
        Interruption::ClusterAutoscaler,
    ),
    (
        "aws-node-termination-handler/spot-itn",
        Interruption::SpotInterruption,
    ),
    (
        "aws-node-termination-handler/scheduled-maintenance",
        Interruption::ScheduledMaintenance,
    ),
    (
        "aws-node-termination-handler/asg-lifecycle-termination",
        Interruption::ScalingGroup,
    ),
    (
        "aws-node-termination-handler/rebalance-recommendation",
        Interruption::RebalanceRecommendation,
    ),
    (
        "cloud.google.com/impending-node-termination",
        Interruption::ImpendingTermination,
    ),
    (
        "remediation.medik8s.io/self-node-remediation",
        Interruption::Remediation,
    ),
    (
        "node.kubernetes.io/out-of-service",
        Interruption::OutOfService,
    ),
];

/// The label of the AWS node termination handler on a node that AWS restarts for scheduled maintenance.
const SCHEDULED_MAINTENANCE: (&str, &str) =
    ("aws-node-termination-handler/action", "UncordonAfterReboot");

/// The label with the progress of a driver upgrade.
const DRIVER_UPGRADE: &str = "nvidia.com/gpu-driver-upgrade-state";
/// Its values while no driver is upgraded.
const NO_DRIVER_UPGRADE: [&str; 3] = ["", "upgrade-done", "upgrade-required"];

impl Interruption {
    /// What acts on the Node, by its taints and labels.
    #[must_use]
    pub fn of(node: &NodeObject) -> Option<Self> {
        let by_taint = TAINTS
            .iter()
            .find(|(key, _)| node.taints.find(key).is_some())
            .map(|(_, interruption)| *interruption);
        let (action, uncordon) = SCHEDULED_MAINTENANCE;
        let is_maintained = || node.labels.get(action) == Some(uncordon);
        by_taint
            .or_else(|| is_maintained().then_some(Self::ScheduledMaintenance))
            .or_else(|| {
                let state = node.labels.get(DRIVER_UPGRADE)?;
                (!NO_DRIVER_UPGRADE.contains(&state)).then_some(Self::DriverUpgrade)
            })
    }

    /// What happens, as a sentence without its full stop.
    #[must_use]
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::ClusterAutoscaler => "The cluster autoscaler removes the node",
            Self::SpotInterruption => "AWS takes the spot instance of the node back",
            Self::ScheduledMaintenance => "AWS maintains the machine of the node",
            Self::ScalingGroup => "The scaling group ends the machine of the node",
            Self::RebalanceRecommendation => {
                "AWS recommends to replace the spot instance of the node"
            }
            Self::ImpendingTermination => "Google Cloud is about to end the machine of the node",
            Self::Remediation => "The unhealthy node is restarted",
            Self::OutOfService => "The node is declared out of service",
            Self::DriverUpgrade => "A device driver of the node is upgraded",
        }
    }

    /// Whether it may be how the node is updated, if the node is outdated.
    #[must_use]
    pub const fn may_update(self) -> bool {
        matches!(self, Self::ScalingGroup)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::labels::Labels;
    use crate::domain::rows::Rows;

    #[test]
    fn each_tool_is_recognised_by_its_taint_whatever_its_value() {
        for (key, expected) in TAINTS {
            let node = NodeObject {
                taints: Rows::new([[key, "1790000000", "NoSchedule", ""]]),
                ..NodeObject::default()
            };
            assert_eq!(Interruption::of(&node), Some(expected));
        }
        let candidate = "DeletionCandidateOfClusterAutoscaler";
        let node = NodeObject {
            taints: Rows::new([[candidate, "1", "PreferNoSchedule", ""]]),
            ..NodeObject::default()
        };
        assert_eq!(Interruption::of(&node), None, "pods still land there");
    }

    #[test]
    fn scheduled_maintenance_is_recognised_by_its_label_where_nodes_are_not_tainted() {
        for (action, expected) in [
            (
                "UncordonAfterReboot",
                Some(Interruption::ScheduledMaintenance),
            ),
            ("", None),
        ] {
            let node = NodeObject {
                labels: Labels::new([("aws-node-termination-handler/action", action)]),
                ..NodeObject::default()
            };
            assert_eq!(Interruption::of(&node), expected, "{action}");
        }
    }

    #[test]
    fn a_driver_upgrade_interrupts_the_node_only_while_it_runs() {
        for (state, expected) in [
            ("drain-required", Some(Interruption::DriverUpgrade)),
            ("pod-restart-required", Some(Interruption::DriverUpgrade)),
            ("upgrade-required", None),
            ("upgrade-done", None),
            ("", None),
        ] {
            let node = NodeObject {
                labels: Labels::new([(DRIVER_UPGRADE, state)]),
                ..NodeObject::default()
            };
            assert_eq!(Interruption::of(&node), expected, "{state}");
        }
    }
}
