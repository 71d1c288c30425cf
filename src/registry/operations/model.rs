//! What an operation is to whoever asks: the same type is shown, sent as JSON and read back.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::registry::capped;

/// A kind, a time in seconds and a number: no id of ours is longer.
const ID_LIMIT: usize = 63;

/// The id of an operation, as in `resync-1700000000-3`. Fits into a URL and a file name as it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct OperationId(String);

impl OperationId {
    /// The number tells the operations of one process apart, the time those of two.
    pub(super) fn new(kind: &str, started_at: Timestamp, number: u64) -> Self {
        Self(format!("{kind}-{}-{number}", started_at.as_second()))
    }

    /// As text.
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

/// How an operation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum OperationState {
    /// It has not ended.
    Running,
    /// It has done its work.
    Succeeded,
    /// It could not do its work.
    Failed,
    /// It was told to stop, and did.
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

/// How far something is; both are 0 before it is known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// How much is done.
    pub done: u64,
    /// How much there is to do.
    pub total: u64,
}

/// An operation as it was at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Operation {
    /// Its id.
    pub id: OperationId,
    /// What it does.
    pub kind: Cow<'static, str>,
    /// What it does it to; nothing: to everything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// How it is.
    pub state: OperationState,
    /// Whether it was told to stop.
    pub cancel_requested: bool,
    /// How far it is.
    pub progress: Progress,
    /// How many of something it has met, by name.
    pub counts: BTreeMap<Cow<'static, str>, u64>,
    /// How it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Timestamp>,
    /// Bytes of what it came to, if it came to anything that can be fetched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result_size: Option<usize>,
}

/// Why an operation cannot be shown, fetched or cancelled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OperationError {
    /// No operation has such an id.
    #[error("{id:?} is not the id of an operation: ids are as in resync-1700000000-3")]
    InvalidId {
        /// What was given, shortened.
        id: String,
    },
    /// There is none of this id, or not any more.
    #[error(
        "There is no operation '{id}': one that has ended is kept for some minutes only; list the operations to see which there are"
    )]
    NotFound {
        /// The id.
        id: OperationId,
    },
    /// What has ended cannot be cancelled.
    #[error("The operation '{id}' has ended already: {state}")]
    AlreadyFinished {
        /// The id.
        id: OperationId,
        /// How it ended.
        state: OperationState,
    },
    /// There is no result yet.
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
        /// How it ended.
        state: OperationState,
    },
}
