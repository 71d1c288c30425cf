//! One test for each rule of plain Kubernetes.

use super::*;
use crate::api::types::{ConditionStatus, DesiredVersionSource, Phase, UpdateKind};
use crate::domain::fixtures::at;
use crate::domain::pool::PoolId;
use crate::domain::pool_name::LabelKey;
use crate::domain::state::History;
use crate::domain::state::NodeState;
use crate::providers::fixtures::plain_kubernetes;
use crate::providers::fixtures::{ClusterFacts, membership, next_state, only};
use crate::providers::settings::WELL_KNOWN_POOL_LABELS;

mod pools;
mod steps;
mod versions;

fn plain() -> Kubernetes {
    plain_kubernetes(&WELL_KNOWN_POOL_LABELS.map(str::to_owned), None)
}

fn targeting(version: &str) -> Kubernetes {
    plain_kubernetes(&[], Some(version))
}

/// Successive states of a node, evaluated a minute apart.
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

/// The state of a node that is evaluated for the first time.
fn first_state(kubernetes: &Kubernetes, node: NodeFacts, cluster: &ClusterFacts) -> NodeState {
    history(kubernetes, cluster, &[node]).remove(0)
}
