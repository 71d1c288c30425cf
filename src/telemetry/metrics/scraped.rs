//! Gauges whose values are computed at each scrape.
//!
//! The owner of a value registers a closure; a later registration replaces it. A gauge without a closure has no
//! series. Closures run on the thread that scrapes, so they have to be quick; no lock is held meanwhile.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntGauge, IntGaugeVec, Opts, Result};

use super::Metrics;
use super::maker::Maker;
use crate::api::types::Phase;

/// A gauge that is computed at each scrape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gauge {
    /// How many nodes have a state.
    NodeStates,
    /// How many long operations run.
    OperationsRunning,
}

type Count = dyn Fn() -> usize + Send + Sync;
type PhaseStart = dyn Fn(Phase) -> Option<i64> + Send + Sync;

/// The registered closure, if any.
type Source<A> = Arc<Mutex<Option<Arc<A>>>>;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// All gauges that are computed at each scrape.
pub(super) struct ScrapedMetrics {
    node_states: ScrapedGauge,
    oldest: OldestInPhase,
    operations_running: ScrapedGauge,
}

impl ScrapedMetrics {
    pub(super) fn new(make: &Maker<'_>) -> Result<Self> {
        let gauge = |name: &str, help: &str| make.register("gauge", ScrapedGauge::new(name, help)?);
        Ok(Self {
            node_states: gauge(
                "node_insights_node_states",
                "Nodes whose state the operator knows.",
            )?,
            oldest: make.register("gauge", OldestInPhase::new()?)?,
            operations_running: gauge(
                "node_insights_operations_running",
                "Running long operations, such as a full compare. Alert when it is never 0 for an hour.",
            )?,
        })
    }

    fn of(&self, gauge: Gauge) -> &ScrapedGauge {
        match gauge {
            Gauge::NodeStates => &self.node_states,
            Gauge::OperationsRunning => &self.operations_running,
        }
    }
}

impl Metrics {
    /// Calls `count` for this gauge at each scrape from now on.
    pub fn register_gauge(&self, gauge: Gauge, count: impl Fn() -> usize + Send + Sync + 'static) {
        *lock(&self.scraped.of(gauge).source) = Some(Arc::new(count));
    }

    /// Calls `start` at each scrape from now on. It returns the unix time at which the node that is longest in a
    /// phase entered it; `None` when no node is in it.
    pub fn register_oldest_phase_start(
        &self,
        start: impl Fn(Phase) -> Option<i64> + Send + Sync + 'static,
    ) {
        *lock(&self.scraped.oldest.source) = Some(Arc::new(start));
    }
}

/// A gauge without labels.
#[derive(Clone)]
struct ScrapedGauge {
    gauge: IntGauge,
    source: Source<Count>,
}

impl ScrapedGauge {
    fn new(name: &str, help: &str) -> Result<Self> {
        Ok(Self {
            gauge: IntGauge::new(name, help)?,
            source: Source::default(),
        })
    }
}

impl Collector for ScrapedGauge {
    fn desc(&self) -> Vec<&Desc> {
        self.gauge.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let Some(count) = lock(&self.source).clone() else {
            return Vec::new();
        };
        self.gauge.set(i64::try_from(count()).unwrap_or(i64::MAX));
        self.gauge.collect()
    }
}

/// For each phase, when the node that is longest in it entered it.
#[derive(Clone)]
struct OldestInPhase {
    /// Locked while a scrape fills and reads the gauges, so that a concurrent one does not see them half full.
    filling: Arc<Mutex<()>>,
    gauges: IntGaugeVec,
    source: Source<PhaseStart>,
}

impl OldestInPhase {
    fn new() -> Result<Self> {
        let options = Opts::new(
            "node_insights_oldest_phase_start_timestamp_seconds",
            "Unix time at which the node that is longest in this phase entered it; absent without such a node, and for Completed. Alert on time() - it > 7200 for Draining, Updating and Rebooting.",
        );
        Ok(Self {
            filling: Arc::default(),
            gauges: IntGaugeVec::new(options, &["phase"])?,
            source: Source::default(),
        })
    }
}

impl Collector for OldestInPhase {
    fn desc(&self) -> Vec<&Desc> {
        self.gauges.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let Some(start) = lock(&self.source).clone() else {
            return Vec::new();
        };
        let phases = Phase::ALL
            .into_iter()
            .filter(|phase| *phase != Phase::Completed);
        let starts: Vec<_> = phases
            .filter_map(|phase| Some((phase, start(phase)?)))
            .collect();
        let _filling = lock(&self.filling);
        self.gauges.reset();
        for (phase, start) in starts {
            self.gauges.with_label_values(&[phase.as_str()]).set(start);
        }
        self.gauges.collect()
    }
}
