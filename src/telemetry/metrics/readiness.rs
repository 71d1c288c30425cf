//! The checks of `/readyz` as metrics, read at each scrape so that the two never differ.
//!
//! Check names are constants, so the number of series is bounded: one per line of `/readyz`.

use std::sync::{Arc, Mutex, PoisonError};

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntGauge, IntGaugeVec, Opts, Result};

use super::Metrics;
use super::maker::Maker;

/// Whether everything is ready, and each check by its name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Readiness {
    /// Whether all checks are ready or optional.
    pub ready: bool,
    /// Each check, and whether it is ready.
    pub checks: Vec<(&'static str, bool)>,
}

type Source = dyn Fn() -> Readiness + Send + Sync;

/// Metrics of the readiness.
#[derive(Clone)]
pub(super) struct ReadinessMetrics {
    /// `None` until registered. Not locked while it is called.
    source: Arc<Mutex<Option<Arc<Source>>>>,
    ready: IntGauge,
    checks: IntGaugeVec,
}

impl ReadinessMetrics {
    pub(super) fn new(make: &Maker<'_>) -> Result<Self> {
        let check = Opts::new(
            "node_insights_check_ready",
            "1 while a check of /readyz is ready, else 0. Alert on 0 for minutes: /readyz has the remedy.",
        );
        let metrics = Self {
            source: Arc::default(),
            ready: IntGauge::new(
                "node_insights_ready",
                "1 while /readyz reports that this replica is ready, else 0. Alert on 0 for minutes.",
            )?,
            checks: IntGaugeVec::new(check, &["check"])?,
        };
        make.register("gauge", metrics)
    }
}

impl Metrics {
    /// Calls `readiness` at each scrape from now on.
    pub fn register_readiness(&self, readiness: impl Fn() -> Readiness + Send + Sync + 'static) {
        let mut source = self
            .readiness
            .source
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *source = Some(Arc::new(readiness));
    }
}

impl Collector for ReadinessMetrics {
    fn desc(&self) -> Vec<&Desc> {
        let mut all = self.ready.desc();
        all.extend(self.checks.desc());
        all
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let lock = || self.source.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(readiness) = lock().clone() else {
            return Vec::new();
        };
        let Readiness { ready, checks } = readiness();
        // So that a concurrent scrape does not see the gauges half full.
        let _filling = lock();
        self.ready.set(ready.into());
        // Removes the series of forgotten checks.
        self.checks.reset();
        for (check, is_ready) in checks {
            self.checks.with_label_values(&[check]).set(is_ready.into());
        }
        let mut all = self.ready.collect();
        all.extend(self.checks.collect());
        all
    }
}
