//! Creates and registers metrics, and collects their descriptions for the documentation.

use std::cell::RefCell;

use prometheus::core::Collector;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, Result,
};

/// The description of a metric, for the documentation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// Its name.
    pub name: String,
    /// `counter`, `gauge` or `histogram`.
    pub kind: &'static str,
    /// Its labels.
    pub labels: Vec<String>,
    /// Its help text.
    pub help: String,
}

/// Creates and registers metrics.
pub(super) struct Maker<'a> {
    registry: &'a Registry,
    descriptions: RefCell<Vec<Description>>,
}

impl<'a> Maker<'a> {
    pub(super) fn new(registry: &'a Registry) -> Self {
        Self {
            registry,
            descriptions: RefCell::default(),
        }
    }

    pub(super) fn into_descriptions(self) -> Vec<Description> {
        self.descriptions.into_inner()
    }

    pub(super) fn counter(&self, name: &str, help: &str) -> Result<IntCounter> {
        self.register("counter", IntCounter::new(name, help)?)
    }

    pub(super) fn counters(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<IntCounterVec> {
        self.register(
            "counter",
            IntCounterVec::new(Opts::new(name, help), labels)?,
        )
    }

    pub(super) fn gauge(&self, name: &str, help: &str) -> Result<IntGauge> {
        self.register("gauge", IntGauge::new(name, help)?)
    }

    pub(super) fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntGaugeVec> {
        self.register("gauge", IntGaugeVec::new(Opts::new(name, help), labels)?)
    }

    pub(super) fn histogram(&self, name: &str, help: &str, buckets: &[f64]) -> Result<Histogram> {
        let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
        self.register("histogram", Histogram::with_opts(options)?)
    }

    pub(super) fn histograms(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
        buckets: &[f64],
    ) -> Result<HistogramVec> {
        let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
        self.register("histogram", HistogramVec::new(options, labels)?)
    }

    /// Registers a collector whose series are of this `kind`.
    pub(super) fn register<C: Collector + Clone + 'static>(
        &self,
        kind: &'static str,
        collector: C,
    ) -> Result<C> {
        self.registry.register(Box::new(collector.clone()))?;
        let described = collector.desc().into_iter().map(|desc| Description {
            name: desc.fq_name.clone(),
            kind,
            labels: desc.variable_labels.clone(),
            help: desc.help.clone(),
        });
        self.descriptions.borrow_mut().extend(described);
        Ok(collector)
    }
}
