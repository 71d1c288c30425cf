//! What can go wrong with a backend. Each message says what, where, and what to do about it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Why a backend did not do what it was asked to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BackendError {
    /// The key is not registered.
    #[error("{key:?} is not registered")]
    NotFound {
        /// The key.
        key: Arc<str>,
    },
    /// The key is registered.
    #[error("{key:?} is registered already")]
    AlreadyExists {
        /// The key.
        key: Arc<str>,
    },
    /// The backend cannot do it now, or cannot keep it for a restart.
    #[error("{why}")]
    Unavailable {
        /// What is not available, and the cause.
        why: String,
    },
    /// The backend did not come to an end with something.
    #[error("{what} takes longer than {} s: look whether the disk hangs", .after.as_secs_f64())]
    Timeout {
        /// With what.
        what: String,
        /// How long was waited.
        after: Duration,
    },
    /// No backend takes such a key.
    #[error("this key cannot be kept: {why}")]
    InvalidKey {
        /// What is wrong with it.
        why: String,
    },
    /// No backend takes so much metadata.
    #[error("the metadata of {key:?} has {size} bytes, {limit} are the most")]
    InvalidMetadata {
        /// Whose metadata.
        key: Arc<str>,
        /// How much it is, in bytes.
        size: usize,
        /// How much there may be.
        limit: usize,
    },
    /// The state file is damaged, and could not be set aside.
    #[error("{} is damaged: {why}: {remedy}; nothing but history is lost", .path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
        /// What to do.
        remedy: String,
    },
    /// Another process has the state file open.
    #[error("{} is open in another process: stop that one, or give this one another file", .path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// The state file cannot be opened where it is.
    #[error("{} cannot be opened: {why}: {remedy}", .path.display())]
    Inaccessible {
        /// The file.
        path: PathBuf,
        /// What the system says.
        why: String,
        /// What to do.
        remedy: &'static str,
    },
    /// The state file was written by a version that this one does not know.
    #[error(
        "{} holds {found}, and this version reads format {ours}: go back to the version that wrote \
         it, or remove or rename the file; nothing but history is lost",
        .path.display()
    )]
    UnknownFormat {
        /// The file.
        path: PathBuf,
        /// What it holds.
        found: String,
        /// The format of this version.
        ours: u64,
    },
}

impl BackendError {
    /// The kind of error, for metrics: one of a few words.
    #[must_use]
    pub fn category(&self) -> &'static str {
        match self {
            Self::NotFound { .. } => "not_found",
            Self::AlreadyExists { .. } => "already_exists",
            Self::Unavailable { .. } => "unavailable",
            Self::Timeout { .. } => "timeout",
            Self::InvalidKey { .. } => "invalid_key",
            Self::InvalidMetadata { .. } => "invalid_metadata",
            Self::Corrupt { .. } => "corrupt",
            Self::InUse { .. } => "in_use",
            Self::Inaccessible { .. } => "inaccessible",
            Self::UnknownFormat { .. } => "unknown_format",
        }
    }
}
