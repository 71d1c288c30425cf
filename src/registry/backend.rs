//! Storage for node states, behind one trait.
//!
//! For each key a backend holds a *value*, the result of the last evaluation, in memory only, and
//! *metadata*, opaque bytes that a durable backend restores after a restart because no evaluation can
//! recompute them. There are two backends: [`memory`], and [`mod@file`], which adds a file to it.
//! Nothing here knows what a node is.
//!
//! Only [`StateBackend::init`] and [`StateBackend::flush`] wait for a disk.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::store::{Change, Counter, Snapshot};

pub use error::BackendError;

mod error;
pub mod file;
pub mod memory;

/// Longest key, in bytes: the longest name that Kubernetes allows.
pub const MAX_KEY: usize = 253;

/// Maximum metadata size of one key, in bytes. Sixteen phase changes with messages take about 2 KiB; 30
/// times that is a bug in the caller, and every change writes all of it.
pub const MAX_METADATA: usize = 64 * 1024;

/// Opaque bytes that belong to a key. Cheap to clone.
#[derive(Clone, PartialEq, Eq)]
pub struct Metadata(Arc<[u8]>);

impl Metadata {
    /// Wraps `bytes`. A backend accepts up to [`MAX_METADATA`] of them.
    #[must_use]
    pub fn new(bytes: impl Into<Arc<[u8]>>) -> Self {
        Self(bytes.into())
    }

    /// Returns the bytes unchanged.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Metadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Metadata({} bytes)", self.0.len())
    }
}

/// The result of opening a backend.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Opened {
    /// Number of keys whose metadata was restored.
    pub restored: usize,
    /// The quarantined file, if it was damaged. Reported once per file, however many backends share it.
    pub quarantined: Option<Quarantined>,
}

/// A damaged file that was renamed to make room for a new one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quarantined {
    /// Its new path.
    pub path: PathBuf,
    /// What is wrong with it.
    pub why: String,
}

/// Stores values and metadata by key, and finds values by a secondary index.
///
/// Every operation that takes a key may return [`BackendError::InvalidKey`]. Every operation except
/// `init` and `counter` returns [`BackendError::Unavailable`] until `init` has succeeded. An operation
/// that returns an error has changed nothing.
pub trait StateBackend<V, I>: Send + Sync {
    /// Opens the backend and restores the persisted metadata. Call it first, and again if it fails, but
    /// not after it has succeeded.
    ///
    /// # Errors
    ///
    /// An error that the user has to fix; its message contains the remedy.
    fn init(&self) -> Result<Opened, BackendError>;

    /// Stores the value of a new key. Metadata restored for the key stays.
    ///
    /// # Errors
    ///
    /// [`BackendError::AlreadyExists`].
    fn register(&self, key: &Arc<str>, value: V) -> Result<(), BackendError>;

    /// Replaces the value of a registered key; an equal value changes nothing.
    ///
    /// # Errors
    ///
    /// [`BackendError::NotFound`].
    fn update(&self, key: &Arc<str>, value: V) -> Result<Change<V>, BackendError>;

    /// Returns the value of a key.
    ///
    /// # Errors
    ///
    /// See the trait.
    fn lookup(&self, key: &Arc<str>) -> Result<Option<Arc<V>>, BackendError>;

    /// Removes a key and its metadata, and returns its value.
    ///
    /// # Errors
    ///
    /// [`BackendError::NotFound`].
    fn unregister(&self, key: &Arc<str>) -> Result<Arc<V>, BackendError>;

    /// Removes all keys for which `is_gone` holds, as `unregister` does, and returns their values
    /// ordered by key. Readers see all of the removals or none, and no other change happens meanwhile.
    /// `is_gone` may read this backend, but must not change it or take a lock of its rank or lower.
    ///
    /// # Errors
    ///
    /// See the trait.
    fn evict(&self, is_gone: &dyn Fn(&Arc<str>, &V) -> bool) -> Result<Vec<Arc<V>>, BackendError>;

    /// Returns all values, ordered by key, from one generation.
    ///
    /// # Errors
    ///
    /// See the trait.
    fn list(&self) -> Result<Snapshot<V>, BackendError>;

    /// Returns all values of one index, ordered by key, from one generation.
    ///
    /// # Errors
    ///
    /// See the trait.
    fn list_by(&self, index: &I) -> Result<Snapshot<V>, BackendError>;

    /// Returns every index that has a value, in no particular order.
    ///
    /// # Errors
    ///
    /// See the trait.
    fn indices(&self) -> Result<Vec<I>, BackendError>;

    /// Returns the metadata of a key, also if it was restored and the key is not registered yet.
    ///
    /// # Errors
    ///
    /// See the trait.
    fn metadata(&self, key: &Arc<str>) -> Result<Option<Metadata>, BackendError>;

    /// Replaces the metadata of a registered key.
    ///
    /// # Errors
    ///
    /// [`BackendError::NotFound`], or [`BackendError::InvalidMetadata`].
    fn update_metadata(&self, key: &Arc<str>, metadata: Metadata) -> Result<(), BackendError>;

    /// Removes the metadata of all unregistered keys and returns their number. Call it after a complete
    /// list.
    ///
    /// # Errors
    ///
    /// See the trait.
    fn forget_unregistered(&self) -> Result<usize, BackendError>;

    /// Returns a counter of the registered keys.
    fn counter(&self) -> Counter;

    /// Checks whether the stored metadata will survive a restart.
    ///
    /// # Errors
    ///
    /// [`BackendError::Unavailable`] with the cause, [`BackendError::Timeout`], or
    /// [`BackendError::Corrupt`]. All other operations still work in memory.
    fn health_check(&self) -> Result<(), BackendError>;

    /// Blocks the thread until all earlier changes are durable. For shutdown and tests.
    ///
    /// # Errors
    ///
    /// [`BackendError::Timeout`] after `within`, or the errors of `health_check`.
    fn flush(&self, within: Duration) -> Result<(), BackendError>;
}

/// Checks that the key is valid.
fn check_key(key: &str) -> Result<(), BackendError> {
    let why = if key.is_empty() {
        "it is empty".to_owned()
    } else if key.len() > MAX_KEY {
        let start = &key[..key.floor_char_boundary(40)];
        format!(
            "it has {} bytes, at most {MAX_KEY} are allowed, and it begins with {start:?}",
            key.len()
        )
    } else {
        return Ok(());
    };
    Err(BackendError::InvalidKey { why })
}

#[cfg(test)]
mod conformance;
