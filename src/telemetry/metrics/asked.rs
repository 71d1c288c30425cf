//! Gauges that ask when they are scraped: nothing has to tell them, and they know nobody.
//!
//! Whoever has the figure registers a closure, as often as there is somebody new to ask; the last one
//! counts. A gauge that nobody answers has no series. Closures run on the thread that scrapes, so
//! they have to be quick; none of the locks here is held while they do.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntGauge, IntGaugeVec, Opts, Result};

use super::Metrics;
use super::maker::Maker;
use crate::api::types::Phase;

/// A gauge that asks for its figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gauge {
    /// How many nodes have a state.
    NodeStates,
    /// How many long operations run.
    OperationsRunning,
}

type AskCount = dyn Fn() -> usize + Send + Sync;
type AskPhase = dyn Fn(Phase) -> Option<i64> + Send + Sync;

/// Whom to ask, if anybody.
type Whom<A> = Arc<Mutex<Option<Arc<A>>>>;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// All gauges that ask.
pub(super) struct AskedMetrics {
    node_states: AskedGauge,
    oldest: OldestInPhase,
    operations_running: AskedGauge,
}

impl AskedMetrics {
    pub(super) fn new(make: &Maker<'_>) -> Result<Self> {
        let gauge = |name: &str, help: &str| make.keep("gauge", AskedGauge::new(name, help)?);
        Ok(Self {
            node_states: gauge(
                "node_insights_node_states",
                "Nodes that the operator knows the state of.",
            )?,
            oldest: make.keep("gauge", OldestInPhase::new()?)?,
            operations_running: gauge(
                "node_insights_operations_running",
                "Long operations, such as a full compare, that run at this moment. Alert when it is never 0 for an hour.",
            )?,
        })
    }

    fn of(&self, gauge: Gauge) -> &AskedGauge {
        match gauge {
            Gauge::NodeStates => &self.node_states,
            Gauge::OperationsRunning => &self.operations_running,
        }
    }
}

impl Metrics {
    /// Asks `count` for this gauge from now on, whenever it is scraped.
    pub fn register_gauge(&self, gauge: Gauge, count: impl Fn() -> usize + Send + Sync + 'static) {
        *lock(&self.asked.of(gauge).whom) = Some(Arc::new(count));
    }

    /// Asks `start` from now on, whenever it is scraped, for the unix time at which the node that is
    /// longest in a phase entered it; `None` when no node is in it.
    pub fn register_oldest_phase_start(
        &self,
        start: impl Fn(Phase) -> Option<i64> + Send + Sync + 'static,
    ) {
        *lock(&self.asked.oldest.whom) = Some(Arc::new(start));
    }
}

/// One figure.
#[derive(Clone)]
struct AskedGauge {
    gauge: IntGauge,
    whom: Whom<AskCount>,
}

impl AskedGauge {
    fn new(name: &str, help: &str) -> Result<Self> {
        Ok(Self {
            gauge: IntGauge::new(name, help)?,
            whom: Whom::default(),
        })
    }
}

impl Collector for AskedGauge {
    fn desc(&self) -> Vec<&Desc> {
        self.gauge.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let Some(count) = lock(&self.whom).clone() else {
            return Vec::new();
        };
        self.gauge.set(i64::try_from(count()).unwrap_or(i64::MAX));
        self.gauge.collect()
    }
}

/// Since when the node that is longest in a phase is in it.
#[derive(Clone)]
struct OldestInPhase {
    /// Locked while a scrape fills and reads it: another one at the same time would find it half full.
    filling: Arc<Mutex<()>>,
    gauges: IntGaugeVec,
    whom: Whom<AskPhase>,
}

impl OldestInPhase {
    fn new() -> Result<Self> {
        let options = Opts::new(
            "node_insights_oldest_phase_start_timestamp_seconds",
            "Unix time at which the node that is longest in this phase entered it; absent when no node is in it, and for Completed. Alert on time() - it > 7200 for Draining, Updating and Rebooting.",
        );
        Ok(Self {
            filling: Arc::default(),
            gauges: IntGaugeVec::new(options, &["phase"])?,
            whom: Whom::default(),
        })
    }
}

impl Collector for OldestInPhase {
    fn desc(&self) -> Vec<&Desc> {
        self.gauges.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let Some(start) = lock(&self.whom).clone() else {
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
