//! Builders for tests: nodes are healthy unless a test changes them.

pub(crate) mod schema;

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;

use super::cordon::{Cordon, Cordoner};
use super::erased::{Erased, downcast};
use super::interruption::Interruption;
use super::labels::Labels;
use super::node::{NodeCondition, NodeConditions, NodeFacts};
use super::pool_generations::{Flavour, Member, PoolVersion};
use super::state::{Evaluation, Finding};
use crate::api::types::{ConditionStatus, Phase, UpdateKind};

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

/// A ready node of a pool.
pub(crate) fn member(version: &str, (os, arch): (&str, &str)) -> Member {
    Member {
        flavour: Flavour {
            os: os.into(),
            arch: arch.into(),
        },
        version: PoolVersion::parse(&version.into()).unwrap(),
        image: None,
        created: Some(at(0)),
        name: version.into(),
        is_ready: true,
        is_staying: true,
    }
}

/// A node under construction.
#[derive(Clone)]
pub(crate) struct NodeBuilder {
    labels: BTreeMap<String, String>,
    facts: NodeFacts,
}

/// A log-normal duration, in seconds.
pub(crate) fn log_normal(rng: &mut fastrand::Rng, median: f64, sigma: f64) -> f64 {
    // Box, Muller 1958.
    let radius = (-2.0 * (1.0 - rng.f64()).ln()).sqrt();
    median * (sigma * radius * (std::f64::consts::TAU * rng.f64()).cos()).exp()
}

/// A healthy node in a phase of an update to another version.
pub(crate) fn evaluation(phase: Phase) -> Evaluation {
    Evaluation {
        phase,
        kind: Some(UpdateKind::Version),
        version: Some("v1.31.2".into()),
        desired: None,
        updating: Finding::updating(phase, "Step", ""),
        available: Finding::as_expected(true),
        degraded: Finding::as_expected(false),
        again_at: None,
        is_inferred: false,
        cordoned_by: None,
        is_only_behind: false,
        drain: None,
    }
}

/// A ready node without any other facts.
pub(crate) fn node(name: &str) -> NodeBuilder {
    NodeBuilder {
        labels: BTreeMap::new(),
        facts: NodeFacts {
            name: name.into(),
            uid: format!("uid-{name}").into(),
            labels: Labels::default(),
            created: Some(at(-100_000)),
            deleting: false,
            cordoned: None,
            kubelet_version: None,
            boot_id: None,
            conditions: NodeConditions {
                ready: Some(condition(ConditionStatus::True, "", -1000)),
                ..NodeConditions::default()
            },
            interruption: None,
            machine: None,
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
        self.facts.cordoned = Some(Box::new(Cordon {
            since: None,
            by: Cordoner::UNKNOWN,
        }));
        self
    }

    pub(crate) fn cordoned_since(self, since: i64) -> Self {
        self.cordoned_by(Cordoner::UNKNOWN, since)
    }

    pub(crate) fn cordoned_by(mut self, by: Cordoner, since: i64) -> Self {
        let since = Some(at(since));
        self.facts.cordoned = Some(Box::new(Cordon { since, by }));
        self
    }

    pub(crate) fn created(mut self, seconds: i64) -> Self {
        self.facts.created = Some(at(seconds));
        self
    }

    pub(crate) fn deleting(mut self) -> Self {
        self.facts.deleting = true;
        self
    }

    pub(crate) fn interrupted(mut self, by: Interruption) -> Self {
        self.facts.interruption = Some(by);
        self
    }

    pub(crate) fn removed_by_autoscaler(self) -> Self {
        self.interrupted(Interruption::ClusterAutoscaler)
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
