//! What the update of a node consists of, and one observation of it.

use jiff::{SignedDuration, Timestamp};

use crate::api::types::Phase;

/// Number of stages.
const STAGES: usize = 5;

/// A part of a rollout whose duration is learned. The last three are the phases of a node in progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// From the start of the rollout until the first node begins.
    Start,
    /// From when a node may begin, because another one is done, until the next one does.
    Turn,
    /// A node is in the phase Draining.
    Draining,
    /// A node is in the phase Updating.
    Updating,
    /// A node is in the phase Rebooting.
    Rebooting,
}

impl Stage {
    /// Every stage, in the order of a rollout.
    pub const ALL: [Self; STAGES] = [
        Self::Start,
        Self::Turn,
        Self::Draining,
        Self::Updating,
        Self::Rebooting,
    ];

    /// The stages of a node, in the order of its update.
    pub const OF_NODE: [Self; 3] = [Self::Draining, Self::Updating, Self::Rebooting];

    /// The stage of a node in this phase, if it is in progress.
    #[must_use]
    pub const fn of(phase: Phase) -> Option<Self> {
        match phase {
            Phase::Draining => Some(Self::Draining),
            Phase::Updating => Some(Self::Updating),
            Phase::Rebooting => Some(Self::Rebooting),
            Phase::Pending | Phase::Paused | Phase::Completed | Phase::Unknown => None,
        }
    }
}

/// One value for each stage.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct PerStage<T> {
    /// Of [`Stage::Start`].
    pub(super) start: T,
    /// Of [`Stage::Turn`].
    pub(super) turn: T,
    /// Of [`Stage::Draining`].
    pub(super) draining: T,
    /// Of [`Stage::Updating`].
    pub(super) updating: T,
    /// Of [`Stage::Rebooting`].
    pub(super) rebooting: T,
}

impl<T> PerStage<T> {
    /// The values that `value` gives.
    pub(super) fn from(mut value: impl FnMut(Stage) -> T) -> Self {
        Self {
            start: value(Stage::Start),
            turn: value(Stage::Turn),
            draining: value(Stage::Draining),
            updating: value(Stage::Updating),
            rebooting: value(Stage::Rebooting),
        }
    }

    /// The value of a stage.
    pub(super) const fn get(&self, stage: Stage) -> &T {
        match stage {
            Stage::Start => &self.start,
            Stage::Turn => &self.turn,
            Stage::Draining => &self.draining,
            Stage::Updating => &self.updating,
            Stage::Rebooting => &self.rebooting,
        }
    }

    /// The value of a stage, to change it.
    pub(super) const fn get_mut(&mut self, stage: Stage) -> &mut T {
        match stage {
            Stage::Start => &mut self.start,
            Stage::Turn => &mut self.turn,
            Stage::Draining => &mut self.draining,
            Stage::Updating => &mut self.updating,
            Stage::Rebooting => &mut self.rebooting,
        }
    }
}

/// For how long a stage was observed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// When it began.
    pub entered: Timestamp,
    /// When it was first seen: later than `entered` after a restart of the operator.
    pub seen_from: Timestamp,
    /// When it ended, or now.
    pub until: Timestamp,
    /// For how long of this something that needs a human held it up. It says nothing about the next node, so it does
    /// not count.
    pub blocked: SignedDuration,
}

impl Span {
    /// A span that was seen from its beginning and not blocked.
    #[must_use]
    pub const fn seen(entered: Timestamp, until: Timestamp) -> Self {
        Self {
            entered,
            seen_from: entered,
            until,
            blocked: SignedDuration::ZERO,
        }
    }

    /// How long it has lasted without what blocked it, in seconds.
    #[must_use]
    pub fn net(&self) -> f64 {
        let gross = self.until.duration_since(self.entered);
        (gross.as_secs_f64() - self.blocked_seconds()).max(0.0)
    }

    /// How long it had lasted when it was first seen, in seconds.
    pub(super) fn age_when_seen(&self) -> f64 {
        let age = self.seen_from.duration_since(self.entered).as_secs_f64();
        age.clamp(0.0, self.net())
    }

    pub(super) fn blocked_seconds(&self) -> f64 {
        self.blocked.as_secs_f64().max(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn blocked_time_does_not_count() {
        let span = Span {
            blocked: SignedDuration::from_secs(60),
            ..Span::seen(at(100), at(250))
        };
        assert!((span.net() - 90.0).abs() < 1e-9);
    }

    #[test]
    fn a_clock_that_goes_back_gives_no_negative_durations() {
        let span = Span {
            seen_from: at(50),
            ..Span::seen(at(100), at(40))
        };
        assert!(span.net().abs() < 1e-9 && span.age_when_seen().abs() < 1e-9);
    }
}
