//! What is known of the cluster, and whom a change of it affects.
//!
//! Every change says which nodes have to be judged again and which pools look different: exactly
//! those, so that a rollout of one pool costs nothing in the others, and a status update of a pool,
//! which changes nothing that is judged, costs nothing at all.
//!
//! Owns what was last seen of nodes, pools, configs and versions, each in a store of its own: kinds
//! are fed by tasks of their own, and none waits for another. Whoever changes a kind writes first and
//! then looks at the others, so of two changes at once at least one sees both, and the nodes that it
//! names are judged by both. Of one kind there is one writer.

use std::collections::HashSet;
use std::sync::Arc;

use jiff::Timestamp;

use crate::api::types::Provider;
use crate::domain::cluster::Cluster;
use crate::domain::evaluate::{Evaluator, evaluate};
use crate::domain::facts::NodeFacts;
use crate::domain::pool::{Membership, PoolFacts, PoolId};
use crate::domain::pool_versions::{PoolVersion, PoolVersions};
use crate::domain::state::{History, NodeState};
use crate::registry::store::{Change, Store};

/// What a change affects.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Affected {
    /// Nodes to be judged again, by name.
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

/// A node and its pool.
#[derive(Debug, PartialEq)]
struct Member {
    facts: Arc<NodeFacts>,
    membership: Membership,
}

impl Member {
    fn is_in(&self, pool: &str) -> bool {
        self.membership.pool().is_some_and(|own| &*own.name == pool)
    }
}

/// Who says which version there is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Target {
    ClusterVersion,
    ApiServer,
}

/// Nodes, pools and versions of one cluster.
pub struct Inventory {
    rules: Box<dyn Evaluator>,
    /// By name; found by the config that they run.
    nodes: Store<Arc<str>, Member, Arc<str>>,
    /// MachineConfigPools by name; found by the config that they want.
    pools: Store<Arc<str>, PoolFacts, Arc<str>>,
    /// Release versions of rendered MachineConfigs that say one.
    releases: Store<Arc<str>, Arc<str>>,
    targets: Store<Target, Arc<str>>,
    /// By name of the pool's insight.
    kubelets: Store<Arc<str>, PoolVersions>,
}

impl Inventory {
    /// An empty inventory of a cluster that is judged by `rules`.
    #[must_use]
    pub fn new(rules: Box<dyn Evaluator>) -> Self {
        Self {
            rules,
            nodes: Store::indexed(|member: &Member| {
                member.facts.machine_config.current_config.clone()
            }),
            pools: Store::indexed(|pool: &PoolFacts| pool.configuration.clone()),
            releases: Store::new(),
            targets: Store::new(),
            kubelets: Store::new(),
        }
    }

    /// Whose rules the nodes are judged by.
    #[must_use]
    pub fn provider(&self) -> Provider {
        self.rules.provider()
    }

    /// Judges a node; `None` when there is no such node.
    #[must_use]
    pub fn evaluate(
        &self,
        name: &Arc<str>,
        past: Option<&History>,
        now: Timestamp,
    ) -> Option<NodeState> {
        let member = self.nodes.get(name)?;
        Some(evaluate(
            &*self.rules,
            &member.facts,
            &member.membership,
            self,
            past,
            now,
        ))
    }

    /// UID of a node.
    #[must_use]
    pub fn uid(&self, name: &Arc<str>) -> Option<Arc<str>> {
        self.nodes
            .get(name)
            .map(|member| Arc::clone(&member.facts.uid))
    }

    /// Names of all MachineConfigPools.
    #[must_use]
    pub fn pool_names(&self) -> Vec<Arc<str>> {
        self.pools.keys()
    }

    /// Whether there is such a node.
    #[must_use]
    pub fn has_node(&self, name: &Arc<str>) -> bool {
        self.nodes.contains(name)
    }

    /// Takes in a node that is new or has changed.
    pub fn apply_node(&self, facts: NodeFacts) -> Affected {
        let before = self.nodes.get(&facts.name);
        if before.as_ref().is_some_and(|before| *before.facts == facts) {
            return Affected::default();
        }
        let name = Arc::clone(&facts.name);
        let facts = Arc::new(facts);
        // A pool that changes meanwhile looks for its nodes before or after this one is there: then
        // it is asked again.
        let counted = loop {
            let pools = self.pools.generation();
            let member = Member {
                membership: self.rules.membership(&facts, self),
                facts: Arc::clone(&facts),
            };
            let counted = self.counted(&member);
            self.nodes.upsert(Arc::clone(&name), member);
            if self.pools.generation() == pools {
                break counted;
            }
        };
        let gained = counted.and_then(|counted| self.count_version(counted));
        let lost = before.and_then(|before| self.discount_version(&before));
        self.after_versions_changed(name, gained, lost)
    }

    /// Forgets a node.
    pub fn remove_node(&self, name: &Arc<str>) -> Affected {
        let Some(member) = self.nodes.remove(name) else {
            return Affected::default();
        };
        let lost = self.discount_version(&member);
        self.after_versions_changed(Arc::clone(name), None, lost)
    }

    /// Forgets every node that a complete list does not have.
    pub fn retain_nodes(&self, listed: &HashSet<String>) -> Affected {
        let gone = self.nodes.keys().into_iter().filter(is_not_in(listed));
        gone.map(|name| self.remove_node(&name))
            .fold(Affected::default(), Affected::and)
    }

    /// Takes in a MachineConfigPool that is new or has changed.
    pub fn apply_pool(&self, facts: PoolFacts) -> Affected {
        let name = Arc::clone(&facts.id.name);
        let (selector, paused) = (facts.selector.clone(), facts.paused);
        let configuration = facts.configuration.clone();
        match self.pools.upsert(Arc::clone(&name), facts) {
            Change::Unchanged => Affected::default(),
            Change::Inserted => self.after_pool_changed(name, true, true),
            Change::Updated(before) => {
                let judged_otherwise =
                    before.paused != paused || before.configuration != configuration;
                self.after_pool_changed(name, before.selector != selector, judged_otherwise)
            }
        }
    }

    /// Forgets a MachineConfigPool.
    pub fn remove_pool(&self, name: &Arc<str>) -> Affected {
        match self.pools.remove(name) {
            Some(_) => self.after_pool_changed(Arc::clone(name), true, true),
            None => Affected::default(),
        }
    }

    /// Forgets every MachineConfigPool that a complete list does not have.
    pub fn retain_pools(&self, listed: &HashSet<String>) -> Affected {
        let gone = self.pools.keys().into_iter().filter(is_not_in(listed));
        gone.map(|name| self.remove_pool(&name))
            .fold(Affected::default(), Affected::and)
    }

    /// Takes in the release version of a rendered MachineConfig; `None` when it says none, or is gone.
    pub fn set_release_version(&self, config: &Arc<str>, version: Option<Arc<str>>) -> Affected {
        if !set(&self.releases, Arc::clone(config), version) {
            return Affected::default();
        }
        let (nodes, pools) = (
            self.nodes.snapshot_of(config),
            // An empty pool is judged by the version of its config.
            self.pools.snapshot_of(config),
        );
        Affected {
            nodes: names(nodes.values.iter().map(|member| &member.facts.name)),
            pools: names(pools.values.iter().map(|pool| &pool.id.name)),
        }
    }

    /// Forgets every release version of a MachineConfig that a complete list does not have.
    pub fn retain_release_versions(&self, listed: &HashSet<String>) -> Affected {
        let gone = self.releases.keys().into_iter().filter(is_not_in(listed));
        gone.map(|config| self.set_release_version(&config, None))
            .fold(Affected::default(), Affected::and)
    }

    /// Takes in the version that ClusterVersion asks for.
    pub fn set_cluster_version(&self, version: Option<Arc<str>>) -> Affected {
        self.set_target(Target::ClusterVersion, version)
    }

    /// Takes in the version of the API server.
    pub fn set_api_server_version(&self, version: Option<Arc<str>>) -> Affected {
        self.set_target(Target::ApiServer, version)
    }

    fn set_target(&self, target: Target, version: Option<Arc<str>>) -> Affected {
        if !set(&self.targets, target, version) {
            return Affected::default();
        }
        Affected {
            nodes: self.nodes.keys(),
            pools: self.pools.keys(),
        }
    }

    fn after_pool_changed(
        &self,
        name: Arc<str>,
        selects_otherwise: bool,
        judged_otherwise: bool,
    ) -> Affected {
        let mut nodes = Vec::new();
        for member in self.nodes.snapshot().values {
            let node = &member.facts.name;
            let moved = selects_otherwise && self.move_to_its_pool(node, &member);
            if moved || (judged_otherwise && member.is_in(&name)) {
                nodes.push(Arc::clone(node));
            }
        }
        Affected {
            nodes,
            pools: vec![name],
        }
    }

    /// Puts a node into the pool that it belongs to now; whether that is another one.
    fn move_to_its_pool(&self, node: &Arc<str>, member: &Member) -> bool {
        if self.rules.membership(&member.facts, self) == member.membership {
            return false;
        }
        self.nodes.update(node, |member| Member {
            facts: Arc::clone(&member.facts),
            membership: self.rules.membership(&member.facts, self),
        });
        true
    }

    /// Counts a node's version in its pool; the pool's name, if others may be behind another version now.
    fn count_version(&self, (pool, version): (Arc<str>, PoolVersion)) -> Option<Arc<str>> {
        self.change_versions(pool, |versions| versions.add(version))
    }

    fn discount_version(&self, member: &Member) -> Option<Arc<str>> {
        let (pool, version) = self.counted(member)?;
        self.change_versions(pool, |versions| versions.remove(&version))
    }

    fn change_versions(
        &self,
        pool: Arc<str>,
        change: impl FnOnce(&mut PoolVersions),
    ) -> Option<Arc<str>> {
        let mut versions = self
            .kubelets
            .get(&pool)
            .map(|versions| (*versions).clone())
            .unwrap_or_default();
        let before = versions.decisive();
        change(&mut versions);
        let after = versions.decisive();
        if versions.is_empty() {
            self.kubelets.remove(&pool);
        } else {
            self.kubelets.upsert(Arc::clone(&pool), versions);
        }
        (before != after).then_some(pool)
    }

    /// What is counted of a node. On OpenShift nothing is: nobody there asks for the newest kubelet.
    fn counted(&self, member: &Member) -> Option<(Arc<str>, PoolVersion)> {
        if self.rules.provider() != Provider::Kubernetes {
            return None;
        }
        let version = PoolVersion::parse(member.facts.kubelet_version.as_ref()?)?;
        let pool: &PoolId = member.membership.pool()?;
        Some((Arc::clone(&pool.name), version))
    }

    /// The node itself, and every other node of a pool whose newest versions are others now.
    fn after_versions_changed(
        &self,
        name: Arc<str>,
        gained: Option<Arc<str>>,
        lost: Option<Arc<str>>,
    ) -> Affected {
        let changed: Vec<Arc<str>> = gained.into_iter().chain(lost).collect();
        let mut nodes = Vec::new();
        if !changed.is_empty() {
            let members = self.nodes.snapshot().values;
            let others = members.iter().filter(|member| {
                member.facts.name != name && changed.iter().any(|pool| member.is_in(pool))
            });
            nodes.extend(others.map(|member| Arc::clone(&member.facts.name)));
        }
        nodes.push(name);
        Affected {
            nodes,
            pools: Vec::new(),
        }
    }
}

impl Cluster for Inventory {
    fn pool(&self, name: &Arc<str>) -> Option<Arc<PoolFacts>> {
        self.pools.get(name)
    }

    fn pools(&self) -> Vec<Arc<PoolFacts>> {
        self.pools.snapshot().values
    }

    fn release_version(&self, config: &Arc<str>) -> Option<Arc<str>> {
        let version = self.releases.get(config)?;
        Some(Arc::clone(&version))
    }

    fn cluster_version(&self) -> Option<Arc<str>> {
        let version = self.targets.get(&Target::ClusterVersion)?;
        Some(Arc::clone(&version))
    }

    fn api_server_version(&self) -> Option<Arc<str>> {
        let version = self.targets.get(&Target::ApiServer)?;
        Some(Arc::clone(&version))
    }

    fn newer_in_pool(&self, pool: &Arc<str>, own: &str) -> Option<Arc<str>> {
        self.kubelets.get(pool)?.newer_than(own)
    }
}

/// Keeps a value, or forgets it; whether that is a change.
fn set<K: Clone + Eq + std::hash::Hash + Ord>(
    store: &Store<K, Arc<str>>,
    key: K,
    value: Option<Arc<str>>,
) -> bool {
    match value {
        Some(value) => store.upsert(key, value) != Change::Unchanged,
        None => store.remove(&key).is_some(),
    }
}

fn names<'a>(names: impl Iterator<Item = &'a Arc<str>>) -> Vec<Arc<str>> {
    names.map(Arc::clone).collect()
}

fn is_not_in(listed: &HashSet<String>) -> impl Fn(&Arc<str>) -> bool {
    move |name| !listed.contains(&**name)
}

#[cfg(test)]
mod tests;
