//! Builders for tests: pods, budgets and blockers.

use std::sync::Arc;

use jiff::Timestamp;

use super::budget::Budget;
use super::pod::{Controller, Deletion, DoNotDisrupt, DrainLabel, Operator, Pod, Stage, Tolerates};
use super::{Blocker, Key, Reason};
use crate::domain::fixtures::at;
use crate::domain::labels::{Labels, Selector};

/// A pod under construction.
#[derive(Debug, Clone)]
pub(crate) struct PodBuilder(Pod);

/// A ready pod of ReplicaSet `web` in namespace `shop`, with the label `app=web`, created long ago on node `a`.
pub(crate) fn running(name: &str) -> PodBuilder {
    PodBuilder(Pod {
        node: "a".into(),
        namespace: "shop".into(),
        name: name.into(),
        controller: Some(Controller {
            kind: "ReplicaSet".into(),
            name: "web".into(),
        }),
        labels: Labels::new([("app", "web")]).into(),
        stage: Stage::Running,
        is_ready: true,
        unready_since: None,
        created: Some(at(-100_000)),
        deletion: None,
        finalizer: None,
        do_not_disrupt: None,
        drain: DrainLabel::Evict,
        operator: None,
        has_empty_dir: false,
        tolerates: Tolerates::default(),
    })
}

impl PodBuilder {
    pub(crate) fn with(mut self, change: impl FnOnce(&mut Pod)) -> Self {
        change(&mut self.0);
        self
    }

    pub(crate) fn of(self, kind: &str, name: &str) -> Self {
        self.with(|pod| {
            let (kind, name): (Arc<str>, Arc<str>) = (kind.into(), name.into());
            pod.controller = Some(Controller { kind, name });
        })
    }

    pub(crate) fn bare(self) -> Self {
        self.with(|pod| pod.controller = None)
    }

    pub(crate) fn unready(self) -> Self {
        self.with(|pod| pod.is_ready = false)
    }

    pub(crate) fn stage(self, stage: Stage) -> Self {
        self.with(|pod| pod.stage = stage)
    }

    /// It is being deleted, and its grace ends then.
    pub(crate) fn ending(self, ends: Timestamp) -> Self {
        let is_done = false;
        self.with(|pod| pod.deletion = Some(Deletion { ends, is_done }))
    }

    pub(crate) fn marked(self, mark: DoNotDisrupt) -> Self {
        self.with(|pod| pod.do_not_disrupt = Some(mark))
    }

    pub(crate) fn operator(self, operator: Operator) -> Self {
        self.with(|pod| pod.operator = Some(operator))
    }

    pub(crate) fn build(self) -> Pod {
        self.0
    }
}

/// The budget of the pods of [`running`] that needs so many of so many pods, of which so many are healthy.
pub(crate) fn budget(name: &str, expected: i32, desired: i32, current: i32) -> Budget {
    Budget {
        namespace: "shop".into(),
        name: name.into(),
        selector: Selector::standard(Some(&k8s_selector("app", "web"))).unwrap(),
        is_number: false,
        always_allows_unready: false,
        is_observed: true,
        expected,
        desired,
        current,
        allowed: if expected > 0 {
            (current - desired).max(0)
        } else {
            0
        },
        failure: None,
    }
}

fn k8s_selector(
    key: &str,
    value: &str,
) -> k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector {
    serde_json::from_value(serde_json::json!({"matchLabels": {key: value}})).unwrap()
}

/// A blocker for this reason since then, about the budget `web` in namespace `shop`.
pub(crate) fn blocker(reason: Reason, since: Timestamp) -> Blocker {
    Blocker {
        key: Key {
            reason,
            kind: "PodDisruptionBudget".into(),
            namespace: "shop".into(),
            name: "web".into(),
        },
        message: "PodDisruptionBudget shop/web needs 1 of 1 pods".into(),
        pods: Box::new([]),
        count: 1,
        since,
        gone: None,
        is_symptom: false,
    }
}
