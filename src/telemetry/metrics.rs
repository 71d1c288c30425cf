//! Prometheus metrics. Built once and passed in; no label grows with the cluster.
//!
//! Gauges over nodes follow the changes one by one: a walk over all nodes at each event would be
//! quadratic in a rollout.

use std::cell::RefCell;

use prometheus::core::Collector;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};

use super::cause::Trigger;
use crate::api::types::Phase;

/// Evaluations take about a microsecond; the last bucket is a thousand times that.
const EVALUATION_BUCKETS: [f64; 7] = [5e-7, 1e-6, 2e-6, 5e-6, 1e-5, 1e-4, 1e-3];
/// From a quick write (a few ms) to one that waited for an API server that was away.
const LATENCY_BUCKETS: [f64; 12] = [
    0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 600.0,
];
/// Phases last from seconds (a restart) to the hour after which a drain is reported as failed.
const PHASE_BUCKETS: [f64; 9] = [
    10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 7200.0,
];

/// All metrics of the operator.
pub struct Metrics {
    registry: Registry,
    descriptions: Vec<Description>,
    evaluations: IntCounterVec,
    evaluation_duration: Histogram,
    node_states: IntGauge,
    nodes: IntGaugeVec,
    phase_duration: HistogramVec,
    fanout: FanoutMetrics,
    writes: IntCounterVec,
    event_to_write: HistogramVec,
    watches: WatchMetrics,
}

/// Metrics of the fan-out.
struct FanoutMetrics {
    notifications: IntCounterVec,
    coalesced: IntCounterVec,
    pending: IntGaugeVec,
    wait: HistogramVec,
}

impl FanoutMetrics {
    fn new(make: &Maker) -> prometheus::Result<Self> {
        Ok(Self {
            notifications: make.counters(
                "node_insights_notifications_total",
                "Keys that a consumer was told about.",
                &["consumer"],
            )?,
            coalesced: make.counters(
                "node_insights_notifications_coalesced_total",
                "Keys that a consumer was told about while it had not read them since the last time.",
                &["consumer"],
            )?,
            pending: make.gauges(
                "node_insights_notifications_pending",
                "Keys that a consumer has not read yet. Alert when it stays above 0 for minutes.",
                &["consumer"],
            )?,
            wait: make.histograms(
                "node_insights_notification_duration_seconds",
                "Time from telling a consumer about a key until it reads it.",
                &["consumer"],
                &LATENCY_BUCKETS,
            )?,
        })
    }
}

/// Metrics of the watches.
struct WatchMetrics {
    synced: IntGaugeVec,
    failures: IntCounterVec,
    unreadable: IntCounterVec,
}

impl WatchMetrics {
    fn new(make: &Maker) -> prometheus::Result<Self> {
        Ok(Self {
            synced: make.gauges(
                "node_insights_watch_synced",
                "1 while the kind is listed and watched, 0 while the watch fails. Alert on 0 for minutes.",
                &["kind"],
            )?,
            failures: make.counters(
                "node_insights_watch_failures_total",
                "Failures of a watch, by kind and reason.",
                &["kind", "reason"],
            )?,
            unreadable: make.counters(
                "node_insights_unreadable_objects_total",
                "Objects that could not be read and were left out, by kind. Alert on any.",
                &["kind"],
            )?,
        })
    }
}

/// What an evaluation led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EvaluationResult {
    /// The state of the node is another one.
    Changed,
    /// It is as it was.
    Unchanged,
    /// The node is gone.
    Removed,
}

impl EvaluationResult {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Changed => "changed",
            Self::Unchanged => "unchanged",
            Self::Removed => "removed",
        }
    }
}

/// Makes metrics and puts them into the registry.
struct Maker<'a> {
    registry: &'a Registry,
    descriptions: RefCell<Vec<Description>>,
}

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

impl Maker<'_> {
    fn counters(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> prometheus::Result<IntCounterVec> {
        self.keep(
            "counter",
            IntCounterVec::new(Opts::new(name, help), labels)?,
        )
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<IntGaugeVec> {
        self.keep("gauge", IntGaugeVec::new(Opts::new(name, help), labels)?)
    }

    fn histograms(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
        buckets: &[f64],
    ) -> prometheus::Result<HistogramVec> {
        let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
        self.keep("histogram", HistogramVec::new(options, labels)?)
    }

    fn keep<M: Collector + Clone + 'static>(
        &self,
        kind: &'static str,
        metric: M,
    ) -> prometheus::Result<M> {
        self.registry.register(Box::new(metric.clone()))?;
        let described = metric.desc().into_iter().map(|desc| Description {
            name: desc.fq_name.clone(),
            kind,
            labels: desc.variable_labels.clone(),
            help: desc.help.clone(),
        });
        self.descriptions.borrow_mut().extend(described);
        Ok(metric)
    }
}

impl Metrics {
    /// Metrics in a registry of their own.
    ///
    /// # Errors
    /// When two metrics share a name, which a test would have shown.
    pub fn new() -> prometheus::Result<Self> {
        let registry = Registry::new();
        let make = Maker {
            registry: &registry,
            descriptions: RefCell::default(),
        };
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
            evaluations: make.counters(
                "node_insights_evaluations_total",
                "Evaluations of nodes, by what set them off and what they led to.",
                &["trigger", "result"],
            )?,
            evaluation_duration: make.keep("histogram", Histogram::with_opts(
                HistogramOpts::new(
                    "node_insights_evaluation_duration_seconds",
                    "Time that judging one node takes.",
                )
                .buckets(EVALUATION_BUCKETS.to_vec()),
            )?)?,
            node_states: make.keep("gauge", IntGauge::new(
                "node_insights_node_states",
                "Nodes that the operator knows the state of.",
            )?)?,
            nodes: make.gauges("node_insights_nodes", "Nodes by pool and phase.", &["pool", "phase"])?,
            phase_duration: make.histograms(
                "node_insights_phase_duration_seconds",
                "How long nodes were in a phase, observed when they leave it. Alert on a p90 of Draining near 3600.",
                &["phase"],
                &PHASE_BUCKETS,
            )?,
            fanout: FanoutMetrics::new(&make)?,
            writes: make.counters(
                "node_insights_writes_total",
                "Writes of insights to the API server, by kind and outcome (created, updated, deleted, conflict, failed). Alert on failed.",
                &["kind", "outcome"],
            )?,
            event_to_write: make.histograms(
                "node_insights_event_to_write_seconds",
                "Time from learning of a change until the insight that shows it is written.",
                &["kind"],
                &LATENCY_BUCKETS,
            )?,
            watches: WatchMetrics::new(&make)?,
            descriptions: make.descriptions.into_inner(),
            registry,
        })
    }

    /// An evaluation ended.
    pub fn evaluated(&self, trigger: Trigger, result: EvaluationResult, seconds: f64) {
        self.evaluations
            .with_label_values(&[trigger.as_str(), result.as_str()])
            .inc();
        self.evaluation_duration.observe(seconds);
    }

    /// How many nodes have a state now.
    pub fn node_states(&self, count: usize) {
        self.node_states
            .set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// A node left a pool and phase, or entered one.
    pub fn count_node(&self, pool: Option<&str>, phase: Phase, delta: i64) {
        self.nodes
            .with_label_values(&[pool.unwrap_or_default(), phase.as_str()])
            .add(delta);
    }

    /// A pool is gone: its series go too.
    pub fn forget_pool(&self, pool: &str) {
        for phase in Phase::ALL {
            // It is an error to remove a series that never was; that is fine here.
            let _ = self.nodes.remove_label_values(&[pool, phase.as_str()]);
        }
    }

    /// All nodes are forgotten.
    pub fn forget_nodes(&self) {
        self.nodes.reset();
        self.node_states.set(0);
        self.watches.synced.reset();
    }

    /// A node left a phase.
    pub fn left_phase(&self, phase: Phase, seconds: f64) {
        self.phase_duration
            .with_label_values(&[phase.as_str()])
            .observe(seconds);
    }

    /// A consumer was told about a key.
    pub fn notified(&self, consumer: &str, coalesced: bool) {
        self.fanout
            .notifications
            .with_label_values(&[consumer])
            .inc();
        if coalesced {
            self.fanout.coalesced.with_label_values(&[consumer]).inc();
        }
    }

    /// A consumer read a key.
    pub fn notification_read(&self, consumer: &str, seconds: f64) {
        self.fanout
            .wait
            .with_label_values(&[consumer])
            .observe(seconds);
    }

    /// How many keys a consumer has yet to read.
    pub fn pending(&self, consumer: &str, count: usize) {
        self.fanout
            .pending
            .with_label_values(&[consumer])
            .set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// A write ended.
    pub fn wrote(&self, kind: &str, outcome: &str) {
        self.writes.with_label_values(&[kind, outcome]).inc();
    }

    /// A change was written.
    pub fn written_after(&self, kind: &str, seconds: f64) {
        self.event_to_write
            .with_label_values(&[kind])
            .observe(seconds);
    }

    /// A watch works, or does not.
    pub fn watch(&self, kind: &str, synced: bool) {
        self.watches
            .synced
            .with_label_values(&[kind])
            .set(i64::from(synced));
    }

    /// A watch failed.
    pub fn watch_failed(&self, kind: &str, reason: &str) {
        self.watch(kind, false);
        self.watches
            .failures
            .with_label_values(&[kind, reason])
            .inc();
    }

    /// An object could not be read.
    pub fn unreadable(&self, kind: &str) {
        self.watches.unreadable.with_label_values(&[kind]).inc();
    }

    /// What every metric of the operator is; those of the process, which any program has, are not
    /// among them.
    #[must_use]
    pub fn descriptions(&self) -> &[Description] {
        &self.descriptions
    }

    /// All metrics in the Prometheus text format.
    ///
    /// # Errors
    /// When a metric cannot be put into text.
    pub fn render(&self) -> prometheus::Result<String> {
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }
}
