//! PodDisruptionBudgets, as far as they decide about evictions.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde::Deserialize;
use serde_json::Value;

use super::pod::Pod;
use crate::domain::fact::{Fact, Keys, KindSpec, Need, Object, Parsed};
use crate::domain::labels::Selector;
use crate::domain::shared::shared;
use crate::domain::text;

/// Index of budgets by their namespace and a label that their pods have: see [`keys_of`].
pub const SELECTS: &str = "spec.selector";

/// A budget of v1beta1 whose selector is empty matches nothing, and is stored with this requirement.
const DEPRECATED_EMPTY: &str = "pdb.kubernetes.io/deprecated-v1beta1-empty-selector-match";

/// A PodDisruptionBudget.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Budget {
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
    /// Its pods; `None` are none.
    pub selector: Option<Selector>,
    /// `minAvailable` is a number of pods, not a percentage and not `maxUnavailable`.
    pub is_number: bool,
    /// Pods that are not ready may be evicted whatever the budget allows.
    pub always_allows_unready: bool,
    /// The disruption controller has seen it as it is.
    pub is_observed: bool,
    /// `expectedPods`.
    pub expected: i32,
    /// `desiredHealthy`.
    pub desired: i32,
    /// `currentHealthy`.
    pub current: i32,
    /// `disruptionsAllowed`.
    pub allowed: i32,
    /// Why it cannot be calculated.
    pub failure: Option<Box<str>>,
}

impl Budget {
    /// Whether it is a budget of this pod, which is in its namespace.
    #[must_use]
    pub fn covers(&self, pod: &Pod) -> bool {
        let selector = self.selector.as_ref();
        selector.is_some_and(|selector| selector.matches(&pod.labels))
    }
}

/// The keys in [`SELECTS`] under which all budgets of a pod are.
pub fn keys_of(pod: &Pod) -> impl Iterator<Item = String> {
    let labels = pod
        .labels
        .iter()
        .map(|label| key(&pod.namespace, Some(label)));
    labels.chain([key(&pod.namespace, None)])
}

/// Budgets that name no label of their pods have a key without one.
fn key(namespace: &str, label: Option<(&str, &str)>) -> String {
    match label {
        Some((label, value)) => format!("{namespace}/{label}={value}"),
        None => format!("{namespace}/"),
    }
}

#[derive(Deserialize)]
struct Raw {
    metadata: RawMeta,
    #[serde(default)]
    spec: RawSpec,
    #[serde(default)]
    status: RawStatus,
}

#[derive(Deserialize)]
struct RawMeta {
    #[serde(default)]
    generation: i64,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct RawSpec {
    selector: Option<LabelSelector>,
    min_available: Option<Value>,
    unhealthy_pod_eviction_policy: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct RawStatus {
    observed_generation: i64,
    expected_pods: i32,
    desired_healthy: i32,
    current_healthy: i32,
    disruptions_allowed: i32,
    conditions: Option<Vec<RawCondition>>,
}

#[derive(Deserialize)]
struct RawCondition {
    #[serde(default)]
    reason: String,
    #[serde(default)]
    message: String,
}

impl Fact for Budget {
    const KIND: KindSpec = KindSpec::new(
        "policy",
        &["v1"],
        "PodDisruptionBudget",
        "poddisruptionbudgets",
    )
    .namespaced()
    .need(Need::Optional)
    .only_while_read();

    fn parse(object: &Object<'_>) -> Parsed<Self> {
        let raw: Raw = match object.read() {
            Ok(raw) => raw,
            Err(error) => return Parsed::Unreadable(error),
        };
        let (selector, error) = match Selector::standard(raw.spec.selector.as_ref()) {
            Ok(selector) => (selector, None),
            Err((error, _)) => (None, Some(error)),
        };
        let matches_nothing = |selector: &Selector| selector.requires(DEPRECATED_EMPTY);
        let mut conditions = raw.status.conditions.iter().flatten();
        let failure = conditions.find(|condition| condition.reason == "SyncFailed");
        let budget = Self {
            namespace: shared(object.meta.namespace.as_deref().unwrap_or_default()),
            name: object.meta.name.as_str().into(),
            selector: selector.filter(|selector| !matches_nothing(selector)),
            is_number: raw.spec.min_available.is_some_and(|value| value.is_i64()),
            always_allows_unready: raw.spec.unhealthy_pod_eviction_policy.as_deref()
                == Some("AlwaysAllow"),
            is_observed: raw.status.observed_generation >= raw.metadata.generation,
            expected: raw.status.expected_pods,
            desired: raw.status.desired_healthy,
            current: raw.status.current_healthy,
            allowed: raw.status.disruptions_allowed,
            failure: failure.map(|condition| text::summary(&condition.message).into()),
        };
        match error {
            None => Parsed::Fact(budget),
            Some(error) => Parsed::Flawed(budget, error.to_string()),
        }
    }

    fn index(&self, keys: &mut Keys) {
        let Some(selector) = &self.selector else {
            return;
        };
        match selector.required_values() {
            Some(labels) => {
                for (label, value) in labels {
                    keys.add(SELECTS, &key(&self.namespace, Some((label, value))));
                }
            }
            None => keys.add(SELECTS, &key(&self.namespace, None)),
        }
    }
}
