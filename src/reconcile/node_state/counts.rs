//! How many nodes are where, and since when: followed change by change, never by a walk over all.

use std::sync::Arc;

use jiff::Timestamp;

use crate::api::types::{ConditionStatus, Phase};
use crate::domain::state::NodeState;
use crate::registry::Clock;
use crate::registry::store::Store;
use crate::telemetry::metrics::Metrics;

/// A node in a phase: since when, and its name.
type Entered = (Timestamp, Arc<str>);

/// Counts nodes by pool and phase, and knows who is longest in each.
pub(super) struct Counts {
    /// Nodes that are not Completed, found by phase, the one that is longest in it first.
    unfinished: Store<Entered, Phase, Phase>,
    metrics: Arc<Metrics>,
    clock: Clock,
}

impl Counts {
    pub(super) fn new(metrics: Arc<Metrics>, clock: Clock) -> Self {
        Self {
            unfinished: Store::indexed(|phase| Some(*phase)),
            metrics,
            clock,
        }
    }

    /// A node is another one, is new or is gone.
    pub(super) fn moved(&self, before: Option<&NodeState>, after: Option<&NodeState>) {
        let place =
            |state: Option<&NodeState>| state.map(|state| (state.pool.clone(), state.phase));
        if place(before) != place(after) {
            for (state, delta) in [(before, -1), (after, 1)] {
                if let Some(state) = state {
                    self.metrics.count_node(pool(state), state.phase, delta);
                }
            }
        }
        self.degraded(before, after);
        if let Some(name) = before.or(after).map(|state| &state.name) {
            let before = before.map(|state| (pool(state), state.phase));
            let after = after.map(|state| (pool(state), state.phase));
            self.metrics.node_phase(name, before, after);
        }
        let phase = |state: Option<&NodeState>| state.map(|state| (state.phase, state.phase_start));
        if phase(before) == phase(after) {
            return;
        }
        if let Some(before) = before {
            self.unfinished.remove(&entered(before));
            let seconds = (self.clock)().as_second() - before.phase_start.as_second();
            self.metrics.left_phase(
                before.phase,
                f64::from(i32::try_from(seconds).unwrap_or(i32::MAX)),
            );
        }
        if let Some(after) = after.filter(|after| after.phase != Phase::Completed) {
            self.unfinished.upsert(entered(after), after.phase);
        }
    }

    fn degraded(&self, before: Option<&NodeState>, after: Option<&NodeState>) {
        let place =
            |state: Option<&NodeState>| state.map(|state| (state.pool.clone(), fails(state)));
        if place(before) == place(after) {
            return;
        }
        for (state, delta) in [(before, -1), (after, 1)] {
            if let Some(state) = state {
                let delta = if fails(state) { delta } else { 0 };
                self.metrics.count_degraded(pool(state), delta);
            }
        }
    }

    /// When the node that is longest in a phase entered it.
    pub(super) fn oldest(&self, phase: Phase) -> Option<Timestamp> {
        self.unfinished.first_of(&phase).map(|(since, _)| since)
    }

    /// A pool is gone.
    pub(super) fn forget_pool(&self, pool: &str) {
        self.metrics.forget_pool(pool);
    }
}

fn pool(state: &NodeState) -> Option<&str> {
    state.pool.as_ref().map(|pool| &*pool.name)
}

fn fails(state: &NodeState) -> bool {
    state.degraded.status == ConditionStatus::True
}

fn entered(state: &NodeState) -> Entered {
    (state.phase_start, Arc::clone(&state.name))
}
