//! Builders for tests: clusters, and what providers write on nodes.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use super::kubernetes::Kubernetes;
use super::openshift::evidence::{DaemonState, MachineConfigFacts};
use super::openshift::kinds::{
    CLUSTER_VERSION_NAME, ClusterVersion, MachineConfig, MachineConfigPool,
};
use super::settings::Settings;
use super::{Options, Provider, Providers};
use crate::domain::erased::Erased;
use crate::domain::fact::{Fact, Kind};
use crate::domain::facts::{Availability, Facts};
use crate::domain::fixtures::{NodeBuilder, at, member, node};
use crate::domain::labels::Selector;
use crate::domain::node::NodeFacts;
use crate::domain::pool::Membership;
use crate::domain::pool_generations::PoolVersion;
use crate::domain::state::{History, NodeState};

/// The old rendered config of the OpenShift clusters in tests.
pub(crate) const OLD: &str = "rendered-worker-old";
/// Their new rendered config.
pub(crate) const NEW: &str = "rendered-worker-new";
/// Release of [`OLD`].
pub(crate) const OLD_VERSION: &str = "4.14.1";
/// Release of [`NEW`], and the target.
pub(crate) const NEW_VERSION: &str = "4.15.0";

/// An OpenShift worker with these configs and an idle daemon.
pub(crate) fn worker(current: &str, desired: &str) -> NodeBuilder {
    node("worker-0")
        .role("worker")
        .current(current)
        .desired(desired)
        .daemon(DaemonState::Done)
}

impl NodeBuilder {
    pub(crate) fn machine_config(self, change: impl FnOnce(&mut MachineConfigFacts)) -> Self {
        self.evidence(change)
    }

    pub(crate) fn current(self, config: &str) -> Self {
        self.machine_config(|facts| facts.current_config = Some(config.into()))
    }

    pub(crate) fn desired(self, config: &str) -> Self {
        self.machine_config(|facts| facts.desired_config = Some(config.into()))
    }

    pub(crate) fn images(self, current: &str, desired: &str) -> Self {
        self.machine_config(|facts| {
            facts.current_image = Some(current.into());
            facts.desired_image = Some(desired.into());
        })
    }

    pub(crate) fn daemon(self, state: DaemonState) -> Self {
        self.machine_config(|facts| facts.state = state)
    }

    pub(crate) fn reason(self, reason: &str) -> Self {
        self.machine_config(|facts| facts.reason = Some(reason.into()))
    }

    pub(crate) fn drain_requested(self) -> Self {
        self.machine_config(|facts| facts.drain_requested = true)
    }
}

/// The contents of a cluster in which all kinds can be read.
#[derive(Debug, Clone, Default)]
pub(crate) struct ClusterFacts {
    pub(crate) pools: BTreeMap<Arc<str>, MachineConfigPool>,
    pub(crate) release_versions: HashMap<Arc<str>, Arc<str>>,
    pub(crate) cluster_version: Option<Arc<str>>,
    pub(crate) api_server_version: Option<Arc<str>>,
    pub(crate) newest_in_pool: HashMap<Arc<str>, Arc<str>>,
}

impl ClusterFacts {
    /// The facts of these kinds.
    pub(crate) fn facts(&self, kinds: &[Kind]) -> Facts {
        let mut table = FactTable::new(kinds);
        for (name, pool) in &self.pools {
            table.put(name, pool.clone());
        }
        for (config, version) in &self.release_versions {
            let release_version = Arc::clone(version);
            table.put(config, MachineConfig { release_version });
        }
        if let Some(version) = &self.cluster_version {
            let version = Arc::clone(version);
            table.put(CLUSTER_VERSION_NAME, ClusterVersion { version });
        }
        let mut facts = table.facts;
        facts.set_api_server_version(self.api_server_version.clone());
        for (pool, version) in &self.newest_in_pool {
            if PoolVersion::parse(version).is_some() {
                // As the node builder makes them: without labels.
                facts.change_member(pool, None, Some(&member(version, ("", ""))));
            }
        }
        facts
    }
}

/// Facts of kinds that can all be read, inserted by type.
pub(crate) struct FactTable {
    pub(crate) facts: Facts,
    kinds: Vec<Kind>,
}

impl FactTable {
    pub(crate) fn new(kinds: &[Kind]) -> Self {
        let mut facts = Facts::new(kinds);
        for place in 0..kinds.len() {
            facts.set_availability(place, Availability::Ready);
        }
        Self {
            facts,
            kinds: kinds.to_vec(),
        }
    }

    /// Inserts an object, if its kind is read.
    pub(crate) fn put<F: Fact>(&mut self, name: &str, fact: F) {
        let mut kinds = self.kinds.iter();
        if let Some(place) = kinds.position(|kind| kind.is_same_type(&Kind::of::<F>())) {
            let fact = Arc::new(fact) as Arc<dyn Erased>;
            self.facts.apply(place, &name.into(), Some(fact));
        }
    }
}

/// A MachineConfigPool of all nodes with the role `name`, with the desired `config`.
pub(crate) fn pool(name: &str, config: &str) -> MachineConfigPool {
    let key = format!("node-role.kubernetes.io/{name}");
    MachineConfigPool {
        id: Arc::new(MachineConfigPool::pool(name)),
        uid: format!("uid-{name}").into(),
        paused: false,
        configuration: Some(config.into()),
        image: None,
        selector: selector(&[(&key, "")]),
    }
}

/// The same pool, paused.
pub(crate) fn paused(pool: MachineConfigPool) -> MachineConfigPool {
    MachineConfigPool {
        paused: true,
        ..pool
    }
}

/// A selector of exact labels; without labels, the empty selector.
pub(crate) fn selector(labels: &[(&str, &str)]) -> Option<Selector> {
    let match_labels = labels
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect();
    Selector::parse(Some(&LabelSelector {
        match_labels: Some(match_labels),
        match_expressions: None,
    }))
    .unwrap()
}

/// An OpenShift cluster during its update from 4.14.1 to 4.15.0, with `pools`.
pub(crate) fn openshift(pools: impl IntoIterator<Item = MachineConfigPool>) -> ClusterFacts {
    ClusterFacts {
        pools: pools
            .into_iter()
            .map(|pool| (Arc::clone(&pool.id.name), pool))
            .collect(),
        release_versions: [(OLD, OLD_VERSION), (NEW, NEW_VERSION)]
            .map(|(config, version)| (config.into(), version.into()))
            .into(),
        cluster_version: Some(NEW_VERSION.into()),
        ..ClusterFacts::default()
    }
}

/// Plain Kubernetes with these labels that name pools, and this target version.
pub(crate) fn plain_kubernetes(labels: &[String], target: Option<&str>) -> Kubernetes {
    Kubernetes::new(Settings::new(&Options {
        pool_label_keys: labels.to_vec(),
        target_version: target.map(str::to_owned),
        ..Options::default()
    }))
}

/// Only this provider.
pub(crate) fn only(provider: impl Provider + 'static) -> Providers {
    Providers::new(vec![Box::new(provider)], Vec::new()).unwrap()
}

/// Evaluates a node.
pub(crate) fn next_state(
    providers: &Providers,
    node: &NodeFacts,
    cluster: &ClusterFacts,
    past: Option<&History>,
    now: Timestamp,
) -> NodeState {
    let facts = cluster.facts(providers.kinds());
    let view = facts.view();
    let assignment = providers.assign(node, &view);
    providers.evaluate(node, &assignment, None, &view, past, now)
}

/// Evaluates a node, with these facts.
pub(crate) fn evaluated(
    providers: &Providers,
    facts: &Facts,
    node: &NodeFacts,
    past: Option<&NodeState>,
) -> NodeState {
    let view = facts.view();
    let assignment = providers.assign(node, &view);
    let past = past.map(History::from);
    providers.evaluate(node, &assignment, None, &view, past.as_ref(), at(0))
}

/// The pool membership of a node.
pub(crate) fn membership(
    provider: &dyn Provider,
    node: &NodeFacts,
    cluster: &ClusterFacts,
) -> Membership {
    let facts = cluster.facts(&provider.kinds());
    provider.pool(node, &facts.view()).unwrap()
}
