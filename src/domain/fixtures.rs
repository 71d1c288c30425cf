//! Builders for tests: nodes are healthy unless a test changes them.

pub(crate) mod schema;

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;

use super::erased::{Erased, downcast};
use super::labels::Labels;
use super::node::{Cordon, NodeCondition, NodeConditions, NodeFacts, Removal};
use crate::api::types::ConditionStatus;

/// The time `seconds` after the epoch of the tests.
pub(crate) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_790_000_000 + seconds).unwrap()
}

/// A condition of a node.
pub(crate) fn condition(status: ConditionStatus, message: &str, since: i64) -> NodeCondition {
    NodeCondition {
        status,
        since: Some(at(since)),
        message: message.into(),
    }
}

/// A node under construction.
#[derive(Clone)]
pub(crate) struct NodeBuilder {
    labels: BTreeMap<String, String>,
    facts: NodeFacts,
}

/// A ready node without any other facts.
pub(crate) fn node(name: &str) -> NodeBuilder {
    NodeBuilder {
        labels: BTreeMap::new(),
        facts: NodeFacts {
            name: name.into(),
            uid: format!("uid-{name}").into(),
            labels: Labels::default(),
            deleting: false,
            cordoned: None,
            kubelet_version: None,
            boot_id: None,
            conditions: NodeConditions {
                ready: Some(condition(ConditionStatus::True, "", -1000)),
                disk_pressure: Some(condition(ConditionStatus::False, "", -1000)),
                network_unavailable: Some(condition(ConditionStatus::False, "", -1000)),
                ..NodeConditions::default()
            },
            removal: None,
            evidence: Box::default(),
        },
    }
}

impl From<NodeFacts> for NodeBuilder {
    fn from(facts: NodeFacts) -> Self {
        let labels = facts.labels.iter();
        let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned()));
        Self {
            labels: labels.collect(),
            facts,
        }
    }
}

impl NodeBuilder {
    pub(crate) fn label(mut self, key: &str, value: &str) -> Self {
        self.labels.insert(key.into(), value.into());
        self
    }

    pub(crate) fn role(self, role: &str) -> Self {
        self.label(&format!("node-role.kubernetes.io/{role}"), "")
    }

    /// Changes the evidence of a provider on the node.
    pub(crate) fn evidence<E: Any + Clone + Default + Erased>(
        mut self,
        change: impl FnOnce(&mut E),
    ) -> Self {
        let mut evidence = self.facts.evidence::<E>().cloned().unwrap_or_default();
        change(&mut evidence);
        let mut all = self.facts.evidence.into_vec();
        all.retain(|each| downcast::<E>(&**each).is_none());
        all.push(Arc::new(evidence));
        self.facts.evidence = all.into_boxed_slice();
        self
    }

    pub(crate) fn kubelet(mut self, version: &str) -> Self {
        self.facts.kubelet_version = Some(version.into());
        self
    }

    pub(crate) fn boot(mut self, id: &str) -> Self {
        self.facts.boot_id = Some(id.into());
        self
    }

    pub(crate) fn cordoned(mut self) -> Self {
        self.facts.cordoned = Some(Cordon { since: None });
        self
    }

    pub(crate) fn cordoned_since(mut self, since: i64) -> Self {
        self.facts.cordoned = Some(Cordon {
            since: Some(at(since)),
        });
        self
    }

    pub(crate) fn deleting(mut self) -> Self {
        self.facts.deleting = true;
        self
    }

    pub(crate) fn removed_by_autoscaler(mut self) -> Self {
        self.facts.removal = Some(Removal::ClusterAutoscaler);
        self
    }

    pub(crate) fn not_ready(self, since: i64) -> Self {
        self.with(|conditions| {
            conditions.ready = Some(condition(
                ConditionStatus::Unknown,
                "Kubelet stopped posting node status.",
                since,
            ));
        })
    }

    pub(crate) fn with(mut self, change: impl FnOnce(&mut NodeConditions)) -> Self {
        change(&mut self.facts.conditions);
        self
    }

    pub(crate) fn build(self) -> NodeFacts {
        let labels = self.labels.iter().map(|(k, v)| (k.as_str(), v.as_str()));
        NodeFacts {
            labels: Labels::new(labels),
            ..self.facts
        }
    }
}
