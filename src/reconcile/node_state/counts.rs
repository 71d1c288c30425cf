//! Counts of nodes by pool and phase, updated incrementally with each change.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;

use crate::api::types::{ConditionStatus, Phase};
use crate::domain::drain::Reason;
use crate::domain::state::NodeState;
use crate::registry::Clock;
use crate::registry::store::Store;
use crate::telemetry::metrics::Metrics;

/// When a node entered its phase, and its name.
type Entered = (Timestamp, Arc<str>);

/// Counts nodes by pool and phase, and tracks the oldest node of each phase.
pub(super) struct Counts {
    /// Nodes that are not Completed, indexed by phase, the oldest in it first.
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

    /// Updates the counts after a node was added, changed or deleted.
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
        self.blocked(before, after);
        self.stalled(before, after);
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
            |state: Option<&NodeState>| state.map(|state| (state.pool.clone(), is_degraded(state)));
        if place(before) == place(after) {
            return;
        }
        for (state, delta) in [(before, -1), (after, 1)] {
            if let Some(state) = state {
                let delta = if is_degraded(state) { delta } else { 0 };
                self.metrics.count_degraded(pool(state), delta);
            }
        }
    }

    fn blocked(&self, before: Option<&NodeState>, after: Option<&NodeState>) {
        let place = |state: Option<&NodeState>| {
            state.map_or_else(Default::default, |state| {
                (state.pool.clone(), reasons(state))
            })
        };
        if place(before) == place(after) {
            return;
        }
        for (state, delta) in [(before, -1), (after, 1)] {
            let Some(state) = state else { continue };
            for reason in reasons(state) {
                self.metrics
                    .count_blocked(pool(state), reason.as_str(), delta);
            }
        }
    }

    fn stalled(&self, before: Option<&NodeState>, after: Option<&NodeState>) {
        let place = |state: Option<&NodeState>| {
            let state = state?;
            let reason = state.stall.as_ref()?.reason;
            Some((state.pool.clone(), reason))
        };
        let (before, after) = (place(before), place(after));
        if before == after {
            return;
        }
        for (place, delta) in [(before, -1), (after, 1)] {
            let Some((pool, reason)) = place else {
                continue;
            };
            let pool = pool.as_ref().map(|pool| &*pool.name);
            self.metrics.count_stalled(pool, reason.as_str(), delta);
        }
    }

    /// Returns when the node that has been in a phase for the longest entered it.
    pub(super) fn oldest(&self, phase: Phase) -> Option<Timestamp> {
        self.unfinished.first_of(&phase).map(|(since, _)| since)
    }

    /// Removes the series of a deleted pool.
    pub(super) fn forget_pool(&self, pool: &str) {
        self.metrics.forget_pool(pool);
    }
}

fn pool(state: &NodeState) -> Option<&str> {
    state.pool.as_ref().map(|pool| &*pool.name)
}

fn is_degraded(state: &NodeState) -> bool {
    state.degraded.status == ConditionStatus::True
}

/// What holds the drain of the node up.
fn reasons(state: &NodeState) -> BTreeSet<Reason> {
    let blockers = state.drain.iter().flat_map(|drain| &drain.blockers);
    blockers.map(|blocker| blocker.key.reason).collect()
}

fn entered(state: &NodeState) -> Entered {
    (state.phase_start, Arc::clone(&state.name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::drain::Drain;
    use crate::domain::drain::fixtures::blocker;
    use crate::domain::fixtures::at;
    use crate::domain::pool_status::tests::node;
    use crate::domain::stalled::{Stall, StallReason};

    fn draining(blockers: &[Reason], stall: Option<StallReason>) -> NodeState {
        let blockers = blockers.iter().map(|reason| blocker(*reason, at(0)));
        NodeState {
            drain: Some(Box::new(Drain {
                blockers: blockers.collect(),
                ..Drain::default()
            })),
            stall: stall.map(|reason| {
                Box::new(Stall {
                    reason,
                    message: "why".into(),
                    since: at(0),
                })
            }),
            ..node(Phase::Draining)
        }
    }

    #[test]
    fn a_node_counts_once_for_each_reason_that_holds_its_drain_up_and_for_its_stall() {
        let metrics = Arc::new(Metrics::new().unwrap());
        let counts = Counts::new(Arc::clone(&metrics), Arc::new(|| at(0)));
        let never = Reason::BudgetNeverAllows;
        let free = draining(&[], None);
        let twice = draining(&[never, never], None);
        let stalled = draining(
            &[never, Reason::NotDeleted],
            Some(StallReason::DrainBlocked),
        );
        let values = || {
            let text = metrics.render().unwrap();
            ["BudgetNeverAllows", "NotDeleted", "DrainBlocked"].map(|reason| {
                let label = format!("pool=\"worker\",reason=\"{reason}\"}} ");
                let mut lines = text.lines();
                let line = lines.find_map(|line| line.split_once(&label).map(|(_, value)| value));
                line.map_or(0, |value| value.parse::<i64>().unwrap())
            })
        };
        counts.moved(None, Some(&free));
        assert_eq!(values(), [0, 0, 0]);
        counts.moved(Some(&free), Some(&twice));
        assert_eq!(values(), [1, 0, 0]);
        counts.moved(Some(&twice), Some(&stalled));
        assert_eq!(values(), [1, 1, 1]);
        counts.moved(None, Some(&stalled));
        assert_eq!(values(), [2, 2, 2]);
        counts.moved(Some(&stalled), None);
        counts.moved(Some(&stalled), Some(&free));
        assert_eq!(values(), [0, 0, 0]);
        assert!(!metrics.render().unwrap().contains("BudgetNeverAllows"));
    }
}
