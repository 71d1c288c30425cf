//! Long-running operations: started, tracked, cancelled, and removed when they are old.
//!
//! Owns the state of each operation; the caller does the work, and reports progress and outcome through
//! an [`OperationHandle`]. At most one operation per kind and target runs. Every operation ends: if its
//! handle is dropped without an outcome, it was cancelled or else has failed. A finished operation
//! never changes, and is removed according to [`Limits`] whenever one begins, ends or is listed; there
//! is no timer. Nothing survives the process.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use jiff::SignedDuration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::lock_order::{OrderedMutex, Rank};
use super::store::Store;
use super::{Clock, MESSAGE_LIMIT, capped};

pub use model::{Operation, OperationError, OperationId, OperationState, Progress};

mod model;

/// Held while the store, a leaf, is read and changed.
const BEGIN: Rank = Rank::new(200, "beginning an operation");

/// Retention of finished operations.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// For how long.
    pub age: SignedDuration,
    /// How many.
    pub number: usize,
    /// Bytes of results in total; the newest result is always retained.
    pub result_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // Long enough for the caller to look.
            age: SignedDuration::from_mins(10),
            // A screenful.
            number: 20,
            // Two exports of 5,000 nodes at about 1 KB each, and a fraction of the operator's memory.
            result_bytes: 10 << 20,
        }
    }
}

/// The outcome of a request to begin.
#[derive(Debug)]
#[must_use]
pub enum Begun {
    /// It has started; the caller does the work.
    Started(OperationHandle),
    /// One of this kind and target runs already; nothing was started.
    Running(Operation),
}

/// All operations. Clones share the state.
#[derive(Clone)]
pub struct Operations(Arc<Inner>);

struct Inner {
    /// Running operations are also indexed by kind and target.
    entries: Store<OperationId, Entry, Exclusive>,
    /// Number of operations begun. Locked while one begins, so that only one caller starts it.
    begun: OrderedMutex<u64>,
    /// Number of operations ended.
    ended: AtomicU64,
    /// Notified whenever one ends.
    changed: watch::Sender<()>,
    limits: Limits,
    clock: Clock,
}

/// Kind and target.
type Exclusive = (Cow<'static, str>, Option<String>);

#[derive(Clone)]
struct Entry {
    operation: Operation,
    /// Its number in the order of beginning.
    begun: u64,
    /// Its number in the order of ending; 0 while it runs.
    ended: u64,
    cancel: CancellationToken,
    result: Option<Arc<[u8]>>,
}

impl PartialEq for Entry {
    /// The other fields never change, or only together with the operation.
    fn eq(&self, other: &Self) -> bool {
        self.operation == other.operation
    }
}

impl Entry {
    fn exclusive(&self) -> Option<Exclusive> {
        let Operation {
            kind,
            target,
            state,
            ..
        } = &self.operation;
        (*state == OperationState::Running).then(|| (kind.clone(), target.clone()))
    }

    fn show(&self) -> Operation {
        let cancel_requested = match self.operation.state {
            OperationState::Running => self.cancel.is_cancelled(),
            OperationState::Succeeded | OperationState::Failed => false,
            OperationState::Cancelled => true,
        };
        Operation {
            cancel_requested,
            ..self.operation.clone()
        }
    }
}

impl Operations {
    /// Creates an empty registry.
    #[must_use]
    pub fn new(limits: Limits, clock: Clock) -> Self {
        Self(Arc::new(Inner {
            entries: Store::indexed(Entry::exclusive),
            begun: OrderedMutex::new(BEGIN, 0),
            ended: AtomicU64::new(0),
            changed: watch::Sender::new(()),
            limits,
            clock,
        }))
    }

    /// Begins an operation, unless one of this kind and target runs: of concurrent callers one starts
    /// it. `kind` becomes part of the id: lower-case letters, digits and `-`.
    pub fn begin(&self, kind: &'static str, target: Option<&str>) -> Begun {
        let exclusive = (Cow::Borrowed(kind), target.map(str::to_owned));
        self.prune();
        let mut begun = self.0.begun.lock();
        if let [running, ..] = &self.0.entries.snapshot_of(&exclusive).values[..] {
            return Begun::Running(running.show());
        }
        *begun += 1;
        let started_at = (self.0.clock)();
        let id = OperationId::new(kind, started_at, *begun);
        let cancel = CancellationToken::new();
        let (kind, target) = exclusive;
        let entry = Entry {
            operation: Operation {
                id: id.clone(),
                kind,
                target,
                state: OperationState::Running,
                cancel_requested: false,
                progress: Progress::default(),
                counts: BTreeMap::new(),
                message: None,
                started_at,
                finished_at: None,
                result_size: None,
            },
            begun: *begun,
            ended: 0,
            cancel: cancel.clone(),
            result: None,
        };
        self.0.entries.upsert(id.clone(), entry);
        Begun::Started(OperationHandle {
            operations: self.clone(),
            id,
            cancel,
            ended: false,
        })
    }

    /// Returns all stored operations, newest first.
    #[must_use]
    pub fn list(&self) -> Vec<Operation> {
        self.prune();
        let mut entries = self.0.entries.snapshot().values;
        entries.sort_unstable_by_key(|entry| Reverse(entry.begun));
        entries.iter().map(|entry| entry.show()).collect()
    }

    /// Returns the current state of one operation.
    ///
    /// # Errors
    /// When no operation has this id.
    pub fn show(&self, id: &str) -> Result<Operation, OperationError> {
        self.find(id).map(|entry| entry.show())
    }

    /// Returns the result of an operation.
    ///
    /// # Errors
    /// When no operation has this id, when it still runs, and when it has no result.
    pub fn result(&self, id: &str) -> Result<Arc<[u8]>, OperationError> {
        let entry = self.find(id)?;
        match (&entry.result, entry.operation.state) {
            (Some(result), _) => Ok(Arc::clone(result)),
            (None, OperationState::Running) => Err(OperationError::Running {
                id: entry.operation.id.clone(),
            }),
            (None, state) => Err(OperationError::NoResult {
                id: entry.operation.id.clone(),
                state,
            }),
        }
    }

    /// Requests cancellation. The operation stops within a second and is running until then.
    /// Idempotent.
    ///
    /// # Errors
    /// When no operation has this id, and when it has ended.
    pub fn cancel(&self, id: &str) -> Result<Operation, OperationError> {
        let entry = self.find(id)?;
        if entry.operation.state != OperationState::Running {
            return Err(OperationError::AlreadyFinished {
                id: entry.operation.id.clone(),
                state: entry.operation.state,
            });
        }
        entry.cancel.cancel();
        Ok(entry.show())
    }

    /// Waits until an operation has ended. Cancel-safe.
    ///
    /// # Errors
    /// When no operation has this id.
    pub async fn finished(&self, id: &str) -> Result<Operation, OperationError> {
        let mut changes = self.0.changed.subscribe();
        loop {
            let operation = self.show(id)?;
            if operation.state != OperationState::Running {
                return Ok(operation);
            }
            // `self` owns the sender, so the channel cannot close meanwhile.
            let _ = changes.changed().await;
        }
    }

    fn find(&self, id: &str) -> Result<Arc<Entry>, OperationError> {
        let id: OperationId = id.parse()?;
        self.0
            .entries
            .get(&id)
            .ok_or(OperationError::NotFound { id })
    }

    /// Removes finished operations beyond the limits, those that ended first.
    fn prune(&self) {
        let mut ended: Vec<_> = self.0.entries.snapshot().values;
        ended.retain(|entry| entry.operation.finished_at.is_some());
        ended.sort_unstable_by_key(|entry| Reverse(entry.ended));
        let (limits, now) = (self.0.limits, (self.0.clock)());
        let (mut number, mut bytes) = (0, 0);
        for entry in ended {
            let finished_at = entry.operation.finished_at.unwrap_or(now);
            let size = entry.result.as_ref().map_or(0, |result| result.len());
            let fits = size == 0 || bytes == 0 || bytes + size <= limits.result_bytes;
            if number < limits.number && fits && now.duration_since(finished_at) <= limits.age {
                number += 1;
                bytes += size;
            } else {
                self.0.entries.remove(&entry.operation.id);
            }
        }
    }
}

/// The worker's side of an operation. If it is dropped without an outcome, the operation is cancelled
/// if that was requested, and failed otherwise.
#[must_use]
pub struct OperationHandle {
    operations: Operations,
    id: OperationId,
    cancel: CancellationToken,
    ended: bool,
}

impl std::fmt::Debug for OperationHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("OperationHandle").field(&self.id).finish()
    }
}

impl OperationHandle {
    /// Returns the id.
    #[must_use]
    pub fn id(&self) -> &OperationId {
        &self.id
    }

    /// Reports progress: `done` of `total`.
    pub fn progress(&self, done: u64, total: u64) {
        self.change(|entry| entry.operation.progress = Progress { done, total });
    }

    /// Reports the current value of a named count.
    pub fn count(&self, name: &'static str, number: u64) {
        self.change(|entry| {
            entry.operation.counts.insert(Cow::Borrowed(name), number);
        });
    }

    /// Waits until cancellation is requested. The work must then stop within a second, by being dropped
    /// at an await or by leaving its loop.
    pub async fn cancelled(&self) {
        self.cancel.cancelled().await;
    }

    /// Returns whether cancellation was requested.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.cancel.is_cancelled()
    }

    /// Ends the operation as succeeded, with its result.
    pub fn succeed(mut self, message: &str, result: Option<Arc<[u8]>>) {
        self.end(OperationState::Succeeded, message, result);
    }

    /// Ends the operation as failed.
    pub fn fail(mut self, message: &str) {
        self.end(OperationState::Failed, message, None);
    }

    /// Ends the operation as cancelled, after cancellation was requested.
    pub fn stopped(mut self, message: &str) {
        self.end(OperationState::Cancelled, message, None);
    }

    fn end(&mut self, state: OperationState, message: &str, result: Option<Arc<[u8]>>) {
        self.ended = true;
        let inner = &self.operations.0;
        // No other code has the handle now, so the operation cannot change meanwhile.
        if let Some(entry) = inner.entries.get(&self.id) {
            let next = Entry {
                operation: Operation {
                    state,
                    message: Some(capped(message, MESSAGE_LIMIT)),
                    finished_at: Some((inner.clock)()),
                    result_size: result.as_ref().map(|result| result.len()),
                    ..entry.operation.clone()
                },
                ended: inner.ended.fetch_add(1, Ordering::Relaxed) + 1,
                result,
                ..Entry::clone(&entry)
            };
            inner.entries.upsert(self.id.clone(), next);
        }
        inner.changed.send_replace(());
        self.operations.prune();
    }

    fn change(&self, change: impl Fn(&mut Entry)) {
        self.operations.0.entries.update(&self.id, |entry| {
            let mut next = entry.clone();
            change(&mut next);
            next
        });
    }
}

impl Drop for OperationHandle {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        if self.is_cancelled() && !std::thread::panicking() {
            self.end(OperationState::Cancelled, "Stopped on request", None);
        } else {
            self.end(
                OperationState::Failed,
                "Its task ended without saying how: see the log of the operator",
                None,
            );
        }
    }
}

#[cfg(test)]
mod tests;
