//! The version of the API server, where there are several servers that are being updated.
//!
//! Each request may be answered by another server, so the version goes up and down until all are updated. A
//! version that is not newer is believed once the one before has not been seen for ten minutes: then it is a
//! rollback. Owns what was seen; the time is an argument. After a start, what the insights say counts as the
//! version before; where they say none, the first answer is believed, whichever server gave it.

use std::cmp::Ordering;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::api::NodeProgressInsightStatus;
use crate::api::types::DesiredVersionSource;
use crate::domain::version;

/// Servers of a control plane are updated within minutes of each other; a load balancer that prefers one of them
/// prefers it for less.
const BELIEVED_AFTER: Duration = Duration::from_mins(10);

/// What is believed.
#[derive(Debug, Default)]
pub struct SteadyVersion {
    believed: Option<Arc<str>>,
    last_seen: Option<Instant>,
}

impl SteadyVersion {
    /// What the insights say that the API server's version was is believed, as if it had been seen `now`.
    #[must_use]
    pub fn of(said: &[Arc<NodeProgressInsightStatus>], now: Instant) -> Self {
        let versions = said
            .iter()
            .filter(|said| said.desired_version_source == Some(DesiredVersionSource::ApiServer))
            .filter_map(|said| said.desired_version.as_deref());
        let newest = versions.reduce(|newest, version| {
            if version::compare(newest, version) == Some(Ordering::Less) {
                version
            } else {
                newest
            }
        });
        Self {
            believed: newest.map(Arc::from),
            last_seen: newest.map(|_| now),
        }
    }

    /// A server said this version; the one to believe.
    pub fn observe(&mut self, seen: Option<Arc<str>>, now: Instant) -> Option<Arc<str>> {
        let is_newer = match (&self.believed, &seen) {
            (Some(believed), Some(seen)) => {
                version::compare(believed, seen) == Some(Ordering::Less)
            }
            (believed, _) => believed.is_none(),
        };
        let is_gone = self
            .last_seen
            .is_none_or(|last| now.duration_since(last) >= BELIEVED_AFTER);
        if seen == self.believed || is_newer || is_gone {
            self.believed = seen;
            self.last_seen = Some(now);
        }
        self.believed.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_mins(1);

    /// What is believed after each of these, a minute apart.
    fn believed(seen: &[&str]) -> Vec<String> {
        let start = Instant::now();
        let mut steady = SteadyVersion::default();
        let believe = |(minute, seen): (u32, &&str)| {
            let seen = Some(Arc::from(*seen)).filter(|seen: &Arc<str>| !seen.is_empty());
            let believed = steady.observe(seen, start + minute * MINUTE);
            believed.as_deref().unwrap_or_default().to_owned()
        };
        (0..).zip(seen).map(believe).collect()
    }

    /// What a node's insight says.
    fn says(version: &str, source: &str) -> Arc<NodeProgressInsightStatus> {
        let since = "2026-11-21T10:00:00Z";
        let status = serde_json::json!({
            "name": "n", "provider": "Kubernetes", "scope": "WorkerPool", "phase": "Completed",
            "phaseStartTime": since, "conditions": [], "timeline": [],
            "desiredVersion": version, "desiredVersionSource": source,
        });
        Arc::new(serde_json::from_value(status).unwrap())
    }

    #[test]
    fn after_a_start_the_highest_version_that_the_insights_say_counts_as_seen() {
        let said = [
            says("v1.35.1", "ApiServer"),
            says("v1.36.0", "ApiServer"),
            says("v1.35.9", "ApiServer"),
            says("v1.40.0", "UserTarget"),
        ];
        let start = Instant::now();
        let mut steady = SteadyVersion::of(&said, start);
        let mut believed = |minute: u32, version: &str| {
            let seen = Some(Arc::from(version));
            steady
                .observe(seen, start + minute * MINUTE)
                .unwrap()
                .to_string()
        };
        assert_eq!(believed(0, "v1.35.1"), "v1.36.0");
        assert_eq!(believed(9, "v1.35.1"), "v1.36.0");
        assert_eq!(believed(10, "v1.35.1"), "v1.35.1");
        let mut nothing = SteadyVersion::of(&[says("v1.40.0", "UserTarget")], start);
        let first = nothing.observe(Some("v1.35.1".into()), start);
        assert_eq!(first.as_deref(), Some("v1.35.1"));
    }

    #[test]
    fn a_version_that_goes_up_and_down_only_goes_up() {
        let seen = ["v1.35.1", "v1.36.0", "v1.35.1", "v1.36.0", "v1.35.1"];
        let wanted = ["v1.35.1", "v1.36.0", "v1.36.0", "v1.36.0", "v1.36.0"];
        assert_eq!(believed(&seen), wanted);
    }

    #[test]
    fn a_lower_one_is_believed_after_ten_minutes_without_the_higher_one() {
        let mut seen = vec!["v1.36.0"];
        seen.extend(["v1.35.1"; 9]);
        seen.push("v1.36.0");
        seen.extend(["v1.35.1"; 10]);
        let believed = believed(&seen);
        assert!(believed[..20].iter().all(|version| version == "v1.36.0"));
        assert_eq!(believed[20], "v1.35.1");
    }

    #[test]
    fn builds_without_an_order_and_answers_without_a_version_change_nothing_at_once() {
        let seen = ["v1.31.2-eks-a737599", "v1.31.2-eks-16b398d", "", "latest"];
        assert_eq!(believed(&seen), ["v1.31.2-eks-a737599"; 4]);
    }
}
