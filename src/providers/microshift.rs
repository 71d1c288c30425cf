//! MicroShift: OpenShift on one small machine, updated as a package or as an image of the operating system.
//!
//! Nothing is drained and nothing reports an update: the node reboots, or its services restart, and comes back with
//! another boot ID and version. Kubelet and API server are one process, so the node is never behind the API server;
//! it is outdated only by the user's target.
//!
//! Source: openshift/microshift `pkg/node/kubelet.go` (labels), `pkg/controllers/version.go`.

use super::evidence;
use super::inferred::IN_PLACE;
use super::openshift::evidence::PREFIX;
use super::profile::{Mark, Node, Profile};
use super::step::Step;
use crate::api::types::Phase;
use crate::domain::availability::runs_control_plane;
use crate::domain::node::{Evidence, NodeObject};

/// The label of every node that runs an operating system of OpenShift.
const OS_ID: &str = "node.openshift.io/os_id";

/// MicroShift.
pub static MICROSHIFT: Profile = Profile {
    evidence: microshift,
    step: cordoned,
    ..Profile::new(
        "MicroShift",
        Mark::Distribution(|node| node.evidence::<MicroShiftNode>().is_some()),
        IN_PLACE,
    )
};

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct MicroShiftNode;

/// Other nodes with the label have annotations of the Machine Config Operator, or are joining a hosted cluster that
/// has no control-plane nodes.
fn microshift(node: &NodeObject) -> Option<Evidence> {
    let is_labelled = node.labels.contains(OS_ID) && runs_control_plane(&node.labels);
    let is_managed = || {
        let mut keys = node.annotations.iter().map(|(key, _)| key);
        keys.any(|key| key.starts_with(PREFIX))
    };
    evidence((is_labelled && !is_managed()).then_some(MicroShiftNode))
}

/// Nothing cordons the node for an update, so a cordon is neither a drain nor the end of one.
fn cordoned(node: &Node<'_>) -> Option<Step> {
    let facts = node.subject.facts;
    if facts.cordoned.is_none() || !facts.is_ready() || facts.deleting {
        return None;
    }
    let change = node.target.and_then(|target| target.change);
    Some(match change {
        Some(change) => {
            let message = "The node is outdated; it is cordoned, which is no update: MicroShift drains nothing";
            Step::new(Phase::Pending, change, "Pending", message)
        }
        None => Step::completed(),
    })
}

#[cfg(test)]
mod tests;
