//! The default backend, which loses everything when the process ends.
//!
//! Owns two stores, for values and for metadata. Their readers never wait for each other. Changes are
//! serialized, so that removing a key also removes metadata that is being written concurrently. There
//! is no joint snapshot of values *and* metadata, because no caller reads them together.

use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::{BackendError, MAX_METADATA, Metadata, Opened, StateBackend, check_key};
use crate::registry::lock_order::{OrderedMutex, Rank};
use crate::registry::store::{Change, Counter, Snapshot, Store};

/// Taken before the locks of the stores, which are leaves, and after all others.
const RANK: Rank = Rank::new(u8::MAX - 1, "backend");

/// Metadata by key, shared with the backend that persists it.
pub(super) type MetadataStore = Arc<Store<Arc<str>, Metadata>>;

/// Called with a key whenever its metadata was changed or removed.
type OnMetadata = Box<dyn Fn(&Arc<str>) + Send + Sync>;

/// Stores everything in memory.
pub struct MemoryBackend<V, I = ()> {
    values: Store<Arc<str>, V, I>,
    metadata: MetadataStore,
    changes: OrderedMutex<()>,
    is_open: AtomicBool,
    on_metadata: OnMetadata,
}

impl<V, I: Clone + Eq + Hash> MemoryBackend<V, I> {
    /// Creates an empty backend whose values are indexed by `index_of`.
    #[must_use]
    pub fn new(index_of: fn(&V) -> Option<I>) -> Self {
        Self::observed(index_of, MetadataStore::default(), |_| {})
    }

    /// Creates a backend with this metadata, which calls `on_metadata` for every key whose metadata has
    /// changed.
    pub(super) fn observed(
        index_of: fn(&V) -> Option<I>,
        metadata: MetadataStore,
        on_metadata: impl Fn(&Arc<str>) + Send + Sync + 'static,
    ) -> Self {
        Self {
            values: Store::indexed(index_of),
            metadata,
            changes: OrderedMutex::new(RANK, ()),
            is_open: AtomicBool::new(false),
            on_metadata: Box::new(on_metadata),
        }
    }

    fn check_open(&self) -> Result<(), BackendError> {
        if self.is_open.load(Ordering::Acquire) {
            return Ok(());
        }
        Err(BackendError::Unavailable {
            why: "the backend was not opened".to_owned(),
        })
    }

    fn check(&self, key: &str) -> Result<(), BackendError> {
        self.check_open()?;
        check_key(key)
    }

    fn forget_metadata(&self, key: &Arc<str>) {
        if self.metadata.remove(key).is_some() {
            (self.on_metadata)(key);
        }
    }
}

impl<V, I> StateBackend<V, I> for MemoryBackend<V, I>
where
    V: PartialEq + Send + Sync,
    I: Clone + Eq + Hash + Send + Sync,
{
    fn init(&self) -> Result<Opened, BackendError> {
        if self.is_open.swap(true, Ordering::AcqRel) {
            return Err(BackendError::Unavailable {
                why: "the backend is open already".to_owned(),
            });
        }
        Ok(Opened::default())
    }

    fn register(&self, key: &Arc<str>, value: V) -> Result<(), BackendError> {
        self.check(key)?;
        let _changing = self.changes.lock();
        let (_, is_new) = self.values.get_or_insert(Arc::clone(key), value);
        if is_new {
            return Ok(());
        }
        Err(BackendError::AlreadyExists {
            key: Arc::clone(key),
        })
    }

    fn update(&self, key: &Arc<str>, value: V) -> Result<Change<V>, BackendError> {
        self.check(key)?;
        let _changing = self.changes.lock();
        if !self.values.contains(key) {
            return Err(not_found(key));
        }
        Ok(self.values.upsert(Arc::clone(key), value))
    }

    fn lookup(&self, key: &Arc<str>) -> Result<Option<Arc<V>>, BackendError> {
        self.check(key)?;
        Ok(self.values.get(key))
    }

    fn unregister(&self, key: &Arc<str>) -> Result<Arc<V>, BackendError> {
        self.check(key)?;
        let _changing = self.changes.lock();
        let value = self.values.remove(key).ok_or_else(|| not_found(key))?;
        self.forget_metadata(key);
        Ok(value)
    }

    fn evict(&self, is_gone: &dyn Fn(&Arc<str>, &V) -> bool) -> Result<Vec<Arc<V>>, BackendError> {
        self.check_open()?;
        let _changing = self.changes.lock();
        let gone = self.values.evict_where(is_gone);
        let values = gone.into_iter().map(|(key, value)| {
            self.forget_metadata(&key);
            value
        });
        Ok(values.collect())
    }

    fn list(&self) -> Result<Snapshot<V>, BackendError> {
        self.check_open()?;
        Ok(self.values.snapshot())
    }

    fn list_by(&self, index: &I) -> Result<Snapshot<V>, BackendError> {
        self.check_open()?;
        Ok(self.values.snapshot_of(index))
    }

    fn indices(&self) -> Result<Vec<I>, BackendError> {
        self.check_open()?;
        Ok(self.values.indices())
    }

    fn metadata(&self, key: &Arc<str>) -> Result<Option<Metadata>, BackendError> {
        self.check(key)?;
        Ok(self.metadata.get(key).map(|metadata| (*metadata).clone()))
    }

    fn update_metadata(&self, key: &Arc<str>, metadata: Metadata) -> Result<(), BackendError> {
        self.check(key)?;
        let size = metadata.bytes().len();
        if size > MAX_METADATA {
            return Err(BackendError::InvalidMetadata {
                key: Arc::clone(key),
                size,
                limit: MAX_METADATA,
            });
        }
        let _changing = self.changes.lock();
        if !self.values.contains(key) {
            return Err(not_found(key));
        }
        if self.metadata.upsert(Arc::clone(key), metadata) != Change::Unchanged {
            (self.on_metadata)(key);
        }
        Ok(())
    }

    fn forget_unregistered(&self) -> Result<usize, BackendError> {
        self.check_open()?;
        let _changing = self.changes.lock();
        let gone = self
            .metadata
            .evict_where(|key, _| !self.values.contains(key));
        for (key, _) in &gone {
            (self.on_metadata)(key);
        }
        Ok(gone.len())
    }

    fn counter(&self) -> Counter {
        self.values.counter()
    }

    fn health_check(&self) -> Result<(), BackendError> {
        self.check_open()
    }

    fn flush(&self, _within: Duration) -> Result<(), BackendError> {
        self.check_open()
    }
}

fn not_found(key: &Arc<str>) -> BackendError {
    BackendError::NotFound {
        key: Arc::clone(key),
    }
}
