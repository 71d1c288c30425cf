//! Runs reconciles from an inbox: different keys in parallel, bounded; a key at most once at a time.
//!
//! A key that arrives while it is being reconciled is reconciled once more afterwards. Keys are taken
//! from the inbox only when there is capacity, so pending keys stay where they coalesce. All state is local
//! to one task, without locks; the queue publishes its status on a watch channel.

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

/// Result of a reconcile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The key is up to date.
    Done,
    /// The key is up to date and is not reconciled again before this delay.
    DoneFor(Duration),
    /// The key is retried with backoff.
    Retry,
    /// The API server rejects this key: only this key waits, longer the more keys are rejected.
    Rejected,
    /// The API server fails: this key waits. All keys wait once a second key has failed, or if the API server
    /// sent a `Retry-After`, which this holds.
    Failing(Option<Duration>),
}

impl Outcome {
    /// `Done` if `rest` is zero, else `DoneFor`.
    #[must_use]
    pub fn done_for(rest: Duration) -> Self {
        if rest.is_zero() {
            Self::Done
        } else {
            Self::DoneFor(rest)
        }
    }
}

/// Number of keys in each state of the queue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct QueueStatus {
    /// Keys in the inbox.
    pub pending: usize,
    /// Keys read from the inbox and ready to run.
    pub ready: usize,
    /// Keys that are being reconciled.
    pub running: usize,
    /// Keys that are dirty again but still delayed by their pace.
    pub paced: usize,
    /// Keys that failed and are retried later.
    pub retrying: usize,
    /// All keys wait because the API server fails.
    pub blocked: bool,
    /// No keys are read because this replica does not write.
    pub standby: bool,
}

impl QueueStatus {
    /// Whether nothing is left to do except retries.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        !self.standby && self.pending + self.ready + self.running + self.paced == 0
    }
}

/// A new change of a failed key is tried this soon after the failure, ignoring its backoff: the change may be
/// the fix. Equals the pace at which a pool is written.
const RETRY_REST: Duration = Duration::from_secs(1);
/// Average time between retries of rejected keys, regardless of their number: a missing permission for
/// thousands of insights causes no load, and a grant is noticed at once.
const REJECTED_SPACING: Duration = Duration::from_millis(100);
/// Number of keys that have to fail without a success in between before all keys wait: a failure of one key
/// alone must not delay the others.
const ALL_FAIL: usize = 2;

/// Why and until when a key that is not running is delayed.
struct Delay {
    why: Why,
    /// Run the key when the delay ends; if false, the delay only prevents an earlier run.
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
    Rejected,
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
    rejected: usize,
    /// Keys that the API server failed on since the last success.
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
            rejected: 0,
            failing: HashSet::new(),
            blocked: None,
        }
    }

    /// Queues a dirty key.
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
            Outcome::Rejected => self.retry(key, Failure::Rejected, dirty, now),
            Outcome::Failing(at_least) => {
                self.failing.insert(key.clone());
                if at_least.is_some() || self.failing.len() >= ALL_FAIL {
                    self.block(at_least.unwrap_or_default(), now);
                }
                self.retry(key, Failure::Failing, dirty, now);
            }
        }
    }

    /// Records a success: unblocks the queue and, if this key had failed, retries all keys with the same kind of
    /// failure.
    fn works(&mut self, key: &K) {
        self.failing.clear();
        self.blocked = None;
        if let Some((failure, _)) = self.retries.remove(key) {
            self.retry_all(failure);
        }
    }

    /// Makes all keys wait. Failures of keys that run concurrently count as one.
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
        if failure == Failure::Rejected {
            let others = u32::try_from(self.rejected).unwrap_or(u32::MAX);
            delay = delay.max(REJECTED_SPACING.saturating_mul(others));
        }
        // A change since then may be the fix.
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
                self.rejected += usize::from(failure == Failure::Rejected);
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

    /// Retries all keys with this kind of failure now.
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
                self.rejected -= usize::from(failure == Failure::Rejected);
            }
        }
        self.make_ready(key);
    }

    /// Makes all delayed keys ready, before a shutdown.
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

/// A failure of a single key rarely resolves itself; a failure of the API server does.
fn delays_of(failure: Failure) -> ExponentialBackoff {
    match failure {
        Failure::Own | Failure::Rejected => backoff::long(),
        Failure::Failing => backoff::short(),
    }
}

/// Reconciles keys from `inbox` until `shutdown`, then all dirty keys once more without delay, and returns.
/// Failures after `shutdown` are not retried.
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
        let current = queue.status(inbox.pending(), blocked.is_some());
        metrics.pending(consumer, current.ready + current.pending);
        status.send_if_modified(|last| std::mem::replace(last, current) != current);
        if draining && running.is_empty() {
            return;
        }
        tokio::select! {
            Some((key, outcome)) = running.next() => {
                let outcome = match outcome {
                    Outcome::Retry | Outcome::Rejected | Outcome::Failing(_) if draining => {
                        tracing::warn!(consumer, key = ?key, "Giving up on a key because the operator is stopping");
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
