//! Makes metrics, puts them into the registry, and keeps what they are for the documentation.

use std::cell::RefCell;

use prometheus::core::Collector;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, Result,
};

/// What a metric is, for the documentation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// Its name.
    pub name: String,
    /// `counter`, `gauge` or `histogram`.
    pub kind: &'static str,
    /// Its labels.
    pub labels: Vec<String>,
    /// What it says.
    pub help: String,
}

/// Makes metrics and puts them into the registry.
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
        self.keep("counter", IntCounter::new(name, help)?)
    }

    pub(super) fn counters(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<IntCounterVec> {
        self.keep(
            "counter",
            IntCounterVec::new(Opts::new(name, help), labels)?,
        )
    }

    pub(super) fn gauge(&self, name: &str, help: &str) -> Result<IntGauge> {
        self.keep("gauge", IntGauge::new(name, help)?)
    }

    pub(super) fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntGaugeVec> {
        self.keep("gauge", IntGaugeVec::new(Opts::new(name, help), labels)?)
    }

    pub(super) fn histogram(&self, name: &str, help: &str, buckets: &[f64]) -> Result<Histogram> {
        let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
        self.keep("histogram", Histogram::with_opts(options)?)
    }

    pub(super) fn histograms(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
        buckets: &[f64],
    ) -> Result<HistogramVec> {
        let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
        self.keep("histogram", HistogramVec::new(options, labels)?)
    }

    /// Any collector; `kind` is what its series are.
    pub(super) fn keep<C: Collector + Clone + 'static>(
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
