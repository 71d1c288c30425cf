//! Decides when a sync runs, and why. Pure: the time is an argument.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::status::SyncReason;

/// When the API server comes back, all watches restart within a few seconds: the first restart triggers
/// a sync, the others together one more. For repeated restarts the spacing doubles each time.
const WATCH_RESTART_SPACING: Duration = Duration::from_secs(30);
/// Delay after a failed sync; it doubles with each further failure, up to the interval. The cause is
/// often a restarting API server, and a permanent failure costs no more lists than success does.
const AFTER_FAILURE: Duration = Duration::from_mins(1);
/// Jitter of a tick, as a fraction of the interval, so that replicas and clusters started together do
/// not compare together.
const JITTER: f64 = 0.1;

/// Decides when a sync runs, and why.
#[derive(Debug)]
pub(super) struct Schedule {
    interval: Duration,
    /// Number of requests by reason since the last sync began.
    asked: BTreeMap<SyncReason, usize>,
    /// Number of syncs begun.
    begun: u64,
    /// Number of failures since the last success.
    failures: u32,
    last: Option<Last>,
}

/// The last sync.
#[derive(Debug, Clone, Copy)]
struct Last {
    reason: SyncReason,
    /// Number of syncs for restarted watches since the last one for another reason.
    restarts: u32,
    began: Instant,
    /// Latest time of the next sync.
    tick: Instant,
}

impl Schedule {
    /// Creates a schedule before the first sync, which is due immediately.
    pub(super) fn new(interval: Duration) -> Self {
        Self {
            interval,
            asked: BTreeMap::new(),
            begun: 0,
            failures: 0,
            last: None,
        }
    }

    /// Returns why a sync is due now, if one is.
    pub(super) fn should_sync(&self, now: Instant) -> Option<SyncReason> {
        let Some(last) = self.last else {
            // A standby replica does not start.
            let leads = self.asked.contains_key(&SyncReason::LeadershipGained);
            return Some(if leads {
                SyncReason::LeadershipGained
            } else {
                SyncReason::Start
            });
        };
        match self.strongest() {
            Some(
                reason @ (SyncReason::Start | SyncReason::AskedFor | SyncReason::LeadershipGained),
            ) => Some(reason),
            Some(reason @ SyncReason::WatchRestarted) if now >= last.began + self.spacing(last) => {
                Some(reason)
            }
            Some(SyncReason::WatchRestarted | SyncReason::Interval) | None => {
                (now >= last.tick).then_some(SyncReason::Interval)
            }
        }
    }

    /// Returns when [`Self::should_sync`] next returns a reason, if it returns none now and nothing is
    /// requested until then.
    pub(super) fn due(&self, now: Instant) -> Instant {
        let Some(last) = self.last else {
            return now;
        };
        match self.strongest() {
            Some(SyncReason::WatchRestarted) => last.tick.min(last.began + self.spacing(last)),
            Some(_) | None => last.tick,
        }
    }

    /// Requests a sync; returns the number of the first one that begins after this.
    pub(super) fn ask(&mut self, reason: SyncReason) -> u64 {
        *self.asked.entry(reason).or_default() += 1;
        self.begun + 1
    }

    /// Withdraws one request, if its sync has not begun.
    pub(super) fn withdraw(&mut self, reason: SyncReason, number: u64) {
        if number > self.begun
            && let Some(count) = self.asked.get_mut(&reason)
        {
            *count -= 1;
            if *count == 0 {
                self.asked.remove(&reason);
            }
        }
    }

    /// Begins a sync for all requests so far, and returns its number. One for a restarted watch does
    /// not delay the next tick.
    pub(super) fn begin(&mut self, now: Instant, reason: SyncReason) -> u64 {
        self.asked.clear();
        self.begun += 1;
        let (restarts, tick) = match self.last {
            Some(last) if reason == SyncReason::WatchRestarted => (last.restarts + 1, last.tick),
            Some(_) | None => (0, now + self.interval),
        };
        self.last = Some(Last {
            reason,
            restarts,
            began: now,
            tick,
        });
        self.begun
    }

    /// Ends the sync. `random` is at least 0 and less than 1.
    pub(super) fn end(&mut self, now: Instant, is_complete: bool, random: f64) {
        let jittered = |time: Duration| time.mul_f64(1.0 - JITTER + 2.0 * JITTER * random);
        let Some(last) = &mut self.last else {
            return;
        };
        if is_complete {
            self.failures = 0;
            if last.reason != SyncReason::WatchRestarted {
                last.tick = now + jittered(self.interval);
            }
        } else {
            let wait = AFTER_FAILURE.saturating_mul(1 << self.failures.min(16));
            self.failures = self.failures.saturating_add(1);
            let again = now + jittered(wait.min(self.interval));
            last.tick = match last.reason {
                SyncReason::WatchRestarted => last.tick.min(again),
                SyncReason::Interval
                | SyncReason::LeadershipGained
                | SyncReason::AskedFor
                | SyncReason::Start => again,
            };
        }
    }

    /// Repeated watch restarts trigger syncs ever less often, until there is one for another reason.
    fn spacing(&self, last: Last) -> Duration {
        let doublings = last.restarts.saturating_sub(1).min(16);
        let spacing = WATCH_RESTART_SPACING.saturating_mul(1 << doublings);
        spacing.min(WATCH_RESTART_SPACING.max(self.interval / 2))
    }

    fn strongest(&self) -> Option<SyncReason> {
        self.asked.keys().next_back().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const INTERVAL: Duration = Duration::from_mins(10);

    /// A schedule whose first sync began at `at` and took no time; the next tick is an interval later.
    fn synced(at: Instant) -> Schedule {
        let mut schedule = Schedule::new(INTERVAL);
        schedule.begin(at, SyncReason::Interval);
        schedule.end(at, true, 0.5);
        schedule
    }

    #[test]
    fn the_first_sync_is_due_immediately_for_any_reason() {
        let now = Instant::now();
        let mut schedule = Schedule::new(INTERVAL);
        assert_eq!(schedule.should_sync(now), Some(SyncReason::Start));
        assert_eq!(schedule.due(now), now);
        schedule.ask(SyncReason::WatchRestarted);
        schedule.ask(SyncReason::AskedFor);
        assert_eq!(schedule.should_sync(now), Some(SyncReason::Start));
        schedule.ask(SyncReason::LeadershipGained);
        let reason = schedule.should_sync(now);
        assert_eq!(reason, Some(SyncReason::LeadershipGained));
    }

    #[test]
    fn the_next_sync_is_due_an_interval_after_the_last_ended() {
        let begin = Instant::now();
        let end = begin + 40 * SECOND;
        let mut schedule = Schedule::new(INTERVAL);
        schedule.begin(begin, SyncReason::Interval);
        schedule.end(end, true, 0.5);
        assert_eq!(schedule.due(end), end + INTERVAL);
        assert_eq!(schedule.should_sync(end + INTERVAL - SECOND), None);
        assert_eq!(
            schedule.should_sync(end + INTERVAL),
            Some(SyncReason::Interval)
        );
    }

    #[test]
    fn a_tick_has_a_jitter_of_a_tenth_of_the_interval() {
        let now = Instant::now();
        let mut schedule = synced(now);
        schedule.end(now, true, 0.0);
        assert_eq!(schedule.due(now), now + INTERVAL.mul_f64(0.9));
        schedule.end(now, true, 0.999_999);
        let latest = schedule.due(now) - now;
        assert!(latest < INTERVAL.mul_f64(1.1) && latest > INTERVAL.mul_f64(1.099));
    }

    #[test]
    fn new_leadership_and_requests_are_due_immediately() {
        let now = Instant::now();
        for reason in [SyncReason::LeadershipGained, SyncReason::AskedFor] {
            let mut schedule = synced(now);
            schedule.ask(reason);
            assert_eq!(schedule.should_sync(now), Some(reason));
        }
    }

    #[test]
    fn a_restarted_watch_waits_until_30_s_after_the_last_sync_began() {
        let begin = Instant::now();
        let mut schedule = synced(begin);
        schedule.ask(SyncReason::WatchRestarted);
        let due = begin + 30 * SECOND;
        assert_eq!(schedule.due(begin), due);
        assert_eq!(schedule.should_sync(begin + 29 * SECOND), None);
        assert_eq!(schedule.should_sync(due), Some(SyncReason::WatchRestarted));
    }

    #[test]
    fn a_restarted_watch_does_not_delay_an_earlier_tick() {
        let begin = Instant::now();
        let mut schedule = Schedule::new(10 * SECOND);
        schedule.begin(begin, SyncReason::Interval);
        schedule.end(begin, true, 0.5);
        schedule.ask(SyncReason::WatchRestarted);
        assert_eq!(schedule.due(begin), begin + 10 * SECOND);
        assert_eq!(
            schedule.should_sync(begin + 10 * SECOND),
            Some(SyncReason::Interval)
        );
    }

    #[test]
    fn one_sync_serves_all_requests_and_names_the_strongest_reason() {
        let now = Instant::now() + INTERVAL;
        let mut schedule = synced(now - INTERVAL);
        let numbers = [
            schedule.ask(SyncReason::WatchRestarted),
            schedule.ask(SyncReason::AskedFor),
            schedule.ask(SyncReason::LeadershipGained),
        ];
        assert_eq!(schedule.should_sync(now), Some(SyncReason::AskedFor));
        assert_eq!(numbers, [2, 2, 2]);
        assert_eq!(schedule.begin(now, SyncReason::Interval), 2);
        schedule.end(now, true, 0.5);
        assert_eq!(schedule.should_sync(now), None);
    }

    #[test]
    fn a_request_during_a_sync_is_for_the_next_one() {
        let now = Instant::now();
        let mut schedule = synced(now);
        assert_eq!(schedule.begin(now, SyncReason::Interval), 2);
        assert_eq!(schedule.ask(SyncReason::AskedFor), 3);
        schedule.end(now, true, 0.5);
        assert_eq!(schedule.should_sync(now), Some(SyncReason::AskedFor));
    }

    #[test]
    fn withdrawing_a_request_does_not_affect_others() {
        let now = Instant::now();
        let mut schedule = synced(now);
        let number = schedule.ask(SyncReason::AskedFor);
        schedule.ask(SyncReason::AskedFor);
        schedule.withdraw(SyncReason::AskedFor, number);
        assert_eq!(schedule.should_sync(now), Some(SyncReason::AskedFor));
        schedule.withdraw(SyncReason::AskedFor, number);
        assert_eq!(schedule.should_sync(now), None);
    }

    #[test]
    fn withdrawing_a_begun_request_does_not_affect_the_next_sync() {
        let now = Instant::now();
        let mut schedule = synced(now);
        let begun = schedule.ask(SyncReason::AskedFor);
        schedule.begin(now, SyncReason::Interval);
        schedule.ask(SyncReason::AskedFor);
        schedule.withdraw(SyncReason::AskedFor, begun);
        schedule.end(now, true, 0.5);
        assert_eq!(schedule.should_sync(now), Some(SyncReason::AskedFor));
    }

    #[test]
    fn endless_watch_restarts_delay_no_tick_and_trigger_few_syncs() {
        let begin = Instant::now();
        let mut schedule = synced(begin);
        let mut reasons = Vec::new();
        for restart in 1..=30 {
            // Every 40 seconds, for two intervals.
            let now = begin + restart * 40 * SECOND;
            schedule.ask(SyncReason::WatchRestarted);
            if let Some(reason) = schedule.should_sync(now) {
                schedule.begin(now, reason);
                schedule.end(now, true, 0.5);
                reasons.push((restart * 40, reason));
            }
        }
        let of = |reason| {
            let of_it = reasons.iter().filter(|(_, this)| *this == reason);
            of_it.map(|(second, _)| *second).collect::<Vec<_>>()
        };
        assert_eq!(of(SyncReason::Interval), [600, 1200], "{reasons:?}");
        let restarts = of(SyncReason::WatchRestarted).len();
        assert!((6..=10).contains(&restarts), "{reasons:?}");
    }

    #[test]
    fn a_failed_sync_is_retried_after_a_minute_then_with_doubling_delays() {
        let mut now = Instant::now();
        let mut schedule = synced(now);
        let mut waits = Vec::new();
        for _ in 0..6 {
            schedule.begin(now, SyncReason::Interval);
            schedule.end(now, false, 0.5);
            waits.push((schedule.due(now) - now).as_secs());
            now = schedule.due(now);
        }
        assert_eq!(waits, [60, 120, 240, 480, 600, 600]);
        schedule.begin(now, SyncReason::Interval);
        schedule.end(now, true, 0.5);
        assert_eq!(schedule.due(now), now + INTERVAL);
        schedule.begin(now, SyncReason::Interval);
        schedule.end(now, false, 0.5);
        assert_eq!(
            schedule.due(now),
            now + AFTER_FAILURE,
            "the delay starts over"
        );
    }
}
