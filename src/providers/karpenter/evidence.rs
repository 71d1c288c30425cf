//! What Karpenter writes on a Node.

use jiff::Timestamp;

use crate::domain::node::NodeObject;

/// What Karpenter writes on a Node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KarpenterNode {
    /// `spec.providerID`, the key of the NodeClaim; empty when there is none.
    pub provider_id: Box<str>,
    /// The NodeClaim that owns the Node.
    pub owner: Option<Box<str>>,
    /// The taint that keeps pods away before the node is disrupted.
    pub is_disrupted: bool,
    /// Since when, if the API server recorded it.
    pub disrupted_since: Option<Timestamp>,
    /// The taint of a node that has not registered.
    pub is_unregistered: bool,
    /// The annotation that keeps Karpenter from disrupting the node.
    pub do_not_disrupt: bool,
}

/// The annotation that keeps Karpenter from disrupting a node; only this value does.
pub(super) const DO_NOT_DISRUPT: (&str, &str) = ("karpenter.sh/do-not-disrupt", "true");

impl KarpenterNode {
    /// Reads the Node; `None` when Karpenter does not manage it.
    #[must_use]
    pub fn of(node: &NodeObject) -> Option<Self> {
        let mut owners = node.owners.iter();
        let owner = owners.find(|[version, kind, _]| {
            *kind == "NodeClaim" && version.starts_with("karpenter.sh/")
        });
        let label = node.labels.get(super::NODE_POOL_LABEL);
        if owner.is_none() && label.is_none_or(str::is_empty) {
            return None;
        }
        let (annotation, value) = DO_NOT_DISRUPT;
        // Before version 1 the taint had another key.
        let before = node
            .taint("karpenter.sh/disruption", "NoSchedule")
            .filter(|(value, _)| *value == "disrupting");
        let disrupted = node
            .taint("karpenter.sh/disrupted", "NoSchedule")
            .or(before);
        Some(Self {
            provider_id: node.provider_id.clone(),
            owner: owner.map(|[_, _, name]| name.into()),
            is_disrupted: disrupted.is_some(),
            disrupted_since: disrupted.and_then(|(_, since)| since),
            is_unregistered: node
                .taint("karpenter.sh/unregistered", "NoExecute")
                .is_some(),
            do_not_disrupt: node.annotations.get(annotation) == Some(value),
        })
    }
}
