//! What is known of the cluster, and whom a change of it affects.
//!
//! Every change says which nodes have to be judged again and which pools look different: exactly
//! those, so that a rollout of one pool costs nothing in the others, and a status update of a pool,
//! which changes nothing that is judged, costs nothing at all.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use jiff::Timestamp;

use super::cluster::ClusterFacts;
use super::evaluate::{Evaluator, evaluate};
use super::facts::NodeFacts;
use super::pool::{Membership, PoolFacts, PoolId};
use super::state::{History, NodeState};
use super::version::Version;
use crate::api::types::Provider;

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
}

struct Entry {
    facts: Arc<NodeFacts>,
    membership: Membership,
}

/// Kubelet versions of one pool, newest last, with the number of nodes that run each. Two texts may be
/// one version; the text is part of the key, so that the newest does not depend on who came first.
type PoolVersions = BTreeMap<KubeletVersion, usize>;
type KubeletVersion = (Version, Arc<str>);

/// Nodes, pools and versions of one cluster.
pub struct Inventory {
    rules: Box<dyn Evaluator>,
    nodes: HashMap<Arc<str>, Entry>,
    cluster: ClusterFacts,
    versions: HashMap<Arc<str>, PoolVersions>,
}

impl Inventory {
    /// An empty inventory of a cluster that is judged by `rules`.
    #[must_use]
    pub fn new(rules: Box<dyn Evaluator>) -> Self {
        Self {
            rules,
            nodes: HashMap::new(),
            cluster: ClusterFacts::default(),
            versions: HashMap::new(),
        }
    }

    /// Judges a node; `None` when there is no such node.
    #[must_use]
    pub fn evaluate(
        &self,
        name: &str,
        past: Option<&History>,
        now: Timestamp,
    ) -> Option<NodeState> {
        let entry = self.nodes.get(name)?;
        Some(evaluate(
            &*self.rules,
            &entry.facts,
            &entry.membership,
            &self.cluster,
            past,
            now,
        ))
    }

    /// UID of a node.
    #[must_use]
    pub fn uid(&self, name: &str) -> Option<Arc<str>> {
        self.nodes
            .get(name)
            .map(|entry| Arc::clone(&entry.facts.uid))
    }

    /// Names of all nodes.
    #[must_use]
    pub fn node_names(&self) -> Vec<Arc<str>> {
        self.nodes.keys().cloned().collect()
    }

    /// What is known of a MachineConfigPool.
    #[must_use]
    pub fn pool(&self, name: &str) -> Option<&PoolFacts> {
        self.cluster.pools.get(name)
    }

    /// Names of all MachineConfigPools.
    #[must_use]
    pub fn pool_names(&self) -> Vec<Arc<str>> {
        self.cluster.pools.keys().cloned().collect()
    }

    /// What of the cluster the judgements depend on.
    #[must_use]
    pub fn cluster(&self) -> &ClusterFacts {
        &self.cluster
    }

    /// Takes in a node that is new or has changed.
    pub fn apply_node(&mut self, facts: NodeFacts) -> Affected {
        if self
            .nodes
            .get(&facts.name)
            .is_some_and(|entry| *entry.facts == facts)
        {
            return Affected::default();
        }
        let name = Arc::clone(&facts.name);
        let membership = self.rules.membership(&facts, &self.cluster);
        let entry = Entry {
            facts: Arc::new(facts),
            membership,
        };
        let gained = self.count_version(&entry);
        let before = self.nodes.insert(Arc::clone(&name), entry);
        let lost = before.and_then(|before| self.discount_version(&before));
        self.after_versions_changed(name, gained, lost)
    }

    /// Forgets a node.
    pub fn remove_node(&mut self, name: &str) -> Affected {
        let Some((name, entry)) = self.nodes.remove_entry(name) else {
            return Affected::default();
        };
        let lost = self.discount_version(&entry);
        self.after_versions_changed(name, None, lost)
    }

    /// Takes in a MachineConfigPool that is new or has changed.
    pub fn apply_pool(&mut self, facts: PoolFacts) -> Affected {
        let name = Arc::clone(&facts.id.name);
        let before = self.cluster.pools.get(&name);
        if before == Some(&facts) {
            return Affected::default();
        }
        let selects_otherwise = before.is_none_or(|before| before.selector != facts.selector);
        let judged_otherwise = before.is_none_or(|before| {
            before.paused != facts.paused || before.configuration != facts.configuration
        });
        self.cluster.pools.insert(Arc::clone(&name), facts);
        self.after_pool_changed(name, selects_otherwise, judged_otherwise)
    }

    /// Forgets a MachineConfigPool.
    pub fn remove_pool(&mut self, name: &str) -> Affected {
        match self.cluster.pools.remove_entry(name) {
            Some((name, _)) => self.after_pool_changed(name, true, true),
            None => Affected::default(),
        }
    }

    /// Takes in the release version of a rendered MachineConfig; `None` when it says none, or is gone.
    pub fn set_release_version(&mut self, config: &str, version: Option<&Arc<str>>) -> Affected {
        let before = match version {
            Some(version) => self
                .cluster
                .release_versions
                .insert(config.into(), Arc::clone(version)),
            None => self.cluster.release_versions.remove(config),
        };
        if before.as_ref() == version {
            return Affected::default();
        }
        let runs_it =
            |entry: &&Entry| entry.facts.machine_config.current_config.as_deref() == Some(config);
        Affected {
            nodes: self
                .nodes
                .values()
                .filter(runs_it)
                .map(|entry| Arc::clone(&entry.facts.name))
                .collect(),
            // An empty pool is judged by the version of its config.
            pools: self
                .cluster
                .pools
                .values()
                .filter(|pool| pool.configuration.as_deref() == Some(config))
                .map(|pool| Arc::clone(&pool.id.name))
                .collect(),
        }
    }

    /// Names of the MachineConfigs that say a release version.
    #[must_use]
    pub fn config_names(&self) -> Vec<Arc<str>> {
        self.cluster.release_versions.keys().cloned().collect()
    }

    /// Takes in the version that ClusterVersion asks for.
    pub fn set_cluster_version(&mut self, version: Option<Arc<str>>) -> Affected {
        if self.cluster.cluster_version == version {
            return Affected::default();
        }
        self.cluster.cluster_version = version;
        self.everything()
    }

    /// Takes in the version of the API server.
    pub fn set_api_server_version(&mut self, version: Option<Arc<str>>) -> Affected {
        if self.cluster.api_server_version == version {
            return Affected::default();
        }
        self.cluster.api_server_version = version;
        self.everything()
    }

    fn everything(&self) -> Affected {
        Affected {
            nodes: self.node_names(),
            pools: self.pool_names(),
        }
    }

    fn after_pool_changed(
        &mut self,
        name: Arc<str>,
        selects_otherwise: bool,
        judged_otherwise: bool,
    ) -> Affected {
        let mut nodes = Vec::new();
        for (node, entry) in &mut self.nodes {
            let moved = selects_otherwise && {
                let membership = self.rules.membership(&entry.facts, &self.cluster);
                let moved = membership != entry.membership;
                entry.membership = membership;
                moved
            };
            let is_member = entry
                .membership
                .pool()
                .is_some_and(|pool| pool.name == name);
            if moved || (judged_otherwise && is_member) {
                nodes.push(Arc::clone(node));
            }
        }
        Affected {
            nodes,
            pools: vec![name],
        }
    }

    /// Counts the node's version in its pool; the pool's name, if that made another version newest.
    fn count_version(&mut self, entry: &Entry) -> Option<Arc<str>> {
        let (pool, version) = self.counted(entry)?;
        let versions = self.versions.entry(Arc::clone(&pool.name)).or_default();
        *versions.entry(version).or_default() += 1;
        self.refresh_newest(pool)
    }

    fn discount_version(&mut self, entry: &Entry) -> Option<Arc<str>> {
        let (pool, version) = self.counted(entry)?;
        let versions = self.versions.get_mut(&pool.name)?;
        if let Some(count) = versions.get_mut(&version) {
            *count -= 1;
            if *count == 0 {
                versions.remove(&version);
            }
        }
        if versions.is_empty() {
            self.versions.remove(&pool.name);
        }
        self.refresh_newest(pool)
    }

    /// What is counted of a node. On OpenShift nothing is: nobody there asks for the newest kubelet.
    fn counted<'a>(&self, entry: &'a Entry) -> Option<(&'a Arc<PoolId>, KubeletVersion)> {
        if self.rules.provider() != Provider::Kubernetes {
            return None;
        }
        let text = entry.facts.kubelet_version.as_ref()?;
        let version = (Version::parse(text)?, Arc::clone(text));
        Some((entry.membership.pool()?, version))
    }

    fn refresh_newest(&mut self, pool: &PoolId) -> Option<Arc<str>> {
        let newest = self
            .versions
            .get(&pool.name)
            .and_then(|versions| versions.keys().next_back());
        let newest = newest.map(|(_, text)| Arc::clone(text));
        let before = match newest.clone() {
            Some(newest) => self
                .cluster
                .newest_in_pool
                .insert(Arc::clone(&pool.name), newest),
            None => self.cluster.newest_in_pool.remove(&pool.name),
        };
        (before != newest).then(|| Arc::clone(&pool.name))
    }

    /// The node itself, and every other node of a pool whose newest version is another one now.
    fn after_versions_changed(
        &self,
        name: Arc<str>,
        gained: Option<Arc<str>>,
        lost: Option<Arc<str>>,
    ) -> Affected {
        let changed: Vec<Arc<str>> = gained.into_iter().chain(lost).collect();
        let is_affected = |entry: &&Entry| {
            entry.facts.name != name
                && entry
                    .membership
                    .pool()
                    .is_some_and(|pool| changed.contains(&pool.name))
        };
        let mut nodes = Vec::new();
        if !changed.is_empty() {
            let others = self.nodes.values().filter(is_affected);
            nodes.extend(others.map(|entry| Arc::clone(&entry.facts.name)));
        }
        nodes.push(name);
        Affected {
            nodes,
            pools: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests;
