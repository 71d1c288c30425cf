//! Agent pools of AKS.
//!
//! AKS reimages a node: it cordons and drains it, deletes the Node and registers it again under the same name, with
//! another UID. While it upgrades a node it keeps the autoscaler away from it, by an annotation that gives the reason.
//! A node that cannot be drained is quarantined. In a blue-green upgrade AKS cordons all outdated nodes first. The
//! desired version is not in the cluster: the youngest node of the pool shows it.
//!
//! Source: MicrosoftDocs/azure-aks-docs `articles/aks`: `upgrade-options`, `node-auto-repair`,
//! `node-auto-drain-evict-on-freeze`, `blue-green-node-pool-upgrade`, `tutorial-kubernetes-upgrade-cluster`.

use std::borrow::Cow;

use jiff::Timestamp;

use super::inferred::{CordonSign, RESTART_LIMIT, Rules};
use super::profile::{Mark, Node, Notice, Profile};
use super::step::Step;
use super::{Identity, evidence};
use crate::api::types::{Phase, TIMELINE_LIMIT, UpdateKind};
use crate::domain::cordon::Cordoner;
use crate::domain::node::{Evidence, NodeFacts, NodeObject};
use crate::domain::state::History;
use crate::domain::version::Precision;

/// Evidence of an agent pool.
pub const MARK: &str = "label kubernetes.azure.com/agentpool";

const AGENT_POOL: &str = "kubernetes.azure.com/agentpool";
const IMAGE: &str = "kubernetes.azure.com/node-image-version";
const STATUS: &str = "kubernetes.azure.com/upgrade-status";
const SCALE_DOWN_DISABLED: &str = "cluster-autoscaler.kubernetes.io/scale-down-disabled";
const REASON: &str = "kubernetes.azure.com/azure-cluster-autoscaler-scale-down-disabled-reason";

/// Agent pools of AKS.
pub static AKS: Profile = Profile {
    coexists_with: &[super::cluster_api::MACHINE_POOL_MARK],
    may_cordon_all: true,
    evidence: marks,
    image,
    notice,
    step,
    identity: Identity::Name,
    ..Profile::new(
        "AKS",
        Mark::Label(AGENT_POOL, MARK),
        Rules {
            precision: Precision::Minor,
            replaces: true,
            cordon: CordonSign::DrainInRollout,
            limit: RESTART_LIMIT,
        },
    )
};

/// What AKS writes on a node, besides labels.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct AksNode {
    /// AKS upgrades this node.
    pub(super) is_upgrading: bool,
    /// Azure freezes, restarts or ends the machine: the condition `VMEventScheduled` is True.
    pub(super) has_event: bool,
}

fn marks(node: &NodeObject) -> Option<Evidence> {
    if !node.labels.contains(AGENT_POOL) {
        return None;
    }
    let annotation = |key| node.annotations.get(key);
    let event = node.conditions.find("VMEventScheduled");
    let found = AksNode {
        is_upgrading: annotation(REASON) == Some("upgrade")
            && annotation(SCALE_DOWN_DISABLED) == Some("true"),
        has_event: event.is_some_and(|[_, status, ..]| status == "True"),
    };
    evidence((found != AksNode::default()).then_some(found))
}

fn image(node: &NodeFacts) -> Option<Cow<'_, str>> {
    node.labels.get(IMAGE).map(Cow::Borrowed)
}

fn notice(node: &NodeFacts) -> Option<Notice> {
    let marks = node.evidence::<AksNode>()?;
    (marks.has_event && !marks.is_upgrading)
        .then(|| Notice::Acts("Azure maintains the machine of the node".into()))
}

fn step(node: &Node<'_>) -> Option<Step> {
    let facts = node.facts();
    let kind = node.change().or_else(|| node.subject.kind_so_far());
    let kind = kind.unwrap_or(UpdateKind::Image);
    let by_aks = |step: Step| Some(step.cordoned_by(Cordoner::updater("aks")));
    if facts.labels.get(STATUS) == Some("Quarantined") {
        let message = "The node could not be drained, and AKS quarantined it";
        let step = Step::new(Phase::Pending, kind, "Quarantined", message);
        let mut step = step.failed("Quarantined", message);
        step.is_own_cordon = Some(true);
        return by_aks(step);
    }
    let marks = facts.evidence::<AksNode>();
    let is_marked = marks.is_some_and(|marks| marks.is_upgrading);
    if facts.deleting || (node.is_interrupted && !is_marked) {
        return None;
    }
    let is_ready = facts.is_ready();
    let is_cordoned = facts.cordoned.is_some();
    let so_far = node.subject.so_far();
    let is_back = so_far.is_some_and(|past| was_recreated(facts.created, past));
    if is_back && !node.is_outdated && (is_marked || !is_ready) {
        let message = "The node is reimaged and joins again";
        let step = Step::new(Phase::Updating, kind, "Reimaged", message);
        by_aks(if is_ready { step } else { node.silent(step)? })
    } else if !is_ready && is_marked {
        let message = "AKS reimages the node, which does not report";
        by_aks(node.silent(Step::new(Phase::Rebooting, kind, "Reimaging", message))?)
    } else if is_ready && is_marked && is_cordoned {
        let message = "AKS upgrades the node and moves its workloads away";
        by_aks(Step::new(Phase::Draining, kind, "Draining", message))
    } else if is_ready && is_marked && node.is_outdated {
        let message = "AKS is about to upgrade the node";
        by_aks(Step::new(Phase::Pending, kind, "Upgrading", message))
    } else {
        None
    }
}

/// Whether the Node registered again since its update began: AKS deletes it and keeps its name.
fn was_recreated(created: Option<Timestamp>, past: &History) -> bool {
    // As many as an insight shows, so that a restart of the operator changes nothing.
    let phases = past.timeline.iter().rev().take(TIMELINE_LIMIT);
    let of_update = phases.take_while(|entry| entry.phase.is_in_progress());
    let began = of_update.last().map(|entry| entry.start_time);
    created
        .zip(began)
        .is_some_and(|(created, began)| created.as_second() >= began.as_second())
}

#[cfg(test)]
mod tests;
