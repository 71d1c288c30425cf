//! Instance groups of kOps.
//!
//! `kops rolling-update` taints every outdated node of a group, then cordons, drains and terminates them one by one. A
//! failed run leaves its taints and cordons, and nothing in the cluster says whether a run is in progress. Whether a
//! node is outdated is a comparison of launch templates in the cloud; the annotation `kops.k8s.io/needs-update` is a
//! user's wish. The label that excludes a node from load balancers is no sign: control-plane nodes always have it.
//!
//! Source: kubernetes/kops `pkg/instancegroups/instancegroups.go`, `pkg/cloudinstances/cloud_instance_group.go`,
//! `pkg/nodelabels/builder.go`, `cmd/kops/rolling-update_cluster.go`.

use jiff::SignedDuration;

use super::evidence;
use super::inferred::{CordonSign, RESTART_LIMIT, Rules};
use super::profile::{Mark, Node, Profile};
use super::step::Step;
use crate::api::types::{Phase, UpdateKind};
use crate::domain::cordon::Cordoner;
use crate::domain::node::{Evidence, NodeFacts, NodeObject};
use crate::domain::version::Precision;

/// Evidence of an instance group.
pub const MARK: &str = "label kops.k8s.io/instancegroup";

const INSTANCE_GROUP: &str = "kops.k8s.io/instancegroup";

/// How long `kops rolling-update` drains a node before it fails, unless its user says more.
const DRAIN_LIMIT: SignedDuration = SignedDuration::from_mins(15);

/// Instance groups of kOps. A cordon without the taint is not the one of kOps.
pub static KOPS: Profile = Profile {
    evidence: marks,
    outdated,
    step,
    ..Profile::new(
        "kOps",
        Mark::Label(INSTANCE_GROUP, MARK),
        Rules {
            precision: Precision::Full,
            replaces: true,
            cordon: CordonSign::DrainInRollout,
            limit: RESTART_LIMIT,
        },
    )
};

/// What kOps, or a user, writes on a node that is to be replaced.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct KopsNode {
    /// The rolling update has found the node outdated.
    pub(super) scheduled: bool,
    /// A user wants the node to be replaced.
    pub(super) needs_update: bool,
}

fn marks(node: &NodeObject) -> Option<Evidence> {
    let taint = node.taint("kops.k8s.io/scheduled-for-update", "PreferNoSchedule");
    let found = KopsNode {
        scheduled: taint.is_some(),
        needs_update: node.annotations.contains("kops.k8s.io/needs-update"),
    };
    let is_one = node.labels.contains(INSTANCE_GROUP) && found != KopsNode::default();
    evidence(is_one.then_some(found))
}

fn outdated(node: &NodeFacts) -> Option<bool> {
    node.evidence::<KopsNode>().map(|_| true)
}

fn step(node: &Node<'_>) -> Option<Step> {
    let facts = node.facts();
    let marks = facts.evidence::<KopsNode>()?;
    if node.is_interrupted || facts.deleting || !facts.is_ready() {
        return None;
    }
    let kind = node.change().unwrap_or(UpdateKind::Configuration);
    match (marks.scheduled, &facts.cordoned) {
        (true, Some(cordon)) => {
            let limit = cordon
                .since
                .and_then(|since| since.checked_add(DRAIN_LIMIT).ok());
            let is_late = limit.is_some_and(|limit| node.subject.now >= limit);
            let message = if is_late {
                "The node has been cordoned for longer than kOps drains a node by default; a failed rolling update \
                 leaves its taint and its cordon"
            } else {
                "The rolling update of kOps drains the node"
            };
            let step = Step::new(Phase::Draining, kind, "Draining", message);
            let step = step.cordoned_by(Cordoner::updater("kops"));
            Some(step.again_at(limit.filter(|_| !is_late)))
        }
        (true, None) => {
            let message = "The rolling update of kOps will replace the node, unless it failed: a failed run leaves its \
                           taint";
            Some(Step::new(Phase::Pending, kind, "Scheduled", message))
        }
        (false, None) => {
            let message = "A user marked the node as outdated; kops rolling-update replaces it";
            Some(Step::new(Phase::Pending, kind, "Marked", message))
        }
        (false, Some(_)) => None,
    }
}

#[cfg(test)]
mod tests;
