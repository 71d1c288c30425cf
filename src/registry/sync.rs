//! The sync coordinator: a full compare at the start, then every interval, and when it is asked for.
//!
//! It knows when and why, never what: comparing is a trait ([`Compare`]), and so are keeping the status
//! ([`StatusStore`]) and telling of it ([`Observe`]). At most one sync runs. A request never waits;
//! those that come before a sync begins share it, one that comes while it runs is for the next one. A
//! sync that fails is counted and tried again after a minute, and then ever later up to the interval. Saving
//! goes on beside the syncs, in order, the newest status first of all: it never holds one up, and when
//! it fails that is told and nothing more.
//!
//! The program starts it with [`SyncCoordinator::start`] and stops it by the token; all others have a
//! [`SyncHandle`].

use std::error::Error;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use self::schedule::Schedule;
use self::status::CANCELLED;
use super::Clock;
use super::lock_order::{OrderedMutex, Rank};
use super::operations::Progress;

pub use handle::{Report, SyncError, SyncHandle, Ticket};
pub use status::{Compared, SyncPhase, SyncReason, SyncStatus};

mod handle;
mod schedule;
mod status;

/// A compare of thousands of nodes takes seconds; one that takes this long waits for what does not
/// come.
const SYNC_DEADLINE: Duration = Duration::from_mins(5);
/// A compare that is told to stop has this long to return, then it is dropped where it waits: half of
/// the second in which whoever cancels it is promised that it has stopped.
const CANCEL_DEADLINE: Duration = Duration::from_millis(500);
/// Reading or writing one small object takes milliseconds.
const STORE_DEADLINE: Duration = Duration::from_secs(5);
/// The same when the operator stops, whose whole end has 9 seconds.
const LAST_SAVE_DEADLINE: Duration = Duration::from_secs(2);
/// A shorter interval would compare without a pause, a longer one never.
const INTERVALS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_hours(24 * 365));

/// A future behind a pointer, for traits that are objects.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Why a compare came to no end; its text, with what caused it, becomes the message of the status.
pub type CompareError = Box<dyn Error + Send + Sync>;

/// Compares everything and repairs what differs.
pub trait Compare: Send + Sync {
    /// Compares everything; `Ok` only then. Must end soon after `cancel`, and leave nothing half-done
    /// when it is dropped at an await, as it is when it does not.
    fn compare<'a>(
        &'a self,
        reason: SyncReason,
        progress: SyncProgress<'a>,
        cancel: CancellationToken,
    ) -> BoxFuture<'a, Result<Compared, CompareError>>;
}

/// Why a status could not be kept or found.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The place cannot be reached or may not be used; what is wrong and what to do.
    #[error("{0}")]
    Unavailable(String),
    /// What is there is no status. It is overwritten by the next one.
    #[error("{0}")]
    Unreadable(String),
    /// It was given up.
    #[error("Reading or writing the sync status did not finish within {0:?}")]
    Slow(Duration),
}

/// Keeps the last status, so that the next process can show it.
pub trait StatusStore: Send + Sync {
    /// What was kept last, if anything was.
    fn load(&self) -> BoxFuture<'_, Result<Option<SyncStatus>, StoreError>>;
    /// Keeps `status` in place of what was kept before. Dropped at an await when it takes too long.
    fn save<'a>(&'a self, status: &'a SyncStatus) -> BoxFuture<'a, Result<(), StoreError>>;
}

/// Is told what happens, for logs and metrics. Must not wait.
pub trait Observe: Send + Sync {
    /// A sync begins.
    fn started(&self, reason: SyncReason);
    /// It has ended, complete or failed. Not called for one that the stop interrupts.
    fn finished(&self, status: &SyncStatus, took: Duration);
    /// The status could not be kept or found.
    fn persist_failed(&self, error: &StoreError);
}

/// What the coordinator works with.
pub struct Parts {
    /// Compares.
    pub compare: Arc<dyn Compare>,
    /// Keeps the status.
    pub store: Arc<dyn StatusStore>,
    /// Is told what happens.
    pub observe: Arc<dyn Observe>,
    /// The times in the status.
    pub clock: Clock,
}

/// Says how far a compare is.
#[derive(Clone, Copy)]
pub struct SyncProgress<'a>(&'a watch::Sender<Report>);

impl SyncProgress<'_> {
    /// `done` of `total` nodes are compared.
    pub fn set(self, done: u64, total: u64) {
        self.0
            .send_modify(|report| report.progress = Some(Progress { done, total }));
    }
}

/// What the coordinator and its handles share.
struct Shared {
    state: OrderedMutex<State>,
    asked: Notify,
}

struct State {
    schedule: Schedule,
    /// The last sync that has begun: its number, and what cancels it, which does nothing afterwards.
    begun: Option<(u64, CancellationToken)>,
}

/// Runs the syncs.
pub struct SyncCoordinator {
    parts: Parts,
    shared: Arc<Shared>,
    report: watch::Sender<Report>,
}

impl SyncCoordinator {
    /// A coordinator that syncs every `interval`, give or take a tenth, once it is started.
    #[must_use]
    pub fn new(parts: Parts, interval: Duration) -> Self {
        let interval = interval.clamp(INTERVALS.0, INTERVALS.1);
        Self {
            parts,
            shared: Arc::new(Shared {
                state: OrderedMutex::new(
                    Rank::LEAF,
                    State {
                        schedule: Schedule::new(interval),
                        begun: None,
                    },
                ),
                asked: Notify::new(),
            }),
            report: watch::Sender::new(Report::default()),
        }
    }

    /// What others ask it by; stays of use when the coordinator has stopped.
    #[must_use]
    pub fn handle(&self) -> SyncHandle {
        SyncHandle::new(Arc::clone(&self.shared), self.report.subscribe())
    }

    /// Finds the status of the last process, waits until there is something to compare, which is when
    /// `ready` ends, then syncs until `stop`: within a second a sync that runs has stopped, and the
    /// status is kept, if that is possible soon. A panic of the compare is a panic of this future.
    pub async fn start(self, ready: impl Future<Output = ()> + Send, stop: CancellationToken) {
        let (saves, to_save) = watch::channel(None);
        let mut saving = pin!(save_each(&self.parts, to_save));
        let syncing = async {
            // Owned: when this future goes, there is nothing more to save.
            let saves = saves;
            let beginning = async {
                self.load().await;
                ready.await;
            };
            if stop.run_until_cancelled(beginning).await.is_some() {
                self.sync_until(&stop, &saves).await;
            }
        };
        tokio::select! {
            () = syncing => {}
            () = &mut saving => {} // Never: it ends after the other one.
        }
        if timeout(LAST_SAVE_DEADLINE, saving).await.is_err() {
            let error = StoreError::Slow(LAST_SAVE_DEADLINE);
            self.parts.observe.persist_failed(&error);
        }
    }

    async fn load(&self) {
        match timely(self.parts.store.load()).await {
            Ok(found) => self
                .report
                .send_modify(|report| report.status = found.map(SyncStatus::interrupted)),
            Err(error) => self.parts.observe.persist_failed(&error),
        }
    }

    async fn sync_until(
        &self,
        stop: &CancellationToken,
        saves: &watch::Sender<Option<SyncStatus>>,
    ) {
        while let Some(begun) = stop.run_until_cancelled(self.next(stop)).await {
            let is_complete = self.sync(begun, stop, saves).await;
            let schedule = &mut self.shared.state.lock().schedule;
            schedule.end(Instant::now(), is_complete, fastrand::f64());
        }
    }

    /// Waits until a sync is due, and begins it.
    async fn next(&self, stop: &CancellationToken) -> Begun {
        loop {
            let due = {
                let State { schedule, begun } = &mut *self.shared.state.lock();
                let now = Instant::now();
                if let Some(reason) = schedule.should_sync(now) {
                    let (number, cancel) = (schedule.begin(now, reason), stop.child_token());
                    *begun = Some((number, cancel.clone()));
                    return Begun {
                        number,
                        reason,
                        cancel,
                    };
                }
                schedule.due(now)
            };
            tokio::select! {
                () = sleep_until(due) => {}
                () = self.shared.asked.notified() => {}
            }
        }
    }

    /// Whether everything was compared, or somebody did not want it to be.
    async fn sync(
        &self,
        begun: Begun,
        stop: &CancellationToken,
        saves: &watch::Sender<Option<SyncStatus>>,
    ) -> bool {
        let Parts { observe, clock, .. } = &self.parts;
        let start = Instant::now();
        let status = SyncStatus::begun(self.report.borrow().status.as_ref(), begun.reason, clock());
        self.report
            .send_modify(|report| report.status = Some(status.clone()));
        saves.send_replace(Some(status.clone()));
        observe.started(begun.reason);

        let ended = self.compare(&begun, stop).await;
        let took = start.elapsed();
        let (status, observed) = match ended {
            Ended::Compared(compared) => (status.completed(compared, took, clock()), true),
            Ended::Failed(why) => (status.failed(&why, took), true),
            Ended::Interrupted => (status.interrupted(), false),
        };
        self.report.send_modify(|report| {
            report.progress = None;
            report.status = Some(status.clone());
            // Who waits for one that is interrupted is told that the operator stops.
            if observed {
                report.ended = Some((begun.number, status.clone()));
            }
        });
        saves.send_replace(Some(status.clone()));
        if observed {
            observe.finished(&status, took);
        }
        status.phase == SyncPhase::Complete || status.is_cancelled()
    }

    async fn compare(&self, begun: &Begun, stop: &CancellationToken) -> Ended {
        let progress = SyncProgress(&self.report);
        let cancel = &begun.cancel;
        let mut compare = self
            .parts
            .compare
            .compare(begun.reason, progress, cancel.clone());
        let ended = tokio::select! {
            outcome = &mut compare => Some(outcome),
            () = cancel.cancelled() => None,
            () = sleep(SYNC_DEADLINE) => None,
        };
        // By the stop or a ticket.
        let cancelled = cancel.is_cancelled();
        let outcome = if ended.is_some() {
            ended
        } else {
            cancel.cancel();
            timeout(CANCEL_DEADLINE, compare).await.ok()
        };
        match outcome {
            // Also when it was about to.
            Some(Ok(compared)) => Ended::Compared(compared),
            _ if stop.is_cancelled() => Ended::Interrupted,
            _ if cancelled => Ended::Failed(CANCELLED.to_owned()),
            Some(Err(error)) if !cancel.is_cancelled() => Ended::Failed(with_causes(&*error)),
            Some(Err(_)) | None => Ended::Failed(format!(
                "The compare did not finish within {SYNC_DEADLINE:?}"
            )),
        }
    }
}

/// A sync that has begun.
struct Begun {
    number: u64,
    reason: SyncReason,
    cancel: CancellationToken,
}

/// How a sync ended.
enum Ended {
    Compared(Compared),
    Failed(String),
    Interrupted,
}

/// Saves each status until there are no more; of those that come while one is saved, the newest.
async fn save_each(parts: &Parts, mut statuses: watch::Receiver<Option<SyncStatus>>) {
    while statuses.changed().await.is_ok() {
        let status = statuses.borrow_and_update().clone();
        let Some(status) = status else { continue };
        if let Err(error) = timely(parts.store.save(&status)).await {
            parts.observe.persist_failed(&error);
        }
    }
}

async fn timely<T>(work: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    timeout(STORE_DEADLINE, work)
        .await
        .unwrap_or(Err(StoreError::Slow(STORE_DEADLINE)))
}

/// The error and what caused it, in one line.
fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests;
