//! What readers get from the centre. Nothing here evaluates.

#![expect(
    clippy::missing_errors_doc,
    reason = "every error here is the backend's, as the first function says"
)]

use std::sync::Arc;

use jiff::Timestamp;

use super::Centre;
use crate::api::types::Phase;
use crate::domain::pool_status::PoolView;
use crate::reconcile::insight_key::InsightKey;
use crate::reconcile::inventory::Found;
use crate::reconcile::kept::PhaseDurations;
use crate::reconcile::states::{Evaluated, EvaluatedPool, States};
use crate::registry::backend::BackendError;
use crate::registry::store::Snapshot;
use crate::telemetry::cause::Cause;

impl Centre {
    /// The state of a node, and what led to it.
    ///
    /// # Errors
    /// When the backend fails; so of all that follow.
    pub fn node(&self, name: &Arc<str>) -> Result<Option<Arc<Evaluated>>, BackendError> {
        self.states.node(name)
    }

    /// All nodes, from one moment.
    pub fn nodes(&self) -> Result<Snapshot<Evaluated>, BackendError> {
        self.states.nodes()
    }

    /// All nodes of a pool, from one moment.
    pub fn nodes_of(&self, pool: &Arc<str>) -> Result<Snapshot<Evaluated>, BackendError> {
        self.states.nodes_of(pool)
    }

    /// A pool with a consistent snapshot of its nodes.
    pub fn pool(&self, name: &Arc<str>) -> Result<Found<PoolView>, BackendError> {
        let nodes = self.states.nodes_of(name)?.values;
        let Some(pool) = self.states.pool(name)? else {
            return Ok(match self.inventory.describe(name, (self.clock)()) {
                Found::Gone => Found::Gone,
                // It is about to be committed.
                Found::Here(_) | Found::Unknown => Found::Unknown,
            });
        };
        Ok(Found::Here(PoolView {
            state: Arc::clone(&pool.state),
            nodes: nodes
                .iter()
                .map(|evaluated| Arc::clone(&evaluated.state))
                .collect(),
        }))
    }

    /// What led to the end of a node, until [`Centre::parted`].
    pub fn departure(&self, name: &Arc<str>) -> Option<Arc<Cause>> {
        self.departures.get(name)
    }

    /// Nothing is left of a node that is gone.
    pub fn parted(&self, name: &Arc<str>) {
        self.departures.remove(name);
    }

    /// Names of all pools.
    pub fn pool_names(&self) -> Result<Vec<Arc<str>>, BackendError> {
        let pools = self.states.pools()?.values;
        Ok(pools
            .iter()
            .map(|pool| Arc::clone(&pool.state.id.name))
            .collect())
    }

    /// A pool without its nodes, and what last changed in it.
    pub fn evaluated_pool(
        &self,
        name: &Arc<str>,
    ) -> Result<Option<Arc<EvaluatedPool>>, BackendError> {
        self.states.pool(name)
    }

    /// How long the nodes of a pool were in each phase.
    pub fn durations(&self, pool: &Arc<str>) -> Result<PhaseDurations, BackendError> {
        self.states.durations(pool)
    }

    /// When the node that is longest in a phase entered it.
    #[must_use]
    pub fn oldest(&self, phase: Phase) -> Option<Timestamp> {
        self.counts.oldest(phase)
    }

    /// Keys of all nodes and pools.
    pub(super) fn keys(&self) -> Result<Vec<InsightKey>, BackendError> {
        let nodes = self.nodes()?.values;
        let nodes = nodes
            .iter()
            .map(|evaluated| InsightKey::Node(Arc::clone(&evaluated.state.name)));
        let pools = self.pool_names()?.into_iter().map(InsightKey::Pool);
        Ok(nodes.chain(pools).collect())
    }

    /// Where the states are, for whoever looks after them.
    #[must_use]
    pub fn states(&self) -> &States {
        &self.states
    }

    /// How many nodes and pools wait to be evaluated.
    #[must_use]
    pub fn dirty(&self) -> usize {
        self.dirty.pending()
    }
}
