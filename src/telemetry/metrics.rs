//! Prometheus metrics. Built once and passed in; no label grows with the number of nodes, unless series per node
//! are enabled.
//!
//! There is one module per concern, with its metrics and the methods that update them. Callers report what happened;
//! values that exist elsewhere are read at each scrape (see [`Gauge`]). Apart from pools and nodes, label values are
//! constants, never external text.

use std::time::{SystemTime, UNIX_EPOCH};

use prometheus::{Registry, TextEncoder};

use self::insights::InsightMetrics;
use self::leader::LeaderMetrics;
pub use self::maker::Description;
use self::maker::Maker;
pub use self::nodes::EvaluationResult;
use self::nodes::NodeMetrics;
use self::pools::PoolMetrics;
use self::ports::PortMetrics;
pub use self::ports::{Closed, PortName};
pub use self::readiness::Readiness;
use self::readiness::ReadinessMetrics;
pub use self::scraped::Gauge;
use self::scraped::ScrapedMetrics;
use self::states::StateMetrics;
use self::sync::SyncMetrics;
pub use self::sync::{Compared, SyncPhase};
use self::watches::WatchMetrics;

mod insights;
mod leader;
mod maker;
mod nodes;
mod pools;
mod ports;
mod readiness;
mod scraped;
mod states;
mod sync;
mod watches;

/// All metrics of the operator.
pub struct Metrics {
    registry: Registry,
    descriptions: Vec<Description>,
    nodes: NodeMetrics,
    pools: PoolMetrics,
    ports: PortMetrics,
    readiness: ReadinessMetrics,
    scraped: ScrapedMetrics,
    insights: InsightMetrics,
    watches: WatchMetrics,
    sync: SyncMetrics,
    leader: LeaderMetrics,
    states: StateMetrics,
}

impl Metrics {
    /// Metrics in a registry of their own.
    ///
    /// # Errors
    /// When two metrics have the same name.
    pub fn new() -> prometheus::Result<Self> {
        let registry = Registry::new();
        let make = Maker::new(&registry);
        make.gauges(
            "node_insights_build_info",
            "Always 1; the label is the version of the operator.",
            &["version"],
        )?
        .with_label_values(&[env!("CARGO_PKG_VERSION")])
        .set(1);
        #[cfg(target_os = "linux")]
        registry.register(Box::new(
            prometheus::process_collector::ProcessCollector::for_self(),
        ))?;
        Ok(Self {
            nodes: NodeMetrics::new(&make)?,
            pools: PoolMetrics::new(&make)?,
            ports: PortMetrics::new(&make)?,
            readiness: ReadinessMetrics::new(&make)?,
            scraped: ScrapedMetrics::new(&make)?,
            insights: InsightMetrics::new(&make)?,
            watches: WatchMetrics::new(&make)?,
            sync: SyncMetrics::new(&make)?,
            leader: LeaderMetrics::new(&make)?,
            states: StateMetrics::new(&make)?,
            descriptions: make.into_descriptions(),
            registry,
        })
    }

    /// The descriptions of the operator's metrics, without the common ones of the process.
    #[must_use]
    pub fn descriptions(&self) -> &[Description] {
        &self.descriptions
    }

    /// All metrics in the Prometheus text format.
    ///
    /// # Errors
    /// When a metric cannot be encoded.
    pub fn render(&self) -> prometheus::Result<String> {
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }
}

/// The current unix time; 0 if the clock is before 1970.
fn unix_now() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| {
            i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
        })
}

#[cfg(test)]
mod tests;
