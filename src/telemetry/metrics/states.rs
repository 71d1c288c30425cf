//! Metrics of what keeps the states, and of the long work on them.

use prometheus::{IntCounter, IntCounterVec, IntGaugeVec, Result};

use super::Metrics;
use super::maker::Maker;

/// Metrics of the backend and of operations.
pub(super) struct StateMetrics {
    healthy: IntGaugeVec,
    errors: IntCounterVec,
    set_aside: IntCounter,
    operations: IntCounterVec,
}

impl StateMetrics {
    pub(super) fn new(make: &Maker<'_>) -> Result<Self> {
        Ok(Self {
            healthy: make.gauges(
                "node_insights_backend_healthy",
                "1 while what keeps the states passes its health check, else 0. Alert on 0 for minutes.",
                &["backend"],
            )?,
            errors: make.counters(
                "node_insights_backend_errors_total",
                "Errors of what keeps the states, by backend and category. Alert on unavailable and timeout.",
                &["backend", "category"],
            )?,
            set_aside: make.counter(
                "node_insights_backend_set_aside_total",
                "Kept states that could not be read and were set aside for new ones. Alert on any: what was learned before is not used any more.",
            )?,
            operations: make.counters(
                "node_insights_operations_total",
                "Long operations that ended, by kind and result.",
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

    /// A backend did not do what it was asked for.
    pub fn backend_failed(&self, backend: &'static str, category: &'static str) {
        self.states
            .errors
            .with_label_values(&[backend, category])
            .inc();
    }

    /// Kept states were set aside because they could not be read.
    pub fn backend_set_aside(&self) {
        self.states.set_aside.inc();
    }

    /// A long operation ended.
    pub fn operation_ended(&self, kind: &'static str, result: &'static str) {
        self.states
            .operations
            .with_label_values(&[kind, result])
            .inc();
    }
}
