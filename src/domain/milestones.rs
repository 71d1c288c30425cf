//! Milestones of a node for which Events and notifications are sent: start and end of its update, start of its
//! drain, and degradation.
//!
//! Milestones are derived from the insight's previous status and the current state, so they do not depend on the
//! replica that wrote that status, or on changes that were never written.

use jiff::Timestamp;

use super::state::NodeState;
use crate::api::insight::Reported;
use crate::api::node::TimelineEntry;
use crate::api::types::{ConditionStatus, Phase};

/// A milestone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Milestone {
    /// The update of the node has started.
    UpdateStarted,
    /// The workloads are being moved away.
    DrainStarted,
    /// The node, or its update, has failed.
    NodeDegraded,
    /// The update of the node has completed.
    UpdateCompleted,
}

impl Milestone {
    /// The name, used as reason of Events.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::UpdateStarted => "UpdateStarted",
            Self::DrainStarted => "DrainStarted",
            Self::NodeDegraded => "NodeDegraded",
            Self::UpdateCompleted => "UpdateCompleted",
        }
    }

    /// The text of the Event.
    #[must_use]
    pub fn text(self, state: &NodeState) -> String {
        let version = state.version.as_deref();
        let desired = state.desired.as_ref().map(|desired| &*desired.version);
        match self {
            Self::UpdateStarted => match (version, desired) {
                // Reported late: the previous version is no longer known.
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

/// The milestones since the status `reported`, oldest first, with their times.
#[must_use]
pub fn since(reported: Reported, state: &NodeState) -> Vec<(Milestone, Timestamp)> {
    let first_unreported = first_unreported(reported, &state.timeline);
    let mut passed = passed(&state.timeline);
    passed.retain(|(index, _, _)| *index >= first_unreported);
    let is_degraded = state.degraded.status == ConditionStatus::True && !reported.degraded;
    dated(passed, is_degraded, state)
}

/// The milestones `after` a time that the status `reported` already contains, oldest first: the process that wrote
/// it may have stopped before it recorded the Event. The state in which the node was first seen is no milestone.
#[must_use]
pub fn reported_after(
    after: Timestamp,
    reported: Reported,
    state: &NodeState,
) -> Vec<(Milestone, Timestamp)> {
    let timeline = &state.timeline;
    let is_last_reported = |entry: &TimelineEntry| {
        entry.phase == reported.phase && entry.start_time == reported.phase_start
    };
    let (Some(first), Some(last_reported)) = (
        timeline.first(),
        timeline.iter().rposition(is_last_reported),
    ) else {
        return Vec::new();
    };
    let mut passed = passed(timeline);
    passed.retain(|(index, _, at)| (1..=last_reported).contains(index) && *at >= after);
    let since = state.degraded.since;
    let is_degraded = state.degraded.status == ConditionStatus::True
        && reported.degraded
        && since >= after
        && since > first.start_time;
    dated(passed, is_degraded, state)
}

/// The milestones of the timeline: index of the entry, milestone, time.
fn passed(timeline: &[TimelineEntry]) -> Vec<(usize, Milestone, Timestamp)> {
    let mut passed = Vec::new();
    let mut is_updating = false;
    for (index, entry) in timeline.iter().enumerate() {
        let mut pass = |milestone| passed.push((index, milestone, entry.start_time));
        if entry.phase.is_in_progress() && !is_updating {
            pass(Milestone::UpdateStarted);
        }
        if entry.phase == Phase::Draining {
            pass(Milestone::DrainStarted);
        }
        if entry.phase == Phase::Completed && is_updating {
            pass(Milestone::UpdateCompleted);
        }
        // A pause between two steps does not end the update.
        is_updating = match entry.phase {
            Phase::Draining | Phase::Updating | Phase::Rebooting => true,
            Phase::Completed => false,
            Phase::Pending | Phase::Paused | Phase::Unknown => is_updating,
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

/// Index of the first phase that is not reported yet. Times are whole seconds: two phases may begin in the same one.
fn first_unreported(reported: Reported, timeline: &[TimelineEntry]) -> usize {
    let last_reported = timeline.iter().rposition(|entry| {
        entry.phase == reported.phase && entry.start_time == reported.phase_start
    });
    match last_reported {
        Some(index) => index + 1,
        // The insight was edited, or the phase is too old for the timeline.
        None => timeline.partition_point(|entry| entry.start_time <= reported.phase_start),
    }
}
