//! Leader election: of several replicas one writes, and no two at a time.
//!
//! As client-go has it: a lease is an object that its holder renews every two seconds. Who does not hold
//! it takes it once it has not been renewed for its whole duration, by the taker's own monotonic clock
//! since the taker saw it last change; times in the object are for people. Every write carries the
//! version that was read, so of two takers one is refused. A holder that has not renewed for
//! [`Timing::renew_deadline`] has lost the lease, five seconds before anybody can take it.
//!
//! Stricter than client-go in one thing: a lease that is missing, emptied, or edited by hand is nobody's
//! yet. Its last holder may not know of it, so the lease is taken only when that holder's time is over,
//! unless the holder itself said that it has let go. How long that time is says the holder, when it writes
//! the lease: replicas may differ in it.
//!
//! Knows the rules, and nothing of how a lease is kept: that is a trait ([`LeaseStore`]). Owns the
//! [`Leadership`] that others read. A lease that was lost is not won again: the process ends.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use self::candidate::{Candidate, Verdict};
use super::Clock;

mod candidate;
mod claims;

/// How long a lease lasts, and how often it is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// A lease that was not renewed for so long may be taken.
    pub lease: Duration,
    /// A holder that has not renewed for so long has lost it. Shorter than `lease` by more than a write
    /// may be under way.
    pub renew_deadline: Duration,
    /// How often a holder renews, and so finds out what was done to its lease.
    pub renew_every: Duration,
    /// How often others look, less up to a quarter, so that they do not all come at once: a lease that
    /// runs out is taken when it does, but what they saw last is so old at most.
    pub look_every: Duration,
    /// A call takes milliseconds; one that takes so long is on a dead connection.
    pub call: Duration,
}

impl Timing {
    /// Less is over before an API server that is busy answers. And more than [`Self::LONGEST_PAUSE`]: a
    /// leader finds its lease edited by hand before one that has just started can take it.
    pub const SHORTEST_LEASE: Duration = Duration::from_secs(3);
    /// Who waits for a leader that has crashed waits for so long. A lease that names a longer time was not
    /// written by a replica of this program.
    pub const LONGEST_LEASE: Duration = Duration::from_mins(10);
    /// Between two renewals, however long the lease is.
    pub const LONGEST_PAUSE: Duration = Duration::from_secs(2);

    /// Of a lease of 15 s, what controllers of Kubernetes have: 10 s, 2 s and 5 s. They look every 2 seconds as
    /// well; with less, a crash is noticed 17 s later at most. Of a shorter one, the same parts of it; of a
    /// longer one the same, but that its holder may be without an API server for longer.
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

/// What a lease says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Who holds it.
    pub holder: Option<String>,
    /// How long it lasts after it was renewed, in whole seconds.
    pub duration: Duration,
    /// When the holder took it.
    pub acquired: Option<Timestamp>,
    /// When the holder last renewed it.
    pub renewed: Option<Timestamp>,
    /// How often it has changed hands.
    pub transitions: u32,
    /// Who let go of it by itself; nobody else has written since then.
    pub released_by: Option<String>,
}

/// Why a lease could not be read or written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LeaseError {
    /// It has another version than was thought: somebody else has written or deleted it.
    #[error("somebody else has changed the lease")]
    Conflict,
    /// It cannot be reached, or may not be used; what is wrong, and what to do.
    #[error("{0}")]
    Unavailable(String),
    /// It is held for longer than a replica can hold it. It is not taken before that is over.
    #[error(
        "the lease says that {holder} holds it for {duration:?} after its last renewal, and no replica has more than {:?}",
        Timing::LONGEST_LEASE
    )]
    TooLong {
        /// Who holds it, as it says.
        holder: String,
        /// For how long.
        duration: Duration,
    },
}

/// Keeps a lease where every replica sees it.
pub trait LeaseStore: Send + Sync + 'static {
    /// A lease as it was read: what has to be sent back to change it.
    type Version: Clone + Send + Sync;

    /// The lease, if there is one.
    fn read(
        &self,
    ) -> impl Future<Output = Result<Option<(Record, Self::Version)>, LeaseError>> + Send;
    /// Makes the lease; [`LeaseError::Conflict`] when there is one.
    fn create(
        &self,
        record: &Record,
    ) -> impl Future<Output = Result<Self::Version, LeaseError>> + Send;
    /// Changes the lease of this version; [`LeaseError::Conflict`] when it has another one, or is gone.
    fn replace(
        &self,
        record: &Record,
        version: &Self::Version,
    ) -> impl Future<Output = Result<Self::Version, LeaseError>> + Send;
}

/// Whether this process may write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Somebody else holds the lease, or nobody does yet; who, if that is known.
    Standby(Option<String>),
    /// This process holds it.
    Leader,
    /// This process held it and does not any more; why.
    Lost(String),
}

/// Says whether this process may write. Clones are the same.
#[derive(Clone)]
pub struct Leadership {
    standing: watch::Receiver<Standing>,
    term: Option<Term>,
}

impl Leadership {
    /// Of a process that needs no lease: it always may.
    #[must_use]
    pub fn unconditional() -> Self {
        Self {
            standing: watch::Sender::new(Standing::Leader).subscribe(),
            term: None,
        }
    }

    /// Whether this process may write at this very moment. Looks at the clock: a process that was
    /// stopped knows at once, before anything in it had the time to tell.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.term.as_ref().is_none_or(Term::lasts)
    }

    /// Waits until this process may write; for ever if it never does.
    pub async fn gained(&self) {
        self.until(|standing| *standing == Standing::Leader).await;
    }

    /// Waits until this process has lost what it held; why. For ever if it never does.
    pub async fn lost(&self) -> String {
        match self
            .until(|standing| matches!(standing, Standing::Lost(_)))
            .await
        {
            Standing::Lost(why) => why,
            Standing::Standby(_) | Standing::Leader => String::new(),
        }
    }

    /// How it is now.
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

/// Until when this process may write, in nanoseconds since `origin`; 0 is never.
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

/// Is told what happens, for logs and metrics. Must not wait.
pub trait ObserveElection: Send + Sync {
    /// The standing has changed.
    fn stands(&self, standing: &Standing);
    /// The lease was looked at, or why it could not be or what is wrong with it; whether this process held it.
    fn looked(&self, outcome: Result<(), &LeaseError>, is_leader: bool);
    /// This process ends and could not let go of the lease: it can be taken so long after its last renewal.
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
    /// Takes part as `identity`, which no other process has or had.
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

    /// What says whether this process may write.
    #[must_use]
    pub fn leadership(&self) -> Leadership {
        Leadership {
            standing: self.standing.subscribe(),
            term: Some(self.term.clone()),
        }
    }

    /// Takes part until `stop`, and then lets go of the lease; returns earlier only when it was lost.
    /// Whoever writes has to have stopped before `stop`.
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

    /// One look at the lease; when the next one is due, or why the lease is lost.
    async fn attempt(&mut self, began: Instant) -> Result<Instant, String> {
        let renewed = self.candidate.renewed();
        let deadline = renewed.map(|renewed| renewed + self.timing.renew_deadline);
        if let Some(deadline) = deadline
            && began >= deadline
        {
            return Err(self.candidate.overdue());
        }
        // No longer than it is of use.
        let end = deadline
            .unwrap_or(began + self.timing.call)
            .min(began + self.timing.call);
        let now = (self.clock)();
        let looked = self.candidate.look(&self.store, now);
        let verdict = match timeout(end - began, looked).await {
            Ok(verdict) => verdict,
            Err(_) => Err(no_answer(end - began)),
        };
        match verdict {
            Ok(Verdict::Holds) => {
                self.candidate.renewed_at(began);
                self.term.set(began + self.timing.renew_deadline);
                self.observe.looked(Ok(()), renewed.is_some());
                self.stand(Standing::Leader);
                Ok(began + self.timing.renew_every)
            }
            Ok(Verdict::Lost(why)) => Err(why),
            Ok(Verdict::Waits(wait)) => {
                let absurd = wait.absurd.map(|duration| LeaseError::TooLong {
                    holder: wait.holder.clone().unwrap_or_else(|| "nobody".to_owned()),
                    duration,
                });
                self.observe
                    .looked(absurd.as_ref().map_or(Ok(()), Err), false);
                self.stand(Standing::Standby(wait.holder));
                Ok(wait.until.min(Instant::now() + self.pause()))
            }
            Ok(Verdict::Beaten) => {
                self.observe.looked(Ok(()), false);
                self.stand(Standing::Standby(None));
                Ok(Instant::now() + self.pause())
            }
            Err(error) => {
                self.observe.looked(Err(&error), renewed.is_some());
                self.candidate.failed(&error);
                let next = Instant::now() + self.pause().min(self.timing.renew_every);
                // Not later than it has to be known that the lease is lost.
                Ok(deadline.map_or(next, |deadline| next.min(deadline)))
            }
        }
    }

    /// Not all at once.
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

    /// Lets go, so that nobody has to wait until the lease runs out.
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
