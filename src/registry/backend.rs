//! Where states are kept, behind one trait.
//!
//! A backend holds for each key a *value*, which is what the last evaluation said and lives in memory
//! only, and *metadata*, opaque bytes that a durable backend brings back after a restart: what no
//! evaluation can find out anew. Two backends are real: [`memory`], and [`mod@file`], which is the same
//! memory with a file behind it. Nothing here knows what a node is.
//!
//! No operation but [`StateBackend::init`] and [`StateBackend::flush`] waits for a disk.

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

/// Most metadata of one key, in bytes. Sixteen phase changes with their texts take about 2 KiB:
/// thirty times that is a mistake of the caller, and it is written again with every change.
pub const MAX_METADATA: usize = 64 * 1024;

/// Opaque bytes that belong to a key. Cheap to clone.
#[derive(Clone, PartialEq, Eq)]
pub struct Metadata(Arc<[u8]>);

impl Metadata {
    /// These bytes. A backend takes up to [`MAX_METADATA`] of them.
    #[must_use]
    pub fn new(bytes: impl Into<Arc<[u8]>>) -> Self {
        Self(bytes.into())
    }

    /// The bytes, as they were given.
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

/// What opening a backend found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Opened {
    /// Keys whose metadata came back.
    pub restored: usize,
    /// A file that was damaged. It is told once, however many backends share the file.
    pub set_aside: Option<SetAside>,
}

/// A damaged file that was renamed, so that a fresh one could take its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetAside {
    /// Where it is now.
    pub path: PathBuf,
    /// What is wrong with it.
    pub why: String,
}

/// Keeps values and metadata by key, and finds values by a secondary index.
///
/// Every operation that takes a key may say [`BackendError::InvalidKey`], and every operation but
/// `init` and `counter` says [`BackendError::Unavailable`] before `init` has succeeded. One that says
/// an error has changed nothing.
pub trait StateBackend<V, I>: Send + Sync {
    /// Opens the backend: the metadata that was kept is there afterwards. To be called before anything
    /// else, and again if it fails, but not once it has succeeded.
    ///
    /// # Errors
    ///
    /// What the user has to mend, with the remedy in its message.
    fn init(&self) -> Result<Opened, BackendError>;

    /// Keeps the value of a key that has none yet. Metadata that came back for it stays.
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

    /// The value of a key.
    ///
    /// # Errors
    ///
    /// As said of the trait.
    fn lookup(&self, key: &Arc<str>) -> Result<Option<Arc<V>>, BackendError>;

    /// Forgets a key, with its metadata; what value it had.
    ///
    /// # Errors
    ///
    /// [`BackendError::NotFound`].
    fn unregister(&self, key: &Arc<str>) -> Result<Arc<V>, BackendError>;

    /// Forgets all keys that are gone, as `unregister` does; what values they had, ordered by key. No
    /// reader sees some of them gone and others not. Nobody else changes anything meanwhile: `is_gone`
    /// may read this backend, but neither changes it nor takes a lock of its rank or a lower one.
    ///
    /// # Errors
    ///
    /// As said of the trait.
    fn evict(&self, is_gone: &dyn Fn(&Arc<str>, &V) -> bool) -> Result<Vec<Arc<V>>, BackendError>;

    /// All values, ordered by key, from one generation.
    ///
    /// # Errors
    ///
    /// As said of the trait.
    fn list(&self) -> Result<Snapshot<V>, BackendError>;

    /// All values of one index, ordered by key, from one generation.
    ///
    /// # Errors
    ///
    /// As said of the trait.
    fn list_by(&self, index: &I) -> Result<Snapshot<V>, BackendError>;

    /// Every index that a value has, in no order.
    ///
    /// # Errors
    ///
    /// As said of the trait.
    fn indices(&self) -> Result<Vec<I>, BackendError>;

    /// The metadata of a key, also of one that came back and is not registered (yet).
    ///
    /// # Errors
    ///
    /// As said of the trait.
    fn metadata(&self, key: &Arc<str>) -> Result<Option<Metadata>, BackendError>;

    /// Replaces the metadata of a registered key.
    ///
    /// # Errors
    ///
    /// [`BackendError::NotFound`], or [`BackendError::InvalidMetadata`].
    fn update_metadata(&self, key: &Arc<str>, metadata: Metadata) -> Result<(), BackendError>;

    /// Forgets the metadata of every key that is not registered: for after a complete listing. How
    /// many there were.
    ///
    /// # Errors
    ///
    /// As said of the trait.
    fn forget_unregistered(&self) -> Result<usize, BackendError>;

    /// Counts the registered keys.
    fn counter(&self) -> Counter;

    /// Whether what is kept will be there after a restart.
    ///
    /// # Errors
    ///
    /// [`BackendError::Unavailable`] with the cause, [`BackendError::Timeout`], or
    /// [`BackendError::Corrupt`]. Every other operation goes on all the same, in memory.
    fn health_check(&self) -> Result<(), BackendError>;

    /// Everything that was done before is durable when this returns. Blocks the thread: for the end of
    /// the program and for tests.
    ///
    /// # Errors
    ///
    /// [`BackendError::Timeout`] after `within`, or what `health_check` says.
    fn flush(&self, within: Duration) -> Result<(), BackendError>;
}

/// Whether a backend takes this key.
fn check_key(key: &str) -> Result<(), BackendError> {
    let why = if key.is_empty() {
        "it is empty".to_owned()
    } else if key.len() > MAX_KEY {
        let start = &key[..key.floor_char_boundary(40)];
        format!(
            "it has {} bytes, {MAX_KEY} are the most, and begins with {start:?}",
            key.len()
        )
    } else {
        return Ok(());
    };
    Err(BackendError::InvalidKey { why })
}

#[cfg(test)]
mod conformance;
