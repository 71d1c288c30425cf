//! Whether the update of a node has stalled: it has been in a step for longer than is plausible, without progress.
//!
//! A node that waits does not stall: only Draining, Updating and Rebooting count. What the updater itself calls a
//! failure, and a drain that only a human can free, count without regard to the duration of the step. For how long a
//! step may take without progress is learned ([`limit`]); until then constants count.

pub mod limit;

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::drain::{Blocker, Drain};
use super::state::Evaluation;
use super::text;
use crate::api::node::{NodeProgressInsightStatus, condition};
use crate::api::types::{Condition, ConditionStatus, Phase};

/// Without progress for less than this, no step has stalled.
pub const QUIET: SignedDuration = SignedDuration::from_mins(10);
/// How long the steps may take where nothing is learned. Most drains end within minutes, but one in ten thousand takes
/// an hour and needs nobody.
const DRAIN: SignedDuration = SignedDuration::from_mins(60);
/// A machine that is replaced takes a few minutes, an operating system that is written to disk up to twenty.
const UPDATE: SignedDuration = SignedDuration::from_mins(30);
/// The firmware of a physical machine tests its hardware, which takes up to half an hour, and may do so twice.
const REBOOT: SignedDuration = SignedDuration::from_mins(75);
/// A drain may take so long when something holds it up that probably needs a human.
const HELD_UP_DRAIN: SignedDuration = SignedDuration::from_mins(15);

/// Why an update has stalled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum StallReason {
    /// The updater reports a failure.
    PlatformFailed,
    /// Something holds the drain up, and only a human can change that.
    DrainBlocked,
    /// The drain takes long.
    DrainSlow,
    /// The update takes long.
    UpdateSlow,
    /// The node does not come back.
    NotBack,
}

impl StallReason {
    /// All reasons.
    pub const ALL: [Self; 5] = [
        Self::PlatformFailed,
        Self::DrainBlocked,
        Self::DrainSlow,
        Self::UpdateSlow,
        Self::NotBack,
    ];

    /// Its name, in CamelCase.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PlatformFailed => condition::PLATFORM_FAILED,
            Self::DrainBlocked => condition::DRAIN_BLOCKED,
            Self::DrainSlow => "DrainSlow",
            Self::UpdateSlow => "UpdateSlow",
            Self::NotBack => "NotBack",
        }
    }

    /// The reason of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == name)
    }
}

/// An update that has stalled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stall {
    /// Why.
    pub reason: StallReason,
    /// Why, and what to do about it.
    pub message: Box<str>,
    /// Since when.
    pub since: Timestamp,
}

impl Stall {
    /// As the insight shows it.
    #[must_use]
    pub fn report(&self) -> Condition {
        Condition {
            type_: condition::STALLED.to_owned(),
            status: ConditionStatus::True,
            last_transition_time: self.since,
            reason: self.reason.as_str().to_owned(),
            message: self.message.to_string(),
        }
    }

    /// From the insight, after a start of the process.
    #[must_use]
    pub fn reported(conditions: &[Condition]) -> Option<Self> {
        let is_so = |each: &&Condition| {
            each.type_ == condition::STALLED && each.status == ConditionStatus::True
        };
        let shown = conditions.iter().find(is_so)?;
        Some(Self {
            reason: StallReason::named(&shown.reason)?,
            message: shown.message.as_str().into(),
            since: shown.last_transition_time,
        })
    }
}

/// The last progress of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// Reason of the Updating condition: the updater reports its steps there.
    step: Box<str>,
    boot_id: Option<Arc<str>>,
    version: Option<Arc<str>>,
    /// The fewest pods that had to leave.
    pods_left: Option<usize>,
    /// When one of these changed; `None` when that was before the start of the process.
    pub at: Option<Timestamp>,
}

impl Progress {
    /// From the insight, after a start of the process.
    #[must_use]
    pub fn reported(status: &NodeProgressInsightStatus) -> Option<Self> {
        slow(status.phase)?;
        let mut conditions = status.conditions.iter();
        let updating = conditions.find(|each| each.type_ == condition::UPDATING)?;
        let left = status.drain.as_ref().and_then(|drain| drain.pods_left);
        Some(Self {
            step: updating.reason.as_str().into(),
            boot_id: status.boot_id.as_deref().map(Arc::from),
            version: status.version.as_deref().map(Arc::from),
            pods_left: left.and_then(|left| usize::try_from(left).ok()),
            at: None,
        })
    }
}

/// A step of an update.
#[derive(Debug, Clone, Copy)]
pub struct Step<'a> {
    /// What the node is evaluated to.
    pub evaluation: &'a Evaluation,
    /// The boot of the node.
    pub boot_id: Option<&'a Arc<str>>,
    /// Since when the node is in its phase.
    pub start: Timestamp,
    /// The last progress of the same phase.
    pub progress: Option<&'a Progress>,
    /// The stall of the same phase.
    pub stall: Option<&'a Stall>,
    /// What [`limit::learned`] said when the step began, or after a start of the process; `None` until then.
    pub limit: Option<SignedDuration>,
}

/// The result for a step.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Assessed {
    /// Its stall.
    pub stall: Option<Box<Stall>>,
    /// Its progress; `None` for a node that is not being updated.
    pub progress: Option<Box<Progress>>,
    /// When to look again if nothing changes.
    pub again: Option<Timestamp>,
}

/// Whether the step has stalled.
#[must_use]
pub fn assess(step: Step<'_>, now: Timestamp) -> Assessed {
    let Some((usual, slow)) = slow(step.evaluation.phase) else {
        return Assessed::default();
    };
    let progress = step.progressed(now);
    let limit = step.limit(usual);
    let after = |start: Timestamp, time| start.checked_add(time).unwrap_or(Timestamp::MAX);
    let blocked = step.blocked().map(|blocker| after(blocker.since, QUIET));
    let slow_from = step
        .may_be_slow()
        .then(|| after(step.start, limit).max(after(progress.at.unwrap_or(now), QUIET)));
    let is_due = |at: &Timestamp| *at <= now;
    let degraded = &step.evaluation.degraded;
    let found = if degraded.status == ConditionStatus::True {
        Some((StallReason::PlatformFailed, degraded.message.to_string()))
    } else if blocked.as_ref().is_some_and(is_due) {
        let message = step.blocked().map(|blocker| blocker.message.to_string());
        Some((StallReason::DrainBlocked, message.unwrap_or_default()))
    } else if slow_from.as_ref().is_some_and(is_due) || step.stays(&progress) {
        Some((slow, step.slow_message(&progress)))
    } else {
        None
    };
    let points = [blocked, slow_from].into_iter().flatten();
    Assessed {
        stall: found.map(|found| Box::new(step.stall(found, now))),
        again: points.filter(|at| *at > now).min(),
        progress: Some(Box::new(progress)),
    }
}

/// How long a phase may take where nothing is learned, and what it is when it takes longer; `None` for a phase that
/// waits or is over.
const fn slow(phase: Phase) -> Option<(SignedDuration, StallReason)> {
    match phase {
        Phase::Draining => Some((DRAIN, StallReason::DrainSlow)),
        Phase::Updating => Some((UPDATE, StallReason::UpdateSlow)),
        Phase::Rebooting => Some((REBOOT, StallReason::NotBack)),
        Phase::Pending | Phase::Paused | Phase::Completed | Phase::Unknown => None,
    }
}

impl Step<'_> {
    /// The last progress, now included.
    fn progressed(&self, now: Timestamp) -> Progress {
        let left = self.drain().and_then(|drain| drain.pods_left);
        let fewest = self.progress.and_then(|progress| progress.pods_left);
        let new = Progress {
            step: self.evaluation.updating.reason.into(),
            boot_id: self.boot_id.and_then(shown),
            version: self.evaluation.version.as_ref().and_then(shown),
            pods_left: left.into_iter().chain(fewest).min(),
            at: Some(now),
        };
        match self.progress {
            Some(before) if is_same(before, &new) => Progress {
                at: before.at.or(new.at),
                ..new
            },
            Some(_) | None => new,
        }
    }

    fn drain(&self) -> Option<&Drain> {
        self.evaluation.drain.as_deref()
    }

    /// What only a human can change.
    fn blocked(&self) -> Option<&Blocker> {
        let first = self.drain()?.blockers.first()?;
        first.needs_human().then_some(first)
    }

    /// For how long the step may take. Patience does not help where something probably needs a human.
    fn limit(&self, usual: SignedDuration) -> SignedDuration {
        let limit = self.limit.unwrap_or(usual);
        let first = self.drain().and_then(|drain| drain.blockers.first());
        if first.is_some_and(Blocker::probably_needs_human) {
            limit.min(HELD_UP_DRAIN)
        } else {
            limit
        }
    }

    /// Whether the duration of the step says anything. A cordon alone is no drain: somebody may have cordoned the node
    /// in advance.
    fn may_be_slow(&self) -> bool {
        let has_moved = self
            .drain()
            .is_some_and(|drain| drain.pods_left.is_some_and(|left| left < drain.most));
        self.evaluation.phase != Phase::Draining || !self.evaluation.is_inferred || has_moved
    }

    /// Whether the step had stalled before, and nothing has moved since.
    fn stays(&self, progress: &Progress) -> bool {
        let is_slow = |stall: &Stall| {
            !matches!(
                stall.reason,
                StallReason::PlatformFailed | StallReason::DrainBlocked
            )
        };
        let is_quiet = self
            .progress
            .is_some_and(|before| is_same(before, progress));
        self.stall.is_some_and(is_slow) && is_quiet
    }

    fn slow_message(&self, progress: &Progress) -> String {
        let (phase, start) = (self.evaluation.phase, self.start);
        let what = match phase {
            Phase::Rebooting => "check the console of the machine",
            Phase::Draining => "look at status.drain, and at the log of what drains the node",
            _ => "look at the log of its updater, and of the kubelet",
        };
        let quiet = progress
            .at
            .filter(|at| *at > start)
            .map_or(String::new(), |at| {
                format!(", without progress since {at:.0}")
            });
        format!("The node has been {phase} since {start:.0}{quiet}: {what}")
    }

    /// The stall, since when it was first seen.
    fn stall(&self, (reason, message): (StallReason, String), now: Timestamp) -> Stall {
        let message = text::message(&message).into();
        match self.stall {
            // The time of the last progress is not known after a start of the process.
            Some(before) if before.reason == reason && reason >= StallReason::DrainSlow => {
                before.clone()
            }
            Some(before) => Stall {
                reason,
                message,
                since: before.since,
            },
            None => Stall {
                reason,
                message,
                since: now,
            },
        }
    }
}

/// As the insight shows it.
fn shown(word: &Arc<str>) -> Option<Arc<str>> {
    text::word(word, 253).map(Arc::from)
}

/// Whether nothing has moved.
fn is_same(before: &Progress, new: &Progress) -> bool {
    (&before.step, before.pods_left) == (&new.step, new.pods_left)
        && (&before.boot_id, &before.version) == (&new.boot_id, &new.version)
}

#[cfg(test)]
mod tests;
