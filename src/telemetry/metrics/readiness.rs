//! What `/readyz` says, as metrics. Asked for when it is scraped, so that the two never differ.
//!
//! Checks are names that the code has, so there are as many series as there are lines in `/readyz`.

use std::sync::{Arc, Mutex, PoisonError};

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntGauge, IntGaugeVec, Opts, Result};

use super::Metrics;
use super::maker::Maker;

/// Whether everything is ready, and each check by its name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Readiness {
    /// Whether everything is.
    pub ready: bool,
    /// Each check, and whether it is.
    pub checks: Vec<(&'static str, bool)>,
}

type Ask = dyn Fn() -> Readiness + Send + Sync;

/// Metrics of the readiness.
#[derive(Clone)]
pub(super) struct ReadinessMetrics {
    /// `None` before there is anybody to ask. Not locked while somebody is asked.
    whom: Arc<Mutex<Option<Arc<Ask>>>>,
    ready: IntGauge,
    checks: IntGaugeVec,
}

impl ReadinessMetrics {
    pub(super) fn new(make: &Maker<'_>) -> Result<Self> {
        let check = Opts::new(
            "node_insights_check_ready",
            "1 while a check of /readyz is ready, else 0. Alert on 0 for minutes: /readyz says what to do.",
        );
        let metrics = Self {
            whom: Arc::default(),
            ready: IntGauge::new(
                "node_insights_ready",
                "1 while /readyz says that this replica is ready, else 0. Alert on 0 for minutes.",
            )?,
            checks: IntGaugeVec::new(check, &["check"])?,
        };
        make.keep("gauge", metrics)
    }
}

impl Metrics {
    /// Asks `readiness` from now on, whenever it is scraped.
    pub fn register_readiness(&self, readiness: impl Fn() -> Readiness + Send + Sync + 'static) {
        let mut whom = self
            .readiness
            .whom
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *whom = Some(Arc::new(readiness));
    }
}

impl Collector for ReadinessMetrics {
    fn desc(&self) -> Vec<&Desc> {
        let mut all = self.ready.desc();
        all.extend(self.checks.desc());
        all
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let lock = || self.whom.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(ask) = lock().clone() else {
            return Vec::new();
        };
        let Readiness { ready, checks } = ask();
        // Another scrape at the same time would find the gauges half full.
        let _filling = lock();
        self.ready.set(ready.into());
        // A check that is forgotten, as those of a platform that is another one now, has no series.
        self.checks.reset();
        for (check, is_ready) in checks {
            self.checks.with_label_values(&[check]).set(is_ready.into());
        }
        let mut all = self.ready.collect();
        all.extend(self.checks.collect());
        all
    }
}
