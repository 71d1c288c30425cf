//! Metrics of the watches: their state and freshness.

use prometheus::{IntCounterVec, IntGaugeVec, Result};

use super::maker::Maker;
use super::{Metrics, unix_now};

/// Metrics of the watches.
pub(super) struct WatchMetrics {
    synced: IntGaugeVec,
    last_event: IntGaugeVec,
    restarts: IntCounterVec,
    failures: IntCounterVec,
    unreadable: IntCounterVec,
}

impl WatchMetrics {
    pub(super) fn new(make: &Maker<'_>) -> Result<Self> {
        Ok(Self {
            synced: make.gauges(
                "node_insights_watch_synced",
                "1 while the kind is listed and watched, 0 while the watch fails. Alert on 0 for minutes.",
                &["kind"],
            )?,
            last_event: make.gauges(
                "node_insights_watch_last_event_timestamp_seconds",
                "Unix time of the last event of the kind's watch, including lists. Alert on nodes when it is older than 15 minutes: each kubelet reports every 5.",
                &["kind"],
            )?,
            restarts: make.counters(
                "node_insights_watch_restarts_total",
                "Restarts of watches with a full list, by kind. Alert on more than 10 in an hour.",
                &["kind"],
            )?,
            failures: make.counters(
                "node_insights_watch_failures_total",
                "Failures of a watch, by kind and reason.",
                &["kind", "reason"],
            )?,
            unreadable: make.counters(
                "node_insights_unreadable_objects_total",
                "Objects that could not be parsed and are ignored, by kind. Alert on any.",
                &["kind"],
            )?,
        })
    }
}

impl Metrics {
    /// Whether a watch works.
    pub fn watch(&self, kind: &str, synced: bool) {
        self.watches
            .synced
            .with_label_values(&[kind])
            .set(i64::from(synced));
    }

    /// A kind is not watched any more: removes its gauges.
    pub fn forget_watch(&self, kind: &str) {
        for gauge in [&self.watches.synced, &self.watches.last_event] {
            // Removing a series that does not exist is an error, which is fine here.
            let _ = gauge.remove_label_values(&[kind]);
        }
    }

    /// An event of a watch arrived now.
    pub fn watch_event(&self, kind: &str) {
        self.watches
            .last_event
            .with_label_values(&[kind])
            .set(unix_now());
    }

    /// A watch restarts with a full list.
    pub fn watch_restarted(&self, kind: &str) {
        self.watches.restarts.with_label_values(&[kind]).inc();
    }

    /// A watch failed.
    pub fn watch_failed(&self, kind: &str, reason: &str) {
        self.watch(kind, false);
        self.watches
            .failures
            .with_label_values(&[kind, reason])
            .inc();
    }

    /// An object could not be parsed.
    pub fn unreadable(&self, kind: &str) {
        self.watches.unreadable.with_label_values(&[kind]).inc();
    }
}
