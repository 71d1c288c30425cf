//! The course of a pool's rollout: what it teaches about durations, and when its estimate is replaced.

use std::collections::VecDeque;

use jiff::{SignedDuration, Timestamp};

use super::{published, report};
use crate::api::pool::Rollout;
use crate::api::types::{EstimatedCompletion, UpdateKind};
use crate::domain::eta::{
    Candidate, Decision, Estimate, Evaluated, Learned, NoEstimate, Published, Span, Stage,
    should_publish,
};

/// Minimum time between two estimates of a pool: one for 5,000 nodes takes tens of milliseconds.
const EVERY: SignedDuration = SignedDuration::from_secs(5);
/// How many free places are remembered: of more, the oldest matter.
const FREE: usize = 256;

/// The course of a rollout, as far as it matters for estimates.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Course {
    /// Since when each further node might begin, oldest first.
    free: VecDeque<Timestamp>,
    /// The most nodes in progress at once.
    most: u32,
    /// The rollout was followed from its start. After a start of the process it was not.
    is_whole: bool,
    /// When the counts of the rollout last changed.
    progressed: Option<Timestamp>,
    /// They have changed since the last estimate.
    has_progressed: bool,
    /// When the last estimate was made.
    estimated: Option<Timestamp>,
    /// A difference that has to last before it is published.
    candidate: Option<Candidate>,
    /// The published estimate replaced one that had passed.
    is_extended: bool,
}

impl Course {
    /// Since when a further node might begin.
    #[must_use]
    pub fn free_since(&self) -> Option<Timestamp> {
        self.free.front().copied()
    }

    /// Learns from what has happened between two statuses of the pool; returns whether there was anything to learn.
    pub fn follow(
        &mut self,
        learned: &mut Learned,
        (before, after): (Option<&Rollout>, Option<&Rollout>),
        kind: Option<UpdateKind>,
        now: Timestamp,
    ) -> bool {
        let touched = |rollout: &Rollout| rollout.in_progress + rollout.done;
        let continues = before
            .zip(after)
            .is_some_and(|(before, after)| before.start_time == after.start_time);
        let mut has_learned = false;
        if let Some(before) = before.filter(|_| !continues) {
            let before_restart = if self.is_whole {
                1
            } else {
                learned.parallelism()
            };
            learned.rollout_ended(self.most.max(before_restart));
            has_learned = touched(before) > 0;
            *self = Self::default();
        }
        self.is_whole |= !continues;
        let Some(after) = after else {
            return has_learned;
        };
        if before.filter(|_| continues) == Some(after) {
            return has_learned;
        }
        self.progressed = Some(now);
        self.has_progressed = true;
        let active = u32::try_from(after.in_progress).unwrap_or_default();
        if active > self.most {
            self.most = active;
            has_learned |= active > learned.parallelism();
            learned.in_progress(active);
        }
        let Some(before) = before.filter(|_| continues) else {
            return has_learned;
        };
        let ended = usize::try_from(after.done - before.done).unwrap_or_default();
        let began = usize::try_from(touched(after) - touched(before)).unwrap_or_default();
        if touched(before) == 0 && began > 0 {
            let waited = Span::seen(after.start_time, now);
            learned.stage_ended(kind, Stage::Start, &waited);
            return true;
        }
        self.free.extend(std::iter::repeat_n(now, ended.min(FREE)));
        for free in self.free.drain(..began.min(self.free.len())) {
            learned.stage_ended(kind, Stage::Turn, &Span::seen(free, now));
            has_learned = true;
        }
        if after.waiting == 0 {
            self.free.clear();
        }
        self.free.truncate(FREE);
        has_learned
    }

    /// The estimate to show in place of `shown`. Asks for a new one at most every [`EVERY`].
    pub fn estimate(
        &mut self,
        shown: Option<&EstimatedCompletion>,
        estimate: impl FnOnce() -> Result<Estimate, NoEstimate>,
        now: Timestamp,
    ) -> Option<EstimatedCompletion> {
        let is_recent =
            |last: Timestamp| (SignedDuration::ZERO..EVERY).contains(&now.duration_since(last));
        if self.estimated.is_some_and(is_recent) {
            return shown.cloned();
        }
        let new = estimate().ok()?;
        self.estimated = Some(now);
        let known = shown.map(|shown| Published {
            is_extended: self.is_extended,
            ..published(shown)
        });
        let evaluated = Evaluated {
            estimate: &new,
            progressed: self.progressed.unwrap_or(now),
            is_phase_change: std::mem::take(&mut self.has_progressed),
        };
        match should_publish(known.as_ref(), evaluated, self.candidate.take(), now) {
            Decision::Publish(published) => {
                self.is_extended = published.is_extended;
                Some(report(&published.estimate))
            }
            Decision::Keep(candidate) => {
                self.candidate = candidate;
                shown.cloned()
            }
        }
    }
}
