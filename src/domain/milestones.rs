//! What happens to a node that people want to be told of: the start and the end of its update, the start of
//! its drain, and that it is degraded.
//!
//! Read from what an insight says now and what it said before, so it does not depend on who wrote it before,
//! or on how many changes went by unwritten in between.

use jiff::Timestamp;

use super::state::NodeState;
use crate::api::insight::Said;
use crate::api::node::TimelineEntry;
use crate::api::types::{ConditionStatus, Phase};

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Milestone {
    /// The node's turn has come.
    UpdateStarted,
    /// Its workloads are being moved away.
    DrainStarted,
    /// Something is wrong with it, or with its update.
    NodeDegraded,
    /// It was being updated, and now runs what it shall run.
    UpdateCompleted,
}

impl Milestone {
    /// The name that Events have for it, as their reason.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::UpdateStarted => "UpdateStarted",
            Self::DrainStarted => "DrainStarted",
            Self::NodeDegraded => "NodeDegraded",
            Self::UpdateCompleted => "UpdateCompleted",
        }
    }

    /// The same for people.
    #[must_use]
    pub fn text(self, state: &NodeState) -> String {
        let version = state.version.as_deref();
        let desired = state.desired.as_ref().map(|desired| &*desired.version);
        match self {
            Self::UpdateStarted => match (version, desired) {
                // Told afterwards: what it ran before is not known any more.
                _ if state.phase == Phase::Completed => {
                    "An update of the node has started".to_owned()
                }
                (Some(from), Some(to)) if from != to => {
                    format!("The update of the node from {from} to {to} has started")
                }
                (Some(version), Some(_)) => {
                    format!("An update of the node has started; it stays at {version}")
                }
                _ => "An update of the node has started".to_owned(),
            },
            Self::DrainStarted => "Workloads are being moved away from the node".to_owned(),
            Self::NodeDegraded => {
                let (reason, message) = (state.degraded.reason, &state.degraded.message);
                format!("{reason}: {message}")
            }
            Self::UpdateCompleted => match version {
                Some(version) => format!("The node is updated; it runs {version}"),
                None => "The node is updated".to_owned(),
            },
        }
    }
}

/// What has happened to the node since its insight `said` that, oldest first, and when.
#[must_use]
pub fn since(said: Said, state: &NodeState) -> Vec<(Milestone, Timestamp)> {
    let first_unsaid = first_unsaid(said, &state.timeline);
    let mut passed = passed(&state.timeline);
    passed.retain(|(index, _, _)| *index >= first_unsaid);
    let is_degraded = state.degraded.status == ConditionStatus::True && !said.degraded;
    dated(passed, is_degraded, state)
}

/// What has happened to the node `after` that moment and is in what its insight `said`, oldest first. Whoever wrote
/// it may have ended before it told of it. What was there when the node was first seen is nothing that happened.
#[must_use]
pub fn said_after(after: Timestamp, said: Said, state: &NodeState) -> Vec<(Milestone, Timestamp)> {
    let timeline = &state.timeline;
    let is_last_said =
        |entry: &TimelineEntry| entry.phase == said.phase && entry.start_time == said.phase_start;
    let (Some(first), Some(last_said)) =
        (timeline.first(), timeline.iter().rposition(is_last_said))
    else {
        return Vec::new();
    };
    let mut passed = passed(timeline);
    passed.retain(|(index, _, at)| (1..=last_said).contains(index) && *at >= after);
    let since = state.degraded.since;
    let is_degraded = state.degraded.status == ConditionStatus::True
        && said.degraded
        && since >= after
        && since > first.start_time;
    dated(passed, is_degraded, state)
}

/// What each phase began, and when, by its place.
fn passed(timeline: &[TimelineEntry]) -> Vec<(usize, Milestone, Timestamp)> {
    let mut passed = Vec::new();
    let mut is_under_way = false;
    for (index, entry) in timeline.iter().enumerate() {
        let mut pass = |milestone| passed.push((index, milestone, entry.start_time));
        if entry.phase.is_in_progress() && !is_under_way {
            pass(Milestone::UpdateStarted);
        }
        if entry.phase == Phase::Draining {
            pass(Milestone::DrainStarted);
        }
        if entry.phase == Phase::Completed && is_under_way {
            pass(Milestone::UpdateCompleted);
        }
        // Between its steps an update is held up at times, and is the same update.
        is_under_way = match entry.phase {
            Phase::Draining | Phase::Updating | Phase::Rebooting => true,
            Phase::Completed => false,
            Phase::Pending | Phase::Paused | Phase::Unknown => is_under_way,
        };
    }
    passed
}

fn dated(
    passed: Vec<(usize, Milestone, Timestamp)>,
    is_degraded: bool,
    state: &NodeState,
) -> Vec<(Milestone, Timestamp)> {
    let degraded = is_degraded.then_some((Milestone::NodeDegraded, state.degraded.since));
    let phases = passed.into_iter().map(|(_, milestone, at)| (milestone, at));
    let mut all: Vec<_> = phases.chain(degraded).collect();
    all.sort_by_key(|(_, at)| *at);
    all
}

/// The first phase that the insight did not say yet. Times are whole seconds, and two phases may begin in one.
fn first_unsaid(said: Said, timeline: &[TimelineEntry]) -> usize {
    let last_said = timeline
        .iter()
        .rposition(|entry| entry.phase == said.phase && entry.start_time == said.phase_start);
    match last_said {
        Some(index) => index + 1,
        // Somebody edited it, or too much has happened since.
        None => timeline.partition_point(|entry| entry.start_time <= said.phase_start),
    }
}
