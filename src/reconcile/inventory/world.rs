//! The nodes, the pools and the facts, and who reads what.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use jiff::Timestamp;

use super::{Affected, Found, distinct};
use crate::domain::erased::Erased;
use crate::domain::fact::Keys;
use crate::domain::facts::{Availability, Facts, Reader, Unavailable};
use crate::domain::node::NodeFacts;
use crate::domain::pool::{PoolId, PoolState};
use crate::domain::pool_versions::PoolVersion;
use crate::domain::state::{History, NodeState};
use crate::providers::{Assignment, Providers};

/// Who has read something.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Who {
    /// A node, to find out who evaluates it and in which pool it is.
    Assignment(Arc<str>),
    /// A node, when it was evaluated.
    Evaluation(Arc<str>),
    /// A provider, to find out which pools there are.
    Pools(usize),
    /// A pool, by name of its insight.
    Pool(Arc<str>),
}

/// A node as it was last seen.
struct Node {
    facts: Arc<NodeFacts>,
    /// None before everything is listed.
    assignment: Option<Assignment>,
    assigned_by: Reader,
    evaluated_by: Reader,
}

impl Node {
    /// What is counted of the node: the pool's name, and the version.
    fn counted(&self) -> Option<(Arc<str>, PoolVersion)> {
        let version = PoolVersion::parse(self.facts.kubelet_version.as_ref()?)?;
        let pool = self.assignment.as_ref()?.pool()?;
        Some((Arc::clone(&pool.name), version))
    }

    fn pool(&self) -> Option<&Arc<PoolId>> {
        self.assignment.as_ref()?.pool()
    }
}

/// A pool that there is.
struct Pool {
    id: Arc<PoolId>,
    provider: usize,
    /// It is an object; else it is there as long as it has nodes.
    is_object: bool,
    nodes: usize,
    reader: Reader,
}

/// The pools of a provider that are objects.
struct ObjectPools {
    reader: Reader,
    /// Why they cannot be told.
    unavailable: Option<Unavailable>,
}

pub(super) struct World {
    facts: Facts,
    nodes: BTreeMap<Arc<str>, Node>,
    pools: BTreeMap<Arc<str>, Pool>,
    object_pools: Vec<ObjectPools>,
    readers: BTreeMap<Reader, Who>,
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
        let readers = object_pools.iter().map(|pools| pools.reader);
        let readers = readers.zip((0..).map(Who::Pools)).collect();
        Self {
            facts,
            nodes: BTreeMap::new(),
            pools: BTreeMap::new(),
            object_pools,
            readers,
            is_open: false,
        }
    }

    pub(super) fn open(&mut self, providers: &Providers) -> Affected {
        self.is_open = true;
        let everybody = self
            .nodes
            .keys()
            .map(|name| Who::Assignment(Arc::clone(name)));
        let everybody = everybody
            .chain((0..providers.count()).map(Who::Pools))
            .collect();
        self.settle(providers, everybody)
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

    /// How much is kept.
    #[cfg(test)]
    pub(super) fn size(&self) -> (usize, usize, usize, usize) {
        let facts = self.facts.size();
        (
            self.nodes.len(),
            self.pools.len(),
            self.readers.len(),
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

    pub(super) fn describe(
        &mut self,
        providers: &Providers,
        name: &Arc<str>,
        now: Timestamp,
    ) -> Found<PoolState> {
        let Some(pool) = self.pools.get(name) else {
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
        let described = providers.describe(pool.provider, &pool.id, &view, now);
        let (reads, reader) = (view.into_reads(), pool.reader);
        self.facts.record(reader, reads);
        described.map_or(Found::Unknown, Found::Here)
    }

    pub(super) fn apply_node(&mut self, providers: &Providers, facts: NodeFacts) -> Affected {
        let name = Arc::clone(&facts.name);
        let facts = Arc::new(facts);
        let keys = providers.node_keys(&facts);
        let (lost, keys_before) = match self.nodes.get_mut(&name) {
            Some(node) if *node.facts == *facts => return Affected::default(),
            Some(node) => {
                let before = (node.counted(), providers.node_keys(&node.facts));
                node.facts = facts;
                before
            }
            None => {
                let (assigned_by, evaluated_by) =
                    (self.facts.add_reader(), self.facts.add_reader());
                self.readers
                    .insert(assigned_by, Who::Assignment(Arc::clone(&name)));
                self.readers
                    .insert(evaluated_by, Who::Evaluation(Arc::clone(&name)));
                let node = Node {
                    facts,
                    assignment: None,
                    assigned_by,
                    evaluated_by,
                };
                self.nodes.insert(Arc::clone(&name), node);
                (None, Keys::default())
            }
        };
        let readers = self.facts.count_node(&keys_before, &keys);
        let mut affected = self.who(&readers);
        affected.extend(self.reassign(providers, &name, lost));
        affected.push(Who::Evaluation(name));
        self.settle(providers, affected)
    }

    pub(super) fn remove_node(&mut self, providers: &Providers, name: &Arc<str>) -> Affected {
        let Some(node) = self.nodes.remove(name) else {
            return Affected::default();
        };
        for reader in [node.assigned_by, node.evaluated_by] {
            self.facts.remove_reader(reader);
            self.readers.remove(&reader);
        }
        let keys = providers.node_keys(&node.facts);
        let readers = self.facts.count_node(&keys, &Keys::default());
        let mut affected = self.who(&readers);
        affected.extend(self.count(node.counted(), None));
        affected.extend(self.leave(node.pool()));
        affected.push(Who::Evaluation(Arc::clone(name)));
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

    pub(super) fn set_api_server_version(
        &mut self,
        providers: &Providers,
        version: Option<Arc<str>>,
    ) -> Affected {
        let readers = self.facts.set_api_server_version(version);
        self.notify(providers, &readers)
    }

    fn notify(&mut self, providers: &Providers, readers: &[Reader]) -> Affected {
        let affected = self.who(readers);
        self.settle(providers, affected)
    }

    fn who(&self, readers: &[Reader]) -> Vec<Who> {
        let who = readers.iter().filter_map(|reader| self.readers.get(reader));
        who.cloned().collect()
    }

    /// Finds out again who evaluates whom and which pools there are, where that may be otherwise now, and names the
    /// nodes and pools that are to be evaluated.
    fn settle(&mut self, providers: &Providers, affected: Vec<Who>) -> Affected {
        let (mut nodes, mut pools) = (Vec::new(), Vec::new());
        let mut settled = BTreeSet::new();
        let mut pending = affected;
        while !pending.is_empty() {
            for who in std::mem::take(&mut pending) {
                match who {
                    Who::Assignment(name) => {
                        if self.is_open && settled.insert(Arc::clone(&name)) {
                            let counted = self.nodes.get(&name).and_then(Node::counted);
                            pending.extend(self.reassign(providers, &name, counted));
                        }
                    }
                    Who::Evaluation(name) => nodes.push(name),
                    Who::Pools(provider) => pending.extend(self.list_pools(providers, provider)),
                    Who::Pool(name) => pools.push(name),
                }
            }
        }
        Affected {
            nodes: distinct(nodes),
            pools: distinct(pools),
        }
    }

    /// Finds out who evaluates the node and in which pool it is. `counted` is what was counted of it until now. The
    /// node itself is affected if its assignment is another one, and so is whoever its version matters to.
    fn reassign(
        &mut self,
        providers: &Providers,
        name: &Arc<str>,
        counted: Option<(Arc<str>, PoolVersion)>,
    ) -> Vec<Who> {
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
            let left = node.pool().cloned();
            let provider = assignment.provider();
            node.assignment = Some(assignment);
            let joined = node.pool().cloned();
            (left, provider.zip(joined))
        };
        let now_counted = node.counted();
        self.facts.record(reader, reads);
        let mut affected = self.count(counted, now_counted);
        if !is_same {
            // Joined first: a pool that it only changes its provider in is not gone in between.
            if let Some((provider, pool)) = joined {
                affected.extend(self.join(provider, &pool));
            }
            affected.extend(self.leave(left.as_ref()));
            affected.push(Who::Evaluation(Arc::clone(name)));
        }
        affected
    }

    /// Counts a node's version where it is now, and no longer where it was; who may be behind another version now.
    fn count(
        &mut self,
        before: Option<(Arc<str>, PoolVersion)>,
        after: Option<(Arc<str>, PoolVersion)>,
    ) -> Vec<Who> {
        if before == after {
            return Vec::new();
        }
        let mut readers = Vec::new();
        if let Some((pool, version)) = after {
            readers.extend(self.facts.change_versions(&pool, |all| all.add(version)));
        }
        if let Some((pool, version)) = before {
            readers.extend(
                self.facts
                    .change_versions(&pool, |all| all.remove(&version)),
            );
        }
        self.who(&readers)
    }

    /// A node is in the pool.
    fn join(&mut self, provider: usize, id: &Arc<PoolId>) -> Option<Who> {
        if let Some(pool) = self.pools.get_mut(&id.name) {
            pool.nodes += 1;
            return None;
        }
        self.add_pool(provider, id, false, 1);
        Some(Who::Pool(Arc::clone(&id.name)))
    }

    /// A node is no longer in the pool.
    fn leave(&mut self, id: Option<&Arc<PoolId>>) -> Option<Who> {
        let pool = self.pools.get_mut(&id?.name)?;
        pool.nodes = pool.nodes.saturating_sub(1);
        self.remove_if_gone(&id?.name)
    }

    fn add_pool(&mut self, provider: usize, id: &Arc<PoolId>, is_object: bool, nodes: usize) {
        let reader = self.facts.add_reader();
        self.readers.insert(reader, Who::Pool(Arc::clone(&id.name)));
        let pool = Pool {
            id: Arc::clone(id),
            provider,
            is_object,
            nodes,
            reader,
        };
        self.pools.insert(Arc::clone(&id.name), pool);
    }

    fn remove_if_gone(&mut self, name: &Arc<str>) -> Option<Who> {
        let pool = self.pools.get(name)?;
        if pool.is_object || pool.nodes > 0 {
            return None;
        }
        let reader = pool.reader;
        self.facts.remove_reader(reader);
        self.readers.remove(&reader);
        self.pools.remove(name);
        Some(Who::Pool(Arc::clone(name)))
    }

    /// Finds out which pools of a provider are objects; the pools that are new or gone.
    fn list_pools(&mut self, providers: &Providers, provider: usize) -> Vec<Who> {
        if !self.is_open {
            return Vec::new();
        }
        let view = self.facts.view();
        let listed = providers.pools(provider, &view);
        let reads = view.into_reads();
        let Some(known) = self.object_pools.get_mut(provider) else {
            return Vec::new();
        };
        let reader = known.reader;
        self.facts.record(reader, reads);
        let listed = match listed {
            Ok(listed) => listed,
            Err(error) => {
                // Those that are known stay.
                known.unavailable = Some(error);
                return Vec::new();
            }
        };
        let was_unavailable = known.unavailable.take().is_some();
        let mut affected = Vec::new();
        for id in &listed {
            match self.pools.get_mut(&id.name) {
                Some(pool) if pool.is_object && pool.id == *id => {}
                Some(pool) => {
                    pool.is_object = true;
                    pool.id = Arc::clone(id);
                    affected.push(Who::Pool(Arc::clone(&id.name)));
                }
                None => {
                    self.add_pool(provider, id, true, 0);
                    affected.push(Who::Pool(Arc::clone(&id.name)));
                }
            }
        }
        let names: BTreeSet<&Arc<str>> = listed.iter().map(|id| &id.name).collect();
        let is_gone = |(name, pool): (&Arc<str>, &mut Pool)| {
            let is_gone = pool.provider == provider && pool.is_object && !names.contains(name);
            pool.is_object &= !is_gone;
            is_gone.then(|| Arc::clone(name))
        };
        let gone: Vec<Arc<str>> = self.pools.iter_mut().filter_map(is_gone).collect();
        for name in gone {
            self.remove_if_gone(&name);
            affected.push(Who::Pool(name));
        }
        if was_unavailable {
            // Whether those that nobody knows are gone is known again.
            affected.extend(self.pools.keys().map(|name| Who::Pool(Arc::clone(name))));
        }
        affected
    }
}
