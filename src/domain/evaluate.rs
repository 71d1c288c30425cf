//! One node, judged. Each platform has a module with its rules; what all have in common is here.

pub mod kubernetes;
pub mod openshift;

use jiff::Timestamp;

use super::cluster::Cluster;
use super::facts::{NodeCondition, NodeFacts};
use super::labels::Labels;
use super::pool::{Membership, PoolId};
use super::state::{Finding, History, Judgement, NodeState};
use super::text;
use crate::api::types::{ConditionStatus, Phase, Provider, Scope};

/// The rules of one platform. Pure: the same arguments give the same answer.
pub trait Evaluator: Send + Sync {
    /// Whose rules these are.
    fn provider(&self) -> Provider;

    /// The pool that the node belongs to. Depends on the node's labels and on the pools alone.
    fn membership(&self, node: &NodeFacts, cluster: &dyn Cluster) -> Membership;

    /// How far the update of a node of `pool` is.
    fn judge(
        &self,
        node: &NodeFacts,
        pool: &PoolId,
        cluster: &dyn Cluster,
        past: Option<&History>,
    ) -> Judgement;
}

/// The state of a node. Total: it has an answer for every input.
#[must_use]
pub fn evaluate(
    rules: &dyn Evaluator,
    node: &NodeFacts,
    membership: &Membership,
    cluster: &dyn Cluster,
    past: Option<&History>,
    now: Timestamp,
) -> NodeState {
    let judgement = match membership {
        Membership::Pool(pool) => rules.judge(node, pool, cluster, past),
        Membership::None => undetermined(node, "NoPool", "The node belongs to no pool".to_owned()),
        Membership::Conflict(pools) => undetermined(
            node,
            "PoolConflict",
            format!(
                "The node belongs to several pools that exclude each other: {}",
                pools.join(", ")
            ),
        ),
    };
    let scope = match membership.pool() {
        Some(pool) if pool.scope == Scope::ControlPlane => Scope::ControlPlane,
        _ if runs_control_plane(&node.labels) => Scope::ControlPlane,
        _ => Scope::WorkerPool,
    };
    NodeState::new(
        judgement,
        node,
        membership,
        rules.provider(),
        scope,
        past,
        now,
    )
}

fn undetermined(node: &NodeFacts, reason: &'static str, message: String) -> Judgement {
    Judgement {
        phase: Phase::Unknown,
        kind: None,
        version: None,
        desired: None,
        updating: Finding::new(ConditionStatus::Unknown, reason, message),
        available: availability(node).unwrap_or_else(|| Finding::as_expected(true)),
        degraded: Finding::as_expected(false),
    }
}

/// Whether the labels say that the node runs the control plane.
fn runs_control_plane(labels: &Labels) -> bool {
    labels.contains("node-role.kubernetes.io/control-plane")
        || labels.contains("node-role.kubernetes.io/master")
}

/// Whether the condition is there and has this status.
fn has_status(condition: Option<&NodeCondition>, status: ConditionStatus) -> bool {
    condition.is_some_and(|condition| condition.status == status)
}

/// Why the node takes no workloads, if it does not; several reasons are joined, and the time is the
/// earliest that is known. A node that does not say whether it is ready counts as ready.
///
/// A condition that is Unknown is not reported, which is not the same as bad. When the kubelet stops, all that it
/// reports becomes Unknown with one message: that is said once.
fn availability(node: &NodeFacts) -> Option<Finding> {
    let conditions = &node.conditions;
    let is_silent = has_status(conditions.ready.as_ref(), ConditionStatus::Unknown);
    let mut problems: Vec<(&'static str, String, Option<Timestamp>)> = Vec::new();
    for (condition, wanted, reason, bad, unreported) in [
        (
            &conditions.ready,
            ConditionStatus::True,
            "NotReady",
            "Node is not ready",
            "Node does not report",
        ),
        (
            &conditions.disk_pressure,
            ConditionStatus::False,
            "DiskPressure",
            "Node has disk pressure",
            "Disk pressure of the node is not reported",
        ),
        (
            &conditions.network_unavailable,
            ConditionStatus::False,
            "NetworkUnavailable",
            "Network of the node is unavailable",
            "Network of the node is not reported",
        ),
    ] {
        let Some(condition) = condition.as_ref().filter(|found| found.status != wanted) else {
            continue;
        };
        let is_unknown = condition.status == ConditionStatus::Unknown;
        let message = if is_unknown && is_silent && !problems.is_empty() {
            String::new()
        } else {
            let what = if is_unknown { unreported } else { bad };
            match text::summary(&condition.message) {
                said if said.is_empty() => what.to_owned(),
                said => format!("{what}: {said}"),
            }
        };
        problems.push((reason, message, condition.since));
    }
    if let Some(cordon) = node.cordoned {
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

#[cfg(test)]
mod tests;
