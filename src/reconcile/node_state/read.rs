//! Read access to the node-state controller. Nothing here evaluates.

#![expect(
    clippy::missing_errors_doc,
    reason = "every error here is the backend's, as documented on the first function"
)]

use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::watch;

use super::NodeStateController;
use crate::api::types::Phase;
use crate::domain::pool_status::PoolView;
use crate::domain::rollout::Update;
use crate::reconcile::insight_key::InsightKey;
use crate::reconcile::inventory::Found;
use crate::reconcile::states::{Evaluated, EvaluatedPool, States};
use crate::registry::backend::BackendError;
use crate::registry::store::Snapshot;
use crate::telemetry::cause::Cause;

impl NodeStateController {
    /// Returns the state of a node, with the cause of its last change.
    ///
    /// # Errors
    /// When the backend fails; the same applies to all functions below.
    pub fn node(&self, name: &Arc<str>) -> Result<Option<Arc<Evaluated>>, BackendError> {
        self.states.node(name)
    }

    /// Returns a consistent snapshot of all nodes.
    pub fn nodes(&self) -> Result<Snapshot<Evaluated>, BackendError> {
        self.states.nodes()
    }

    /// Returns a consistent snapshot of the nodes of a pool.
    pub fn nodes_of(&self, pool: &Arc<str>) -> Result<Snapshot<Evaluated>, BackendError> {
        self.states.nodes_of(pool)
    }

    /// Returns a pool with a consistent snapshot of its nodes.
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
            awaited: self.past.awaited(name),
            removed: self.removed.get(name).map_or(0, |count| *count),
            replaced: self.replaced.get(name).map(|update| Update::clone(&update)),
        }))
    }

    /// Changes whenever [`NodeStateController::wanted`] does.
    #[must_use]
    pub fn demand(&self) -> watch::Receiver<u64> {
        self.inventory.demand()
    }

    /// Whether an evaluation reads the kind.
    #[must_use]
    pub fn is_read(&self, kind: usize) -> bool {
        self.inventory.is_read(kind)
    }

    /// The nodes whose objects of this kind evaluations read.
    #[must_use]
    pub fn wanted(&self, kind: usize) -> Vec<Arc<str>> {
        self.inventory.wanted(kind)
    }

    /// Forgets the objects on a node that no evaluation reads; returns false if one does.
    pub fn release(&self, kind: usize, node: &str) -> bool {
        self.inventory.release(kind, node)
    }

    /// Returns the cause of a pending deletion, until [`NodeStateController::deletion_written`].
    pub fn pending_deletion(&self, name: &Arc<str>) -> Option<Arc<Cause>> {
        self.pending_deletions.get(name)
    }

    /// Forgets the pending deletion of a node.
    pub fn deletion_written(&self, name: &Arc<str>) {
        self.pending_deletions.remove(name);
    }

    /// Returns the names of all pools.
    pub fn pool_names(&self) -> Result<Vec<Arc<str>>, BackendError> {
        let pools = self.states.pools()?.values;
        Ok(pools
            .iter()
            .map(|pool| Arc::clone(&pool.state.id.name))
            .collect())
    }

    /// Returns a pool without its nodes, with the cause of its last change.
    pub fn evaluated_pool(
        &self,
        name: &Arc<str>,
    ) -> Result<Option<Arc<EvaluatedPool>>, BackendError> {
        self.states.pool(name)
    }

    /// Returns when the node that has been in a phase for the longest entered it.
    #[must_use]
    pub fn oldest(&self, phase: Phase) -> Option<Timestamp> {
        self.counts.oldest(phase)
    }

    /// Returns the keys of all nodes and pools.
    pub(super) fn keys(&self) -> Result<Vec<InsightKey>, BackendError> {
        let nodes = self.nodes()?.values;
        let nodes = nodes
            .iter()
            .map(|evaluated| InsightKey::Node(Arc::clone(&evaluated.state.name)));
        let pools = self.pool_names()?.into_iter().map(InsightKey::Pool);
        Ok(nodes.chain(pools).collect())
    }

    /// The store of the evaluated states.
    #[must_use]
    pub fn states(&self) -> &States {
        &self.states
    }

    /// Returns the number of nodes and pools that wait for an evaluation.
    #[must_use]
    pub fn dirty(&self) -> usize {
        self.dirty.pending()
    }
}
