//! Metrics of nodes: their evaluations, pools and phases.
//!
//! Gauges over nodes are updated with each change: iterating over all nodes at each event would be quadratic in a
//! rollout.

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

/// The result of an evaluation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EvaluationResult {
    /// The state of the node changed.
    Changed,
    /// The state of the node is unchanged.
    Unchanged,
    /// The node was deleted.
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

/// The cached counters of one trigger: looking up a series by its labels takes some 40 ns, as long as all other
/// counting of an evaluation, which itself takes a microsecond.
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
    /// By trigger; few, created when first used.
    evaluations: OrderedRwLock<Vec<(Trigger, Arc<Evaluations>)>>,
    all_evaluations: IntCounterVec,
    evaluation_duration: Histogram,
    nodes: IntGaugeVec,
    degraded: IntGaugeVec,
    blocked: IntGaugeVec,
    stalled: IntGaugeVec,
    phase_duration: HistogramVec,
    each: IntGaugeVec,
    each_is_shown: AtomicBool,
}

impl NodeMetrics {
    pub(super) fn new(make: &Maker<'_>) -> Result<Self> {
        let evaluations = make.counters(
            "node_insights_evaluations_total",
            "Evaluations of nodes, by trigger and result.",
            &["trigger", "result"],
        )?;
        Ok(Self {
            evaluations: OrderedRwLock::new(Rank::LEAF, Vec::new()),
            all_evaluations: evaluations,
            evaluation_duration: make.histogram(
                "node_insights_evaluation_duration_seconds",
                "Duration of the evaluation of one node.",
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
            blocked: make.gauges(
                "node_insights_blocked_drains",
                "Nodes whose drain is held up, by pool and reason; a node with several reasons counts for each.",
                &["pool", "reason"],
            )?,
            stalled: make.gauges(
                "node_insights_stalled_nodes",
                "Nodes whose update has stalled, by pool and reason. Alert on more than 0.",
                &["pool", "reason"],
            )?,
            phase_duration: make.histograms(
                "node_insights_phase_duration_seconds",
                "Time that nodes spent in a phase, observed when they leave it. Alert on a p90 of Draining near 3600.",
                &["phase"],
                &PHASE_BUCKETS,
            )?,
            each: make.gauges(
                "node_insights_node_phase",
                "1 for the current pool and phase of a node; only with --enable-node-metrics.",
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

    /// A node that reports a failure left or entered a pool; 0 only creates the pool's series.
    pub fn count_degraded(&self, pool: Option<&str>, delta: i64) {
        self.nodes
            .degraded
            .with_label_values(&[pool.unwrap_or_default()])
            .add(delta);
    }

    /// A reason holds the drain of one more node of a pool up, or of one less.
    pub fn count_blocked(&self, pool: Option<&str>, reason: &str, delta: i64) {
        count(&self.nodes.blocked, pool, reason, delta);
    }

    /// The update of a node has stalled for this reason, or no longer has.
    pub fn count_stalled(&self, pool: Option<&str>, reason: &str, delta: i64) {
        count(&self.nodes.stalled, pool, reason, delta);
    }

    /// A pool was deleted: removes its series.
    pub fn forget_pool(&self, pool: &str) {
        let _ = self.nodes.degraded.remove_label_values(&[pool]);
        for phase in Phase::ALL {
            // Removing a series that does not exist is an error, which is fine here.
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

    /// Enables a series for each node.
    pub fn enable_node_series(&self) {
        self.nodes.each_is_shown.store(true, Ordering::Relaxed);
    }

    /// A node changed its pool or phase; `None` for a node that is new or deleted. Does nothing unless series per
    /// node are enabled.
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
            // A node that is older than the setting has no series to remove.
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

/// Counts a node of a pool with a reason. There are many reasons, and few at a time: one without nodes has no series.
fn count(nodes: &IntGaugeVec, pool: Option<&str>, reason: &str, delta: i64) {
    let labels = [pool.unwrap_or_default(), reason];
    let gauge = nodes.with_label_values(&labels);
    gauge.add(delta);
    if gauge.get() == 0 {
        let _ = nodes.remove_label_values(&labels);
    }
}
