//! Insights that another writer keeps changing: a process that believes it leads, or a tool that restores old content.
//!
//! The first changes by another writer are undone at once: the insight is overwritten, or deleted if it is not desired.
//! Further ones are undone with exponential backoff, so that two writers never write as fast as they can. One log line
//! per insight.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::registry::store::Store;

/// How many changes by other writers are undone at once.
const AT_ONCE: u32 = 2;
/// The first backoff. It doubles each time.
const SHORTEST_BACKOFF: Duration = Duration::from_secs(1);
/// The longest backoff: the operator's own changes wait as well.
const LONGEST_BACKOFF: Duration = Duration::from_mins(1);
/// A writer that has not changed the insight for this long has stopped.
const OVER_AFTER: Duration = Duration::from_mins(5);

/// The insights of one kind that other writers change.
pub(super) struct Contests {
    kind: &'static str,
    by_name: Store<Arc<str>, Contest>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Contest {
    times: u32,
    last: Instant,
}

impl Contests {
    pub(super) fn new(kind: &'static str) -> Self {
        Self {
            kind,
            by_name: Store::new(),
        }
    }

    /// Whether another writer keeps changing this insight.
    pub(super) fn has(&self, name: &Arc<str>, now: Instant) -> bool {
        self.by_name.get(name).is_some_and(|contest| {
            contest.times > AT_ONCE && now.duration_since(contest.last) < OVER_AFTER
        })
    }

    /// Records that a change by another writer was undone `now`; returns the backoff.
    pub(super) fn undone(&self, name: &Arc<str>, now: Instant) -> Duration {
        self.by_name
            .evict_where(|_, contest| now.duration_since(contest.last) >= OVER_AFTER);
        let before = self.by_name.get(name).map_or(0, |contest| contest.times);
        let times = before.saturating_add(1);
        let contest = Contest { times, last: now };
        self.by_name.upsert(Arc::clone(name), contest);
        let Some(doubled) = times.checked_sub(AT_ONCE + 1) else {
            return Duration::ZERO;
        };
        if doubled == 0 {
            tracing::warn!(
                kind = self.kind,
                name = &**name,
                longest = ?LONGEST_BACKOFF,
                "Another client keeps changing an insight: it is repaired less and less often"
            );
        }
        let factor = 2_u32.saturating_pow(doubled);
        SHORTEST_BACKOFF.saturating_mul(factor).min(LONGEST_BACKOFF)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn changes_by_another_writer_are_undone_with_exponential_backoff() {
        let contests = Contests::new("Insight");
        let (contested, other) = (Arc::from("contested"), Arc::from("other"));
        let mut now = Instant::now();
        let mut backoffs = Vec::new();
        for _ in 0..12 {
            now += SECOND;
            let backoff = contests.undone(&contested, now);
            assert_eq!(contests.has(&contested, now), !backoff.is_zero());
            backoffs.push(backoff.as_secs());
        }
        assert_eq!(backoffs, [0, 0, 1, 2, 4, 8, 16, 32, 60, 60, 60, 60]);
        assert_eq!(contests.undone(&other, now), Duration::ZERO);
        assert!(!contests.has(&other, now));
        now += OVER_AFTER;
        assert!(!contests.has(&contested, now));
        assert_eq!(contests.undone(&contested, now), Duration::ZERO);
    }

    #[test]
    fn a_contest_that_is_over_is_forgotten() {
        let contests = Contests::new("Insight");
        let start = Instant::now();
        for index in 0..100 {
            contests.undone(&format!("node-{index}").into(), start);
        }
        contests.undone(&Arc::from("late"), start + OVER_AFTER);
        assert_eq!(contests.by_name.count(), 1);
    }
}
