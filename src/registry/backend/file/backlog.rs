//! Changes that are in memory but not yet on the disk, and the writer's health.
//!
//! Stores keys, not metadata: the writer reads the newest metadata, so a key that changes often is
//! written once. A key is clean once a commit that began after its last mark has succeeded; a failed
//! commit makes its keys dirty again. The lock is a leaf, held only briefly and never while waiting for
//! the disk.

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

/// Delays and timeouts of the writer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// How long keys are gathered before a commit: with the commit itself, the most that a kill loses.
    /// A commit takes about 10 ms of disk time, whatever its size: 1 % of the time.
    pub(super) gather: Duration,
    /// The delay after the first failed commit; it doubles with each further one.
    pub(super) first_retry: Duration,
    /// The longest delay: how long freed disk space may go unnoticed.
    pub(super) last_retry: Duration,
    /// How long a commit may take before health reports a hang: far more than a busy disk needs.
    pub(super) stalled: Duration,
    /// How long dropping the last handle waits for the last commit. Call `flush` to wait longer.
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

/// The unwritten changes.
pub(super) struct Backlog {
    path: PathBuf,
    pace: Pace,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    tables: Vec<Table>,
    /// Number of marks so far.
    marked: u64,
    /// Number of marks that are on the disk.
    durable: u64,
    /// When the oldest dirty key became dirty.
    since: Option<Instant>,
    /// A caller waits for the next commit.
    is_urgent: bool,
    /// When the current disk access began.
    busy: Option<Instant>,
    failure: Option<Failure>,
    failures: u64,
    is_stopping: bool,
    /// The writer runs.
    is_running: bool,
}

struct Table {
    name: &'static str,
    metadata: MetadataStore,
    /// Ordered by key: the file takes ordered keys several times faster.
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
    /// By table, ordered by key.
    keys: Vec<BTreeSet<Arc<str>>>,
}

/// Identifies the table of a key.
#[derive(Debug, Clone, Copy)]
pub(super) struct TableId(usize);

impl Backlog {
    /// Creates an empty backlog; `path` is for messages.
    pub(super) fn new(path: PathBuf, pace: Pace) -> Self {
        Self {
            path,
            pace,
            state: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    /// Adds a table; its metadata is read from `metadata` when it is written.
    pub(super) fn add_table(&self, name: &'static str, metadata: MetadataStore) -> TableId {
        let mut state = self.lock();
        state.tables.push(Table {
            name,
            metadata,
            dirty: BTreeSet::new(),
        });
        TableId(state.tables.len() - 1)
    }

    /// Marks a key whose metadata differs from the disk.
    pub(super) fn mark(&self, table: TableId, key: &Arc<str>) {
        let mut state = self.lock();
        state.tables[table.0].dirty.insert(Arc::clone(key));
        state.marked += 1;
        self.wake_for(&mut state);
    }

    /// Marks every key.
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

    /// Waits until a write is due, and marks the disk as busy. Returns `false` when nothing is left to
    /// do.
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

    /// Takes the dirty keys.
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

    /// Returns the newest metadata of a batch.
    pub(super) fn rows(&self, batch: &Batch) -> Vec<(&'static str, Rows)> {
        let tables = self.tables().into_iter().zip(&batch.keys);
        let rows = tables.map(|((name, metadata), keys)| {
            let newest = |key| metadata.get(key).map(|metadata| (*metadata).clone());
            let rows = keys.iter().map(|key| (Arc::clone(key), newest(key)));
            (name, rows.collect())
        });
        rows.collect()
    }

    /// Records that a batch is durable.
    pub(super) fn succeeded(&self, batch: &Batch) {
        let mut state = self.lock();
        state.busy = None;
        state.failure = None;
        state.durable = batch.up_to;
        self.changed.notify_all();
    }

    /// Records a failure, and marks the batch, if any, as dirty again. Returns `false` when there is no
    /// time for another attempt.
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

    /// Waits until everything marked before is durable.
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
            // Only once, or two waiting callers would wake each other forever.
            if !mem::replace(&mut state.is_urgent, true) {
                self.changed.notify_all();
            }
            state = self.wait(state, left);
        }
        Ok(())
    }

    /// Checks that changes reach the disk.
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

    /// Records that the writer has started.
    pub(super) fn begin(&self) {
        self.lock().is_running = true;
    }

    /// Records that the writer has ended.
    pub(super) fn end(&self) {
        self.lock().is_running = false;
        self.changed.notify_all();
    }

    /// Requests one last write and the end of the writer. Returns whether it ended in time.
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
            why: format!("{} is no longer written", self.path.display()),
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

/// The locked state: like an ordered mutex guard, but can wait on a condition.
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
