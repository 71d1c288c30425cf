//! Metrics of the path from a state to its insight: the fan-out and the writes.

use prometheus::{HistogramVec, IntCounterVec, IntGaugeVec, Result};

use super::Metrics;
use super::maker::Maker;

/// From a quick write (a few ms) to one during an outage of the API server.
const LATENCY_BUCKETS: [f64; 12] = [
    0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 600.0,
];

/// Metrics of the fan-out and of the writes.
pub(super) struct InsightMetrics {
    notifications: IntCounterVec,
    coalesced: IntCounterVec,
    pending: IntGaugeVec,
    wait: HistogramVec,
    writes: IntCounterVec,
    event_to_write: HistogramVec,
    events: IntCounterVec,
}

impl InsightMetrics {
    pub(super) fn new(make: &Maker<'_>) -> Result<Self> {
        Ok(Self {
            notifications: make.counters(
                "node_insights_notifications_total",
                "Notifications of consumers about a key.",
                &["consumer"],
            )?,
            coalesced: make.counters(
                "node_insights_notifications_coalesced_total",
                "Notifications of consumers about a key that was still pending.",
                &["consumer"],
            )?,
            pending: make.gauges(
                "node_insights_notifications_pending",
                "Keys that a consumer has not read yet. Alert when it stays above 0 for minutes.",
                &["consumer"],
            )?,
            wait: make.histograms(
                "node_insights_notification_duration_seconds",
                "Time from the notification of a consumer about a key until it reads it.",
                &["consumer"],
                &LATENCY_BUCKETS,
            )?,
            writes: make.counters(
                "node_insights_writes_total",
                "Writes of insights to the API server, by kind and outcome (created, updated, deleted, conflict, failed). Alert on failed.",
                &["kind", "outcome"],
            )?,
            event_to_write: make.histograms(
                "node_insights_event_to_write_seconds",
                "Time from the watch event of a change until the insight is written.",
                &["kind"],
                &LATENCY_BUCKETS,
            )?,
            events: make.counters(
                "node_insights_events_total",
                "Kubernetes Events by outcome (created; known: it already existed; failed; dropped: more than 2 per second on average). Check the log when failed grows.",
                &["outcome"],
            )?,
        })
    }
}

impl Metrics {
    /// A consumer was notified about a key.
    pub fn notified(&self, consumer: &str, coalesced: bool) {
        self.insights
            .notifications
            .with_label_values(&[consumer])
            .inc();
        if coalesced {
            self.insights.coalesced.with_label_values(&[consumer]).inc();
        }
    }

    /// A consumer read a key.
    pub fn notification_read(&self, consumer: &str, seconds: f64) {
        self.insights
            .wait
            .with_label_values(&[consumer])
            .observe(seconds);
    }

    /// The number of keys that a consumer has not read yet.
    pub fn pending(&self, consumer: &str, count: usize) {
        self.insights
            .pending
            .with_label_values(&[consumer])
            .set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// A write ended.
    pub fn wrote(&self, kind: &str, outcome: &str) {
        self.insights
            .writes
            .with_label_values(&[kind, outcome])
            .inc();
    }

    /// A change was written.
    pub fn written_after(&self, kind: &str, seconds: f64) {
        self.insights
            .event_to_write
            .with_label_values(&[kind])
            .observe(seconds);
    }

    /// The outcome of an Event.
    pub fn event(&self, outcome: &str) {
        self.insights.events.with_label_values(&[outcome]).inc();
    }
}
