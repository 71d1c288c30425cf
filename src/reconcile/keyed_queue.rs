//! Runs reconciles from an inbox: different keys in parallel, bounded; one key at most once at a time.
//!
//! A key that arrives while it is being reconciled is reconciled once more afterwards. Keys are taken
//! from the inbox only when there is room, so what waits stays where it coalesces. All state is local
//! to one task: there is no lock; how much waits for what is published for others to see.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt::Debug;
use std::future::Future;
use std::hash::Hash;
use std::time::Duration;

use backon::ExponentialBackoff;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use serde::Serialize;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::time::{DelayQueue, delay_queue};

use crate::kubernetes::backoff;
use crate::registry::fanout::Inbox;
use crate::telemetry::metrics::Metrics;

/// What a reconcile led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// All is as it should be.
    Done,
    /// All is as it should be, and this key is not reconciled again before this long.
    DoneFor(Duration),
    /// This key is tried again after a while.
    Retry,
    /// The API server refuses this key: only this one waits, and the more are refused the longer each.
    Refused,
    /// The API server fails: this key waits, and all do once another one has failed as well, or when the
    /// API server said for how long, which is in it.
    Failing(Option<Duration>),
}

impl Outcome {
    /// All is as it should be, and this key rests, if at all.
    #[must_use]
    pub fn done_for(rest: Duration) -> Self {
        if rest.is_zero() {
            Self::Done
        } else {
            Self::DoneFor(rest)
        }
    }
}

/// How much waits for what.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct QueueStatus {
    /// Keys that are not read yet.
    pub pending: usize,
    /// Keys that are read and wait for their turn.
    pub ready: usize,
    /// Keys that are being reconciled.
    pub running: usize,
    /// Keys that were just reconciled and have to rest, and are dirty again.
    pub paced: usize,
    /// Keys that failed and are tried again later.
    pub retrying: usize,
    /// All wait, because the API server fails.
    pub blocked: bool,
    /// Nothing is taken in, because this replica does not write.
    pub standby: bool,
}

impl QueueStatus {
    /// Whether nothing is left to do but what fails again and again.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        !self.standby && self.pending + self.ready + self.running + self.paced == 0
    }
}

/// A new change of a key that failed is tried this soon after the failure, whatever its backoff says:
/// it may be what mends it. As often as a pool is written at most.
const RETRY_REST: Duration = Duration::from_secs(1);
/// Of keys that are refused one is tried again in this time on average, however many there are: a missing
/// permission for thousands of insights is no load, and that it was granted is noticed at once.
const REFUSED_SPACING: Duration = Duration::from_millis(100);
/// So many keys have to fail one after the other, and nothing to work in between, before all wait: what fails
/// for one key alone is no reason to hold up the others.
const ALL_FAIL: usize = 2;

/// What the queue does with a key that is not running.
struct Delay {
    why: Why,
    /// It is to run when the delay is over; else the delay only keeps it from running before.
    dirty: bool,
    since: Instant,
    timer: delay_queue::Key,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Why {
    Rest,
    Failed(Failure),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Failure {
    Own,
    Refused,
    Failing,
}

struct Queue<K> {
    ready: VecDeque<K>,
    waiting: HashSet<K>,
    busy: HashSet<K>,
    again: HashSet<K>,
    timers: DelayQueue<K>,
    delayed: HashMap<K, Delay>,
    paced: usize,
    retrying: usize,
    retries: HashMap<K, (Failure, ExponentialBackoff)>,
    refused: usize,
    /// Keys that the API server failed at since anything worked.
    failing: HashSet<K>,
    blocked: Option<(Instant, ExponentialBackoff)>,
}

impl<K: Clone + Eq + Hash> Queue<K> {
    fn new() -> Self {
        Self {
            ready: VecDeque::new(),
            waiting: HashSet::new(),
            busy: HashSet::new(),
            again: HashSet::new(),
            timers: DelayQueue::new(),
            delayed: HashMap::new(),
            paced: 0,
            retrying: 0,
            retries: HashMap::new(),
            refused: 0,
            failing: HashSet::new(),
            blocked: None,
        }
    }

    /// A key is dirty.
    fn admit(&mut self, key: K) {
        if self.busy.contains(&key) {
            self.again.insert(key);
        } else if let Some(delay) = self.delayed.get_mut(&key) {
            match delay.why {
                Why::Rest => {
                    self.paced += usize::from(!delay.dirty);
                    delay.dirty = true;
                }
                Why::Failed(_) => {
                    let soon = delay.since + RETRY_REST;
                    if self.timers.deadline(&delay.timer) > soon {
                        self.timers.reset_at(&delay.timer, soon);
                    }
                }
            }
        } else {
            self.make_ready(key);
        }
    }

    fn make_ready(&mut self, key: K) {
        if self.waiting.insert(key.clone()) {
            self.ready.push_back(key);
        }
    }

    fn start(&mut self) -> Option<K> {
        let key = self.ready.pop_front()?;
        self.waiting.remove(&key);
        self.busy.insert(key.clone());
        Some(key)
    }

    fn finish(&mut self, key: K, outcome: Outcome, now: Instant) {
        self.busy.remove(&key);
        let dirty = self.again.remove(&key);
        match outcome {
            Outcome::Done => {
                self.works(&key);
                if dirty {
                    self.make_ready(key);
                }
            }
            Outcome::DoneFor(rest) => {
                self.works(&key);
                self.delay(key, rest, Why::Rest, dirty, now);
            }
            Outcome::Retry => self.retry(key, Failure::Own, dirty, now),
            Outcome::Refused => self.retry(key, Failure::Refused, dirty, now),
            Outcome::Failing(at_least) => {
                self.failing.insert(key.clone());
                if at_least.is_some() || self.failing.len() >= ALL_FAIL {
                    self.block(at_least.unwrap_or_default(), now);
                }
                self.retry(key, Failure::Failing, dirty, now);
            }
        }
    }

    /// A key was reconciled: nothing holds up all of them, and what was wrong with this one, if anything was,
    /// may have been wrong with others.
    fn works(&mut self, key: &K) {
        self.failing.clear();
        self.blocked = None;
        if let Some((failure, _)) = self.retries.remove(key) {
            self.retry_all(failure);
        }
    }

    /// All wait. Several that run at once meet the same obstacle: that is one failure.
    fn block(&mut self, at_least: Duration, now: Instant) {
        if let Some((until, _)) = &mut self.blocked
            && *until > now
        {
            *until = (*until).max(now + at_least);
            return;
        }
        let mut delays = self
            .blocked
            .take()
            .map_or_else(backoff::short, |(_, delays)| delays);
        let delay = delays.next().unwrap_or_default().max(at_least);
        self.blocked = Some((now + delay, delays));
    }

    fn retry(&mut self, key: K, failure: Failure, dirty: bool, now: Instant) {
        let (last, delays) = self
            .retries
            .entry(key.clone())
            .or_insert_with(|| (failure, delays_of(failure)));
        if *last != failure {
            (*last, *delays) = (failure, delays_of(failure));
        }
        let mut delay = delays.next().unwrap_or_default();
        if failure == Failure::Refused {
            let others = u32::try_from(self.refused).unwrap_or(u32::MAX);
            delay = delay.max(REFUSED_SPACING.saturating_mul(others));
        }
        // What changed meanwhile may be what fixes it.
        if dirty {
            delay = delay.min(RETRY_REST);
        }
        self.delay(key, delay, Why::Failed(failure), true, now);
    }

    fn delay(&mut self, key: K, delay: Duration, why: Why, dirty: bool, now: Instant) {
        match why {
            Why::Rest => self.paced += usize::from(dirty),
            Why::Failed(failure) => {
                self.retrying += 1;
                self.refused += usize::from(failure == Failure::Refused);
            }
        }
        let timer = self.timers.insert_at(key.clone(), now + delay);
        self.delayed.insert(
            key,
            Delay {
                why,
                dirty,
                since: now,
                timer,
            },
        );
    }

    /// All that failed in this way are tried again now.
    fn retry_all(&mut self, failure: Failure) {
        let retries = |(key, delay): (&K, &Delay)| {
            (delay.why == Why::Failed(failure)).then(|| (key.clone(), delay.timer))
        };
        let failed: Vec<_> = self.delayed.iter().filter_map(retries).collect();
        for (key, timer) in failed {
            self.timers.remove(&timer);
            self.expired(key);
        }
    }

    fn expired(&mut self, key: K) {
        let Some(delay) = self.delayed.remove(&key).filter(|delay| delay.dirty) else {
            return;
        };
        match delay.why {
            Why::Rest => self.paced -= 1,
            Why::Failed(failure) => {
                self.retrying -= 1;
                self.refused -= usize::from(failure == Failure::Refused);
            }
        }
        self.make_ready(key);
    }

    /// The end is near: what waits for a time runs now.
    fn flush(&mut self) {
        self.timers.clear();
        self.blocked = None;
        let delayed: Vec<K> = self.delayed.keys().cloned().collect();
        for key in delayed {
            self.expired(key);
        }
    }

    fn status(&self, pending: usize, is_blocked: bool) -> QueueStatus {
        QueueStatus {
            pending,
            ready: self.ready.len(),
            running: self.busy.len(),
            paced: self.paced,
            retrying: self.retrying,
            blocked: is_blocked,
            standby: false,
        }
    }

    fn blocked_until(&self) -> Option<Instant> {
        self.blocked.as_ref().map(|(until, _)| *until)
    }
}

/// What fails for one key alone does not go away by itself; what fails at the API server does.
fn delays_of(failure: Failure) -> ExponentialBackoff {
    match failure {
        Failure::Own | Failure::Refused => backoff::long(),
        Failure::Failing => backoff::short(),
    }
}

/// Reconciles what comes from `inbox` until `shutdown`; then what is dirty once more, at once, and
/// returns. What fails from then on is given up.
pub async fn run<K, F>(
    consumer: &'static str,
    mut inbox: Inbox<K>,
    concurrency: usize,
    metrics: &Metrics,
    status: &watch::Sender<QueueStatus>,
    shutdown: CancellationToken,
    reconcile: impl Fn(K) -> F,
) where
    K: Clone + Debug + Eq + Hash,
    F: Future<Output = Outcome>,
{
    let mut queue = Queue::new();
    let mut running = FuturesUnordered::new();
    let mut draining = false;
    loop {
        let now = Instant::now();
        let blocked = queue.blocked_until().filter(|until| *until > now);
        if draining {
            while let Some((key, _)) = inbox.try_next() {
                queue.admit(key);
            }
        }
        while blocked.is_none() && running.len() < concurrency {
            let Some(key) = queue.start() else { break };
            let work = reconcile(key.clone());
            running.push(async move { (key, work.await) });
        }
        let now_so = queue.status(inbox.pending(), blocked.is_some());
        metrics.pending(consumer, now_so.ready + now_so.pending);
        status.send_if_modified(|last| std::mem::replace(last, now_so) != now_so);
        if draining && running.is_empty() {
            return;
        }
        tokio::select! {
            Some((key, outcome)) = running.next() => {
                let outcome = match outcome {
                    Outcome::Retry | Outcome::Refused | Outcome::Failing(_) if draining => {
                        tracing::warn!(consumer, key = ?key, "Giving up, the operator stops");
                        Outcome::Done
                    }
                    Outcome::DoneFor(_) if draining => Outcome::Done,
                    outcome => outcome,
                };
                queue.finish(key, outcome, Instant::now());
            }
            Some(expired) = queue.timers.next(), if !queue.timers.is_empty() => queue.expired(expired.into_inner()),
            () = tokio::time::sleep_until(blocked.unwrap_or(now)), if blocked.is_some() => {}
            Some((key, since)) = inbox.next(), if !draining && queue.ready.len() < concurrency => {
                metrics.notification_read(consumer, since.elapsed().as_secs_f64());
                queue.admit(key);
            }
            () = shutdown.cancelled(), if !draining => {
                draining = true;
                queue.flush();
            }
        }
    }
}

#[cfg(test)]
mod tests;
