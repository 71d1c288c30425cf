//! Metrics of the leader election.

use prometheus::{IntCounter, IntGauge, Result};

use super::Metrics;
use super::maker::Maker;

/// Metrics of the leader election.
pub(super) struct LeaderMetrics {
    is_leader: IntGauge,
    failures: IntCounter,
}

impl LeaderMetrics {
    pub(super) fn new(make: &Maker<'_>) -> Result<Self> {
        let status = make.gauges(
            "leader_election_master_status",
            "1 when this replica leads, 0 when it stands by; the label is the name of this program, as other programs have the same metric. Alert when the sum over all replicas is not 1 for longer than a minute.",
            &["name"],
        )?;
        Ok(Self {
            is_leader: status.with_label_values(&["node-insights"]),
            failures: make.counter(
                "node_insights_lease_failures_total",
                "Failures to read or write the lease, including leases with an invalid duration. Alert when it keeps growing: a leader that cannot renew it stops after two thirds of --lease-duration.",
            )?,
        })
    }
}

impl Metrics {
    /// Whether this replica writes.
    pub fn leads(&self, is_leader: bool) {
        self.leader.is_leader.set(i64::from(is_leader));
    }

    /// The lease could not be read or written.
    pub fn lease_failed(&self) {
        self.leader.failures.inc();
    }
}
