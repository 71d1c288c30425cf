//! What every Node reports, with any provider: whether it takes workloads, and whether it runs the control plane.

use jiff::Timestamp;

use super::labels::Labels;
use super::node::{NodeCondition, NodeFacts};
use super::state::Finding;
use super::text;
use crate::api::types::ConditionStatus;

/// Labels of control-plane nodes: of Kubernetes, of its earlier releases, and of Rancher.
const CONTROL_PLANE_ROLES: [&str; 3] = [
    "node-role.kubernetes.io/control-plane",
    "node-role.kubernetes.io/master",
    "node-role.kubernetes.io/controlplane",
];

/// Whether the node runs the control plane, by its labels.
#[must_use]
pub fn runs_control_plane(labels: &Labels) -> bool {
    CONTROL_PLANE_ROLES.iter().any(|role| labels.contains(role))
}

/// Whether the condition exists and has this status.
fn has_status(condition: Option<&NodeCondition>, status: ConditionStatus) -> bool {
    condition.is_some_and(|condition| condition.status == status)
}

/// Why the node is unavailable; `None` when it is available. Several reasons are joined, with the earliest known
/// time. A node without a Ready condition counts as ready.
///
/// An Unknown condition means "not reported", not "bad". When the kubelet stops, all its conditions become Unknown
/// with the same message, which is shown once.
#[must_use]
pub fn availability(node: &NodeFacts) -> Option<Finding> {
    let conditions = &node.conditions;
    let is_silent = has_status(conditions.ready.as_ref(), ConditionStatus::Unknown);
    let mut problems: Vec<(&'static str, String, Option<Timestamp>)> = Vec::new();
    for (condition, wanted, reason, bad, unreported) in [
        (
            conditions.ready.as_ref(),
            ConditionStatus::True,
            "NotReady",
            "Node is not ready",
            "Node does not report",
        ),
        (
            conditions.disk_pressure.as_deref(),
            ConditionStatus::False,
            "DiskPressure",
            "Node has disk pressure",
            "Disk pressure of the node is not reported",
        ),
        (
            conditions.network_unavailable.as_deref(),
            ConditionStatus::False,
            "NetworkUnavailable",
            "Network of the node is unavailable",
            "Network of the node is not reported",
        ),
    ] {
        let Some(condition) = condition.filter(|found| found.status != wanted) else {
            continue;
        };
        let is_unknown = condition.status == ConditionStatus::Unknown;
        let message = if is_unknown && is_silent && !problems.is_empty() {
            String::new()
        } else {
            let what = if is_unknown { unreported } else { bad };
            match text::summary(&condition.message) {
                detail if detail.is_empty() => what.to_owned(),
                detail => format!("{what}: {detail}"),
            }
        };
        problems.push((reason, message, condition.since));
    }
    if let Some(cordon) = &node.cordoned {
        problems.push((
            "Unschedulable",
            "Node is marked unschedulable".to_owned(),
            cordon.since,
        ));
    }
    let (reason, _, _) = problems.first()?;
    let messages: Vec<&str> = problems
        .iter()
        .map(|(_, message, _)| message.as_str())
        .filter(|message| !message.is_empty())
        .collect();
    Some(Finding {
        since: problems.iter().filter_map(|(_, _, since)| *since).min(),
        ..Finding::new(false, reason, messages.join(" | "))
    })
}
