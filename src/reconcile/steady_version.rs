//! A steady version of the API server while several replicas of it are being updated.
//!
//! Each request may reach another replica, so the version goes up and down until all are updated. A newer
//! version is accepted at once; any other only after the accepted one has not been seen for ten minutes: then
//! it is a rollback. After a restart, the newest version reported in the insights is the accepted one; without
//! one, the first answer is accepted. The time is an argument.

use std::cmp::Ordering;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::api::NodeProgressInsightStatus;
use crate::api::types::DesiredVersionSource;
use crate::domain::version;

/// API server replicas are updated within minutes of each other; a load balancer sticks to one replica for less.
const ACCEPTED_AFTER: Duration = Duration::from_mins(10);

/// The accepted version and when it was last seen.
#[derive(Debug, Default)]
pub struct SteadyVersion {
    accepted: Option<Arc<str>>,
    last_seen: Option<Instant>,
}

impl SteadyVersion {
    /// Accepts the newest API server version that the insights report, as if it had been seen `now`.
    #[must_use]
    pub fn of(insights: &[Arc<NodeProgressInsightStatus>], now: Instant) -> Self {
        let versions = insights
            .iter()
            .filter(|status| status.desired_version_source == Some(DesiredVersionSource::ApiServer))
            .filter_map(|status| status.desired_version.as_deref());
        let newest = versions.reduce(|newest, version| {
            if version::compare(newest, version) == Some(Ordering::Less) {
                version
            } else {
                newest
            }
        });
        Self {
            accepted: newest.map(Arc::from),
            last_seen: newest.map(|_| now),
        }
    }

    /// Records the version that a replica answered; returns the accepted version.
    pub fn observe(&mut self, seen: Option<Arc<str>>, now: Instant) -> Option<Arc<str>> {
        let is_newer = match (&self.accepted, &seen) {
            (Some(accepted), Some(seen)) => {
                version::compare(accepted, seen) == Some(Ordering::Less)
            }
            (accepted, _) => accepted.is_none(),
        };
        let is_gone = self
            .last_seen
            .is_none_or(|last| now.duration_since(last) >= ACCEPTED_AFTER);
        if seen == self.accepted || is_newer || is_gone {
            self.accepted = seen;
            self.last_seen = Some(now);
        }
        self.accepted.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_mins(1);

    /// The accepted version after each of these observations, one minute apart.
    fn accepted(seen: &[&str]) -> Vec<String> {
        let start = Instant::now();
        let mut steady = SteadyVersion::default();
        let accept = |(minute, seen): (u32, &&str)| {
            let seen = Some(Arc::from(*seen)).filter(|seen: &Arc<str>| !seen.is_empty());
            let accepted = steady.observe(seen, start + minute * MINUTE);
            accepted.as_deref().unwrap_or_default().to_owned()
        };
        (0..).zip(seen).map(accept).collect()
    }

    /// The status of a node's insight.
    fn insight(version: &str, source: &str) -> Arc<NodeProgressInsightStatus> {
        let since = "2026-11-21T10:00:00Z";
        let status = serde_json::json!({
            "name": "n", "provider": "Kubernetes", "scope": "WorkerPool", "phase": "Completed",
            "phaseStartTime": since, "conditions": [], "timeline": [],
            "desiredVersion": version, "desiredVersionSource": source,
        });
        Arc::new(serde_json::from_value(status).unwrap())
    }

    #[test]
    fn after_a_restart_the_highest_reported_version_counts_as_seen() {
        let insights = [
            insight("v1.35.1", "ApiServer"),
            insight("v1.36.0", "ApiServer"),
            insight("v1.35.9", "ApiServer"),
            insight("v1.40.0", "UserTarget"),
        ];
        let start = Instant::now();
        let mut steady = SteadyVersion::of(&insights, start);
        let mut accepted = |minute: u32, version: &str| {
            let seen = Some(Arc::from(version));
            steady
                .observe(seen, start + minute * MINUTE)
                .unwrap()
                .to_string()
        };
        assert_eq!(accepted(0, "v1.35.1"), "v1.36.0");
        assert_eq!(accepted(9, "v1.35.1"), "v1.36.0");
        assert_eq!(accepted(10, "v1.35.1"), "v1.35.1");
        let mut empty = SteadyVersion::of(&[insight("v1.40.0", "UserTarget")], start);
        let first = empty.observe(Some("v1.35.1".into()), start);
        assert_eq!(first.as_deref(), Some("v1.35.1"));
    }

    #[test]
    fn a_version_that_flaps_is_reported_as_the_higher_one() {
        let seen = ["v1.35.1", "v1.36.0", "v1.35.1", "v1.36.0", "v1.35.1"];
        let wanted = ["v1.35.1", "v1.36.0", "v1.36.0", "v1.36.0", "v1.36.0"];
        assert_eq!(accepted(&seen), wanted);
    }

    #[test]
    fn a_lower_version_is_accepted_after_ten_minutes_without_the_higher_one() {
        let mut seen = vec!["v1.36.0"];
        seen.extend(["v1.35.1"; 9]);
        seen.push("v1.36.0");
        seen.extend(["v1.35.1"; 10]);
        let accepted = accepted(&seen);
        assert!(accepted[..20].iter().all(|version| version == "v1.36.0"));
        assert_eq!(accepted[20], "v1.35.1");
    }

    #[test]
    fn an_incomparable_build_or_a_missing_version_is_not_accepted_at_once() {
        let seen = ["v1.31.2-eks-a737599", "v1.31.2-eks-16b398d", "", "latest"];
        assert_eq!(accepted(&seen), ["v1.31.2-eks-a737599"; 4]);
    }
}
