//! The status of a pool of nodes.

use std::sync::LazyLock;

use proptest::prelude::*;

use super::*;
use crate::api::types::{DesiredVersionSource, PoolRef, ProviderName};
use crate::domain::fixtures::at;
use crate::domain::fixtures::schema::StatusSchema;
use crate::domain::pool::PoolId;
use crate::domain::state::NodeStateCondition;

mod assessment;
mod times;

static SCHEMA: LazyLock<StatusSchema> =
    LazyLock::new(StatusSchema::of::<PoolProgressInsightStatus>);

const OLD: &str = "4.14.1";
const NEW: &str = "4.15.0";

fn condition(status: bool, message: &str) -> NodeStateCondition {
    NodeStateCondition {
        status: status.into(),
        reason: "AsExpected",
        message: message.into(),
        since: at(0),
    }
}

fn desired(version: &str) -> Desired {
    Desired {
        version: version.into(),
        source: DesiredVersionSource::ClusterVersion,
    }
}

fn pool() -> Arc<PoolId> {
    let reference = PoolRef {
        group: "machineconfiguration.openshift.io".into(),
        resource: "machineconfigpools".into(),
        name: "worker".into(),
    };
    Arc::new(PoolId::object(reference, Scope::WorkerPool))
}

/// The same pool with changed facts of its provider.
fn with(view: PoolView, change: impl FnOnce(&mut PoolFacts)) -> PoolView {
    let mut state = PoolState::clone(&view.state);
    change(&mut state.facts);
    PoolView {
        state: Arc::new(state),
        ..view
    }
}

/// A healthy node in `phase`.
pub(crate) fn node(phase: Phase) -> NodeState {
    NodeState {
        name: "n".into(),
        uid: "uid".into(),
        pool: Some(pool()),
        provider: ProviderName::new("OpenShift"),
        overlays: Box::default(),
        scope: Scope::WorkerPool,
        phase,
        phase_start: at(0),
        kind: None,
        version: Some(if phase == Phase::Completed { NEW } else { OLD }.into()),
        desired: Some(desired(NEW)),
        updating: condition(phase.is_in_progress(), ""),
        available: condition(true, ""),
        degraded: condition(false, ""),
        timeline: Box::default(),
        boot_id: None,
        again_at: None,
        cordoned_by: None,
        created: Some(at(-1000)),
        kubelet: None,
        is_only_behind: false,
        drain: None,
        stall: None,
        progress: None,
        machine: None,
        outlook: None,
    }
}

fn degraded(name: &str, phase: Phase) -> NodeState {
    NodeState {
        name: name.into(),
        degraded: condition(true, &format!("cause\nof {name}")),
        ..node(phase)
    }
}

/// The pool `worker` with these nodes.
pub(crate) fn view(nodes: impl IntoIterator<Item = NodeState>) -> PoolView {
    PoolView {
        state: Arc::new(PoolState {
            id: pool(),
            provider: ProviderName::new("OpenShift"),
            facts: PoolFacts::default(),
            replaces: false,
            reuses_names: false,
            api_server: None,
        }),
        nodes: nodes.into_iter().map(Arc::new).collect(),
        awaited: 0,
        removed: 0,
        replaced: None,
    }
}

fn of(phases: &[(usize, Phase)]) -> PoolView {
    view(
        phases
            .iter()
            .flat_map(|(count, phase)| (0..*count).map(|_| node(*phase))),
    )
}

fn status(view: &PoolView) -> PoolProgressInsightStatus {
    project(view, None, 0, 1, at(0))
}

fn count(status: &PoolProgressInsightStatus, type_: SummaryType) -> i32 {
    let mut found = status.summaries.iter().filter(|each| each.type_ == type_);
    let summary = found.next().unwrap();
    assert_eq!(found.next(), None, "one summary per type");
    summary.count
}

/// Status and reason of a condition.
fn condition_of<'a>(
    status: &'a PoolProgressInsightStatus,
    type_: &str,
) -> (ConditionStatus, &'a str) {
    let condition = status.conditions.iter().find(|c| c.type_ == type_).unwrap();
    (condition.status, &condition.reason)
}

fn message<'a>(status: &'a PoolProgressInsightStatus, type_: &str) -> &'a str {
    let condition = status.conditions.iter().find(|c| c.type_ == type_);
    &condition.unwrap().message
}
