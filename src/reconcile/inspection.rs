//! Views of the node-state controller's data for the inspection endpoints.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use super::inventory::Found;
use super::node_state::NodeStateController;
use super::states::Evaluated;
use crate::api::NodeProgressInsightStatus;
use crate::api::types::Phase;
use crate::domain::eta::Stage;
use crate::domain::node_status::project;
use crate::domain::outlook;
use crate::registry::backend::BackendError;
use crate::telemetry::cause::Cause;

/// A node's state: the insight's status and internal details.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeView {
    /// With the full stored timeline.
    #[serde(flatten)]
    status: NodeProgressInsightStatus,
    uid: String,
    last_change: ChangeView,
}

impl NodeView {
    /// Creates the view of a state.
    #[must_use]
    pub fn of(evaluated: &Evaluated) -> Self {
        let Evaluated { state, cause } = evaluated;
        Self {
            status: NodeProgressInsightStatus {
                timeline: state.timeline.to_vec(),
                ..project(state)
            },
            uid: state.uid.to_string(),
            last_change: ChangeView::of(cause),
        }
    }
}

/// The last change of a node or pool.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ChangeView {
    reconcile_id: u64,
    trigger: String,
    resource_version: String,
    seconds_ago: f64,
}

impl ChangeView {
    fn of(cause: &Cause) -> Self {
        Self {
            reconcile_id: cause.reconcile_id,
            trigger: cause.trigger.to_string(),
            resource_version: cause.resource_version.to_string(),
            seconds_ago: cause.observed_at.elapsed().as_secs_f64(),
        }
    }
}

/// A pool.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PoolInspection {
    name: String,
    paused: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    desired_version: Option<String>,
    nodes: usize,
    nodes_by_phase: BTreeMap<&'static str, usize>,
    phase_durations: BTreeMap<&'static str, DurationView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_change: Option<ChangeView>,
}

/// How long nodes are expected to be in a phase.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct DurationView {
    /// Half of them take longer.
    usual_seconds: i64,
    /// One of ten takes longer.
    long_seconds: i64,
}

impl PoolInspection {
    /// Creates the view of a pool; `None` when the pool does not exist.
    ///
    /// # Errors
    /// When the backend fails.
    pub fn of(
        controller: &NodeStateController,
        name: &Arc<str>,
    ) -> Result<Option<Self>, BackendError> {
        let Found::Here(view) = controller.pool(name)? else {
            return Ok(None);
        };
        let mut nodes_by_phase = BTreeMap::new();
        for node in &view.nodes {
            *nodes_by_phase.entry(node.phase.as_str()).or_default() += 1;
        }
        let phases = Phase::ALL.into_iter();
        let stages = phases.filter_map(|phase| Some((phase, Stage::of(phase)?)));
        let phase_durations = controller.ask_durations(&view, |sources| {
            let durations = stages.map(|(phase, stage)| {
                let step = outlook::step_of_pool(&view, stage, sources);
                let view = DurationView {
                    usual_seconds: step.usual.as_secs(),
                    long_seconds: step.long.as_secs(),
                };
                (phase.as_str(), view)
            });
            durations.collect()
        })?;
        Ok(Some(Self {
            name: name.to_string(),
            paused: view.state.facts.paused,
            desired_version: view
                .state
                .facts
                .desired
                .as_ref()
                .map(|desired| desired.version.to_string()),
            nodes: view.nodes.len(),
            nodes_by_phase,
            phase_durations,
            last_change: controller
                .evaluated_pool(name)?
                .map(|pool| ChangeView::of(&pool.cause)),
        }))
    }
}
