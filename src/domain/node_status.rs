//! Converts the state of a node to the status of its insight.

use std::borrow::Cow;

use super::outlook::Outlook;
use super::stalled::Stall;
use super::state::{NodeState, NodeStateCondition};
use super::text;
use crate::api::node::{CordonedBy, NodeProgressInsightStatus, condition};
use crate::api::types::{Condition, ConditionStatus, Phase, TIMELINE_LIMIT};

/// The insight status for `state`.
#[must_use]
pub fn project(state: &NodeState) -> NodeProgressInsightStatus {
    let word = |text: &str| text::word(text, 253).map(Cow::into_owned);
    NodeProgressInsightStatus {
        name: state.name.to_string(),
        pool_ref: state.pool.as_ref().map(|pool| pool.reference.clone()),
        provider: state.provider.clone(),
        overlays: state.overlays.to_vec(),
        scope: state.scope,
        phase: state.phase,
        phase_start_time: state.phase_start,
        update_kind: state.kind,
        version: state.version.as_deref().and_then(word),
        desired_version: state
            .desired
            .as_ref()
            .and_then(|desired| word(&desired.version)),
        desired_version_source: state.desired.as_ref().map(|desired| desired.source),
        message: message(state),
        cordoned_by: state.cordoned_by.as_deref().map(|cordon| CordonedBy {
            kind: cordon.by.kind,
            name: word(&cordon.by.name),
            since: cordon.since,
            foreign: cordon.is_foreign,
        }),
        estimated_completion: state.outlook.as_deref().and_then(Outlook::report),
        drain: state
            .drain
            .as_deref()
            .map(|drain| drain.report(state.phase_start)),
        boot_id: state.boot_id.as_deref().and_then(word),
        conditions: [
            api_condition(condition::UPDATING, &state.updating),
            api_condition(condition::AVAILABLE, &state.available),
            api_condition(condition::DEGRADED, &state.degraded),
        ]
        .into_iter()
        .chain(state.stall.as_deref().map(Stall::report))
        .collect(),
        timeline: state.timeline[state.timeline.len().saturating_sub(TIMELINE_LIMIT)..].to_vec(),
    }
}

/// The first of: the failure, what holds the drain up, the current step or why the phase is unknown, why the node is
/// unavailable.
fn message(state: &NodeState) -> Option<String> {
    let blockers = state
        .drain
        .as_ref()
        .map_or(&[][..], |drain| &drain.blockers);
    if let Some(first) = blockers.first()
        && state.degraded.status != ConditionStatus::True
    {
        return Some(first.message.to_string());
    }
    let parts = [
        (
            state.degraded.status == ConditionStatus::True,
            &state.degraded,
        ),
        (
            state.phase != Phase::Completed && state.phase != Phase::Pending,
            &state.updating,
        ),
        (
            state.available.status != ConditionStatus::True,
            &state.available,
        ),
        (true, &state.updating),
    ];
    let (_, condition) = parts
        .into_iter()
        .find(|(applies, condition)| *applies && !condition.message.trim().is_empty())?;
    Some(text::summary(&condition.message)).filter(|line| !line.is_empty())
}

fn api_condition(name: &str, condition: &NodeStateCondition) -> Condition {
    Condition {
        type_: name.to_owned(),
        status: condition.status,
        last_transition_time: condition.since,
        reason: condition.reason.to_owned(),
        message: condition.message.to_string(),
    }
}
