//! The rules of plain Kubernetes, one test a rule.

use super::*;
use crate::domain::evaluate::evaluate;
use crate::domain::fixtures::{ClusterFacts, at};
use crate::domain::pool::PoolId;
use crate::domain::state::NodeState;

mod pools;
mod steps;
mod versions;

fn rules() -> Kubernetes {
    Kubernetes::new(&WELL_KNOWN_POOL_LABELS.map(str::to_owned), None)
}

fn targeting(version: &str) -> Kubernetes {
    Kubernetes::new(&[], Some(version))
}

/// The states that follow from what is seen of a node, one after the other, a minute apart.
fn history(rules: &Kubernetes, cluster: &ClusterFacts, seen: &[NodeFacts]) -> Vec<NodeState> {
    let mut states: Vec<NodeState> = Vec::new();
    for (minute, node) in (0..).zip(seen) {
        let membership = rules.membership(node, cluster);
        let past = states.last().map(History::from);
        states.push(evaluate(
            rules,
            node,
            &membership,
            cluster,
            past.as_ref(),
            at(60 * minute),
        ));
    }
    states
}

/// What is said of a node that is seen for the first time.
fn judged(rules: &Kubernetes, node: NodeFacts, cluster: &ClusterFacts) -> NodeState {
    history(rules, cluster, &[node]).remove(0)
}
