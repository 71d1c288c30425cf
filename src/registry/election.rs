//! Leader election: of several replicas at most one writes.
//!
//! As in client-go, a lease is an object that its holder renews every two seconds. Another replica
//! takes it once it has not been renewed for its whole duration. The candidate measures this with its
//! own monotonic clock, from when it last saw the lease change; timestamps in the object are
//! informational. Every write carries the version that was read, so of two candidates one is rejected.
//! A holder that has not renewed for [`Timing::renew_deadline`] has lost the lease, five seconds before
//! another replica can take it.
//!
//! Stricter than client-go in one respect: a lease that was deleted, emptied or edited by hand is not
//! free yet. Its last holder may not know, so the lease is taken only after that holder's time has
//! expired, unless the holder itself released it. The holder writes its duration into the lease, since
//! replicas may use different ones.
//!
//! Implements the protocol only; storing the lease is a trait ([`LeaseStore`]). Owns the [`Leadership`]
//! that other code reads. A lost lease is never regained: the process ends.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use self::candidate::{Attempt, Candidate};
use super::Clock;

mod candidate;
mod claims;

/// The duration of a lease, and the intervals of the election.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// A lease that was not renewed for this long may be taken.
    pub lease: Duration,
    /// A holder that has not renewed for this long has lost the lease. Shorter than `lease` by more
    /// than the longest write.
    pub renew_deadline: Duration,
    /// How often a holder renews, and so notices changes to its lease.
    pub renew_every: Duration,
    /// How often standbys read the lease, less up to a quarter of jitter. An expiring lease is taken on
    /// time, but their last read may be this old.
    pub look_every: Duration,
    /// Call timeout. A call takes milliseconds; a slower one is on a dead connection.
    pub call: Duration,
}

impl Timing {
    /// With less, a busy API server may not answer in time. Also more than [`Self::LONGEST_PAUSE`]: a
    /// leader notices an edited lease before a replica that just started can take it.
    pub const SHORTEST_LEASE: Duration = Duration::from_secs(3);
    /// The longest failover after a crash. A lease with a longer duration was not written by a replica
    /// of this program.
    pub const LONGEST_LEASE: Duration = Duration::from_mins(10);
    /// The longest renewal interval, whatever the lease duration.
    pub const LONGEST_PAUSE: Duration = Duration::from_secs(2);

    /// For a lease of 15 s, as Kubernetes controllers have: 10 s, 2 s and 5 s. Standbys also read every
    /// 2 s, so a crash is noticed after at most 17 s. A shorter lease scales all of them; a longer one
    /// only lets its holder be without an API server for longer.
    #[must_use]
    pub fn of(lease: Duration) -> Self {
        let usual = lease.min(Duration::from_secs(15));
        Self {
            lease,
            renew_deadline: lease * 2 / 3,
            renew_every: usual * 2 / 15,
            look_every: usual / 10,
            call: usual / 3,
        }
    }
}

/// The content of a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The holder.
    pub holder: Option<String>,
    /// How long it lasts after a renewal, in whole seconds.
    pub duration: Duration,
    /// When the holder took it.
    pub acquired: Option<Timestamp>,
    /// When the holder last renewed it.
    pub renewed: Option<Timestamp>,
    /// How often it has changed hands.
    pub transitions: u32,
    /// The replica that released it, if nothing else was written since.
    pub released_by: Option<String>,
}

/// Why a lease could not be read or written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LeaseError {
    /// The version does not match: another client has written or deleted the lease.
    #[error("another client has changed the lease")]
    Conflict,
    /// The lease is unreachable or access is denied: the problem and the remedy.
    #[error("{0}")]
    Unavailable(String),
    /// The duration is longer than a replica can have. The lease is not taken before it is over.
    #[error(
        "according to the lease, {holder} holds it for {duration:?} after its last renewal, \
         and no replica has more than {:?}",
        Timing::LONGEST_LEASE
    )]
    TooLong {
        /// The holder named by the lease.
        holder: String,
        /// The duration named by the lease.
        duration: Duration,
    },
}

/// Stores a lease where every replica sees it.
pub trait LeaseStore: Send + Sync + 'static {
    /// The version of a lease that was read, required to change it.
    type Version: Clone + Send + Sync;

    /// Returns the lease, if it exists.
    fn read(
        &self,
    ) -> impl Future<Output = Result<Option<(Record, Self::Version)>, LeaseError>> + Send;
    /// Creates the lease; [`LeaseError::Conflict`] when it exists.
    fn create(
        &self,
        record: &Record,
    ) -> impl Future<Output = Result<Self::Version, LeaseError>> + Send;
    /// Replaces the lease of this version; [`LeaseError::Conflict`] when its version differs or it was
    /// deleted.
    fn replace(
        &self,
        record: &Record,
        version: &Self::Version,
    ) -> impl Future<Output = Result<Self::Version, LeaseError>> + Send;
}

/// Whether this process may write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Another process holds the lease, or none does yet; the holder, if known.
    Standby(Option<String>),
    /// This process holds it.
    Leader,
    /// This process has lost it, for this reason.
    Lost(String),
}

/// Reports whether this process may write. Clones share the state.
#[derive(Clone)]
pub struct Leadership {
    standing: watch::Receiver<Standing>,
    term: Option<Term>,
}

impl Leadership {
    /// For a process that needs no lease: it may always write.
    #[must_use]
    pub fn unconditional() -> Self {
        Self {
            standing: watch::Sender::new(Standing::Leader).subscribe(),
            term: None,
        }
    }

    /// Returns whether this process may write right now. Checks the clock, so a process that was
    /// suspended knows immediately on resuming.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.term.as_ref().is_none_or(Term::lasts)
    }

    /// Waits until this process may write; forever if it never does.
    pub async fn gained(&self) {
        self.until(|standing| *standing == Standing::Leader).await;
    }

    /// Waits until this process has lost the lease, and returns the reason; forever if it never does.
    pub async fn lost(&self) -> String {
        match self
            .until(|standing| matches!(standing, Standing::Lost(_)))
            .await
        {
            Standing::Lost(why) => why,
            Standing::Standby(_) | Standing::Leader => String::new(),
        }
    }

    /// Returns the current standing.
    #[must_use]
    pub fn standing(&self) -> Standing {
        self.standing.borrow().clone()
    }

    async fn until(&self, is_so: impl FnMut(&Standing) -> bool) -> Standing {
        let mut standing = self.standing.clone();
        let found = standing.wait_for(is_so).await.map(|found| found.clone());
        match found {
            Ok(standing) => standing,
            // The election has ended: nothing changes any more.
            Err(_) => std::future::pending().await,
        }
    }
}

/// Until when this process may write, in nanoseconds since `origin`; 0 means never.
#[derive(Debug, Clone)]
struct Term {
    origin: Instant,
    end: Arc<AtomicU64>,
}

impl Term {
    fn new() -> Self {
        Self {
            origin: Instant::now(),
            end: Arc::default(),
        }
    }

    fn lasts(&self) -> bool {
        let now = u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX);
        now < self.end.load(Ordering::Acquire)
    }

    fn set(&self, end: Instant) {
        let end = end.saturating_duration_since(self.origin).as_nanos();
        let end = u64::try_from(end).unwrap_or(u64::MAX);
        self.end.store(end, Ordering::Release);
    }

    fn end(&self) {
        self.end.store(0, Ordering::Release);
    }
}

/// Receives events for logs and metrics. Must not block.
pub trait ObserveElection: Send + Sync {
    /// The standing has changed.
    fn stands(&self, standing: &Standing);
    /// The lease was read, or the read failed, or the lease is invalid; and whether this process held
    /// it.
    fn looked(&self, outcome: Result<(), &LeaseError>, is_leader: bool);
    /// This process ends without having released the lease, which can be taken after `lease`.
    fn not_released(&self, error: &LeaseError, lease: Duration);
}

/// An election in which this process takes part.
pub struct Election<S: LeaseStore> {
    store: S,
    candidate: Candidate<S::Version>,
    timing: Timing,
    clock: Clock,
    observe: Arc<dyn ObserveElection>,
    standing: watch::Sender<Standing>,
    term: Term,
}

impl<S: LeaseStore> Election<S> {
    /// Takes part as `identity`, which must be unique among all processes, including earlier ones.
    #[must_use]
    pub fn new(
        store: S,
        identity: &str,
        timing: Timing,
        clock: Clock,
        observe: Arc<dyn ObserveElection>,
    ) -> Self {
        Self {
            store,
            candidate: Candidate::new(identity, timing),
            timing,
            clock,
            observe,
            standing: watch::Sender::new(Standing::Standby(None)),
            term: Term::new(),
        }
    }

    /// Returns the leadership of this process.
    #[must_use]
    pub fn leadership(&self) -> Leadership {
        Leadership {
            standing: self.standing.subscribe(),
            term: Some(self.term.clone()),
        }
    }

    /// Takes part until `stop`, then releases the lease; returns earlier only if the lease was lost.
    /// All writers must have stopped before `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            let began = Instant::now();
            let next = match self.attempt(began).await {
                Ok(next) => next,
                Err(why) => {
                    self.term.end();
                    self.stand(Standing::Lost(why));
                    return;
                }
            };
            tokio::select! {
                () = sleep_until(next) => {}
                () = stop.cancelled() => return self.release().await,
            }
        }
    }

    /// Reads the lease once. Returns when the next read is due, or why the lease is lost.
    async fn attempt(&mut self, began: Instant) -> Result<Instant, String> {
        let renewed = self.candidate.renewed();
        let deadline = renewed.map(|renewed| renewed + self.timing.renew_deadline);
        if let Some(deadline) = deadline
            && began >= deadline
        {
            return Err(self.candidate.overdue());
        }
        // No longer than the answer is useful.
        let end = deadline
            .unwrap_or(began + self.timing.call)
            .min(began + self.timing.call);
        let now = (self.clock)();
        let looked = self.candidate.look(&self.store, now);
        let attempt = match timeout(end - began, looked).await {
            Ok(attempt) => attempt,
            Err(_) => Err(no_answer(end - began)),
        };
        match attempt {
            Ok(Attempt::Holds) => {
                self.candidate.renewed_at(began);
                self.term.set(began + self.timing.renew_deadline);
                self.observe.looked(Ok(()), renewed.is_some());
                self.stand(Standing::Leader);
                Ok(began + self.timing.renew_every)
            }
            Ok(Attempt::Lost(why)) => Err(why),
            Ok(Attempt::Waits(wait)) => {
                let absurd = wait.absurd.map(|duration| LeaseError::TooLong {
                    holder: wait
                        .holder
                        .clone()
                        .unwrap_or_else(|| "an unknown holder".to_owned()),
                    duration,
                });
                self.observe
                    .looked(absurd.as_ref().map_or(Ok(()), Err), false);
                self.stand(Standing::Standby(wait.holder));
                Ok(wait.until.min(Instant::now() + self.pause()))
            }
            Ok(Attempt::Beaten) => {
                self.observe.looked(Ok(()), false);
                self.stand(Standing::Standby(None));
                Ok(Instant::now() + self.pause())
            }
            Err(error) => {
                self.observe.looked(Err(&error), renewed.is_some());
                self.candidate.failed(&error);
                let next = Instant::now() + self.pause().min(self.timing.renew_every);
                // No later than a lost lease has to be noticed.
                Ok(deadline.map_or(next, |deadline| next.min(deadline)))
            }
        }
    }

    /// Adds jitter, so that replicas do not read at the same time.
    fn pause(&self) -> Duration {
        self.timing.look_every.mul_f64(1.0 - 0.25 * fastrand::f64())
    }

    fn stand(&self, standing: Standing) {
        let changed = self.standing.send_if_modified(|now| {
            let changed = *now != standing;
            *now = standing;
            changed
        });
        if changed {
            let standing = self.standing.borrow().clone();
            self.observe.stands(&standing);
        }
    }

    /// Releases the lease, so that no replica has to wait until it expires.
    async fn release(mut self) {
        if !self.term.lasts() {
            return;
        }
        self.term.end();
        let now = (self.clock)();
        let released = timeout(self.timing.call, self.candidate.release(&self.store, now)).await;
        let released = released.unwrap_or_else(|_| Err(no_answer(self.timing.call)));
        if let Err(error) = released {
            self.observe.not_released(&error, self.timing.lease);
        }
        self.stand(Standing::Standby(None));
    }
}

fn no_answer(within: Duration) -> LeaseError {
    LeaseError::Unavailable(format!("the API server did not answer within {within:?}"))
}

#[cfg(test)]
mod tests;
