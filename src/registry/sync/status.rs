//! What a sync came to, for whoever asks and for the next start.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::registry::{MESSAGE_LIMIT, capped};

/// Why one failed that somebody cancelled.
pub(super) const CANCELLED: &str = "Cancelled on request";

/// Why there is a sync. The later in this list the stronger: of several, the strongest is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum SyncReason {
    /// The last one is an interval ago.
    Interval,
    /// A watch began anew, so it may have missed something.
    WatchRestarted,
    /// This replica writes from now on.
    LeadershipGained,
    /// Somebody asked for it.
    AskedFor,
    /// It is the first one of this process.
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

/// Where a sync is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SyncPhase {
    /// It runs.
    Syncing,
    /// Everything was compared.
    Complete,
    /// Not everything was compared; the message says why.
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

/// What a compare of everything came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Compared {
    /// Nodes that were compared.
    pub nodes: u64,
    /// Differences that were found.
    pub differences: u64,
    /// How many of them were repaired.
    pub repaired: u64,
}

/// The last sync, or the one that runs, and what is known of those before.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SyncStatus {
    /// Where it is.
    pub phase: SyncPhase,
    /// Why there is one.
    pub reason: SyncReason,
    /// How many attempts there were since the last success, this one included: 1 when all is well.
    pub attempts: u32,
    /// When it began.
    pub last_attempt: Timestamp,
    /// When the last one that completed did so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_success: Option<Timestamp>,
    /// How long the last one took that ended, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_duration_seconds: Option<f64>,
    /// Nodes that the last one compared that completed.
    pub nodes_compared: u64,
    /// Differences that it found.
    pub differences_found: u64,
    /// How many of them it repaired.
    pub differences_repaired: u64,
    /// Why it failed; nothing unless it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

impl SyncStatus {
    /// Whether it failed because somebody cancelled it, which is no trouble.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.message.as_deref() == Some(CANCELLED)
    }

    /// A sync begins; what is known of those before stays.
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

    /// It compared everything.
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

    /// It did not.
    pub(super) fn failed(self, why: &str, took: Duration) -> Self {
        Self {
            phase: SyncPhase::Failed,
            last_duration_seconds: Some(took.as_secs_f64()),
            message: Some(capped(why, MESSAGE_LIMIT)),
            ..self
        }
    }

    /// The process ends, or has ended, while it runs; any other status stays as it is.
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
    fn the_status_is_kept_under_names_that_stay() {
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
    fn a_status_of_a_later_version_with_further_fields_can_be_read() {
        let json = r#"{"phase":"Complete","reason":"Start","attempts":1,"lastAttempt":"2023-11-14T22:13:20Z",
            "nodesCompared":1,"differencesFound":0,"differencesRepaired":0,"shards":7}"#;
        let status: SyncStatus = serde_json::from_str(json).unwrap();
        assert_eq!(status.phase, SyncPhase::Complete);
    }

    #[test]
    fn a_message_as_long_as_a_book_is_cut() {
        let status = SyncStatus::begun(None, SyncReason::Start, Timestamp::UNIX_EPOCH)
            .failed(&"ä".repeat(100_000), Duration::ZERO);
        assert_eq!(status.message.unwrap().chars().count(), MESSAGE_LIMIT);
    }
}
