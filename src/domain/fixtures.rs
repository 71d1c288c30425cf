//! Builders for tests: nodes, pools and clusters that are healthy until a test says otherwise.

pub(crate) mod schema;

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use jiff::Timestamp;

use super::cluster::Cluster;
use super::facts::{Cordon, DaemonState, NodeCondition, NodeConditions, NodeFacts, Removal};
use super::labels::{Labels, Selector};
use super::pool::{PoolFacts, PoolId};
use super::version::compare;
use crate::api::types::ConditionStatus;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

/// The rendered config and the release that the OpenShift clusters of the tests come from.
pub(crate) const OLD: &str = "rendered-worker-old";
/// The rendered config that they go to.
pub(crate) const NEW: &str = "rendered-worker-new";
/// Release of [`OLD`].
pub(crate) const OLD_VERSION: &str = "4.14.1";
/// Release of [`NEW`], and the target.
pub(crate) const NEW_VERSION: &str = "4.15.0";

/// The moment that is `seconds` after the tests' own beginning of time.
pub(crate) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_790_000_000 + seconds).unwrap()
}

/// A condition of a node.
pub(crate) fn condition(status: ConditionStatus, message: &str, since: i64) -> NodeCondition {
    NodeCondition {
        status,
        since: Some(at(since)),
        message: message.into(),
    }
}

/// A node under construction.
#[derive(Clone)]
pub(crate) struct NodeBuilder {
    labels: BTreeMap<String, String>,
    facts: NodeFacts,
}

/// A node that is ready and of which nothing else is known.
pub(crate) fn node(name: &str) -> NodeBuilder {
    NodeBuilder {
        labels: BTreeMap::new(),
        facts: NodeFacts {
            name: name.into(),
            uid: format!("uid-{name}").into(),
            labels: Labels::default(),
            deleting: false,
            cordoned: None,
            kubelet_version: None,
            boot_id: None,
            conditions: NodeConditions {
                ready: Some(condition(ConditionStatus::True, "", -1000)),
                disk_pressure: Some(condition(ConditionStatus::False, "", -1000)),
                network_unavailable: Some(condition(ConditionStatus::False, "", -1000)),
                ..NodeConditions::default()
            },
            machine_config: super::facts::MachineConfigFacts::default(),
            removal: None,
        },
    }
}

/// A worker of OpenShift that runs `current` and shall run `desired`, with an idle daemon.
pub(crate) fn worker(current: &str, desired: &str) -> NodeBuilder {
    node("worker-0")
        .role("worker")
        .current(current)
        .desired(desired)
        .daemon(DaemonState::Done)
}

impl NodeBuilder {
    pub(crate) fn label(mut self, key: &str, value: &str) -> Self {
        self.labels.insert(key.into(), value.into());
        self
    }

    pub(crate) fn role(self, role: &str) -> Self {
        self.label(&format!("node-role.kubernetes.io/{role}"), "")
    }

    pub(crate) fn current(mut self, config: &str) -> Self {
        self.facts.machine_config.current_config = Some(config.into());
        self
    }

    pub(crate) fn desired(mut self, config: &str) -> Self {
        self.facts.machine_config.desired_config = Some(config.into());
        self
    }

    pub(crate) fn images(mut self, current: &str, desired: &str) -> Self {
        self.facts.machine_config.current_image = Some(current.into());
        self.facts.machine_config.desired_image = Some(desired.into());
        self
    }

    pub(crate) fn daemon(mut self, state: DaemonState) -> Self {
        self.facts.machine_config.state = state;
        self
    }

    pub(crate) fn reason(mut self, reason: &str) -> Self {
        self.facts.machine_config.reason = Some(reason.into());
        self
    }

    pub(crate) fn drain_requested(mut self) -> Self {
        self.facts.machine_config.drain_requested = true;
        self
    }

    pub(crate) fn kubelet(mut self, version: &str) -> Self {
        self.facts.kubelet_version = Some(version.into());
        self
    }

    pub(crate) fn boot(mut self, id: &str) -> Self {
        self.facts.boot_id = Some(id.into());
        self
    }

    pub(crate) fn cordoned(mut self) -> Self {
        self.facts.cordoned = Some(Cordon { since: None });
        self
    }

    pub(crate) fn cordoned_since(mut self, since: i64) -> Self {
        self.facts.cordoned = Some(Cordon {
            since: Some(at(since)),
        });
        self
    }

    pub(crate) fn deleting(mut self) -> Self {
        self.facts.deleting = true;
        self
    }

    pub(crate) fn removed_by_autoscaler(mut self) -> Self {
        self.facts.removal = Some(Removal::ClusterAutoscaler);
        self
    }

    pub(crate) fn not_ready(self, since: i64) -> Self {
        self.with(|conditions| {
            conditions.ready = Some(condition(
                ConditionStatus::Unknown,
                "Kubelet stopped posting node status.",
                since,
            ));
        })
    }

    pub(crate) fn with(mut self, change: impl FnOnce(&mut NodeConditions)) -> Self {
        change(&mut self.facts.conditions);
        self
    }

    pub(crate) fn build(self) -> NodeFacts {
        let labels = self.labels.iter().map(|(k, v)| (k.as_str(), v.as_str()));
        NodeFacts {
            labels: Labels::new(labels),
            ..self.facts
        }
    }
}

/// A cluster that is as a test puts it.
#[derive(Debug, Clone, Default)]
pub(crate) struct ClusterFacts {
    pub(crate) pools: BTreeMap<Arc<str>, PoolFacts>,
    pub(crate) release_versions: HashMap<Arc<str>, Arc<str>>,
    pub(crate) cluster_version: Option<Arc<str>>,
    pub(crate) api_server_version: Option<Arc<str>>,
    pub(crate) newest_in_pool: HashMap<Arc<str>, Arc<str>>,
}

impl Cluster for ClusterFacts {
    fn pool(&self, name: &Arc<str>) -> Option<Arc<PoolFacts>> {
        self.pools.get(name).cloned().map(Arc::new)
    }

    fn pools(&self) -> Vec<Arc<PoolFacts>> {
        self.pools.values().cloned().map(Arc::new).collect()
    }

    fn release_version(&self, config: &Arc<str>) -> Option<Arc<str>> {
        self.release_versions.get(config).cloned()
    }

    fn cluster_version(&self) -> Option<Arc<str>> {
        self.cluster_version.clone()
    }

    fn api_server_version(&self) -> Option<Arc<str>> {
        self.api_server_version.clone()
    }

    fn newer_in_pool(&self, pool: &Arc<str>, own: &str) -> Option<Arc<str>> {
        let newest = self.newest_in_pool.get(pool)?;
        (compare(own, newest) == Some(Ordering::Less)).then(|| Arc::clone(newest))
    }
}

/// A MachineConfigPool of all nodes that have the role of its name, and that wants `config`.
pub(crate) fn pool(name: &str, config: &str) -> PoolFacts {
    let key = format!("node-role.kubernetes.io/{name}");
    PoolFacts {
        id: Arc::new(PoolId::machine_config_pool(name)),
        uid: format!("uid-{name}").into(),
        paused: false,
        configuration: Some(config.into()),
        selector: selector(&[(&key, "")]),
    }
}

/// The same pool, paused.
pub(crate) fn paused(pool: PoolFacts) -> PoolFacts {
    PoolFacts {
        paused: true,
        ..pool
    }
}

/// A selector of exact labels; none of them is the empty selector.
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

/// An OpenShift cluster on its way from 4.14.1 to 4.15.0, with `pools`.
pub(crate) fn openshift(pools: impl IntoIterator<Item = PoolFacts>) -> ClusterFacts {
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
