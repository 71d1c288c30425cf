//! The sync coordinator: a full compare at the start, at every interval, and on request.
//!
//! It decides when and why to sync; comparing ([`Compare`]), persisting the status ([`StatusStore`])
//! and reporting ([`Observe`]) are traits. At most one sync runs. Requests never wait: those made
//! before a sync begins share it, and those made while it runs share the next one. A failed sync is
//! counted and retried after a minute, then with doubling delays up to the interval. Statuses are saved
//! in parallel, in order, skipping all but the newest. Saving never delays a sync, and its failures are
//! only reported.
//!
//! The program starts it with [`SyncCoordinator::start`] and stops it by the token; other code uses a
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

/// A compare of thousands of nodes takes seconds; one that takes this long is stuck.
const SYNC_DEADLINE: Duration = Duration::from_mins(5);
/// How long a cancelled compare has to return before it is dropped at its current await: half of the
/// second within which cancelling promises to stop it.
const CANCEL_DEADLINE: Duration = Duration::from_millis(500);
/// Reading or writing one small object takes milliseconds.
const STORE_DEADLINE: Duration = Duration::from_secs(5);
/// The same during shutdown, which has 9 seconds in total.
const LAST_SAVE_DEADLINE: Duration = Duration::from_secs(2);
/// A shorter interval would compare without a pause, a longer one never.
const INTERVALS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_hours(24 * 365));

/// A boxed future, for object-safe traits.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Why a compare failed; its text and causes become the message of the status.
pub type CompareError = Box<dyn Error + Send + Sync>;

/// Compares everything and repairs the differences.
pub trait Compare: Send + Sync {
    /// Returns `Ok` only if everything was compared. Must end soon after `cancel`, or it is dropped at
    /// an await; leaves nothing half-done then.
    fn compare<'a>(
        &'a self,
        reason: SyncReason,
        progress: SyncProgress<'a>,
        cancel: CancellationToken,
    ) -> BoxFuture<'a, Result<Compared, CompareError>>;
}

/// Why a status could not be saved or loaded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The storage is unreachable or access is denied: the problem and the remedy.
    #[error("{0}")]
    Unavailable(String),
    /// The stored data is not a status. The next status overwrites it.
    #[error("{0}")]
    Unreadable(String),
    /// The call timed out.
    #[error("Reading or writing the sync status did not finish within {0:?}")]
    Slow(Duration),
}

/// Persists the last status, so that the next process can show it.
pub trait StatusStore: Send + Sync {
    /// Returns the last saved status, if there is one.
    fn load(&self) -> BoxFuture<'_, Result<Option<SyncStatus>, StoreError>>;
    /// Replaces the saved status. Dropped at an await when it takes too long.
    fn save<'a>(&'a self, status: &'a SyncStatus) -> BoxFuture<'a, Result<(), StoreError>>;
}

/// Receives events for logs and metrics. Must not block.
pub trait Observe: Send + Sync {
    /// A sync has begun.
    fn started(&self, reason: SyncReason);
    /// A sync has completed or failed. Not called for one interrupted by the stop.
    fn finished(&self, status: &SyncStatus, took: Duration);
    /// The status could not be saved or loaded.
    fn persist_failed(&self, error: &StoreError);
}

/// The dependencies of the coordinator.
pub struct Parts {
    /// Compares.
    pub compare: Arc<dyn Compare>,
    /// Persists the status.
    pub store: Arc<dyn StatusStore>,
    /// Receives events.
    pub observe: Arc<dyn Observe>,
    /// The clock for timestamps in the status.
    pub clock: Clock,
}

/// Reports the progress of a compare.
#[derive(Clone, Copy)]
pub struct SyncProgress<'a>(&'a watch::Sender<Report>);

impl SyncProgress<'_> {
    /// Reports that `done` of `total` nodes are compared.
    pub fn set(self, done: u64, total: u64) {
        self.0
            .send_modify(|report| report.progress = Some(Progress { done, total }));
    }
}

/// State shared by the coordinator and its handles.
struct Shared {
    state: OrderedMutex<State>,
    asked: Notify,
}

struct State {
    schedule: Schedule,
    /// The last sync begun: its number, and its cancellation, which has no effect once it has ended.
    begun: Option<(u64, CancellationToken)>,
}

/// Runs the syncs.
pub struct SyncCoordinator {
    parts: Parts,
    shared: Arc<Shared>,
    report: watch::Sender<Report>,
}

impl SyncCoordinator {
    /// Creates a coordinator that syncs every `interval`, plus or minus a tenth, once it is started.
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

    /// Returns a handle, which stays usable after the coordinator has stopped.
    #[must_use]
    pub fn handle(&self) -> SyncHandle {
        SyncHandle::new(Arc::clone(&self.shared), self.report.subscribe())
    }

    /// Loads the status of the previous process, waits for `ready`, which ends when there is data to
    /// compare, then syncs until `stop`. A running sync then stops within a second, and the status is
    /// saved if that is possible quickly. A panic of the compare panics this future.
    pub async fn start(self, ready: impl Future<Output = ()> + Send, stop: CancellationToken) {
        let (saves, to_save) = watch::channel(None);
        let mut saving = pin!(save_each(&self.parts, to_save));
        let syncing = async {
            // Owned: when this future is dropped, there is nothing more to save.
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
            () = &mut saving => {} // Unreachable: it ends after the other one.
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

    /// Returns whether everything was compared or the sync was cancelled.
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
            // Callers waiting for an interrupted sync get the error that the operator stops.
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
        // By the stop or by a ticket.
        let cancelled = cancel.is_cancelled();
        let outcome = if ended.is_some() {
            ended
        } else {
            cancel.cancel();
            timeout(CANCEL_DEADLINE, compare).await.ok()
        };
        match outcome {
            // Also when it completes while being cancelled.
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

/// Saves the newest status until the channel closes, skipping those replaced during a save.
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

/// Returns the error and its causes in one line.
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
