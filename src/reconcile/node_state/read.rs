//! What readers get from the centre. Nothing here evaluates.

#![expect(
    clippy::missing_errors_doc,
    reason = "every error here is the backend's, as the first function says"
)]

use std::sync::Arc;

use jiff::Timestamp;

use super::Centre;
use crate::api::types::{DesiredVersionSource, Phase, Provider};
use crate::domain::cluster::Cluster;
use crate::domain::pool::PoolFacts;
use crate::domain::pool_status::PoolView;
use crate::domain::state::Desired;
use crate::reconcile::insight_key::InsightKey;
use crate::reconcile::kept::PhaseDurations;
use crate::reconcile::states::{Evaluated, PoolChange, States};
use crate::registry::backend::BackendError;
use crate::registry::store::{Counter, Snapshot};
use crate::telemetry::cause::Cause;

/// A pool, and the UID of the object that it comes from, if there is one.
pub type OwnedPool = (PoolView, Option<Arc<str>>);

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

    /// A pool with a consistent cut of its nodes; `None` when there is no such pool.
    pub fn pool(&self, name: &Arc<str>) -> Result<Option<OwnedPool>, BackendError> {
        let nodes = self.states.nodes_of(name)?.values;
        let nodes = nodes
            .iter()
            .map(|evaluated| Arc::clone(&evaluated.state))
            .collect::<Vec<_>>();
        let view = |id, nodes| PoolView {
            id,
            provider: self.inventory.provider(),
            paused: false,
            desired: None,
            configured_version: None,
            nodes,
        };
        Ok(match self.inventory.provider() {
            Provider::OpenShift => self.inventory.pool(name).map(|pool| {
                let view = PoolView {
                    paused: pool.paused,
                    desired: self.desired(),
                    configured_version: self.configured_version(&pool),
                    ..view(Arc::clone(&pool.id), nodes)
                };
                (view, Some(Arc::clone(&pool.uid)))
            }),
            Provider::Kubernetes => {
                let id = nodes.first().and_then(|node| node.pool.clone());
                id.map(|id| (view(id, nodes), None))
            }
        })
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
        let mut names = match self.inventory.provider() {
            Provider::OpenShift => self.inventory.pool_names(),
            Provider::Kubernetes => self.states.pools_with_nodes()?,
        };
        names.sort_unstable();
        Ok(names)
    }

    /// Whether there is such a pool.
    pub(super) fn has_pool(&self, name: &Arc<str>) -> Result<bool, BackendError> {
        Ok(match self.inventory.provider() {
            Provider::OpenShift => self.inventory.pool(name).is_some(),
            Provider::Kubernetes => self.states.pools_with_nodes()?.contains(name),
        })
    }

    /// What last changed in a pool.
    pub fn pool_change(&self, name: &Arc<str>) -> Result<Option<Arc<PoolChange>>, BackendError> {
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

    /// How many locks of nodes are held.
    #[must_use]
    pub fn lock_counter(&self) -> Counter {
        self.locks.counter()
    }

    /// How many nodes and pools wait to be evaluated.
    #[must_use]
    pub fn dirty(&self) -> usize {
        self.dirty.pending()
    }

    fn desired(&self) -> Option<Desired> {
        let version = self.inventory.cluster_version()?;
        Some(Desired {
            version,
            source: DesiredVersionSource::ClusterVersion,
        })
    }

    fn configured_version(&self, pool: &PoolFacts) -> Option<Arc<str>> {
        self.inventory.release_version(pool.configuration.as_ref()?)
    }
}
