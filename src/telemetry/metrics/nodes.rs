//! Metrics of nodes: how they are evaluated, and in which pool and phase they are.
//!
//! Gauges over nodes follow the changes one by one: a walk over all nodes at each event would be
//! quadratic in a rollout.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use prometheus::{Histogram, HistogramVec, IntCounter, IntCounterVec, IntGaugeVec, Result};

use super::Metrics;
use super::maker::Maker;
use crate::api::types::Phase;
use crate::registry::lock_order::{OrderedRwLock, Rank};
use crate::telemetry::cause::Trigger;

/// Evaluations take about a microsecond; the last bucket is a thousand times that.
const EVALUATION_BUCKETS: [f64; 7] = [5e-7, 1e-6, 2e-6, 5e-6, 1e-5, 1e-4, 1e-3];
/// Phases last from seconds (a restart) to the hour after which a drain is reported as failed.
const PHASE_BUCKETS: [f64; 9] = [
    10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 7200.0,
];

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

/// The evaluations of one trigger, at hand: looking a series up by its labels takes some 40 ns, as long
/// as all other counting of an evaluation, which itself takes a microsecond.
struct Evaluations {
    changed: IntCounter,
    unchanged: IntCounter,
    removed: IntCounter,
}

impl Evaluations {
    fn of(all: &IntCounterVec, trigger: Trigger) -> Self {
        let counter =
            |result: EvaluationResult| all.with_label_values(&[&*trigger.label(), result.as_str()]);
        Self {
            changed: counter(EvaluationResult::Changed),
            unchanged: counter(EvaluationResult::Unchanged),
            removed: counter(EvaluationResult::Removed),
        }
    }
}

/// Metrics of nodes.
pub(super) struct NodeMetrics {
    /// By trigger; few, and each is there once it was needed.
    evaluations: OrderedRwLock<Vec<(Trigger, Arc<Evaluations>)>>,
    all_evaluations: IntCounterVec,
    evaluation_duration: Histogram,
    nodes: IntGaugeVec,
    degraded: IntGaugeVec,
    phase_duration: HistogramVec,
    each: IntGaugeVec,
    each_is_shown: AtomicBool,
}

impl NodeMetrics {
    pub(super) fn new(make: &Maker<'_>) -> Result<Self> {
        let evaluations = make.counters(
            "node_insights_evaluations_total",
            "Evaluations of nodes, by what set them off and what they led to.",
            &["trigger", "result"],
        )?;
        Ok(Self {
            evaluations: OrderedRwLock::new(Rank::LEAF, Vec::new()),
            all_evaluations: evaluations,
            evaluation_duration: make.histogram(
                "node_insights_evaluation_duration_seconds",
                "Time that judging one node takes.",
                &EVALUATION_BUCKETS,
            )?,
            nodes: make.gauges(
                "node_insights_nodes",
                "Nodes by pool and phase.",
                &["pool", "phase"],
            )?,
            degraded: make.gauges(
                "node_insights_degraded_nodes",
                "Nodes that report a failure of their update, by pool. Alert on more than 0 for minutes while the pool is not Completed.",
                &["pool"],
            )?,
            phase_duration: make.histograms(
                "node_insights_phase_duration_seconds",
                "How long nodes were in a phase, observed when they leave it. Alert on a p90 of Draining near 3600.",
                &["phase"],
                &PHASE_BUCKETS,
            )?,
            each: make.gauges(
                "node_insights_node_phase",
                "1 for the pool and phase that a node is in; only where series for each node are asked for.",
                &["node", "pool", "phase"],
            )?,
            each_is_shown: AtomicBool::new(false),
        })
    }

    fn evaluations(&self, trigger: Trigger) -> Arc<Evaluations> {
        let find = |all: &[(Trigger, Arc<Evaluations>)]| {
            let found = all.iter().find(|(of, _)| *of == trigger)?;
            Some(Arc::clone(&found.1))
        };
        if let Some(evaluations) = find(&self.evaluations.read()) {
            return evaluations;
        }
        let evaluations = Arc::new(Evaluations::of(&self.all_evaluations, trigger));
        let mut all = self.evaluations.write();
        all.push((trigger, Arc::clone(&evaluations)));
        evaluations
    }
}

impl Metrics {
    /// An evaluation ended.
    pub fn evaluated(&self, trigger: Trigger, result: EvaluationResult, seconds: f64) {
        let evaluations = self.nodes.evaluations(trigger);
        match result {
            EvaluationResult::Changed => &evaluations.changed,
            EvaluationResult::Unchanged => &evaluations.unchanged,
            EvaluationResult::Removed => &evaluations.removed,
        }
        .inc();
        self.nodes.evaluation_duration.observe(seconds);
    }

    /// A node left a pool and phase, or entered one.
    pub fn count_node(&self, pool: Option<&str>, phase: Phase, delta: i64) {
        self.nodes
            .nodes
            .with_label_values(&[pool.unwrap_or_default(), phase.as_str()])
            .add(delta);
    }

    /// A node that reports a failure left a pool, or entered one; 0 only shows that the pool is there.
    pub fn count_degraded(&self, pool: Option<&str>, delta: i64) {
        self.nodes
            .degraded
            .with_label_values(&[pool.unwrap_or_default()])
            .add(delta);
    }

    /// A pool is gone: its series go too.
    pub fn forget_pool(&self, pool: &str) {
        let _ = self.nodes.degraded.remove_label_values(&[pool]);
        for phase in Phase::ALL {
            // It is an error to remove a series that never was; that is fine here.
            let _ = self
                .nodes
                .nodes
                .remove_label_values(&[pool, phase.as_str()]);
        }
    }

    /// A node left a phase.
    pub fn left_phase(&self, phase: Phase, seconds: f64) {
        self.nodes
            .phase_duration
            .with_label_values(&[phase.as_str()])
            .observe(seconds);
    }

    /// Shows a series for each node from now on: as many series as there are nodes.
    pub fn enable_node_series(&self) {
        self.nodes.each_is_shown.store(true, Ordering::Relaxed);
    }

    /// A node went from one pool and phase to another; `None` is where it was not known, or is not
    /// any more. Does nothing unless there are series for each node.
    pub fn node_phase(
        &self,
        node: &str,
        before: Option<(Option<&str>, Phase)>,
        after: Option<(Option<&str>, Phase)>,
    ) {
        if before == after || !self.nodes.each_is_shown.load(Ordering::Relaxed) {
            return;
        }
        if let Some((pool, phase)) = before {
            // A node that was there before the series were has none to remove.
            let _ = self.nodes.each.remove_label_values(&[
                node,
                pool.unwrap_or_default(),
                phase.as_str(),
            ]);
        }
        if let Some((pool, phase)) = after {
            self.nodes
                .each
                .with_label_values(&[node, pool.unwrap_or_default(), phase.as_str()])
                .set(1);
        }
    }
}
