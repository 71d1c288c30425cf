//! What was known about a node before: from its last evaluation or, after a start, from its insight.

use std::sync::Arc;

use jiff::Timestamp;

use super::{NodeState, NodeStateCondition, PODS_LEAVING, REBOOTED};
use crate::api::node::{NodeProgressInsightStatus, TimelineEntry, condition};
use crate::api::types::{ConditionStatus, Phase, UpdateKind};
use crate::domain::drain::Drain;
use crate::domain::outlook::Outlook;
use crate::domain::stalled::{Progress, Stall};

/// Since when a condition has had its status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Since {
    /// The status.
    pub status: ConditionStatus,
    /// Since when.
    pub since: Timestamp,
}

/// The previous state of a node: from the last evaluation or, after a start, from its insight.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct History {
    /// The last phase.
    pub phase: Phase,
    /// Since when.
    pub phase_start: Timestamp,
    /// The last Updating condition.
    pub updating: Since,
    /// The last Available condition.
    pub available: Since,
    /// The last Degraded condition.
    pub degraded: Since,
    /// The last phases.
    pub timeline: Box<[TimelineEntry]>,
    /// The last boot.
    pub boot_id: Option<Arc<str>>,
    /// What the last update changed.
    pub kind: Option<UpdateKind>,
    /// The last Updating condition has the reason [`REBOOTED`].
    pub rebooted: bool,
    /// The last Updating condition has the reason [`PODS_LEAVING`].
    pub pods_leaving: bool,
    /// The drain in progress.
    pub drain: Option<Box<Drain>>,
    /// The last update has stalled.
    pub stall: Option<Box<Stall>>,
    /// The last progress of the update.
    pub progress: Option<Box<Progress>>,
    /// What was expected of the last step.
    pub outlook: Option<Box<Outlook>>,
}

impl From<&NodeState> for History {
    fn from(state: &NodeState) -> Self {
        let since = |condition: &NodeStateCondition| Since {
            status: condition.status,
            since: condition.since,
        };
        Self {
            phase: state.phase,
            phase_start: state.phase_start,
            updating: since(&state.updating),
            available: since(&state.available),
            degraded: since(&state.degraded),
            timeline: state.timeline.clone(),
            boot_id: state.boot_id.clone(),
            kind: state.kind,
            rebooted: state.updating.reason == REBOOTED,
            pods_leaving: state.updating.reason == PODS_LEAVING,
            drain: state.drain.clone(),
            stall: state.stall.clone(),
            progress: state.progress.clone(),
            outlook: state.outlook.clone(),
        }
    }
}

impl History {
    /// Reads the history from a node's insight after a start of the process. A condition that was removed by hand
    /// starts with the phase.
    #[must_use]
    pub fn from_status(status: &NodeProgressInsightStatus) -> Self {
        let updating = |reason: &str| {
            let mut conditions = status.conditions.iter();
            conditions.any(|each| each.type_ == condition::UPDATING && each.reason == reason)
        };
        let since = |name: &str| {
            status
                .conditions
                .iter()
                .find(|condition| condition.type_ == name)
                .map_or(
                    Since {
                        status: ConditionStatus::Unknown,
                        since: status.phase_start_time,
                    },
                    |condition| Since {
                        status: condition.status,
                        since: condition.last_transition_time,
                    },
                )
        };
        Self {
            phase: status.phase,
            phase_start: status.phase_start_time,
            updating: since(condition::UPDATING),
            available: since(condition::AVAILABLE),
            degraded: since(condition::DEGRADED),
            timeline: status.timeline.clone().into_boxed_slice(),
            boot_id: status.boot_id.as_deref().map(Arc::from),
            kind: status.update_kind,
            rebooted: updating(REBOOTED),
            pods_leaving: updating(PODS_LEAVING),
            drain: status
                .drain
                .as_ref()
                .map(|drain| Box::new(Drain::reported(drain))),
            stall: Stall::reported(&status.conditions).map(Box::new),
            progress: Progress::reported(status).map(Box::new),
            outlook: status
                .estimated_completion
                .as_ref()
                .map(|estimate| Box::new(Outlook::reported(estimate))),
        }
    }

    /// The history from phases alone, without times of conditions; `None` when there are no phases.
    #[must_use]
    pub fn from_timeline(timeline: &[TimelineEntry]) -> Option<Self> {
        let last = timeline.last()?;
        let unknown = Since {
            status: ConditionStatus::Unknown,
            since: last.start_time,
        };
        Some(Self {
            phase: last.phase,
            phase_start: last.start_time,
            updating: unknown,
            available: unknown,
            degraded: unknown,
            timeline: timeline.into(),
            boot_id: None,
            kind: None,
            rebooted: false,
            pods_leaving: false,
            drain: None,
            stall: None,
            progress: None,
            outlook: None,
        })
    }

    /// The same, with earlier phases that are stored elsewhere. Where both overlap, this one wins: the other may be
    /// older.
    #[must_use]
    pub fn with_earlier(self, remembered: &[TimelineEntry]) -> Self {
        let Some(first) = self.timeline.first() else {
            return self;
        };
        let earlier = remembered
            .iter()
            .filter(|entry| entry.start_time < first.start_time);
        let mut earlier: Vec<TimelineEntry> = earlier.copied().collect();
        if let Some(last) = earlier.last_mut() {
            *last = last.ended(first.start_time, None);
        }
        let timeline = earlier.iter().chain(&self.timeline).copied().collect();
        Self { timeline, ..self }
    }
}
