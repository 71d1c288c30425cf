//! The backend whose metadata survives a restart, however the process ended.
//!
//! ```text
//!  every operation ──► MemoryBackend          answers immediately
//!                          │ key whose metadata changed
//!                          ▼
//!                       Backlog               dirty keys of all tables; writer health
//!                          │ at most every second, or on flush
//!                          ▼
//!                    one thread ──► Disk      one commit: all of it, or nothing
//! ```
//!
//! One file has a table for each backend. Memory is the source of truth: the disk follows within about
//! a second, and while it cannot be written, operations continue in memory. A kill loses at most that
//! second, and never flushed data. Values are not written, because they are evaluated again. Reads
//! never use the file.

use std::collections::HashMap;
use std::hash::Hash;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use self::backlog::{Backlog, Pace};
use self::disk::{Location, Table};
use super::memory::{MemoryBackend, MetadataStore};
use super::{BackendError, Metadata, Opened, Quarantined, StateBackend};
use crate::registry::lock_order::{OrderedMutex, Rank};
use crate::registry::store::{Change, Counter, Snapshot};

mod backlog;
mod disk;
mod writer;

/// Held while the file is opened. Code holding it waits only for the writer.
const RANK: Rank = Rank::new(u8::MAX - 2, "state file");

/// A state file. Clones share it; dropping the last of them, backends included, writes the dirty keys
/// and closes the file.
#[derive(Clone)]
pub struct Database(Arc<Inner>);

struct Inner {
    location: Arc<Location>,
    backlog: Arc<Backlog>,
    opening: OrderedMutex<Option<Opening>>,
}

/// The remaining results of opening the file.
struct Opening {
    writer: JoinHandle<()>,
    /// Tables that no backend has claimed yet.
    tables: HashMap<String, Table>,
    quarantined: Option<Quarantined>,
}

impl Database {
    /// A file at this path, opened or created by the first backend that is initialized.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self::with(Location::file(path.into()), Pace::default())
    }

    fn with(location: Location, pace: Pace) -> Self {
        let backlog = Backlog::new(location.path().to_owned(), pace);
        Self(Arc::new(Inner {
            location: Arc::new(location),
            backlog: Arc::new(backlog),
            opening: OrderedMutex::new(RANK, None),
        }))
    }

    /// Creates a backend stored in the table `name`, which must be unique and not "meta". Its values
    /// are indexed by `index_of`.
    #[must_use]
    pub fn table<V, I>(
        &self,
        name: &'static str,
        index_of: fn(&V) -> Option<I>,
    ) -> FileBackend<V, I>
    where
        I: Clone + Eq + Hash,
    {
        let metadata = MetadataStore::default();
        let backlog = Arc::clone(&self.0.backlog);
        let table = backlog.add_table(name, Arc::clone(&metadata));
        FileBackend {
            memory: MemoryBackend::observed(index_of, Arc::clone(&metadata), move |key| {
                backlog.mark(table, key);
            }),
            metadata,
            name,
            database: self.clone(),
        }
    }
}

impl Inner {
    /// Takes a table's content, opening the file first if necessary.
    fn claim(&self, name: &str) -> Result<(Table, Option<Quarantined>), BackendError> {
        let mut opening = self.opening.lock();
        let opening = match &mut *opening {
            Some(opening) => opening,
            none => none.insert(self.open()?),
        };
        let table = opening.tables.remove(name).unwrap_or_default();
        Ok((table, opening.quarantined.take()))
    }

    fn open(&self) -> Result<Opening, BackendError> {
        let (found, quarantined) = self.location.open_or_quarantine()?;
        let (location, backlog) = (Arc::clone(&self.location), Arc::clone(&self.backlog));
        let writer = writer::start(location, found.disk, backlog).map_err(|error| {
            BackendError::Unavailable {
                why: format!("the thread that writes the state cannot be started: {error}"),
            }
        })?;
        Ok(Opening {
            writer,
            tables: found.tables,
            quarantined,
        })
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // A writer that hangs on the disk is abandoned, so that the process can end.
        if let Some(opening) = self.opening.lock().take()
            && self.backlog.stop()
        {
            // It has ended; a panic was already reported by the panic hook.
            let _ = opening.writer.join();
        }
    }
}

/// Persists metadata in a table of a state file, and stores everything in memory.
pub struct FileBackend<V, I = ()> {
    memory: MemoryBackend<V, I>,
    metadata: MetadataStore,
    name: &'static str,
    database: Database,
}

impl<V, I> StateBackend<V, I> for FileBackend<V, I>
where
    V: PartialEq + Send + Sync,
    I: Clone + Eq + Hash + Send + Sync,
{
    fn init(&self) -> Result<Opened, BackendError> {
        let (table, quarantined) = self.database.0.claim(self.name)?;
        let restored = table.len();
        for (key, metadata) in table {
            self.metadata.upsert(key, metadata);
        }
        self.memory.init()?;
        Ok(Opened {
            restored,
            quarantined,
        })
    }

    fn register(&self, key: &Arc<str>, value: V) -> Result<(), BackendError> {
        self.memory.register(key, value)
    }

    fn update(&self, key: &Arc<str>, value: V) -> Result<Change<V>, BackendError> {
        self.memory.update(key, value)
    }

    fn lookup(&self, key: &Arc<str>) -> Result<Option<Arc<V>>, BackendError> {
        self.memory.lookup(key)
    }

    fn unregister(&self, key: &Arc<str>) -> Result<Arc<V>, BackendError> {
        self.memory.unregister(key)
    }

    fn evict(&self, is_gone: &dyn Fn(&Arc<str>, &V) -> bool) -> Result<Vec<Arc<V>>, BackendError> {
        self.memory.evict(is_gone)
    }

    fn list(&self) -> Result<Snapshot<V>, BackendError> {
        self.memory.list()
    }

    fn list_by(&self, index: &I) -> Result<Snapshot<V>, BackendError> {
        self.memory.list_by(index)
    }

    fn indices(&self) -> Result<Vec<I>, BackendError> {
        self.memory.indices()
    }

    fn metadata(&self, key: &Arc<str>) -> Result<Option<Metadata>, BackendError> {
        self.memory.metadata(key)
    }

    fn update_metadata(&self, key: &Arc<str>, metadata: Metadata) -> Result<(), BackendError> {
        self.memory.update_metadata(key, metadata)
    }

    fn forget_unregistered(&self) -> Result<usize, BackendError> {
        self.memory.forget_unregistered()
    }

    fn counter(&self) -> Counter {
        self.memory.counter()
    }

    fn health_check(&self) -> Result<(), BackendError> {
        self.memory.health_check()?;
        self.database.0.backlog.health()
    }

    fn flush(&self, within: Duration) -> Result<(), BackendError> {
        self.memory.flush(within)?;
        self.database.0.backlog.flush(within)
    }
}

#[cfg(test)]
mod tests;
