//! Plain Kubernetes, one test a rule.

use super::*;
use crate::domain::fixtures::at;
use crate::domain::pool::PoolId;
use crate::domain::state::NodeState;
use crate::providers::fixtures::{ClusterFacts, membership, next_state, only};

mod pools;
mod steps;
mod versions;

fn plain() -> Kubernetes {
    Kubernetes::new(&WELL_KNOWN_POOL_LABELS.map(str::to_owned), None)
}

fn targeting(version: &str) -> Kubernetes {
    Kubernetes::new(&[], Some(version))
}

/// The states that follow from what is seen of a node, one after the other, a minute apart.
fn history(kubernetes: &Kubernetes, cluster: &ClusterFacts, seen: &[NodeFacts]) -> Vec<NodeState> {
    let mut states: Vec<NodeState> = Vec::new();
    let providers = only(kubernetes.clone());
    for (minute, node) in (0..).zip(seen) {
        let past = states.last().map(History::from);
        let now = at(60 * minute);
        states.push(next_state(&providers, node, cluster, past.as_ref(), now));
    }
    states
}

/// What is said of a node that is seen for the first time.
fn first_state(kubernetes: &Kubernetes, node: NodeFacts, cluster: &ClusterFacts) -> NodeState {
    history(kubernetes, cluster, &[node]).remove(0)
}
