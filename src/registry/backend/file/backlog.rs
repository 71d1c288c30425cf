//! What is in memory and not yet on the disk, and how writing goes.
//!
//! Keys, never metadata: whoever writes reads the newest, so a key that changes often is written once.
//! A key is clean once a commit that began after its last mark has succeeded; a commit that fails makes
//! its keys dirty again. The lock is a leaf and is held for moments: nobody waits for the disk with it.

use std::collections::BTreeSet;
use std::mem;
use std::ops::{Deref, DerefMut};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::super::BackendError;
use super::super::memory::MetadataStore;
use super::disk::Rows;
use crate::registry::lock_order::{Held, Rank};

/// How fast the file follows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// How long keys are gathered before they are written: what a kill loses at most, beside one
    /// commit. A commit waits for the disk for some 10 ms, whatever its size: 1 % of the time.
    pub(super) gather: Duration,
    /// The first delay after a commit that failed; each further one is twice as long.
    pub(super) first_retry: Duration,
    /// The longest delay: how long a disk that has room again goes unnoticed.
    pub(super) last_retry: Duration,
    /// How long a commit may take until health says that it hangs: far more than a busy disk needs.
    pub(super) stalled: Duration,
    /// How long dropping the last handle waits for the last commit. Who cares for more calls `flush`.
    pub(super) close: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            gather: Duration::from_secs(1),
            first_retry: Duration::from_secs(1),
            last_retry: Duration::from_secs(30),
            stalled: Duration::from_secs(10),
            close: Duration::from_secs(2),
        }
    }
}

/// What is not yet on the disk.
pub(super) struct Backlog {
    path: PathBuf,
    pace: Pace,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    tables: Vec<Table>,
    /// Marks so far.
    marked: u64,
    /// Of these, the first so many are on the disk.
    durable: u64,
    /// When the first key became dirty that is still so.
    since: Option<Instant>,
    /// Somebody waits for the next commit.
    is_urgent: bool,
    /// Since when the disk is busy.
    busy: Option<Instant>,
    failure: Option<Failure>,
    failures: u64,
    is_stopping: bool,
    /// A writer is there.
    is_running: bool,
}

struct Table {
    name: &'static str,
    metadata: MetadataStore,
    /// In their order, in which the file takes them several times faster.
    dirty: BTreeSet<Arc<str>>,
}

struct Failure {
    error: BackendError,
    retry_in: Duration,
    retry_at: Instant,
}

/// Keys that are being written.
pub(super) struct Batch {
    up_to: u64,
    /// Of each table, in their order.
    keys: Vec<BTreeSet<Arc<str>>>,
}

/// Which table a key is of.
#[derive(Debug, Clone, Copy)]
pub(super) struct TableId(usize);

impl Backlog {
    /// With nothing in it; `path` is for messages.
    pub(super) fn new(path: PathBuf, pace: Pace) -> Self {
        Self {
            path,
            pace,
            state: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    /// Adds a table, whose metadata is read from there when it is written.
    pub(super) fn add_table(&self, name: &'static str, metadata: MetadataStore) -> TableId {
        let mut state = self.lock();
        state.tables.push(Table {
            name,
            metadata,
            dirty: BTreeSet::new(),
        });
        TableId(state.tables.len() - 1)
    }

    /// The metadata of a key is not what is on the disk any more.
    pub(super) fn mark(&self, table: TableId, key: &Arc<str>) {
        let mut state = self.lock();
        state.tables[table.0].dirty.insert(Arc::clone(key));
        state.marked += 1;
        self.wake_for(&mut state);
    }

    /// The disk has nothing of what is in memory.
    pub(super) fn mark_everything(&self) {
        let tables = self.tables().into_iter();
        let keys: Vec<_> = tables.map(|(_, metadata)| metadata.keys()).collect();
        let mut state = self.lock();
        for (table, keys) in state.tables.iter_mut().zip(keys) {
            table.dirty.extend(keys);
        }
        state.marked += 1;
        self.wake_for(&mut state);
    }

    fn wake_for(&self, state: &mut State) {
        if state.since.is_none() {
            state.since = Some(Instant::now());
            self.changed.notify_all();
        }
    }

    /// Waits until it is time to write; the disk counts as busy from then on. `false` when there is
    /// nothing more to do.
    pub(super) fn wait_until_due(&self) -> bool {
        let mut state = self.lock();
        loop {
            let due = state.since.map(|since| match &state.failure {
                Some(failure) => failure.retry_at,
                None => since + self.pace.gather,
            });
            let now = Instant::now();
            state = match due {
                None if state.is_stopping => return false,
                None => self.wait(state, Duration::MAX),
                Some(due) if due > now && !state.is_urgent && !state.is_stopping => {
                    self.wait(state, due - now)
                }
                Some(_) => {
                    state.busy = Some(now);
                    return true;
                }
            };
        }
    }

    /// Takes what is dirty.
    pub(super) fn take(&self) -> Batch {
        let mut state = self.lock();
        state.since = None;
        state.is_urgent = false;
        Batch {
            up_to: state.marked,
            keys: state
                .tables
                .iter_mut()
                .map(|table| mem::take(&mut table.dirty))
                .collect(),
        }
    }

    /// The newest metadata of what was taken.
    pub(super) fn rows(&self, batch: &Batch) -> Vec<(&'static str, Rows)> {
        let tables = self.tables().into_iter().zip(&batch.keys);
        let rows = tables.map(|((name, metadata), keys)| {
            let newest = |key| metadata.get(key).map(|metadata| (*metadata).clone());
            let rows = keys.iter().map(|key| (Arc::clone(key), newest(key)));
            (name, rows.collect())
        });
        rows.collect()
    }

    /// What was taken is durable.
    pub(super) fn succeeded(&self, batch: &Batch) {
        let mut state = self.lock();
        state.busy = None;
        state.failure = None;
        state.durable = batch.up_to;
        self.changed.notify_all();
    }

    /// The disk cannot be written now; what was taken, if anything, is dirty again. `false` when there
    /// is no time for another attempt.
    pub(super) fn failed(&self, batch: Option<Batch>, error: BackendError) -> bool {
        let mut state = self.lock();
        let now = Instant::now();
        let retry_in = state
            .failure
            .as_ref()
            .map_or(self.pace.first_retry, |last| {
                (2 * last.retry_in).min(self.pace.last_retry)
            });
        state.failure = Some(Failure {
            error,
            retry_in,
            retry_at: now + retry_in,
        });
        state.failures += 1;
        state.busy = None;
        state.is_urgent = false;
        for (table, keys) in state
            .tables
            .iter_mut()
            .zip(batch.into_iter().flat_map(|batch| batch.keys))
        {
            table.dirty.extend(keys);
        }
        state.since.get_or_insert(now);
        self.changed.notify_all();
        !state.is_stopping
    }

    /// Waits until everything that was marked before is durable.
    pub(super) fn flush(&self, within: Duration) -> Result<(), BackendError> {
        let begin = Instant::now();
        let mut state = self.lock();
        let (target, failures) = (state.marked, state.failures);
        while state.durable < target {
            if !state.is_running {
                return Err(self.no_writer());
            }
            if state.failures > failures
                && let Some(failure) = &state.failure
            {
                return Err(failure.error.clone());
            }
            let left = within.saturating_sub(begin.elapsed());
            if left.is_zero() {
                return Err(self.timeout(within));
            }
            // Not each time, else two that wait would wake each other for ever.
            if !mem::replace(&mut state.is_urgent, true) {
                self.changed.notify_all();
            }
            state = self.wait(state, left);
        }
        Ok(())
    }

    /// Whether what is in memory gets to the disk.
    pub(super) fn health(&self) -> Result<(), BackendError> {
        let state = self.lock();
        if !state.is_running {
            return Err(self.no_writer());
        }
        if state
            .busy
            .is_some_and(|since| since.elapsed() > self.pace.stalled)
        {
            return Err(self.timeout(self.pace.stalled));
        }
        match &state.failure {
            Some(failure) => Err(failure.error.clone()),
            None => Ok(()),
        }
    }

    /// A writer begins.
    pub(super) fn begin(&self) {
        self.lock().is_running = true;
    }

    /// The writer is at its end.
    pub(super) fn end(&self) {
        self.lock().is_running = false;
        self.changed.notify_all();
    }

    /// Tells the writer to write what is dirty, once, and to end; whether it did in time.
    pub(super) fn stop(&self) -> bool {
        let begin = Instant::now();
        let mut state = self.lock();
        state.is_stopping = true;
        self.changed.notify_all();
        while state.is_running {
            let left = self.pace.close.saturating_sub(begin.elapsed());
            if left.is_zero() {
                return false;
            }
            state = self.wait(state, left);
        }
        true
    }

    fn tables(&self) -> Vec<(&'static str, MetadataStore)> {
        let state = self.lock();
        let tables = state.tables.iter();
        tables
            .map(|table| (table.name, Arc::clone(&table.metadata)))
            .collect()
    }

    fn timeout(&self, after: Duration) -> BackendError {
        BackendError::Timeout {
            what: format!("writing {}", self.path.display()),
            after,
        }
    }

    fn no_writer(&self) -> BackendError {
        BackendError::Unavailable {
            why: format!("nobody writes {} any more", self.path.display()),
        }
    }

    fn wait<'a>(&self, state: Locked<'a>, most: Duration) -> Locked<'a> {
        let Locked { guard, held } = state;
        let (guard, _) = self
            .changed
            .wait_timeout(guard, most)
            .unwrap_or_else(PoisonError::into_inner);
        Locked { guard, held }
    }

    fn lock(&self) -> Locked<'_> {
        let held = Held::acquire(Rank::LEAF);
        Locked {
            guard: self.state.lock().unwrap_or_else(PoisonError::into_inner),
            held,
        }
    }
}

/// The state, locked: what an ordered mutex gives, but for waiting.
struct Locked<'a> {
    guard: MutexGuard<'a, State>,
    held: Held,
}

impl Deref for Locked<'_> {
    type Target = State;

    fn deref(&self) -> &State {
        &self.guard
    }
}

impl DerefMut for Locked<'_> {
    fn deref_mut(&mut self) -> &mut State {
        &mut self.guard
    }
}

#[cfg(test)]
mod tests;
