//! The rules of OpenShift, one test a rule.

use super::*;
use crate::domain::evaluate::evaluate;
use crate::domain::fixtures::{ClusterFacts, at};
use crate::domain::state::NodeState;

mod conditions;
mod membership;
mod verdict;

/// What is said of a node that is seen for the first time, at time 0.
fn judged(node: &NodeFacts, cluster: &ClusterFacts) -> NodeState {
    let membership = OpenShift.membership(node, cluster);
    evaluate(&OpenShift, node, &membership, cluster, None, at(0))
}
