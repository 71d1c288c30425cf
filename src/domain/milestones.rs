//! Milestones of a node for which Events and notifications are sent: start and end of its update, start of its
//! drain, degradation, updates that stall and continue, and cordons that are no part of an update.
//!
//! Milestones are derived from the insight's previous status and the current state, so they do not depend on the
//! replica that wrote that status, or on changes that were never written.

use jiff::Timestamp;

use super::stalled::StallReason;
use super::state::NodeState;
use crate::api::insight::{Reported, ReportedStall};
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
    /// Only a human can free the drain of the node.
    DrainBlocked,
    /// Somebody did, or the drain is over.
    DrainUnblocked,
    /// A step of the update makes no progress.
    UpdateStalled,
    /// It does again.
    UpdateContinues,
    /// Somebody else cordoned the outdated node.
    ForeignCordon,
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
            Self::DrainBlocked => "DrainBlocked",
            Self::DrainUnblocked => "DrainUnblocked",
            Self::UpdateStalled => "UpdateStalled",
            Self::UpdateContinues => "UpdateContinues",
            Self::ForeignCordon => "ForeignCordon",
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
            Self::DrainBlocked | Self::UpdateStalled => {
                let message = state.stall.as_ref().map(|stall| stall.message.to_string());
                message.unwrap_or_default()
            }
            Self::DrainUnblocked => "The drain of the node is no longer blocked".to_owned(),
            Self::UpdateContinues => "The update of the node makes progress again".to_owned(),
            Self::ForeignCordon => {
                let name = state.cordoned_by.as_ref().map(|cordon| &*cordon.by.name);
                let name = name.filter(|name| !name.is_empty()).unwrap_or("Somebody");
                format!(
                    "{name} cordoned the node, which is outdated: that is no part of its update, and an updater may uncordon the node at its end"
                )
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
    let mut all = dated(passed, is_degraded, state);
    all.extend(stalls(reported, state));
    all.extend(foreign_cordon(state).filter(|_| !reported.foreign_cordon));
    all.sort_by_key(|(_, at)| *at);
    all
}

/// How the update has stalled since the status `reported`, and whether it continues. Failures that the updater reports
/// have their own milestone.
fn stalls(reported: Reported, state: &NodeState) -> Vec<(Milestone, Timestamp)> {
    let was_blocked = reported.stall == Some(ReportedStall::DrainBlocked);
    let began = stalled(state).filter(|(milestone, _)| match milestone {
        Milestone::DrainBlocked => !was_blocked,
        _ => reported.stall.is_none(),
    });
    let is_blocked = matches!(stalled(state), Some((Milestone::DrainBlocked, _)));
    let ended = if was_blocked && !is_blocked {
        Some(Milestone::DrainUnblocked)
    } else if reported.stall.is_some() && state.stall.is_none() {
        Some(Milestone::UpdateContinues)
    } else {
        None
    };
    let progress = state.progress.as_ref().and_then(|progress| progress.at);
    let moved = progress.unwrap_or(state.phase_start);
    let ended = ended.map(|milestone| (milestone, moved));
    ended.into_iter().chain(began).collect()
}

/// An outdated node is cordoned, and not for its update. Whoever cordons a node at rest has reasons that are no business
/// of an update.
fn foreign_cordon(state: &NodeState) -> Option<(Milestone, Timestamp)> {
    let cordon = state.cordoned_by.as_ref().filter(|by| by.is_foreign)?;
    // It may have been cordoned long before it was outdated.
    let since = cordon.since.unwrap_or(state.phase_start);
    let since = since.max(state.phase_start);
    state
        .is_outdated()
        .then_some((Milestone::ForeignCordon, since))
}

/// The milestone of an update that has stalled by itself, and when it was reached.
fn stalled(state: &NodeState) -> Option<(Milestone, Timestamp)> {
    let stall = state.stall.as_ref()?;
    let milestone = match stall.reason {
        StallReason::PlatformFailed => return None,
        StallReason::DrainBlocked => Milestone::DrainBlocked,
        StallReason::DrainSlow | StallReason::UpdateSlow | StallReason::NotBack => {
            Milestone::UpdateStalled
        }
    };
    Some((milestone, stall.since))
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
    let mut all = dated(passed, is_degraded, state);
    let is_recent = |(_, since): &(Milestone, Timestamp)| *since >= after;
    let stall = stalled(state).filter(|_| reported.stall.is_some());
    all.extend(stall.filter(is_recent));
    all.sort_by_key(|(_, at)| *at);
    all
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
