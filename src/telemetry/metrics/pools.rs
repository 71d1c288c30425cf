//! Metrics of pools, as their insights say how they are.
//!
//! Only the replica that writes has them: only it turns pools into insights. Whoever reads them over all
//! replicas gets each pool once.

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
                "1 for the assessment that a pool has; only the replica that writes has it, and only with pool insights. Alert on Progressing for hours while no node of the pool changes its phase.",
                &["pool", "assessment"],
            )?,
            completion: make.gauges(
                "node_insights_pool_completion_percent",
                "Updated nodes of a pool in percent of all, rounded down; from the replica that writes. Alert when it is not 100 at the end of a maintenance window.",
                &["pool"],
            )?,
        })
    }
}

impl Metrics {
    /// How a pool is.
    pub fn pool_is(&self, pool: &str, assessment: Assessment, completion_percent: i32) {
        let pools = &self.pools;
        // Before the other goes: a scrape in between finds two rather than none.
        pools
            .assessment
            .with_label_values(&[pool, assessment.as_str()])
            .set(1);
        for other in Assessment::ALL {
            if other != assessment {
                // It is an error to remove a series that never was; that is fine here.
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
