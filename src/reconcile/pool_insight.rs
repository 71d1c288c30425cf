//! Writes the insights of pools: consistent snapshot of a pool's nodes in, object out. Never evaluates.
//!
//! A pool's insight changes with each of its nodes. The first change is written at once, then at most
//! one write per `PACE`; the last state is always written.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use super::applier::{Applied, Applier, Ownership, Target};
use super::compare::Insights;
use super::insight_cache::{InsightCache, digest};
use super::insight_key::InsightKey;
use super::inventory::Found;
use super::keyed_queue::Outcome;
use super::node_state::NodeStateController;
use crate::api::PoolProgressInsightStatus;
use crate::api::types::EstimatedCompletion;
use crate::domain::eta::{Learned, summary};
use crate::domain::outlook::{self, Course};
use crate::domain::pool::PoolOwner;
use crate::domain::pool_status::{PoolView, project};
use crate::registry::Clock;
use crate::registry::backend::BackendError;
use crate::registry::store::Store;
use crate::telemetry::cause::Cause;
use crate::telemetry::metrics::Metrics;

/// Name of the consumer.
pub const NAME: &str = "pool_insight";
/// Minimum time between two writes of one pool; without it, an update of 5,000 nodes would cause 5,000 writes.
const PACE: Duration = Duration::from_secs(1);

/// Makes the status for a generation.
type Status = Box<dyn Fn(i64) -> PoolProgressInsightStatus + Send + Sync>;

/// Whether a key is for this consumer.
#[must_use]
pub fn wants(key: &InsightKey) -> bool {
    matches!(key, InsightKey::Pool(_))
}

/// Writes the insights of pools.
pub struct PoolInsights {
    controller: Arc<NodeStateController>,
    applier: Arc<Applier<PoolProgressInsightStatus>>,
    cache: Arc<InsightCache<PoolProgressInsightStatus>>,
    /// The last status of each pool, from which unchanged times and the rollout are carried over.
    last: Store<Arc<str>, Last>,
    metrics: Arc<Metrics>,
    clock: Clock,
}

/// The last status of a pool.
#[derive(PartialEq)]
struct Last {
    status: PoolProgressInsightStatus,
    /// [`PoolView::removed`] at that time.
    removed: usize,
    /// What its rollout was until then.
    course: Course,
}

impl Last {
    /// How many nodes have left the pool since `last` other than by being updated or replaced.
    fn removed(last: Option<&Self>, view: &PoolView) -> usize {
        last.map_or(0, |last| view.removed.saturating_sub(last.removed))
    }
}

impl PoolInsights {
    /// Reads from `controller`, writes with `applier`.
    #[must_use]
    pub fn new(
        controller: Arc<NodeStateController>,
        applier: Arc<Applier<PoolProgressInsightStatus>>,
        cache: Arc<InsightCache<PoolProgressInsightStatus>>,
        metrics: Arc<Metrics>,
        clock: Clock,
    ) -> Self {
        Self {
            controller,
            applier,
            cache,
            last: Store::new(),
            metrics,
            clock,
        }
    }

    /// Writes the insight of a pool to match its nodes.
    pub async fn reconcile(&self, key: InsightKey) -> Outcome {
        let InsightKey::Pool(name) = key else {
            return Outcome::Done;
        };
        // Read before the view, so that the view is never older than the cause.
        let pool = self.controller.evaluated_pool(&name).ok().flatten();
        let cause = pool.as_ref().map(|pool| &pool.cause);
        let view = match self.controller.pool(&name) {
            Ok(Found::Here(pool)) => pool,
            Ok(Found::Gone) => return self.remove(&name).await,
            // The pool may still exist: keep its insight.
            Ok(Found::Unknown) => return Outcome::Done,
            // The error is counted already and shown in `/readyz`.
            Err(_) => return Outcome::Retry,
        };
        let Ok(status) = self.project(&view) else {
            return Outcome::Retry;
        };
        let target = Target {
            owner: owner(&view.state.facts.owner),
            status,
        };
        match self.applier.apply(&name, Some(target), cause).await {
            Ok(Applied::Written { rest, .. }) => {
                self.record(&name, &view, cause);
                Outcome::DoneFor(rest.max(PACE))
            }
            Ok(Applied::Unchanged | Applied::Deleted { .. }) => Outcome::Done,
            Err(outcome) => outcome,
        }
    }

    /// Computes the status and stores it before the write, so that a retry after a failed write reuses the same
    /// times.
    fn project(&self, view: &PoolView) -> Result<Status, BackendError> {
        let name = &view.state.id.name;
        let now = (self.clock)();
        let last = self.last.get(name);
        // Before the history is taken, which has what was learned.
        self.controller.learned(name)?;
        let written = match &last {
            Some(_) => None,
            None => self.cache.take_history(name),
        };
        let past = last.as_ref().map(|last| &last.status);
        let past = past.or(written.as_deref());
        let removed = Last::removed(last.as_deref(), view);
        let mut status = project(view, past, removed, 0, now);
        let mut course = last
            .as_ref()
            .map_or_else(Course::default, |last| last.course.clone());
        let rollouts = (
            past.and_then(|past| past.rollout.as_ref()),
            status.rollout.as_ref(),
        );
        self.controller.teach(name, |learned| {
            course.follow(learned, rollouts, outlook::kind(view), now)
        })?;
        let shown = past.and_then(|past| past.estimated_completion.as_ref());
        status.estimated_completion = self.estimate(view, &status, shown, &mut course, now)?;
        status.learned_durations = self.learned(name)?;
        let last = Last {
            status: status.clone(),
            removed: view.removed,
            course,
        };
        self.last.upsert(Arc::clone(name), last);
        self.metrics.pool_is(
            &view.state.id.name,
            status.assessment,
            status.completion_percent,
        );
        self.metrics
            .pool_skew_is(&view.state.id.name, status.version_skew.as_ref());
        Ok(Box::new(move |generation| PoolProgressInsightStatus {
            observed_generation: generation,
            ..status.clone()
        }))
    }

    /// When the rollout is expected to be complete, in place of what the insight shows.
    fn estimate(
        &self,
        view: &PoolView,
        status: &PoolProgressInsightStatus,
        shown: Option<&EstimatedCompletion>,
        course: &mut Course,
        now: Timestamp,
    ) -> Result<Option<EstimatedCompletion>, BackendError> {
        let rollout = status.rollout.as_ref();
        let Some(rollout) = rollout.filter(|_| !outlook::is_held(view)) else {
            return Ok(None);
        };
        let free = course.free_since();
        self.controller.ask_durations(view, |sources| {
            let estimate = || outlook::of_pool(view, rollout, free, sources, now);
            course.estimate(shown, estimate, now)
        })
    }

    fn learned(&self, pool: &Arc<str>) -> Result<Option<String>, BackendError> {
        let learned = self.controller.learned(pool)?;
        Ok((*learned != Learned::default()).then(|| summary::encode(&learned)))
    }

    /// The pools whose rollout is in progress: their estimates change with time.
    #[must_use]
    pub fn estimated(&self) -> Vec<Arc<str>> {
        let pools = self.last.keys().into_iter();
        let is_rolling = |name: &Arc<str>| {
            let last = self.last.get(name);
            last.is_some_and(|last| last.status.rollout.is_some())
        };
        pools.filter(is_rolling).collect()
    }

    async fn remove(&self, name: &Arc<str>) -> Outcome {
        self.metrics.pool_is_gone(name);
        match self.applier.apply(name, None, None).await {
            Ok(applied) => {
                self.last.remove(name);
                self.cache.take_history(name);
                let Applied::Deleted { rest } = applied else {
                    return Outcome::Done;
                };
                tracing::info!(pool = &**name, "Deleted the insight of a pool that is gone");
                Outcome::done_for(rest)
            }
            Err(outcome) => outcome,
        }
    }

    fn record(&self, name: &Arc<str>, view: &PoolView, cause: Option<&Cause>) {
        let Some(cause) = cause else {
            return;
        };
        self.metrics.written_after(
            "PoolProgressInsight",
            cause.observed_at.elapsed().as_secs_f64(),
        );
        let assessment = self.last.get(name);
        let assessment = assessment.map(|last| last.status.assessment.as_str());
        tracing::info!(
            reconcile_id = cause.reconcile_id, trigger = %cause.trigger, resource_version = &*cause.resource_version,
            pool = &**name, nodes = view.nodes.len(), assessment, "Wrote the insight of a pool"
        );
    }
}

impl Insights for PoolInsights {
    fn keys(&self) -> Result<Vec<InsightKey>, BackendError> {
        let names = self.controller.pool_names()?.into_iter();
        let all: BTreeSet<Arc<str>> = names.chain(self.cache.names()).collect();
        Ok(all.into_iter().map(InsightKey::Pool).collect())
    }

    fn difference(&self, key: &InsightKey) -> Result<Option<u64>, BackendError> {
        let InsightKey::Pool(name) = key else {
            return Ok(None);
        };
        let base = self.cache.base(name);
        let view = match self.controller.pool(name)? {
            Found::Here(view) => view,
            Found::Gone => return Ok(base.map(|_| 0)),
            Found::Unknown => return Ok(None),
        };
        let generation = base.as_ref().map_or(0, |base| base.generation);
        let last = self.last.get(name);
        let removed = Last::removed(last.as_deref(), &view);
        let past = last.as_ref().map(|last| &last.status);
        let status = PoolProgressInsightStatus {
            estimated_completion: past.and_then(|past| past.estimated_completion.clone()),
            learned_durations: self.learned(name)?,
            ..project(&view, past, removed, generation, (self.clock)())
        };
        let owner = owner(&view.state.facts.owner);
        let is_held =
            base.is_some_and(|base| owner.allows(base.owner_uid.as_deref()) && base.holds(&status));
        Ok((!is_held).then(|| digest(&status)))
    }

    fn fails(&self, key: &InsightKey) -> bool {
        matches!(key, InsightKey::Pool(name) if self.applier.fails(name))
    }
}

/// Lets the garbage collector delete the insight with its pool, even while the operator is down.
fn owner(owner: &PoolOwner) -> Ownership {
    let owner = match owner {
        PoolOwner::None => return Ownership::Known(None),
        PoolOwner::Unknown => return Ownership::Unknown,
        PoolOwner::Object(owner) => owner,
    };
    Ownership::Known(Some(OwnerReference {
        api_version: owner.api_version.to_string(),
        kind: owner.kind.to_string(),
        name: owner.name.to_string(),
        uid: owner.uid.to_string(),
        ..OwnerReference::default()
    }))
}
