//! Metrics of pools, from their insights.
//!
//! Only the leader computes pool insights, so only it has these metrics, and a query over all replicas returns each
//! pool once.

use prometheus::{IntGaugeVec, Result};

use super::Metrics;
use super::maker::Maker;
use crate::api::pool::Assessment;

/// Metrics of pools.
pub(super) struct PoolMetrics {
    assessment: IntGaugeVec,
    completion: IntGaugeVec,
}

impl PoolMetrics {
    pub(super) fn new(make: &Maker<'_>) -> Result<Self> {
        Ok(Self {
            assessment: make.gauges(
                "node_insights_pool_assessment",
                "1 for the current assessment of a pool; only in the leader, and only with pool insights. Alert on Progressing for hours while no node of the pool changes its phase.",
                &["pool", "assessment"],
            )?,
            completion: make.gauges(
                "node_insights_pool_completion_percent",
                "Updated nodes of a pool in percent, rounded down; only in the leader. Alert when it is not 100 at the end of a maintenance window.",
                &["pool"],
            )?,
        })
    }
}

impl Metrics {
    /// Sets the assessment and completion of a pool.
    pub fn pool_is(&self, pool: &str, assessment: Assessment, completion_percent: i32) {
        let pools = &self.pools;
        // Set before the old one is removed, so that a concurrent scrape finds two rather than none.
        pools
            .assessment
            .with_label_values(&[pool, assessment.as_str()])
            .set(1);
        for other in Assessment::ALL {
            if other != assessment {
                // Removing a series that does not exist is an error, which is fine here.
                let _ = pools
                    .assessment
                    .remove_label_values(&[pool, other.as_str()]);
            }
        }
        pools
            .completion
            .with_label_values(&[pool])
            .set(completion_percent.into());
    }

    /// A pool has no insight any more.
    pub fn pool_is_gone(&self, pool: &str) {
        for assessment in Assessment::ALL {
            let labels = [pool, assessment.as_str()];
            let _ = self.pools.assessment.remove_label_values(&labels);
        }
        let _ = self.pools.completion.remove_label_values(&[pool]);
    }
}
