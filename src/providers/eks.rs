//! Managed node groups of EKS, and node groups of eksctl that nothing manages.
//!
//! EKS cordons all outdated nodes of a group at once, drains a few at a time, excludes a drained node from load
//! balancers and terminates it. The desired version is not in the cluster: the youngest node of the group shows it. At
//! the end the group shrinks, and new nodes are cordoned and terminated, which is no update.
//!
//! Source: the EKS user guide, `nodes/managed-node-update-behavior` and `nodes/node-health`;
//! aws/containers-roadmap#2748; eksctl-io/eksctl `pkg/apis/eksctl.io/v1alpha5/types.go`.

use std::borrow::Cow;

use super::evidence;
use super::inferred::{CordonSign, RESTART_LIMIT, Rules};
use super::profile::{Mark, Node, Notice, Profile};
use super::step::Step;
use crate::api::types::{Phase, UpdateKind};
use crate::domain::cordon::Cordoner;
use crate::domain::node::{Evidence, NodeFacts, NodeObject};
use crate::domain::state::Finding;
use crate::domain::version::Precision;

/// Evidence of a managed node group.
pub const MARK: &str = "label eks.amazonaws.com/nodegroup";
/// Evidence of a node group of eksctl, managed or not.
pub const EKSCTL_MARK: &str = "label alpha.eksctl.io/nodegroup-name";

const NODE_GROUP: &str = "eks.amazonaws.com/nodegroup";
const IMAGE: &str = "eks.amazonaws.com/nodegroup-image";
const TEMPLATE: &str = "eks.amazonaws.com/sourceLaunchTemplateVersion";
const EXCLUDED: &str = "node.kubernetes.io/exclude-from-external-load-balancers";

/// Conditions of the node monitoring agent. If one is False for a while, node auto repair replaces the node.
const HEALTH: [&str; 4] = [
    "KernelReady",
    "NetworkingReady",
    "StorageReady",
    "AcceleratedHardwareReady",
];

const RULES: Rules = Rules {
    precision: Precision::Minor,
    replaces: true,
    cordon: CordonSign::Turn,
    limit: RESTART_LIMIT,
};

/// Managed node groups.
pub static EKS: Profile = Profile {
    coexists_with: &[super::cluster_api::MACHINE_POOL_MARK, EKSCTL_MARK],
    evidence: marks,
    image,
    image_change: |own, desired| Some(image_change(own, desired)),
    notice,
    step,
    ..Profile::new("EKS", Mark::Label(NODE_GROUP, MARK), RULES)
};

/// Node groups of eksctl that nothing manages: a user replaces them.
pub static EKSCTL: Profile = Profile::new(
    "eksctl",
    Mark::Label("alpha.eksctl.io/nodegroup-name", EKSCTL_MARK),
    Rules {
        cordon: CordonSign::DrainInRollout,
        ..RULES
    },
);

/// What EKS writes on a node, besides labels.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct EksNode {
    /// The taint that EKS used before it cordoned nodes, on all outdated nodes.
    pub(super) is_tainted: bool,
    /// A health condition that is False.
    pub(super) unhealthy: Option<&'static str>,
}

fn marks(node: &NodeObject) -> Option<Evidence> {
    if !node.labels.contains(NODE_GROUP) {
        return None;
    }
    let taint = node.taint(NODE_GROUP, "NoSchedule");
    let is_false = |type_: &&str| {
        let condition = node.conditions.find(type_);
        condition.is_some_and(|[_, status, ..]| status == "False")
    };
    let found = EksNode {
        is_tainted: taint.is_some_and(|(value, _)| value == "unschedulable"),
        unhealthy: HEALTH.into_iter().find(is_false),
    };
    evidence((found != EksNode::default()).then_some(found))
}

/// The image is an AMI, and the launch template may set anything else.
fn image(node: &NodeFacts) -> Option<Cow<'_, str>> {
    match (node.labels.get(IMAGE), node.labels.get(TEMPLATE)) {
        (Some(image), None) => Some(image.into()),
        (Some(image), Some(template)) => Some(format!("{image} {template}").into()),
        (None, Some(template)) => Some(format!(" {template}").into()),
        (None, None) => None,
    }
}

/// Another version of the launch template with the same AMI is another configuration.
fn image_change(own: &str, desired: &str) -> UpdateKind {
    if own.split(' ').next() == desired.split(' ').next() {
        UpdateKind::Configuration
    } else {
        UpdateKind::Image
    }
}

fn notice(node: &NodeFacts) -> Option<Notice> {
    let condition = node.evidence::<EksNode>()?.unhealthy?;
    let sentence =
        format!("Node auto repair of EKS may replace the node, which reports {condition}=False");
    Some(Notice::Explains(sentence.into()))
}

/// A node is excluded from load balancers after its drain.
fn step(node: &Node<'_>) -> Option<Step> {
    let facts = node.facts();
    if !node.is_outdated || node.is_interrupted || facts.deleting {
        return None;
    }
    let kind = node.change().unwrap_or(UpdateKind::Replacement);
    let is_tainted = facts
        .evidence()
        .is_some_and(|node: &EksNode| node.is_tainted);
    let is_cordoned = facts.cordoned.is_some();
    let is_excluded = facts.labels.get(EXCLUDED) == Some("true");
    let step = match (facts.is_ready(), is_tainted || is_cordoned, is_excluded) {
        (true, true, true) => {
            let message = "The node is drained; its machine is terminated next";
            Step::new(Phase::Updating, kind, "Terminating", message)
        }
        (false, true, true) => {
            let message = "The drained node does not report: it is being terminated";
            node.silent(Step::new(Phase::Updating, kind, "Terminating", message))?
        }
        (true, true, false) if is_tainted && !is_cordoned => {
            let message =
                "EKS keeps new pods away from the outdated node, which waits for its drain";
            let mut step = Step::new(Phase::Pending, kind, "Cordoned", message);
            step.unavailable = Some(Finding::new(
                false,
                "Unschedulable",
                "Node has the taint eks.amazonaws.com/nodegroup=unschedulable",
            ));
            step
        }
        (_, _, _) => return None,
    };
    Some(step.cordoned_by(Cordoner::updater("eks")))
}

#[cfg(test)]
mod tests;
