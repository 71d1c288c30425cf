//! Operations as clients see them: one type for display, JSON output and JSON input.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::registry::capped;

/// Kind, time in seconds and number: no valid id is longer.
const ID_LIMIT: usize = 63;

/// The id of an operation, such as `resync-1700000000-3`. Safe in URLs and file names.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct OperationId(String);

impl OperationId {
    /// The number distinguishes the operations of one process, the time those of different processes.
    pub(super) fn new(kind: &str, started_at: Timestamp, number: u64) -> Self {
        Self(format!("{kind}-{}-{number}", started_at.as_second()))
    }

    /// Returns the id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for OperationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for OperationId {
    type Error = OperationError;

    fn try_from(text: String) -> Result<Self, OperationError> {
        let is_id = (1..=ID_LIMIT).contains(&text.len())
            && text
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
        if is_id {
            Ok(Self(text))
        } else {
            Err(OperationError::InvalidId {
                id: capped(&text, ID_LIMIT),
            })
        }
    }
}

impl FromStr for OperationId {
    type Err = OperationError;

    fn from_str(text: &str) -> Result<Self, OperationError> {
        text.to_owned().try_into()
    }
}

/// The state of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum OperationState {
    /// It is running.
    Running,
    /// It has succeeded.
    Succeeded,
    /// It has failed.
    Failed,
    /// It was cancelled, and has stopped.
    Cancelled,
}

impl OperationState {
    /// As a label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

impl fmt::Display for OperationState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Progress; both are 0 until it is known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Units done.
    pub done: u64,
    /// Units in total.
    pub total: u64,
}

/// A snapshot of an operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Operation {
    /// Its id.
    pub id: OperationId,
    /// What it does.
    pub kind: Cow<'static, str>,
    /// Its target; `None` means everything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Its state.
    pub state: OperationState,
    /// Whether cancellation was requested.
    pub cancel_requested: bool,
    /// Its progress.
    pub progress: Progress,
    /// Counts of what it has processed, by name.
    pub counts: BTreeMap<Cow<'static, str>, u64>,
    /// Its outcome.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Timestamp>,
    /// Size of its result in bytes, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result_size: Option<usize>,
}

/// Why an operation cannot be shown, fetched or cancelled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OperationError {
    /// The id is malformed.
    #[error("{id:?} is not the id of an operation: ids are as in resync-1700000000-3")]
    InvalidId {
        /// The given id, truncated.
        id: String,
    },
    /// No operation has this id, or it was removed.
    #[error(
        "There is no operation '{id}': an ended one is listed for some minutes only; \
         list the operations to see which there are"
    )]
    NotFound {
        /// The id.
        id: OperationId,
    },
    /// The operation has already ended and cannot be cancelled.
    #[error("The operation '{id}' has ended already: {state}")]
    AlreadyFinished {
        /// The id.
        id: OperationId,
        /// Its final state.
        state: OperationState,
    },
    /// The result is not available yet.
    #[error("The operation '{id}' runs: wait until it has ended")]
    Running {
        /// The id.
        id: OperationId,
    },
    /// There is no result.
    #[error("The operation '{id}' ({state}) has left nothing to fetch")]
    NoResult {
        /// The id.
        id: OperationId,
        /// Its final state.
        state: OperationState,
    },
}
