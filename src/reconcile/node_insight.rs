//! Writes the insights of nodes: state in, object out. Never evaluates.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use super::applier::{Applied, Applier, Target};
use super::keyed_queue::Outcome;
use super::node_state::{Centre, Evaluated, InsightKey};
use crate::api::NodeProgressInsightStatus;
use crate::domain::node_status::project;
use crate::telemetry::metrics::Metrics;

/// Name of the consumer.
pub const NAME: &str = "node_insight";

/// Whether a key is for this consumer.
#[must_use]
pub fn wants(key: &InsightKey) -> bool {
    matches!(key, InsightKey::Node(_))
}

/// Brings the insight of a node to what its state says.
pub async fn reconcile(
    key: InsightKey,
    centre: &Centre,
    applier: &Applier<NodeProgressInsightStatus>,
    metrics: &Metrics,
) -> Outcome {
    let InsightKey::Node(name) = key else {
        return Outcome::Done;
    };
    let evaluated = centre.node(&name);
    let evaluated = evaluated.as_deref();
    let cause = evaluated.map(|evaluated| &evaluated.cause);
    match applier.apply(&name, evaluated.map(target), cause).await {
        Ok(done) => {
            record(&name, evaluated, done, metrics);
            Outcome::Done
        }
        Err(outcome) => outcome,
    }
}

fn target(evaluated: &Evaluated) -> Target<NodeProgressInsightStatus> {
    let state = Arc::clone(&evaluated.state);
    Target {
        owner: Some(owner(&state.name, &state.uid)),
        status: Box::new(move |_| project(&state)),
    }
}

/// The insight goes when its node goes, even if nobody is there to delete it.
fn owner(name: &str, uid: &str) -> OwnerReference {
    OwnerReference {
        api_version: "v1".into(),
        kind: "Node".into(),
        name: name.into(),
        uid: uid.into(),
        ..OwnerReference::default()
    }
}

fn record(name: &str, evaluated: Option<&Evaluated>, done: Applied, metrics: &Metrics) {
    match (done, evaluated) {
        (Applied::Deleted, _) => {
            tracing::info!(node = name, "Deleted the insight of a node that is gone");
        }
        (Applied::Written, Some(Evaluated { state, cause })) => {
            let latency = cause.observed_at.elapsed();
            metrics.written_after("NodeProgressInsight", latency.as_secs_f64());
            tracing::info!(
                reconcile_id = cause.reconcile_id,
                trigger = %cause.trigger,
                resource_version = &*cause.resource_version,
                node = name,
                pool = state.pool.as_ref().map(|pool| &*pool.name),
                phase = %state.phase,
                reason = state.updating.reason,
                "Wrote the insight of a node"
            );
        }
        (Applied::Unchanged, _) | (Applied::Written, None) => {}
    }
}
