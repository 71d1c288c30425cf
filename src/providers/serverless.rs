//! Nodes that are never updated: Fargate and virtual nodes.
//!
//! A Fargate node runs one pod and ends with it; a virtual node stands for a service outside the cluster. Neither has
//! a version to update, and neither belongs to a pool.
//!
//! Sources: the EKS user guide, `nodes/fargate-pod-patching`; virtual-kubelet/virtual-kubelet `node`.

use super::step::Step;
use super::{Claim, Provider, Subject};
use crate::api::types::{Phase, ProviderName};
use crate::domain::facts::{Unavailable, View};
use crate::domain::node::NodeFacts;
use crate::domain::pool::Membership;
use crate::domain::state::Evaluation;

/// Nodes without a machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct Serverless;

const LABELS: [(&str, &str, &str); 2] = [
    (
        "eks.amazonaws.com/compute-type",
        "fargate",
        "label eks.amazonaws.com/compute-type=fargate",
    ),
    ("type", "virtual-kubelet", "label type=virtual-kubelet"),
];

impl Provider for Serverless {
    fn name(&self) -> ProviderName {
        ProviderName::new("Serverless")
    }

    fn claim(&self, node: &NodeFacts, _: &View<'_>) -> Claim {
        let mut labels = LABELS.iter();
        labels
            .find(|(key, value, _)| node.labels.get(key) == Some(value))
            .map_or(Claim::None, |(_, _, shown)| Claim::Evidence(shown))
    }

    fn pool(&self, _: &NodeFacts, _: &View<'_>) -> Result<Membership, Unavailable> {
        Ok(Membership::Excluded)
    }

    fn evaluate(&self, node: &Subject<'_>, _: &View<'_>) -> Result<Evaluation, Unavailable> {
        Ok(excluded(node.facts))
    }
}

/// The evaluation of a node that is never updated.
#[must_use]
pub fn excluded(node: &NodeFacts) -> Evaluation {
    let message = "The node has no machine that could be updated";
    Step::new(Phase::Completed, None, "NotUpdated", message).evaluation(node, None)
}

#[cfg(test)]
mod tests;
