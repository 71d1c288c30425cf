//! The outcome of a sync, for clients and for the next start.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::registry::{MESSAGE_LIMIT, capped};

/// The message of a cancelled sync.
pub(super) const CANCELLED: &str = "Cancelled on request";

/// Why a sync runs, weakest first: of several reasons, the strongest is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum SyncReason {
    /// The last sync was an interval ago.
    Interval,
    /// A watch restarted, so it may have missed an event.
    WatchRestarted,
    /// This replica has become the leader.
    LeadershipGained,
    /// It was requested.
    AskedFor,
    /// It is the first sync of this process.
    Start,
}

impl SyncReason {
    /// As a label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Interval => "interval",
            Self::WatchRestarted => "watch_restarted",
            Self::LeadershipGained => "leadership_gained",
            Self::AskedFor => "asked_for",
            Self::Start => "start",
        }
    }
}

/// The phase of a sync.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SyncPhase {
    /// It is running.
    Syncing,
    /// Everything was compared.
    Complete,
    /// Not everything was compared; the message contains the reason.
    Failed,
}

impl SyncPhase {
    /// As a label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Syncing => "syncing",
            Self::Complete => "complete",
            Self::Failed => "failed",
        }
    }
}

/// The result of comparing everything.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Compared {
    /// Number of nodes compared.
    pub nodes: u64,
    /// Number of differences found.
    pub differences: u64,
    /// Number of differences repaired.
    pub repaired: u64,
}

/// The running or last sync, and the results of earlier ones.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SyncStatus {
    /// Its phase.
    pub phase: SyncPhase,
    /// Why it runs.
    pub reason: SyncReason,
    /// Attempts since the last success, including this one; 1 is healthy.
    pub attempts: u32,
    /// When it began.
    pub last_attempt: Timestamp,
    /// When a sync last completed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_success: Option<Timestamp>,
    /// Duration of the last ended sync, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_duration_seconds: Option<f64>,
    /// Nodes compared by the last completed sync.
    pub nodes_compared: u64,
    /// Differences found by it.
    pub differences_found: u64,
    /// Differences repaired by it.
    pub differences_repaired: u64,
    /// Why it failed; `None` unless it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

impl SyncStatus {
    /// Returns whether it failed because it was cancelled, which is not an error.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.message.as_deref() == Some(CANCELLED)
    }

    /// A sync has begun; the results of earlier ones stay.
    pub(super) fn begun(before: Option<&Self>, reason: SyncReason, now: Timestamp) -> Self {
        let attempts = before
            .filter(|before| before.phase != SyncPhase::Complete)
            .map_or(0, |before| before.attempts);
        Self {
            phase: SyncPhase::Syncing,
            reason,
            attempts: attempts.saturating_add(1),
            last_attempt: now,
            last_success: before.and_then(|before| before.last_success),
            last_duration_seconds: before.and_then(|before| before.last_duration_seconds),
            nodes_compared: before.map_or(0, |before| before.nodes_compared),
            differences_found: before.map_or(0, |before| before.differences_found),
            differences_repaired: before.map_or(0, |before| before.differences_repaired),
            message: None,
        }
    }

    /// Everything was compared.
    pub(super) fn completed(self, compared: Compared, took: Duration, now: Timestamp) -> Self {
        Self {
            phase: SyncPhase::Complete,
            last_success: Some(now),
            last_duration_seconds: Some(took.as_secs_f64()),
            nodes_compared: compared.nodes,
            differences_found: compared.differences,
            differences_repaired: compared.repaired,
            ..self
        }
    }

    /// Not everything was compared.
    pub(super) fn failed(self, why: &str, took: Duration) -> Self {
        Self {
            phase: SyncPhase::Failed,
            last_duration_seconds: Some(took.as_secs_f64()),
            message: Some(capped(why, MESSAGE_LIMIT)),
            ..self
        }
    }

    /// The process ends, or has ended, during the sync; any other status is unchanged.
    pub(super) fn interrupted(self) -> Self {
        match self.phase {
            SyncPhase::Syncing => Self {
                phase: SyncPhase::Failed,
                message: Some("The operator stopped before this sync was complete".to_owned()),
                ..self
            },
            SyncPhase::Complete | SyncPhase::Failed => self,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_json_field_names_of_the_status_are_stable() {
        let began = Timestamp::from_second(1_700_000_000).unwrap();
        let now = Timestamp::from_second(1_700_000_002).unwrap();
        let compared = Compared {
            nodes: 59,
            differences: 2,
            repaired: 1,
        };
        let failed = SyncStatus::begun(None, SyncReason::WatchRestarted, began)
            .completed(compared, Duration::from_millis(1500), now)
            .failed("no answer", Duration::from_millis(500));
        let json = serde_json::to_string(&failed).unwrap();
        assert_eq!(
            json,
            concat!(
                r#"{"phase":"Failed","reason":"WatchRestarted","attempts":1,"#,
                r#""lastAttempt":"2023-11-14T22:13:20Z","lastSuccess":"2023-11-14T22:13:22Z","#,
                r#""lastDurationSeconds":0.5,"nodesCompared":59,"differencesFound":2,"#,
                r#""differencesRepaired":1,"message":"no answer"}"#
            )
        );
        assert_eq!(serde_json::from_str::<SyncStatus>(&json).unwrap(), failed);
    }

    #[test]
    fn unknown_fields_of_a_later_version_are_ignored() {
        let json = r#"{"phase":"Complete","reason":"Start","attempts":1,"lastAttempt":"2023-11-14T22:13:20Z",
            "nodesCompared":1,"differencesFound":0,"differencesRepaired":0,"shards":7}"#;
        let status: SyncStatus = serde_json::from_str(json).unwrap();
        assert_eq!(status.phase, SyncPhase::Complete);
    }

    #[test]
    fn a_long_message_is_truncated() {
        let status = SyncStatus::begun(None, SyncReason::Start, Timestamp::UNIX_EPOCH)
            .failed(&"ä".repeat(100_000), Duration::ZERO);
        assert_eq!(status.message.unwrap().chars().count(), MESSAGE_LIMIT);
    }
}
