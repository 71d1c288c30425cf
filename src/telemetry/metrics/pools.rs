//! Metrics of pools, from their insights.
//!
//! Only the leader computes pool insights, so only it has these metrics, and a query over all replicas returns each
//! pool once.

use prometheus::{IntGaugeVec, Result};

use super::Metrics;
use super::maker::Maker;
use crate::api::pool::{Assessment, VersionSkew};

/// For which API server a skew is supported: this one, or its next minor version.
const WHEN: [&str; 2] = ["now", "after_next_minor"];

/// Metrics of pools.
pub(super) struct PoolMetrics {
    assessment: IntGaugeVec,
    completion: IntGaugeVec,
    minors_behind: IntGaugeVec,
    skew: IntGaugeVec,
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
            minors_behind: make.gauges(
                "node_insights_pool_kubelet_minors_behind",
                "Minor versions by which the oldest kubelet of a pool is behind the API server; negative when it is newer; only in the leader. Kubernetes supports up to 3.",
                &["pool"],
            )?,
            skew: make.gauges(
                "node_insights_pool_kubelet_skew_supported",
                "1 when Kubernetes supports every kubelet of a pool with the API server, now or after its next minor version, else 0; only in the leader.",
                &["pool", "when"],
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

    /// Sets how far the kubelets of a pool are behind the API server; `None` if it is not known.
    pub fn pool_skew_is(&self, pool: &str, skew: Option<&VersionSkew>) {
        let pools = &self.pools;
        let Some(skew) = skew else {
            let _ = pools.minors_behind.remove_label_values(&[pool]);
            for when in WHEN {
                let _ = pools.skew.remove_label_values(&[pool, when]);
            }
            return;
        };
        let behind = pools.minors_behind.with_label_values(&[pool]);
        behind.set(skew.minors_behind.into());
        let supported = [skew.supported, skew.supported_after_next_minor];
        for (when, is_supported) in WHEN.into_iter().zip(supported) {
            let gauge = pools.skew.with_label_values(&[pool, when]);
            gauge.set(is_supported.into());
        }
    }

    /// A pool has no insight any more.
    pub fn pool_is_gone(&self, pool: &str) {
        for assessment in Assessment::ALL {
            let labels = [pool, assessment.as_str()];
            let _ = self.pools.assessment.remove_label_values(&labels);
        }
        let _ = self.pools.completion.remove_label_values(&[pool]);
        self.pool_skew_is(pool, None);
    }
}
