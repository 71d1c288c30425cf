//! Writes the insights of nodes: state in, object out. Never evaluates.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use super::applier::{Applied, Applier, Ownership, Target};
use super::compare::Insights;
use super::events::Events;
use super::insight_cache::{InsightCache, digest};
use super::insight_key::InsightKey;
use super::keyed_queue::Outcome;
use super::node_state::NodeStateController;
use super::states::Evaluated;
use crate::api::NodeProgressInsightStatus;
use crate::api::insight::{API_VERSION, InsightStatus as _};
use crate::domain::milestones::{self, Milestone};
use crate::domain::node_status::project;
use crate::domain::state::NodeState;
use crate::kubernetes::events::{Note, Severity};
use crate::registry::backend::BackendError;
use crate::telemetry::metrics::Metrics;

/// Age up to which Events are repeated: an Event follows its insight within seconds, or minutes if many wait.
const REPEATED_AGE: SignedDuration = SignedDuration::from_mins(10);
/// The burst that the rate limit of Events allows; newer Events wait behind these.
const REPEATED_MAX: usize = 50;

/// Name of the consumer.
pub const NAME: &str = "node_insight";

/// Whether a key is for this consumer.
#[must_use]
pub fn wants(key: &InsightKey) -> bool {
    matches!(key, InsightKey::Node(_))
}

/// Writes the insights of nodes.
pub struct NodeInsights {
    controller: Arc<NodeStateController>,
    applier: Arc<Applier<NodeProgressInsightStatus>>,
    cache: Arc<InsightCache<NodeProgressInsightStatus>>,
    events: Events,
    metrics: Arc<Metrics>,
}

impl NodeInsights {
    /// Reads from `controller`, writes with `applier`, and records in `events` what an insight newly reports.
    #[must_use]
    pub fn new(
        controller: Arc<NodeStateController>,
        applier: Arc<Applier<NodeProgressInsightStatus>>,
        cache: Arc<InsightCache<NodeProgressInsightStatus>>,
        events: Events,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            controller,
            applier,
            cache,
            events,
            metrics,
        }
    }

    /// Writes the insight of a node to match its state.
    pub async fn reconcile(&self, key: InsightKey) -> Outcome {
        let InsightKey::Node(name) = key else {
            return Outcome::Done;
        };
        // The error is counted already and shown in `/readyz`.
        let Ok(evaluated) = self.controller.node(&name) else {
            return Outcome::Retry;
        };
        let Some(evaluated) = evaluated else {
            return self.remove(&name).await;
        };
        let (target, cause) = (target(&evaluated), Some(&evaluated.cause));
        match self.applier.apply(&name, Some(target), cause).await {
            Ok(Applied::Written { before, rest }) => {
                self.record(&evaluated);
                if let Some(before) = before {
                    let state = &evaluated.state;
                    self.record_events(milestones::since(before, state), state);
                }
                Outcome::done_for(rest)
            }
            Ok(Applied::Unchanged | Applied::Deleted { .. }) => Outcome::Done,
            Err(outcome) => outcome,
        }
    }

    async fn remove(&self, name: &Arc<str>) -> Outcome {
        let cause = self.controller.pending_deletion(name);
        let cause = cause.as_deref();
        match self.applier.apply(name, None, cause).await {
            Ok(applied) => {
                self.controller.deletion_written(name);
                let Applied::Deleted { rest } = applied else {
                    return Outcome::Done;
                };
                tracing::info!(
                    reconcile_id = cause.map(|cause| cause.reconcile_id),
                    trigger = cause.map(|cause| tracing::field::display(cause.trigger)),
                    node = &**name,
                    "Deleted the insight of a node that is gone"
                );
                Outcome::done_for(rest)
            }
            Err(outcome) => outcome,
        }
    }

    fn record(&self, evaluated: &Evaluated) {
        let Evaluated { state, cause } = evaluated;
        let latency = cause.observed_at.elapsed();
        self.metrics
            .written_after("NodeProgressInsight", latency.as_secs_f64());
        tracing::info!(
            reconcile_id = cause.reconcile_id,
            trigger = %cause.trigger,
            resource_version = &*cause.resource_version,
            node = &*state.name,
            pool = state.pool.as_ref().map(|pool| &*pool.name),
            phase = %state.phase,
            reason = state.updating.reason,
            "Wrote the insight of a node"
        );
    }

    /// Records the Events of the last [`REPEATED_AGE`] again, newest first, at most [`REPEATED_MAX`]: the process that
    /// wrote the insights may have stopped before it wrote the Events. Event names are deterministic, so the API
    /// server keeps no duplicates.
    pub fn record_again(&self, now: Timestamp) {
        let Ok(nodes) = self.controller.nodes() else {
            return;
        };
        let after = now.checked_sub(REPEATED_AGE).unwrap_or(now);
        let recent_of = |evaluated: &Arc<Evaluated>| {
            let state = &evaluated.state;
            let base = self.cache.base(&state.name)?;
            let reported = base.reported?;
            let is_owned = base.owner_uid.as_ref() == Some(&state.uid);
            is_owned.then(|| milestones::reported_after(after, reported, state))
        };
        let mut happened: Vec<_> = nodes
            .values
            .iter()
            .filter_map(|evaluated| Some((evaluated, recent_of(evaluated)?)))
            .flat_map(|(evaluated, recent)| recent.into_iter().map(move |each| (each, evaluated)))
            .collect();
        happened.sort_by_key(|((_, at), _)| Reverse(*at));
        for (each, evaluated) in happened.into_iter().take(REPEATED_MAX) {
            self.record_events(vec![each], &evaluated.state);
        }
    }

    fn record_events(&self, happened: Vec<(Milestone, Timestamp)>, state: &NodeState) {
        for (milestone, at) in happened {
            let base = self.cache.base(&state.name);
            let insight = ObjectReference {
                api_version: Some(API_VERSION.to_owned()),
                kind: Some(NodeProgressInsightStatus::KIND.to_owned()),
                name: Some(state.name.to_string()),
                uid: base.map(|base| base.uid.to_string()),
                ..ObjectReference::default()
            };
            let node = ObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some("Node".to_owned()),
                name: Some(state.name.to_string()),
                uid: Some(state.uid.to_string()),
                ..ObjectReference::default()
            };
            self.events.record(Note {
                severity: match milestone {
                    Milestone::NodeDegraded
                    | Milestone::DrainBlocked
                    | Milestone::ForeignCordon
                    | Milestone::UpdateStalled => Severity::Warning,
                    Milestone::UpdateStarted
                    | Milestone::DrainStarted
                    | Milestone::DrainUnblocked
                    | Milestone::UpdateContinues
                    | Milestone::UpdateCompleted => Severity::Normal,
                },
                reason: milestone.as_str(),
                action: "Updating",
                text: milestone.text(state),
                at,
                regarding: insight,
                related: Some(node),
            });
        }
    }
}

impl Insights for NodeInsights {
    fn keys(&self) -> Result<Vec<InsightKey>, BackendError> {
        let states = self.controller.nodes()?.values;
        let names = states
            .iter()
            .map(|evaluated| Arc::clone(&evaluated.state.name));
        let all: BTreeSet<Arc<str>> = names.chain(self.cache.names()).collect();
        Ok(all.into_iter().map(InsightKey::Node).collect())
    }

    fn difference(&self, key: &InsightKey) -> Result<Option<u64>, BackendError> {
        let InsightKey::Node(name) = key else {
            return Ok(None);
        };
        let base = self.cache.base(name);
        let Some(evaluated) = self.controller.node(name)? else {
            return Ok(base.map(|_| 0));
        };
        let status = project(&evaluated.state);
        let is_held = base.is_some_and(|base| {
            base.owner_uid.as_ref() == Some(&evaluated.state.uid) && base.holds(&status)
        });
        Ok((!is_held).then(|| digest(&status)))
    }

    fn fails(&self, key: &InsightKey) -> bool {
        matches!(key, InsightKey::Node(name) if self.applier.fails(name))
    }
}

fn target(evaluated: &Evaluated) -> Target<NodeProgressInsightStatus> {
    let state = Arc::clone(&evaluated.state);
    Target {
        owner: Ownership::Known(Some(owner(&state.name, &state.uid))),
        status: Box::new(move |_| project(&state)),
    }
}

/// Lets the garbage collector delete the insight with its node, even while the operator is down.
fn owner(name: &str, uid: &str) -> OwnerReference {
    OwnerReference {
        api_version: "v1".into(),
        kind: "Node".into(),
        name: name.into(),
        uid: uid.into(),
        ..OwnerReference::default()
    }
}
