//! Metrics of the initial sync and of the periodic full compare.

use prometheus::{Histogram, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Result};

use super::maker::Maker;
use super::{Metrics, unix_now};

/// From a small cluster (some ms) to a large one with a slow API server.
const SYNC_BUCKETS: [f64; 8] = [0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0];

/// The phase of the sync.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyncPhase {
    /// It runs.
    Syncing,
    /// The last one succeeded.
    Complete,
    /// The last one failed.
    Failed,
}

impl SyncPhase {
    const ALL: [Self; 3] = [Self::Syncing, Self::Complete, Self::Failed];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Syncing => "Syncing",
            Self::Complete => "Complete",
            Self::Failed => "Failed",
        }
    }
}

/// The outcome of a sync.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Compared {
    /// Nodes that were compared.
    pub nodes: usize,
    /// Differences between the store and the cluster or the insights, without a notification.
    pub differences: usize,
    /// Repaired differences.
    pub repaired: usize,
}

/// Metrics of the sync.
pub(super) struct SyncMetrics {
    attempts: IntCounterVec,
    duration: Histogram,
    last_success: IntGauge,
    phase: IntGaugeVec,
    nodes: IntGauge,
    differences: IntCounter,
    repaired: IntCounter,
    out_of_sync: IntGauge,
    persist_failures: IntCounter,
}

impl SyncMetrics {
    pub(super) fn new(make: &Maker<'_>) -> Result<Self> {
        Ok(Self {
            attempts: make.counters(
                "node_insights_sync_attempts_total",
                "Finished full compares, by reason and result (success, failure). Alert on two failures in a row.",
                &["reason", "result"],
            )?,
            duration: make.histogram(
                "node_insights_sync_duration_seconds",
                "Duration of full compares, including failed ones.",
                &SYNC_BUCKETS,
            )?,
            last_success: make.gauge(
                "node_insights_sync_last_success_timestamp_seconds",
                "Unix time of the last successful full compare, 0 before the first. Alert when it is older than two intervals.",
            )?,
            phase: make.gauges(
                "node_insights_sync_phase",
                "1 for the current phase of the full compare (Syncing, Complete, Failed). Alert on Failed for longer than two intervals.",
                &["phase"],
            )?,
            nodes: make.gauge(
                "node_insights_sync_nodes_compared",
                "Nodes in the last successful full compare.",
            )?,
            differences: make.counter(
                "node_insights_sync_differences_total",
                "Differences that full compares found; each is a missed change. Alert when it keeps growing.",
            )?,
            repaired: make.counter(
                "node_insights_sync_repaired_total",
                "Differences that full compares repaired. Alert when it grows more slowly than the differences.",
            )?,
            out_of_sync: make.gauge(
                "node_insights_insights_out_of_sync",
                "Insights in the API that differed from the store in the last full compare. Alert on more than 0 for longer than two intervals.",
            )?,
            persist_failures: make.counter(
                "node_insights_sync_persist_failures_total",
                "Failures to persist the status of the sync. Alert on any increase over an hour.",
            )?,
        })
    }
}

impl Metrics {
    /// A sync begins.
    pub fn sync_started(&self) {
        self.sync_phase(SyncPhase::Syncing);
    }

    /// A sync ended; `compared` is its outcome, `None` when it failed.
    pub fn sync_ended(&self, reason: &'static str, seconds: f64, compared: Option<Compared>) {
        let sync = &self.sync;
        if let Some(Compared {
            nodes,
            differences,
            repaired,
        }) = compared
        {
            sync.last_success.set(unix_now());
            sync.nodes.set(i64::try_from(nodes).unwrap_or(i64::MAX));
            sync.differences.inc_by(differences as u64);
            sync.repaired.inc_by(repaired as u64);
        }
        let (phase, result) = match compared {
            Some(_) => (SyncPhase::Complete, "success"),
            None => (SyncPhase::Failed, "failure"),
        };
        self.sync_phase(phase);
        sync.attempts.with_label_values(&[reason, result]).inc();
        sync.duration.observe(seconds);
    }

    /// Sets the phase of the sync, as after a start with a persisted status.
    pub fn sync_phase(&self, current: SyncPhase) {
        for phase in SyncPhase::ALL {
            self.sync
                .phase
                .with_label_values(&[phase.as_str()])
                .set(i64::from(phase == current));
        }
    }

    /// How many insights in the API differ from the store.
    pub fn out_of_sync(&self, insights: usize) {
        self.sync
            .out_of_sync
            .set(i64::try_from(insights).unwrap_or(i64::MAX));
    }

    /// The status of the sync could not be persisted.
    pub fn sync_not_persisted(&self) {
        self.sync.persist_failures.inc();
    }
}
