//! One test for each rule of OpenShift.

use super::*;
use crate::domain::fixtures::at;
use crate::domain::state::NodeState;
use crate::providers::fixtures::{ClusterFacts, next_state, only};

mod conditions;
mod membership;
mod phase;

/// The state of a node that is first evaluated at time 0.
fn first_state(node: &NodeFacts, cluster: &ClusterFacts) -> NodeState {
    next_state(&only(OpenShift::chosen()), node, cluster, None, at(0))
}
