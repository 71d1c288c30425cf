//! Evaluated states in the backends: every access to a state goes through here and then through
//! [`StateBackend`].
//!
//! Owns only the two backends. Backend errors are counted and returned; the caller decides what to do.

#![expect(
    clippy::missing_errors_doc,
    reason = "every error here is the backend's, as the first function documents"
)]

use std::sync::Arc;

use super::persisted::{decode_timeline, encode_timeline};
use crate::api::node::TimelineEntry;
use crate::domain::pool::PoolState;
use crate::domain::state::NodeState;
use crate::registry::backend::{BackendError, Metadata, StateBackend};
use crate::registry::store::{Change, Counter, Snapshot};
use crate::telemetry::cause::Cause;
use crate::telemetry::health::Health;
use crate::telemetry::metrics::Metrics;

/// Name under which `/readyz` shows the backend.
const CHECK: &str = "state backend";

/// A state and its cause. The cause is ignored when comparing.
#[derive(Debug, Clone)]
pub struct Evaluated {
    /// The state.
    pub state: Arc<NodeState>,
    /// The change that led to it.
    pub cause: Cause,
}

impl PartialEq for Evaluated {
    fn eq(&self, other: &Self) -> bool {
        self.state == other.state
    }
}

/// A pool as its provider describes it, with the last change of the pool or its nodes.
#[derive(Debug, Clone, PartialEq)]
pub struct EvaluatedPool {
    /// The pool.
    pub state: Arc<PoolState>,
    /// The last change.
    pub cause: Cause,
}

/// Stores the states of nodes, indexed by pool.
pub type NodeBackend = dyn StateBackend<Evaluated, Arc<str>>;
/// Stores the pools.
pub type PoolBackend = dyn StateBackend<EvaluatedPool, ()>;

/// Index key of a node: the name of its pool's insight.
#[must_use]
pub fn pool_of(evaluated: &Evaluated) -> Option<Arc<str>> {
    evaluated.state.pool_name()
}

/// The two backends.
#[derive(Clone)]
pub struct Backends {
    /// `memory` or `file`, for metrics.
    pub kind: &'static str,
    /// States of nodes.
    pub nodes: Arc<NodeBackend>,
    /// Pools.
    pub pools: Arc<PoolBackend>,
}

/// The states of all nodes and pools.
pub struct States {
    backends: Backends,
    metrics: Arc<Metrics>,
    health: Arc<Health>,
}

impl States {
    /// Creates the states on backends that are already open.
    #[must_use]
    pub fn new(backends: Backends, metrics: Arc<Metrics>, health: Arc<Health>) -> Self {
        let states = Self {
            backends,
            metrics,
            health,
        };
        states.check_health();
        states
    }

    /// In-memory states for tests.
    #[cfg(test)]
    pub(crate) fn in_memory(metrics: &Arc<Metrics>, health: &Arc<Health>) -> Self {
        use crate::registry::backend::memory::MemoryBackend;

        let backends = Backends {
            kind: "memory",
            nodes: Arc::new(MemoryBackend::new(pool_of)),
            pools: Arc::new(MemoryBackend::new(|_| None)),
        };
        backends.nodes.init().unwrap();
        backends.pools.init().unwrap();
        Self::new(backends, Arc::clone(metrics), Arc::clone(health))
    }

    /// The state of a node.
    ///
    /// # Errors
    /// The backend's error; the same holds for all functions below.
    pub fn node(&self, name: &Arc<str>) -> Result<Option<Arc<Evaluated>>, BackendError> {
        self.counted(self.backends.nodes.lookup(name))
    }

    /// A consistent snapshot of all nodes.
    pub fn nodes(&self) -> Result<Snapshot<Evaluated>, BackendError> {
        self.counted(self.backends.nodes.list())
    }

    /// A consistent snapshot of all nodes of a pool.
    pub fn nodes_of(&self, pool: &Arc<str>) -> Result<Snapshot<Evaluated>, BackendError> {
        self.counted(self.backends.nodes.list_by(pool))
    }

    /// Stores the state of a node if it differs from `before`.
    pub fn put_node(
        &self,
        evaluated: Evaluated,
        before: Option<&Evaluated>,
    ) -> Result<Change<Evaluated>, BackendError> {
        let state = Arc::clone(&evaluated.state);
        let nodes = &self.backends.nodes;
        let change = if before.is_some() {
            self.counted(nodes.update(&state.name, evaluated))?
        } else {
            self.counted(nodes.register(&state.name, evaluated))?;
            Change::Inserted
        };
        let is_timeline_changed =
            before.is_none_or(|before| before.state.timeline != state.timeline);
        if change != Change::Unchanged && is_timeline_changed {
            let bytes = encode_timeline(&state.uid, &state.timeline);
            self.counted(nodes.update_metadata(&state.name, Metadata::new(bytes)))?;
        }
        Ok(change)
    }

    /// Removes a node.
    pub fn remove_node(&self, name: &Arc<str>) -> Result<Arc<Evaluated>, BackendError> {
        self.counted(self.backends.nodes.unregister(name))
    }

    /// Removes every deleted node, and the persisted metadata of nodes that never registered again.
    pub fn evict_nodes(
        &self,
        is_gone: &dyn Fn(&Arc<str>) -> bool,
    ) -> Result<Vec<Arc<Evaluated>>, BackendError> {
        let gone = self.counted(self.backends.nodes.evict(&|name, _| is_gone(name)))?;
        self.counted(self.backends.nodes.forget_unregistered())?;
        Ok(gone)
    }

    /// The persisted phases of a node; empty when they belong to another node of that name.
    pub fn persisted_timeline(
        &self,
        name: &Arc<str>,
        uid: &str,
    ) -> Result<Vec<TimelineEntry>, BackendError> {
        let persisted = self.counted(self.backends.nodes.metadata(name))?;
        Ok(persisted.map_or_else(Vec::new, |bytes| decode_timeline(bytes.bytes(), uid)))
    }

    /// Stores a pool after a change of the pool or its nodes.
    pub fn put_pool(&self, pool: EvaluatedPool) -> Result<(), BackendError> {
        let (pools, name) = (&self.backends.pools, Arc::clone(&pool.state.id.name));
        if self.counted(pools.lookup(&name))?.is_some() {
            self.counted(pools.update(&name, pool)).map(|_| ())
        } else {
            self.counted(pools.register(&name, pool))
        }
    }

    /// The state of a pool.
    pub fn pool(&self, pool: &Arc<str>) -> Result<Option<Arc<EvaluatedPool>>, BackendError> {
        self.counted(self.backends.pools.lookup(pool))
    }

    /// A consistent snapshot of all pools.
    pub fn pools(&self) -> Result<Snapshot<EvaluatedPool>, BackendError> {
        self.counted(self.backends.pools.list())
    }

    /// Removes every pool for which `is_gone` returns true.
    pub fn evict_pools(&self, is_gone: &dyn Fn(&Arc<str>) -> bool) -> Result<(), BackendError> {
        self.counted(self.backends.pools.evict(&|name, _| is_gone(name)))?;
        self.counted(self.backends.pools.forget_unregistered())?;
        Ok(())
    }

    /// Removes a pool.
    pub fn remove_pool(&self, pool: &Arc<str>) -> Result<(), BackendError> {
        if self.counted(self.backends.pools.lookup(pool))?.is_some() {
            self.counted(self.backends.pools.unregister(pool))?;
        }
        Ok(())
    }

    /// Persists what was learned of the durations in a pool.
    pub fn keep_learned(&self, pool: &Arc<str>, summary: String) -> Result<(), BackendError> {
        let bytes = Metadata::new(summary.into_bytes());
        self.counted(self.backends.pools.update_metadata(pool, bytes))
    }

    /// What was learned of the durations in a pool.
    pub fn learned(&self, pool: &Arc<str>) -> Result<Option<String>, BackendError> {
        let persisted = self.counted(self.backends.pools.metadata(pool))?;
        Ok(persisted.map(|bytes| String::from_utf8_lossy(bytes.bytes()).into_owned()))
    }

    /// Counter of the stored nodes.
    #[must_use]
    pub fn node_counter(&self) -> Counter {
        self.backends.nodes.counter()
    }

    /// Reports the health of the backends in `/readyz` and in metrics.
    pub fn check_health(&self) {
        let health = self.backends.nodes.health_check();
        let health = health.and_then(|()| self.backends.pools.health_check());
        self.metrics
            .backend_healthy(self.backends.kind, health.is_ok());
        match health {
            Ok(()) => {
                if self.health.ready(CHECK) {
                    tracing::info!(backend = self.backends.kind, "The state backend works");
                }
            }
            Err(error) => {
                if self.health.not_ready(CHECK, error.to_string()) {
                    tracing::warn!(backend = self.backends.kind, %error, "The state backend fails");
                }
            }
        }
    }

    fn counted<T>(&self, result: Result<T, BackendError>) -> Result<T, BackendError> {
        result.inspect_err(|error| {
            self.metrics
                .backend_failed(self.backends.kind, error.category());
        })
    }
}
