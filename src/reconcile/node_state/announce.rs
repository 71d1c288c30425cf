//! Notifies the consumers of what was committed.

use std::sync::Arc;

use jiff::SignedDuration;

use super::{Committed, NodeStateController};
use crate::domain::rollout;
use crate::domain::state::NodeState;
use crate::providers::Identity;
use crate::reconcile::insight_key::InsightKey;
use crate::reconcile::inventory::Found;
use crate::reconcile::states::{Evaluated, EvaluatedPool};
use crate::registry::backend::BackendError;
use crate::registry::dirty::Marked;
use crate::telemetry::cause::Cause;

/// After so long, the pool's consumer has read what it was notified of.
const TAKEN_OVER: SignedDuration = SignedDuration::from_mins(1);

impl NodeStateController {
    /// Notifies the consumers of the node and its pools.
    pub(super) fn announce(
        &self,
        committed: &Committed,
        before: Option<&Evaluated>,
        cause: &Cause,
    ) -> Result<(), BackendError> {
        match committed {
            Committed::Unchanged | Committed::Removed(None) => Ok(()),
            Committed::Removed(Some(gone)) => self.after_removal(&gone.state, cause),
            Committed::Changed(state) => {
                log(state, cause, "The state of the node changed");
                let before = before.map(|before| &*before.state);
                self.counts.moved(before, Some(state));
                let left = before
                    .and_then(NodeState::pool_name)
                    .filter(|pool| Some(pool) != state.pool_name().as_ref());
                if let Some(left) = &left {
                    self.count_removal(left);
                }
                self.notify_node(&state.name, [left, state.pool_name()], cause)
            }
        }
    }

    pub(super) fn after_removal(
        &self,
        gone: &NodeState,
        cause: &Cause,
    ) -> Result<(), BackendError> {
        log(gone, cause, "The node is gone");
        self.counts.moved(Some(gone), None);
        self.again.schedule(Some(gone), None);
        // A node with the same name may return and continue this update.
        if self.inventory.providers().identity(&gone.provider) == Identity::Name {
            let now = (self.clock)();
            self.past.keep(gone, now);
        } else if let Some(pool) = gone.pool_name()
            && gone.is_outdated()
            && !gone.phase.is_in_progress()
        {
            // It disappeared untouched: that is no progress.
            self.count_removal(&pool);
        } else if let Some(pool) = gone.pool_name() {
            self.count_replacement(&pool, gone);
        }
        // Before notifying: consumers read the cause from here, as the state is gone.
        self.pending_deletions
            .upsert(Arc::clone(&gone.name), cause.clone());
        if !self.notify(&InsightKey::Node(Arc::clone(&gone.name))) {
            self.deletion_written(&gone.name);
        }
        self.notify_pools([gone.pool_name(), None], cause)
    }

    /// Remembers the update of a node that was replaced, unless a longer one has just ended. The pool's consumer takes
    /// it over within a second or two.
    fn count_replacement(&self, pool: &Arc<str>, gone: &NodeState) {
        let Some(update) = rollout::duration(gone, (self.clock)()) else {
            return;
        };
        let known = self.replaced.get(pool);
        let is_longest = known.is_none_or(|known| {
            let is_taken_over = update.end.duration_since(known.end) > TAKEN_OVER;
            is_taken_over || known.node.duration_seconds < update.node.duration_seconds
        });
        if is_longest {
            self.replaced.upsert(Arc::clone(pool), update);
        }
    }

    /// Counts a node that leaves its pool other than by being updated or replaced.
    fn count_removal(&self, pool: &Arc<str>) {
        let before = self.removed.get(pool).map_or(0, |count| *count);
        self.removed.upsert(Arc::clone(pool), before + 1);
    }

    fn notify_node(
        &self,
        name: &Arc<str>,
        pools: [Option<Arc<str>>; 2],
        cause: &Cause,
    ) -> Result<(), BackendError> {
        if !self.notify(&InsightKey::Node(Arc::clone(name)))
            && let Some(evaluated) = self.states.node(name)?
        {
            evaluated.cause.finish();
        }
        self.notify_pools(pools, cause)
    }

    fn notify_pools(
        &self,
        pools: [Option<Arc<str>>; 2],
        cause: &Cause,
    ) -> Result<(), BackendError> {
        for pool in pools.into_iter().flatten() {
            self.notify_pool(&pool, cause)?;
        }
        Ok(())
    }

    pub(super) fn notify_pool(&self, name: &Arc<str>, cause: &Cause) -> Result<(), BackendError> {
        match self.inventory.describe(name, (self.clock)()) {
            Found::Here(state) => self.states.put_pool(EvaluatedPool {
                state: Arc::new(state),
                cause: cause.clone(),
            })?,
            Found::Gone => {
                self.states.remove_pool(name)?;
                self.counts.forget_pool(name);
                self.removed.remove(name);
                self.replaced.remove(name);
                self.lessons.forget(name);
            }
            // Keep the last known state.
            Found::Unknown => {}
        }
        if !self.notify(&InsightKey::Pool(Arc::clone(name)))
            && let Some(change) = self.states.pool(name)?
        {
            change.cause.finish();
        }
        Ok(())
    }

    /// Notifies every consumer of this key; returns whether there is one.
    pub(super) fn notify(&self, key: &InsightKey) -> bool {
        let mut is_wanted = false;
        self.fanout.notify(key, |consumer, marked| {
            is_wanted = true;
            self.metrics.notified(consumer, marked == Marked::Coalesced);
        });
        is_wanted
    }
}

fn log(state: &NodeState, cause: &Cause, message: &'static str) {
    tracing::debug!(
        reconcile_id = cause.reconcile_id,
        trigger = %cause.trigger,
        resource_version = &*cause.resource_version,
        node = &*state.name,
        pool = state.pool.as_ref().map(|pool| &*pool.name),
        phase = %state.phase,
        reason = state.updating.reason,
        message
    );
}
