//! Metrics of the state backend, and of long operations.

use prometheus::{IntCounter, IntCounterVec, IntGaugeVec, Result};

use super::Metrics;
use super::maker::Maker;

/// Metrics of the backend and of operations.
pub(super) struct StateMetrics {
    healthy: IntGaugeVec,
    errors: IntCounterVec,
    quarantined: IntCounter,
    operations: IntCounterVec,
}

impl StateMetrics {
    pub(super) fn new(make: &Maker<'_>) -> Result<Self> {
        Ok(Self {
            healthy: make.gauges(
                "node_insights_backend_healthy",
                "1 while the state backend passes its health check, else 0. Alert on 0 for minutes.",
                &["backend"],
            )?,
            errors: make.counters(
                "node_insights_backend_errors_total",
                "Errors of the state backend, by backend and category. Alert on unavailable and timeout.",
                &["backend", "category"],
            )?,
            quarantined: make.counter(
                "node_insights_backend_set_aside_total",
                "State files that could not be read and were quarantined. Alert on any: the history in them is not used any more.",
            )?,
            operations: make.counters(
                "node_insights_operations_total",
                "Finished long operations, by kind and result.",
                &["kind", "result"],
            )?,
        })
    }
}

impl Metrics {
    /// Whether a backend passes its health check.
    pub fn backend_healthy(&self, backend: &'static str, healthy: bool) {
        self.states
            .healthy
            .with_label_values(&[backend])
            .set(i64::from(healthy));
    }

    /// A request to a backend failed.
    pub fn backend_failed(&self, backend: &'static str, category: &'static str) {
        self.states
            .errors
            .with_label_values(&[backend, category])
            .inc();
    }

    /// An unreadable state file was quarantined.
    pub fn backend_quarantined(&self) {
        self.states.quarantined.inc();
    }

    /// A long operation ended.
    pub fn operation_ended(&self, kind: &'static str, result: &'static str) {
        self.states
            .operations
            .with_label_values(&[kind, result])
            .inc();
    }
}
