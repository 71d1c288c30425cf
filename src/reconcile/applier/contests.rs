//! Insights that somebody else keeps changing: another process that takes itself for the leader, or a tool that
//! puts back what it knows.
//!
//! A change by somebody else is written over at once, and an insight that only somebody else wants is deleted. Who
//! does it again and again gets it for longer each time, so that two never write as fast as they can. One line of the
//! log for each insight.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::registry::store::Store;

/// So often is written over at once what others write.
const AT_ONCE: u32 = 2;
/// How long the insight rests the next time. Twice as long each time after that.
const SHORTEST_REST: Duration = Duration::from_secs(1);
/// Longest rest: its own changes wait as well.
const LONGEST_REST: Duration = Duration::from_mins(1);
/// Whoever has not changed it for so long has stopped.
const OVER_AFTER: Duration = Duration::from_mins(5);

/// The insights of one kind that others change.
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
    /// None yet.
    pub(super) fn new(kind: &'static str) -> Self {
        Self {
            kind,
            by_name: Store::new(),
        }
    }

    /// Whether somebody else keeps changing this insight.
    pub(super) fn has(&self, name: &Arc<str>, now: Instant) -> bool {
        self.by_name.get(name).is_some_and(|contest| {
            contest.times > AT_ONCE && now.duration_since(contest.last) < OVER_AFTER
        })
    }

    /// What others made of an insight was undone `now`; how long it rests.
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
                longest = ?LONGEST_REST,
                "Somebody else keeps changing an insight: it is put right less and less often"
            );
        }
        let factor = 2_u32.saturating_pow(doubled);
        SHORTEST_REST.saturating_mul(factor).min(LONGEST_REST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn who_keeps_changing_an_insight_is_undone_less_and_less_often() {
        let contests = Contests::new("Insight");
        let (contested, other) = (Arc::from("contested"), Arc::from("other"));
        let mut now = Instant::now();
        let mut rests = Vec::new();
        for _ in 0..12 {
            now += SECOND;
            let rest = contests.undone(&contested, now);
            assert_eq!(contests.has(&contested, now), !rest.is_zero());
            rests.push(rest.as_secs());
        }
        assert_eq!(rests, [0, 0, 1, 2, 4, 8, 16, 32, 60, 60, 60, 60]);
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
