//! Long-running operations: begun, followed, cancelled, and forgotten when they are old.
//!
//! Owns what is known of each; the work itself is the caller's, who tells how far it is and how it
//! ended through an [`OperationHandle`]. Of one kind and target at most one runs. Every operation ends:
//! one whose handle is dropped without an end was cancelled, or else has failed. What has ended never
//! changes again and is forgotten by [`Limits`], without a timer: whenever one begins, ends or is
//! listed. Nothing survives the process.

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

/// Held while the store, a leaf, is asked and changed.
const BEGIN: Rank = Rank::new(200, "beginning an operation");

/// How much is kept of operations that have ended.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// For how long.
    pub age: SignedDuration,
    /// How many.
    pub number: usize,
    /// Bytes of results, all together; the newest result is kept whatever its size.
    pub result_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // Whoever began one has looked by then.
            age: SignedDuration::from_mins(10),
            // A screen full.
            number: 20,
            // Two exports of 5,000 nodes at about 1 KB each, and a fraction of the operator's memory.
            result_bytes: 10 << 20,
        }
    }
}

/// What came of a wish to begin.
#[derive(Debug)]
#[must_use]
pub enum Begun {
    /// It runs now; the work is the caller's.
    Started(OperationHandle),
    /// One of this kind and target runs already, and nothing was begun.
    Running(Operation),
}

/// All operations. Clones are the same.
#[derive(Clone)]
pub struct Operations(Arc<Inner>);

struct Inner {
    /// Those that run are also found by what only one of them may be.
    kept: Store<OperationId, Kept, Exclusive>,
    /// How many have begun. Held while one begins, so that it is decided once.
    begun: OrderedMutex<u64>,
    /// How many have ended.
    ended: AtomicU64,
    /// Told whenever one ends.
    told: watch::Sender<()>,
    /// Cancels every operation, for good.
    cancel_all: CancellationToken,
    limits: Limits,
    clock: Clock,
}

/// Kind and target.
type Exclusive = (Cow<'static, str>, Option<String>);

#[derive(Clone)]
struct Kept {
    operation: Operation,
    /// How many had begun with it.
    begun: u64,
    /// How many had ended with it; 0 while it runs.
    ended: u64,
    cancel: CancellationToken,
    result: Option<Arc<[u8]>>,
}

impl PartialEq for Kept {
    /// The rest never changes, or not without the operation.
    fn eq(&self, other: &Self) -> bool {
        self.operation == other.operation
    }
}

impl Kept {
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
    /// No operations yet.
    #[must_use]
    pub fn new(limits: Limits, clock: Clock) -> Self {
        Self(Arc::new(Inner {
            kept: Store::indexed(Kept::exclusive),
            begun: OrderedMutex::new(BEGIN, 0),
            ended: AtomicU64::new(0),
            told: watch::Sender::new(()),
            cancel_all: CancellationToken::new(),
            limits,
            clock,
        }))
    }

    /// Begins an operation, unless one of this kind and target runs: of callers at once, one starts
    /// it. `kind` becomes part of the id: lower-case letters, digits and `-`.
    pub fn begin(&self, kind: &'static str, target: Option<&str>) -> Begun {
        let exclusive = (Cow::Borrowed(kind), target.map(str::to_owned));
        self.prune();
        let mut begun = self.0.begun.lock();
        if let [running, ..] = &self.0.kept.snapshot_of(&exclusive).values[..] {
            return Begun::Running(running.show());
        }
        *begun += 1;
        let started_at = (self.0.clock)();
        let id = OperationId::new(kind, started_at, *begun);
        let cancel = self.0.cancel_all.child_token();
        let (kind, target) = exclusive;
        let kept = Kept {
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
        self.0.kept.upsert(id.clone(), kept);
        Begun::Started(OperationHandle {
            operations: self.clone(),
            id,
            cancel,
            ended: false,
        })
    }

    /// All operations that are kept, the newest first.
    #[must_use]
    pub fn list(&self) -> Vec<Operation> {
        self.prune();
        let mut kept = self.0.kept.snapshot().values;
        kept.sort_unstable_by_key(|kept| Reverse(kept.begun));
        kept.iter().map(|kept| kept.show()).collect()
    }

    /// One operation as it is now.
    ///
    /// # Errors
    /// When there is none of this id.
    pub fn show(&self, id: &str) -> Result<Operation, OperationError> {
        self.find(id).map(|kept| kept.show())
    }

    /// What an operation came to.
    ///
    /// # Errors
    /// When there is none of this id, when it runs, and when it has no result.
    pub fn result(&self, id: &str) -> Result<Arc<[u8]>, OperationError> {
        let kept = self.find(id)?;
        match (&kept.result, kept.operation.state) {
            (Some(result), _) => Ok(Arc::clone(result)),
            (None, OperationState::Running) => Err(OperationError::Running {
                id: kept.operation.id.clone(),
            }),
            (None, state) => Err(OperationError::NoResult {
                id: kept.operation.id.clone(),
                state,
            }),
        }
    }

    /// Tells an operation to stop, which it then does within a second; it runs until then. Once more
    /// does nothing more.
    ///
    /// # Errors
    /// When there is none of this id, and when it has ended.
    pub fn cancel(&self, id: &str) -> Result<Operation, OperationError> {
        let kept = self.find(id)?;
        if kept.operation.state != OperationState::Running {
            return Err(OperationError::AlreadyFinished {
                id: kept.operation.id.clone(),
                state: kept.operation.state,
            });
        }
        kept.cancel.cancel();
        Ok(kept.show())
    }

    /// Tells every operation to stop, and every one that begins from now on: for the end of the
    /// program.
    pub fn cancel_all(&self) {
        self.0.cancel_all.cancel();
    }

    /// Waits until an operation has ended. Dropping the future changes nothing.
    ///
    /// # Errors
    /// When there is none of this id.
    pub async fn finished(&self, id: &str) -> Result<Operation, OperationError> {
        let mut told = self.0.told.subscribe();
        loop {
            let operation = self.show(id)?;
            if operation.state != OperationState::Running {
                return Ok(operation);
            }
            // The sender is `self`'s, so the channel cannot close meanwhile.
            let _ = told.changed().await;
        }
    }

    fn find(&self, id: &str) -> Result<Arc<Kept>, OperationError> {
        let id: OperationId = id.parse()?;
        self.0.kept.get(&id).ok_or(OperationError::NotFound { id })
    }

    /// Forgets of those that have ended what passes the limits, the oldest end first.
    fn prune(&self) {
        let mut ended: Vec<_> = self.0.kept.snapshot().values;
        ended.retain(|kept| kept.operation.finished_at.is_some());
        ended.sort_unstable_by_key(|kept| Reverse(kept.ended));
        let (limits, now) = (self.0.limits, (self.0.clock)());
        let (mut number, mut bytes) = (0, 0);
        for kept in ended {
            let finished_at = kept.operation.finished_at.unwrap_or(now);
            let size = kept.result.as_ref().map_or(0, |result| result.len());
            let fits = size == 0 || bytes == 0 || bytes + size <= limits.result_bytes;
            if number < limits.number && fits && now.duration_since(finished_at) <= limits.age {
                number += 1;
                bytes += size;
            } else {
                self.0.kept.remove(&kept.operation.id);
            }
        }
    }
}

/// The side of an operation that does the work. Dropped without an end, the operation was cancelled if
/// that was asked for, and else has failed.
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
    /// The id.
    #[must_use]
    pub fn id(&self) -> &OperationId {
        &self.id
    }

    /// Says how far it is: `done` of `total`.
    pub fn progress(&self, done: u64, total: u64) {
        self.change(|kept| kept.operation.progress = Progress { done, total });
    }

    /// Says how many of something there are by now.
    pub fn count(&self, name: &'static str, number: u64) {
        self.change(|kept| {
            kept.operation.counts.insert(Cow::Borrowed(name), number);
        });
    }

    /// Waits until it is told to stop. It must do so within a second: by dropping what it does at an
    /// await, or by leaving its loop.
    pub async fn cancelled(&self) {
        self.cancel.cancelled().await;
    }

    /// Whether it is told to stop.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.cancel.is_cancelled()
    }

    /// It has done its work, and this is what it came to.
    pub fn succeed(mut self, message: &str, result: Option<Arc<[u8]>>) {
        self.end(OperationState::Succeeded, message, result);
    }

    /// It could not do its work.
    pub fn fail(mut self, message: &str) {
        self.end(OperationState::Failed, message, None);
    }

    /// It has stopped because it was told to.
    pub fn stopped(mut self, message: &str) {
        self.end(OperationState::Cancelled, message, None);
    }

    fn end(&mut self, state: OperationState, message: &str, result: Option<Arc<[u8]>>) {
        self.ended = true;
        let inner = &self.operations.0;
        // Nobody else has the handle now, so nothing changes the operation meanwhile.
        if let Some(kept) = inner.kept.get(&self.id) {
            let next = Kept {
                operation: Operation {
                    state,
                    message: Some(capped(message, MESSAGE_LIMIT)),
                    finished_at: Some((inner.clock)()),
                    result_size: result.as_ref().map(|result| result.len()),
                    ..kept.operation.clone()
                },
                ended: inner.ended.fetch_add(1, Ordering::Relaxed) + 1,
                result,
                ..Kept::clone(&kept)
            };
            inner.kept.upsert(self.id.clone(), next);
        }
        inner.told.send_replace(());
        self.operations.prune();
    }

    fn change(&self, change: impl Fn(&mut Kept)) {
        self.operations.0.kept.update(&self.id, |kept| {
            let mut next = kept.clone();
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
