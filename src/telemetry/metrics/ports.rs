//! Metrics of the HTTP ports: open connections, and those that the operator closed.

use prometheus::{IntCounterVec, IntGaugeVec, Result};

use super::Metrics;
use super::maker::Maker;

/// An HTTP port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PortName {
    /// `/livez` and `/readyz`.
    Health,
    /// `/metrics` and `/operations`.
    Metrics,
    /// `/debug`.
    Debug,
}

impl PortName {
    /// Its name in labels and logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Health => "health",
            Self::Metrics => "metrics",
            Self::Debug => "debug",
        }
    }
}

/// Why the operator closed a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closed {
    /// A newer connection displaced it at the limit.
    Displaced,
    /// The TLS handshake failed, or took too long.
    Handshake,
    /// No complete request head arrived in time.
    Silent,
    /// No further request arrived in time.
    Idle,
    /// The response was not read in time.
    Unread,
}

impl Closed {
    fn as_str(self) -> &'static str {
        match self {
            Self::Displaced => "displaced",
            Self::Handshake => "handshake",
            Self::Silent => "silent",
            Self::Idle => "idle",
            Self::Unread => "unread",
        }
    }
}

/// Metrics of the HTTP ports.
pub(super) struct PortMetrics {
    open: IntGaugeVec,
    closed: IntCounterVec,
}

impl PortMetrics {
    pub(super) fn new(make: &Maker<'_>) -> Result<Self> {
        Ok(Self {
            open: make.gauges(
                "node_insights_connections",
                "Connections to an HTTP port of the operator, by port (health, metrics, debug).",
                &["port"],
            )?,
            closed: make.counters(
                "node_insights_connections_closed_total",
                "Connections that the operator closed, by port and reason: displaced by a newer one at the limit, handshake failed, silent, idle after an answer, or answer unread. Many that are not idle: a client floods the port.",
                &["port", "reason"],
            )?,
        })
    }
}

impl Metrics {
    /// Sets the number of connections to a port.
    pub fn connections(&self, port: PortName, count: usize) {
        self.ports
            .open
            .with_label_values(&[port.as_str()])
            .set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// The operator closed a connection.
    pub fn connection_closed(&self, port: PortName, why: Closed) {
        self.ports
            .closed
            .with_label_values(&[port.as_str(), why.as_str()])
            .inc();
    }
}
