//! The nodes, the pools and the facts, and what each evaluation has read.

mod pools;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use jiff::Timestamp;

use self::pools::Pool;
use super::{Affected, Found, distinct};
use crate::domain::drain::method::Method;
use crate::domain::erased::Erased;
use crate::domain::fact::Keys;
use crate::domain::facts::{Availability, Facts, Reader, Unavailable, reserve};
use crate::domain::node::NodeFacts;
use crate::domain::policy::Policy;
use crate::domain::pool::{PoolId, PoolState};
use crate::domain::pool_generations::Member;
use crate::domain::state::{History, NodeState};
use crate::providers::{Assignment, Providers};

/// What a reader reads facts for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Purpose {
    /// Assigning a node to a provider and a pool.
    Assignment(Arc<str>),
    /// Evaluating a node.
    Evaluation(Arc<str>),
    /// Listing the pools of a provider.
    Pools(usize),
    /// Describing a pool, by the name of its insight.
    Pool(Arc<str>),
}

/// The last observed state of a node.
struct Node {
    facts: Arc<NodeFacts>,
    /// Digest of the object that they are from.
    object: Option<u64>,
    /// `None` until everything is listed.
    assignment: Option<Assignment>,
    assigned_by: Reader,
    evaluated_by: Reader,
}

impl Node {
    /// The node as a member of its pool, and the name of the pool.
    fn member(&self, providers: &Providers) -> Option<(Arc<str>, Member)> {
        let assignment = self.assignment.as_ref()?;
        let pool = assignment.pool()?;
        let member = providers.member(&self.facts, assignment)?;
        Some((Arc::clone(&pool.name), member))
    }

    /// The pool, with the index of its provider.
    fn pool(&self) -> Option<(usize, Arc<PoolId>)> {
        let assignment = self.assignment.as_ref()?;
        assignment.provider().zip(assignment.pool().cloned())
    }
}

/// The pools of a provider that are objects.
pub(super) struct ObjectPools {
    reader: Reader,
    /// Why they are unknown.
    pub(super) unavailable: Option<Unavailable>,
}

pub(super) struct World {
    facts: Facts,
    nodes: BTreeMap<Arc<str>, Node>,
    pools: BTreeMap<Arc<str>, Pool>,
    pub(super) object_pools: Vec<ObjectPools>,
    /// By the number of the reader.
    readers: Vec<Option<Purpose>>,
    is_open: bool,
}

impl World {
    pub(super) fn new(providers: &Providers) -> Self {
        let mut facts = Facts::new(providers.kinds());
        let object_pools: Vec<ObjectPools> = (0..providers.count())
            .map(|_| ObjectPools {
                reader: facts.add_reader(),
                unavailable: None,
            })
            .collect();
        let readers: Vec<Reader> = object_pools.iter().map(|pools| pools.reader).collect();
        let mut world = Self {
            facts,
            nodes: BTreeMap::new(),
            pools: BTreeMap::new(),
            object_pools,
            readers: Vec::new(),
            is_open: false,
        };
        for (provider, reader) in readers.into_iter().enumerate() {
            world.set_purpose(reader, Some(Purpose::Pools(provider)));
        }
        world
    }

    fn set_purpose(&mut self, reader: Reader, purpose: Option<Purpose>) {
        while self.readers.len() <= reader.index() {
            reserve(&mut self.readers);
            self.readers.push(None);
        }
        self.readers[reader.index()] = purpose;
    }

    pub(super) fn open(&mut self, providers: &Providers) -> Affected {
        self.is_open = true;
        let purposes = self
            .nodes
            .keys()
            .map(|name| Purpose::Assignment(Arc::clone(name)));
        let purposes = purposes
            .chain((0..providers.count()).map(Purpose::Pools))
            .collect();
        self.settle(providers, purposes)
    }

    pub(super) fn node(&self, name: &Arc<str>) -> Option<(&Arc<NodeFacts>, Option<usize>)> {
        let node = self.nodes.get(name)?;
        let provider = node.assignment.as_ref().and_then(Assignment::provider);
        Some((&node.facts, provider))
    }

    pub(super) fn node_names(&self) -> Vec<Arc<str>> {
        self.nodes.keys().cloned().collect()
    }

    pub(super) fn pool_names(&self) -> Vec<Arc<str>> {
        self.pools.keys().cloned().collect()
    }

    /// The numbers of nodes, pools, readers and facts.
    #[cfg(test)]
    pub(super) fn size(&self) -> (usize, usize, usize, usize) {
        let facts = self.facts.size();
        (
            self.nodes.len(),
            self.pools.len(),
            self.readers.iter().flatten().count(),
            facts,
        )
    }

    pub(super) fn evaluate(
        &mut self,
        providers: &Providers,
        name: &Arc<str>,
        before: Option<&Arc<PoolId>>,
        past: Option<&History>,
        now: Timestamp,
    ) -> Option<NodeState> {
        let node = self.nodes.get(name)?;
        let view = self.facts.view();
        let assignment = match &node.assignment {
            Some(assignment) => assignment,
            None => &providers.assign(&node.facts, &view),
        };
        let state = providers.evaluate(&node.facts, assignment, before, &view, past, now);
        let (reads, reader) = (view.into_reads(), node.evaluated_by);
        self.facts.record(reader, reads);
        Some(state)
    }

    pub(super) fn drained_as(
        &self,
        providers: &Providers,
        state: &NodeState,
    ) -> Option<(Arc<NodeFacts>, Option<Method>)> {
        let facts = &self.nodes.get(&state.name)?.facts;
        // Nothing is notified of a change, so what is read is not recorded.
        let method = providers.method(facts, state, &self.facts.view());
        Some((Arc::clone(facts), method))
    }

    pub(super) fn describe(
        &mut self,
        providers: &Providers,
        name: &Arc<str>,
        now: Timestamp,
    ) -> Found<PoolState> {
        let owned = self.pools.get(name);
        let owned = owned.and_then(|pool| Some((pool.owner()?, pool.reader)));
        let Some(((provider, id, _), reader)) = owned else {
            let is_known = self
                .object_pools
                .iter()
                .all(|pools| pools.unavailable.is_none());
            return if is_known {
                Found::Gone
            } else {
                Found::Unknown
            };
        };
        let view = self.facts.view();
        let described = providers.describe(provider, id, &view, now);
        let reads = view.into_reads();
        self.facts.record(reader, reads);
        described.map_or(Found::Unknown, Found::Here)
    }

    pub(super) fn apply_node(&mut self, providers: &Providers, facts: NodeFacts) -> Affected {
        let name = Arc::clone(&facts.name);
        let facts = Arc::new(facts);
        let known = self.nodes.get_mut(&name);
        if known.as_ref().is_some_and(|node| *node.facts == *facts) {
            return Affected::default();
        }
        let keys = providers.node_keys(&facts);
        let (lost, keys_before) = if let Some(node) = known {
            let before = (node.member(providers), providers.node_keys(&node.facts));
            node.facts = facts;
            node.object = None;
            before
        } else {
            let (assigned_by, evaluated_by) = (self.facts.add_reader(), self.facts.add_reader());
            self.set_purpose(assigned_by, Some(Purpose::Assignment(Arc::clone(&name))));
            self.set_purpose(evaluated_by, Some(Purpose::Evaluation(Arc::clone(&name))));
            let node = Node {
                facts,
                object: None,
                assignment: None,
                assigned_by,
                evaluated_by,
            };
            self.nodes.insert(Arc::clone(&name), node);
            (None, Keys::default())
        };
        let readers = self.facts.count_node(&keys_before, &keys);
        let mut affected = self.purposes(&readers);
        affected.extend(self.reassign(providers, &name, lost.as_ref()));
        affected.push(Purpose::Evaluation(name));
        self.settle(providers, affected)
    }

    /// Whether the facts of the node are from an object with this digest.
    pub(super) fn has_node_object(&self, name: &Arc<str>, digest: u64) -> bool {
        let node = self.nodes.get(name);
        node.is_some_and(|node| node.object == Some(digest))
    }

    pub(super) fn set_node_object(&mut self, name: &Arc<str>, digest: u64) {
        if let Some(node) = self.nodes.get_mut(name) {
            node.object = Some(digest);
        }
    }

    pub(super) fn remove_node(&mut self, providers: &Providers, name: &Arc<str>) -> Affected {
        let Some(node) = self.nodes.remove(name) else {
            return Affected::default();
        };
        for reader in [node.assigned_by, node.evaluated_by] {
            self.facts.remove_reader(reader);
            self.set_purpose(reader, None);
        }
        let keys = providers.node_keys(&node.facts);
        let readers = self.facts.count_node(&keys, &Keys::default());
        let mut affected = self.purposes(&readers);
        affected.extend(self.count(node.member(providers).as_ref(), None));
        if let Some((provider, pool)) = node.pool() {
            affected.extend(self.leave(provider, &pool));
        }
        affected.push(Purpose::Evaluation(Arc::clone(name)));
        self.settle(providers, affected)
    }

    pub(super) fn apply_object(
        &mut self,
        providers: &Providers,
        kind: usize,
        name: &Arc<str>,
        fact: Option<Arc<dyn Erased>>,
    ) -> Affected {
        let readers = self.facts.apply(kind, name, fact).unwrap_or_default();
        self.notify(providers, &readers)
    }

    pub(super) fn retain_objects(
        &mut self,
        providers: &Providers,
        kind: usize,
        listed: &HashSet<String>,
    ) -> Affected {
        let (_, readers) = self.facts.retain(kind, listed);
        self.notify(providers, &readers)
    }

    pub(super) fn set_availability(
        &mut self,
        providers: &Providers,
        kind: usize,
        availability: Availability,
    ) -> Affected {
        let readers = self.facts.set_availability(kind, availability);
        self.notify(providers, &readers)
    }

    pub(super) fn demand(&self) -> u64 {
        self.facts.demand()
    }

    pub(super) fn is_read(&self, kind: usize) -> bool {
        self.facts.is_read(kind)
    }

    pub(super) fn wanted(&self, kind: usize) -> Vec<Arc<str>> {
        self.facts.wanted(kind)
    }

    pub(super) fn listed_on_node(
        &mut self,
        providers: &Providers,
        kind: usize,
        node: &str,
        listed: &HashSet<String>,
    ) -> Affected {
        let readers = self.facts.listed(kind, node, listed);
        self.notify(providers, &readers)
    }

    pub(super) fn release(&mut self, kind: usize, node: &str) -> bool {
        self.facts.release(kind, node)
    }

    pub(super) fn set_policy(&mut self, providers: &Providers, policy: Arc<Policy>) -> Affected {
        let readers = self.facts.set_policy(policy);
        self.notify(providers, &readers)
    }

    pub(super) fn set_api_server_version(
        &mut self,
        providers: &Providers,
        version: Option<Arc<str>>,
    ) -> Affected {
        let readers = self.facts.set_api_server_version(version);
        self.notify(providers, &readers)
    }

    fn notify(&mut self, providers: &Providers, readers: &[Reader]) -> Affected {
        let affected = self.purposes(readers);
        self.settle(providers, affected)
    }

    fn purposes(&self, readers: &[Reader]) -> Vec<Purpose> {
        let purposes = readers
            .iter()
            .filter_map(|reader| self.readers.get(reader.index()));
        purposes.flatten().cloned().collect()
    }

    /// Repeats the affected assignments and listings of pools, and returns the nodes and pools to evaluate.
    fn settle(&mut self, providers: &Providers, affected: Vec<Purpose>) -> Affected {
        let (mut nodes, mut pools) = (Vec::new(), Vec::new());
        let mut settled = BTreeSet::new();
        let mut pending = affected;
        while !pending.is_empty() {
            for purpose in std::mem::take(&mut pending) {
                match purpose {
                    Purpose::Assignment(name) => {
                        if self.is_open && settled.insert(Arc::clone(&name)) {
                            let node = self.nodes.get(&name);
                            let counted = node.and_then(|node| node.member(providers));
                            pending.extend(self.reassign(providers, &name, counted.as_ref()));
                        }
                    }
                    Purpose::Evaluation(name) => nodes.push(name),
                    Purpose::Pools(provider) => {
                        pending.extend(self.list_pools(providers, provider));
                    }
                    Purpose::Pool(name) => pools.push(name),
                }
            }
        }
        Affected {
            nodes: distinct(nodes),
            pools: distinct(pools),
        }
    }

    /// Assigns a node to a provider and a pool again. `counted` is its previous pool and membership. The node is affected
    /// if its assignment changed, and so are all readers of the counts that it changes.
    fn reassign(
        &mut self,
        providers: &Providers,
        name: &Arc<str>,
        counted: Option<&(Arc<str>, Member)>,
    ) -> Vec<Purpose> {
        if !self.is_open {
            return Vec::new();
        }
        let Some(node) = self.nodes.get_mut(name) else {
            return Vec::new();
        };
        let view = self.facts.view();
        let assignment = providers.assign(&node.facts, &view);
        let (reads, reader) = (view.into_reads(), node.assigned_by);
        let is_same = node.assignment.as_ref() == Some(&assignment);
        let (left, joined) = if is_same {
            (None, None)
        } else {
            let left = node.pool();
            node.assignment = Some(assignment);
            (left, node.pool())
        };
        let now_counted = node.member(providers);
        self.facts.record(reader, reads);
        let mut affected = self.count(counted, now_counted.as_ref());
        if !is_same {
            // Joins first: a pool that only changes its provider is not removed in between.
            if let Some((provider, pool)) = joined {
                affected.extend(self.join(provider, &pool));
            }
            if let Some((provider, pool)) = left {
                affected.extend(self.leave(provider, &pool));
            }
            affected.push(Purpose::Evaluation(Arc::clone(name)));
        }
        affected
    }

    /// Moves a node from its previous pool to its current one; returns the readers of both pools' generations.
    fn count(
        &mut self,
        before: Option<&(Arc<str>, Member)>,
        after: Option<&(Arc<str>, Member)>,
    ) -> Vec<Purpose> {
        if before == after {
            return Vec::new();
        }
        let readers = match (before, after) {
            (Some((pool, before)), Some((same, after))) if pool == same => {
                self.facts.change_member(pool, Some(before), Some(after))
            }
            (before, after) => {
                let mut readers = Vec::new();
                if let Some((pool, member)) = after {
                    readers.extend(self.facts.change_member(pool, None, Some(member)));
                }
                if let Some((pool, member)) = before {
                    readers.extend(self.facts.change_member(pool, Some(member), None));
                }
                readers
            }
        };
        self.purposes(&readers)
    }
}
