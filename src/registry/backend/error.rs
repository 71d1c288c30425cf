//! Backend errors. Each message names the problem, the place and the remedy.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Why a backend operation failed.
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
    /// The operation is not possible now, or its result cannot be persisted.
    #[error("{why}")]
    Unavailable {
        /// What is unavailable, and why.
        why: String,
    },
    /// An operation did not finish in time.
    #[error("{what} takes longer than {} s: check whether the disk hangs", .after.as_secs_f64())]
    Timeout {
        /// The operation.
        what: String,
        /// How long the caller waited.
        after: Duration,
    },
    /// The key is invalid.
    #[error("this key cannot be stored: {why}")]
    InvalidKey {
        /// What is wrong with it.
        why: String,
    },
    /// The metadata is too large.
    #[error("the metadata of {key:?} has {size} bytes, at most {limit} are allowed")]
    InvalidMetadata {
        /// The key of the metadata.
        key: Arc<str>,
        /// Its size, in bytes.
        size: usize,
        /// The limit, in bytes.
        limit: usize,
    },
    /// The state file is damaged and could not be quarantined.
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
    /// The state file cannot be opened at its path.
    #[error("{} cannot be opened: {why}: {remedy}", .path.display())]
    Inaccessible {
        /// The file.
        path: PathBuf,
        /// The system error.
        why: String,
        /// What to do.
        remedy: &'static str,
    },
    /// The state file was written by an unknown version.
    #[error(
        "{} holds {found}, and this version reads format {ours}: go back to the version that wrote \
         it, or remove or rename the file; nothing but history is lost",
        .path.display()
    )]
    UnknownFormat {
        /// The file.
        path: PathBuf,
        /// The content that was found.
        found: String,
        /// The format of this version.
        ours: u64,
    },
}

impl BackendError {
    /// The kind of error, as a metric label.
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
