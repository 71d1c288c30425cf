//! Node pools of GKE.
//!
//! GKE cordons, drains and deletes a node, one or a few at a time; in a blue-green upgrade it cordons all outdated
//! nodes first, so a cordon of all of them is no drain yet. The desired version is not in the cluster: the youngest
//! node of the pool shows it. Maintenance of the host is announced by labels, and is no update.
//!
//! Source: the GKE documentation, "Node pool upgrade strategies" and "Manage disruption by host maintenance".

use std::borrow::Cow;

use jiff::Timestamp;

use super::evidence;
use super::inferred::{CordonSign, RESTART_LIMIT, Rules};
use super::profile::{Mark, Notice, Profile};
use crate::domain::node::{Evidence, NodeFacts, NodeObject};
use crate::domain::version::Precision;

/// Evidence of a node pool.
pub const MARK: &str = "label cloud.google.com/gke-nodepool";

const NODE_POOL: &str = "cloud.google.com/gke-nodepool";
const MAINTENANCE_TIME: &str = "cloud.google.com/scheduled-maintenance-time";
const MAINTENANCE: &str = "cloud.google.com/active-node-maintenance";

/// Node pools of GKE.
pub static GKE: Profile = Profile {
    coexists_with: &[super::cluster_api::MACHINE_POOL_MARK],
    may_cordon_all: true,
    evidence: os_image,
    image,
    notice,
    ..Profile::new(
        "GKE",
        Mark::Label(NODE_POOL, MARK),
        Rules {
            precision: Precision::Minor,
            replaces: true,
            cordon: CordonSign::DrainInRollout,
            limit: RESTART_LIMIT,
        },
    )
};

/// The operating system of a node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct GkeNode {
    os_image: Box<str>,
}

fn os_image(node: &NodeObject) -> Option<Evidence> {
    let is_one = node.labels.contains(NODE_POOL);
    evidence(is_one.then(|| GkeNode {
        os_image: node.os_image.clone(),
    }))
}

fn image(node: &NodeFacts) -> Option<Cow<'_, str>> {
    let node = node.evidence::<GkeNode>()?;
    Some(Cow::Borrowed(&*node.os_image))
}

/// Maintenance of the host.
fn notice(node: &NodeFacts) -> Option<Notice> {
    if node.labels.get(MAINTENANCE) == Some("ONGOING") {
        let sentence = "Google Cloud maintains the host of the node";
        return Some(Notice::Acts(sentence.into()));
    }
    let time = node.labels.get(MAINTENANCE_TIME)?;
    let seconds = time.parse().ok();
    let time = match seconds.and_then(|seconds| Timestamp::from_second(seconds).ok()) {
        Some(time) => time.to_string(),
        None => time.to_owned(),
    };
    let sentence = format!("Google Cloud plans maintenance of the host of the node for {time}");
    Some(Notice::Explains(sentence.into()))
}

#[cfg(test)]
mod tests;
