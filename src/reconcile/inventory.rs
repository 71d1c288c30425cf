//! The known objects of the cluster, and which nodes and pools a change affects.
//!
//! Owns the nodes as last seen, the existing pools, and the facts that providers read. Each node reads facts
//! twice: to find its provider and its pool, as soon as one of the facts used for that changes, and when it is
//! evaluated. So the counts of a pool are right before its first node is evaluated, and a change causes one
//! evaluation of each node that has read the changed fact.
//!
//! One lock protects everything, because a change, the affected nodes and the facts they read must be consistent.
//! It is held for one change or one evaluation, never across an await, and no other lock is taken under it.

use std::collections::HashSet;
use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::watch;

use self::world::World;
use super::insight_cache::digest;
use crate::domain::drain::method::Method;
use crate::domain::erased::Erased;
use crate::domain::facts::Availability;
use crate::domain::node::{NodeFacts, NodeObject};
use crate::domain::policy::Policy;
use crate::domain::pool::{PoolId, PoolState};
use crate::domain::state::{History, NodeState};
use crate::providers::{Identity, Providers};
use crate::registry::lock_order::{OrderedMutex, Rank};

mod world;

/// The nodes and pools that a change affects.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Affected {
    /// Nodes to be evaluated again, by name.
    pub nodes: Vec<Arc<str>>,
    /// Pools whose insight depends on what changed, by name of the insight.
    pub pools: Vec<Arc<str>>,
}

impl Affected {
    /// Whether nothing is affected.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty() && self.pools.is_empty()
    }

    /// Merges both.
    fn and(mut self, other: Self) -> Self {
        self.nodes.extend(other.nodes);
        self.pools.extend(other.pools);
        self
    }
}

/// Whether a pool exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found<T> {
    /// The pool exists.
    Here(T),
    /// The pool does not exist.
    Gone,
    /// The kind that represents pools cannot be read.
    Unknown,
}

/// Nodes, pools and facts of one cluster.
pub struct Inventory {
    providers: Providers,
    world: OrderedMutex<World>,
    /// Changes whenever what has to be read from the API server on demand changes.
    demand: watch::Sender<u64>,
}

impl Inventory {
    /// Creates an empty inventory whose nodes are evaluated by `providers`.
    #[must_use]
    pub fn new(providers: Providers) -> Self {
        let world = World::new(&providers);
        Self {
            providers,
            world: OrderedMutex::new(Rank::LEAF, world),
            demand: watch::Sender::new(0),
        }
    }

    /// Changes the world, and reports when the demand for objects on nodes changes.
    fn with<T>(&self, change: impl FnOnce(&mut World, &Providers) -> T) -> T {
        let mut world = self.world.lock();
        let result = change(&mut world, &self.providers);
        let demand = world.demand();
        drop(world);
        self.demand.send_if_modified(|known| {
            let is_changed = *known != demand;
            *known = demand;
            is_changed
        });
        result
    }

    /// The providers that evaluate the nodes.
    #[must_use]
    pub fn providers(&self) -> &Providers {
        &self.providers
    }

    /// Starts tracking what a change affects, once everything is listed. Until then a node affects only itself.
    pub fn open(&self) -> Affected {
        self.with(World::open)
    }

    /// Evaluates a node; `None` when it does not exist. `before` is its previous pool.
    #[must_use]
    pub fn evaluate(
        &self,
        name: &Arc<str>,
        before: Option<&Arc<PoolId>>,
        past: Option<&History>,
        now: Timestamp,
    ) -> Option<NodeState> {
        self.with(|world, providers| world.evaluate(providers, name, before, past, now))
    }

    /// A node in this state as it is, and how its pods are moved away when it is updated; `None` when it does not exist.
    #[must_use]
    pub fn drained_as(&self, state: &NodeState) -> Option<(Arc<NodeFacts>, Option<Method>)> {
        self.world.lock().drained_as(&self.providers, state)
    }

    /// A pool as its provider describes it.
    #[must_use]
    pub fn describe(&self, pool: &Arc<str>, now: Timestamp) -> Found<PoolState> {
        self.with(|world, providers| world.describe(providers, pool, now))
    }

    /// UID of a node, and which part of its identity survives an update.
    #[must_use]
    pub fn identity(&self, name: &Arc<str>) -> Option<(Arc<str>, Identity)> {
        let world = self.world.lock();
        let (facts, provider) = world.node(name)?;
        let name = provider.and_then(|place| self.providers.name(place));
        let identity = name.map_or(Identity::Uid, |name| self.providers.identity(&name));
        Some((Arc::clone(&facts.uid), identity))
    }

    /// Whether the node exists.
    #[must_use]
    pub fn has_node(&self, name: &Arc<str>) -> bool {
        self.world.lock().node(name).is_some()
    }

    /// Names of all pools.
    #[must_use]
    pub fn pool_names(&self) -> Vec<Arc<str>> {
        self.world.lock().pool_names()
    }

    /// Applies a Node object as the API server holds it.
    pub fn apply_node_object(&self, node: NodeObject) -> Affected {
        // A heartbeat changes nothing that is retained: most objects are the same as before.
        let (name, digest) = (Arc::clone(&node.name), digest(&node));
        if self.world.lock().has_node_object(&name, digest) {
            return Affected::default();
        }
        let facts = self.providers.node_facts(node);
        self.with(|world, providers| {
            let affected = world.apply_node(providers, facts);
            world.set_node_object(&name, digest);
            affected
        })
    }

    /// Applies a new or changed node.
    pub fn apply_node(&self, facts: NodeFacts) -> Affected {
        self.with(|world, providers| world.apply_node(providers, facts))
    }

    /// Removes a node.
    pub fn remove_node(&self, name: &Arc<str>) -> Affected {
        self.with(|world, providers| world.remove_node(providers, name))
    }

    /// Removes every node that is missing from a complete list.
    pub fn retain_nodes(&self, listed: &HashSet<String>) -> Affected {
        let gone = self.world.lock().node_names();
        gone.iter()
            .filter(|name| !listed.contains(&***name))
            .map(|name| self.remove_node(name))
            .fold(Affected::default(), Affected::and)
    }

    /// Applies an object of the kind at this index of the table: a new or changed fact, or `None` if the object is
    /// gone or irrelevant.
    pub fn apply_object(
        &self,
        kind: usize,
        name: &Arc<str>,
        fact: Option<Arc<dyn Erased>>,
    ) -> Affected {
        self.with(|world, providers| world.apply_object(providers, kind, name, fact))
    }

    /// Removes the objects of a kind that are missing from a complete list.
    pub fn retain_objects(&self, kind: usize, listed: &HashSet<String>) -> Affected {
        self.with(|world, providers| world.retain_objects(providers, kind, listed))
    }

    /// Changes whenever [`Inventory::wanted`] does.
    #[must_use]
    pub fn demand(&self) -> watch::Receiver<u64> {
        self.demand.subscribe()
    }

    /// Whether an evaluation reads the kind.
    #[must_use]
    pub fn is_read(&self, kind: usize) -> bool {
        self.world.lock().is_read(kind)
    }

    /// The nodes whose objects of this kind evaluations read.
    #[must_use]
    pub fn wanted(&self, kind: usize) -> Vec<Arc<str>> {
        self.world.lock().wanted(kind)
    }

    /// Completes the list of the objects on a node.
    pub fn listed_on_node(&self, kind: usize, node: &str, listed: &HashSet<String>) -> Affected {
        self.with(|world, providers| world.listed_on_node(providers, kind, node, listed))
    }

    /// Removes the objects on a node that no evaluation reads; returns false if one does.
    pub fn release(&self, kind: usize, node: &str) -> bool {
        self.with(|world, _| world.release(kind, node))
    }

    /// Sets whether a kind can be read.
    pub fn set_availability(&self, kind: usize, availability: Availability) -> Affected {
        self.with(|world, providers| world.set_availability(providers, kind, availability))
    }

    /// Sets the policy of the user.
    pub fn set_policy(&self, policy: Arc<Policy>) -> Affected {
        self.with(|world, providers| world.set_policy(providers, policy))
    }

    /// Sets the API server's version; `None` if it is unknown.
    pub fn set_api_server_version(&self, version: Option<Arc<str>>) -> Affected {
        self.with(|world, providers| world.set_api_server_version(providers, version))
    }
}

/// Removes duplicates; the order stays.
fn distinct(names: Vec<Arc<str>>) -> Vec<Arc<str>> {
    if names.len() < 2 {
        return names;
    }
    let mut seen = HashSet::new();
    names
        .into_iter()
        .filter(|name| seen.insert(Arc::clone(name)))
        .collect()
}

#[cfg(test)]
pub(crate) mod fixtures;
#[cfg(test)]
mod tests;
