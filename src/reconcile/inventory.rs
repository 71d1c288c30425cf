//! What is known of the cluster, and whom a change of it affects.
//!
//! Owns the nodes as they were last seen, the pools that there are, and the facts that providers read. Each node
//! reads twice: once to find out who evaluates it and in which pool it is, which is done as soon as something
//! changes that this depends on, and once when it is evaluated. So the counts of a pool are right before its first
//! node is evaluated, and one change leads to one evaluation of each node that has read what changed.
//!
//! Everything is behind one lock, because a change of a fact, whom it affects and what they read belong together. It
//! is held for one change or one evaluation, never across an await, and nothing else is locked under it.

use std::collections::HashSet;
use std::sync::Arc;

use jiff::Timestamp;

use self::world::World;
use crate::domain::erased::Erased;
use crate::domain::facts::Availability;
use crate::domain::node::{NodeFacts, NodeObject};
use crate::domain::pool::{PoolId, PoolState};
use crate::domain::state::{History, NodeState};
use crate::providers::{Identity, Providers};
use crate::registry::lock_order::{OrderedMutex, Rank};

mod world;

/// What a change affects.
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

    /// Both.
    fn and(mut self, other: Self) -> Self {
        self.nodes.extend(other.nodes);
        self.pools.extend(other.pools);
        self
    }
}

/// Whether there is a pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found<T> {
    /// There is.
    Here(T),
    /// There is none.
    Gone,
    /// It cannot be told: the kind whose objects pools are cannot be read.
    Unknown,
}

/// Nodes, pools and facts of one cluster.
pub struct Inventory {
    providers: Providers,
    world: OrderedMutex<World>,
}

impl Inventory {
    /// An empty inventory of a cluster whose nodes are evaluated by `providers`.
    #[must_use]
    pub fn new(providers: Providers) -> Self {
        let world = World::new(&providers);
        Self {
            providers,
            world: OrderedMutex::new(Rank::LEAF, world),
        }
    }

    /// Who evaluates the nodes.
    #[must_use]
    pub fn providers(&self) -> &Providers {
        &self.providers
    }

    /// Everything is listed: from now on whom a change affects is known. Until then a node affects itself alone.
    pub fn open(&self) -> Affected {
        self.world.lock().open(&self.providers)
    }

    /// Evaluates a node; `None` when there is no such node. `before` is the pool that it was in.
    #[must_use]
    pub fn evaluate(
        &self,
        name: &Arc<str>,
        before: Option<&Arc<PoolId>>,
        past: Option<&History>,
        now: Timestamp,
    ) -> Option<NodeState> {
        let mut world = self.world.lock();
        world.evaluate(&self.providers, name, before, past, now)
    }

    /// A pool as its provider describes it.
    #[must_use]
    pub fn describe(&self, pool: &Arc<str>, now: Timestamp) -> Found<PoolState> {
        self.world.lock().describe(&self.providers, pool, now)
    }

    /// UID of a node, and what of it survives its update.
    #[must_use]
    pub fn identity(&self, name: &Arc<str>) -> Option<(Arc<str>, Identity)> {
        let world = self.world.lock();
        let (facts, provider) = world.node(name)?;
        let name = provider.and_then(|place| self.providers.name(place));
        let identity = name.map_or(Identity::Uid, |name| self.providers.identity(&name));
        Some((Arc::clone(&facts.uid), identity))
    }

    /// Whether there is such a node.
    #[must_use]
    pub fn has_node(&self, name: &Arc<str>) -> bool {
        self.world.lock().node(name).is_some()
    }

    /// Names of all pools.
    #[must_use]
    pub fn pool_names(&self) -> Vec<Arc<str>> {
        self.world.lock().pool_names()
    }

    /// Takes in a Node as the API server has it.
    pub fn apply_node_object(&self, node: NodeObject) -> Affected {
        self.apply_node(self.providers.node_facts(node))
    }

    /// Takes in a node that is new or has changed.
    pub fn apply_node(&self, facts: NodeFacts) -> Affected {
        self.world.lock().apply_node(&self.providers, facts)
    }

    /// Forgets a node.
    pub fn remove_node(&self, name: &Arc<str>) -> Affected {
        self.world.lock().remove_node(&self.providers, name)
    }

    /// Forgets every node that a complete list does not have.
    pub fn retain_nodes(&self, listed: &HashSet<String>) -> Affected {
        let gone = self.world.lock().node_names();
        gone.iter()
            .filter(|name| !listed.contains(&***name))
            .map(|name| self.remove_node(name))
            .fold(Affected::default(), Affected::and)
    }

    /// Takes in an object of the kind at this place of the table: one that is new or has changed, or `None` where it
    /// is gone or of no interest. How many places that is news for, and whom.
    pub fn apply_object(
        &self,
        kind: usize,
        name: &Arc<str>,
        fact: Option<Arc<dyn Erased>>,
    ) -> Affected {
        let mut world = self.world.lock();
        world.apply_object(&self.providers, kind, name, fact)
    }

    /// Forgets the objects of a kind that a complete list does not have.
    pub fn retain_objects(&self, kind: usize, listed: &HashSet<String>) -> Affected {
        let mut world = self.world.lock();
        world.retain_objects(&self.providers, kind, listed)
    }

    /// Whether a kind can be read has changed.
    pub fn set_availability(&self, kind: usize, availability: Availability) -> Affected {
        let mut world = self.world.lock();
        world.set_availability(&self.providers, kind, availability)
    }

    /// The API server has another version, or none that is known.
    pub fn set_api_server_version(&self, version: Option<Arc<str>>) -> Affected {
        let mut world = self.world.lock();
        world.set_api_server_version(&self.providers, version)
    }
}

/// Each name once, in the order in which it came.
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
