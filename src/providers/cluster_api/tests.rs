//! One test for each rule of Cluster API.

use serde_json::{Value, json};

use super::evidence::{ClusterApiNode, OwnerKind};
use super::kinds::*;
use super::*;
use crate::api::types::{ConditionStatus, DesiredVersionSource, Phase, UpdateKind};
use crate::domain::cordon::Cordoner;
use crate::domain::fact::{Fact, Meta, Object, Parsed};
use crate::domain::facts::Availability;
use crate::domain::fixtures::{self, NodeBuilder, at, node};
use crate::domain::state::NodeState;
use crate::providers::fixtures::FactTable;
use crate::providers::{Options, Providers};

mod deletion;
mod holds;
mod pools;
mod sources;
mod steps;

const ID: &str = "docker:////prod-md-0-7x2kq-bn4rt";
const NODE: &str = "prod-md-0-7x2kq-bn4rt";
const MACHINE: &str = "prod-md-0-7x2kq-bn4rt";
const OLD: &str = "v1.34.2";
const NEW: &str = "v1.35.4";
const API_SERVER: &str = "v1.36.3";

/// Reads an object.
fn read<F: Fact>(object: &Value) -> Parsed<F> {
    let meta: Meta = serde_json::from_value(object["metadata"].clone()).unwrap_or_default();
    F::parse(&Object::new(&meta, &object.to_string()))
}

fn parsed<F: Fact>(object: &Value) -> F {
    match read(object) {
        Parsed::Fact(fact) => fact,
        other => panic!("{other:?}"),
    }
}

fn condition((type_, status, reason, message): (&str, &str, &str, &str)) -> Value {
    json!({
        "type": type_, "status": status, "reason": reason, "message": message,
        "lastTransitionTime": at(-60).to_string(),
    })
}

const UP_TO_DATE: (&str, &str, &str, &str) = ("UpToDate", "True", "UpToDate", "");
const OUTDATED: (&str, &str, &str, &str) = (
    "UpToDate",
    "False",
    "NotUpToDate",
    "* Version v1.34.2, v1.35.4 required\n* KubeadmConfig is not up-to-date",
);

/// A Machine of MachineDeployment `prod-md-0` as v1beta2 has it, with these conditions.
fn machine(version: &str, conditions: &[(&str, &str, &str, &str)]) -> Value {
    let conditions: Vec<Value> = conditions.iter().copied().map(condition).collect();
    json!({
        "apiVersion": "cluster.x-k8s.io/v1beta2", "kind": "Machine",
        "metadata": {
            "name": MACHINE, "namespace": "clusters", "uid": "machine",
            "creationTimestamp": at(-86_400).to_string(),
            "labels": {
                "cluster.x-k8s.io/cluster-name": "prod",
                "cluster.x-k8s.io/deployment-name": "prod-md-0",
                "cluster.x-k8s.io/set-name": "prod-md-0-7x2kq",
            },
        },
        "spec": {
            "clusterName": "prod", "providerID": ID, "version": version,
            "bootstrap": {"dataSecretName": "prod-md-0-7x2kq-bn4rt"},
            "infrastructureRef": {
                "apiGroup": "infrastructure.cluster.x-k8s.io", "kind": "DockerMachine", "name": MACHINE,
            },
        },
        "status": {"nodeRef": {"name": NODE}, "phase": "Running", "conditions": conditions},
    })
}

/// The same object as v1beta1 has it, with the old conditions as well.
fn v1beta1(mut machine: Value, old: &[(&str, &str, &str, &str)]) -> Value {
    machine["apiVersion"] = "cluster.x-k8s.io/v1beta1".into();
    let modern = machine["status"]["conditions"].take();
    machine["status"]["v1beta2"] = json!({"conditions": modern});
    let old: Vec<Value> = old.iter().copied().map(condition).collect();
    machine["status"]["conditions"] = old.into();
    machine["status"]["nodeRef"] = json!({"apiVersion": "v1", "kind": "Node", "name": NODE});
    machine
}

fn deleted(mut machine: Value) -> Value {
    machine["metadata"]["deletionTimestamp"] = at(-120).to_string().into();
    machine
}

fn with_annotation(mut object: Value, key: &str, value: &str) -> Value {
    object["metadata"]["annotations"][key] = value.into();
    object
}

fn cluster(paused: bool) -> Value {
    json!({
        "metadata": {"name": "prod", "namespace": "clusters"},
        "spec": {"paused": paused, "controlPlaneRef": {"kind": "KubeadmControlPlane", "name": "prod-cp"}},
    })
}

fn deployment(version: &str) -> Value {
    json!({
        "metadata": {"name": "prod-md-0", "namespace": "clusters", "uid": "deployment"},
        "spec": {
            "clusterName": "prod", "replicas": 3, "selector": {},
            "rollout": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}},
            "template": {"spec": {"clusterName": "prod", "version": version}},
        },
        "status": {"replicas": 3, "upToDateReplicas": 3},
    })
}

fn control_plane(version: &str) -> Value {
    json!({
        "metadata": {
            "name": "prod-cp", "namespace": "clusters",
            "labels": {"cluster.x-k8s.io/cluster-name": "prod"},
        },
        "spec": {"replicas": 3, "version": version, "machineTemplate": {"spec": {}}},
    })
}

fn machine_pool(version: &str) -> Value {
    json!({
        "metadata": {"name": "prod-mp-0", "namespace": "clusters"},
        "spec": {
            "clusterName": "prod", "replicas": 2,
            "template": {"spec": {"clusterName": "prod", "version": version}},
        },
    })
}

/// A Node of MachineDeployment `prod-md-0`.
fn joined(version: &str) -> NodeBuilder {
    shown(version, |_| {})
}

/// The same, with changed evidence.
fn shown(version: &str, change: impl FnOnce(&mut ClusterApiNode)) -> NodeBuilder {
    node(NODE)
        .kubelet(version)
        .evidence(|shown: &mut ClusterApiNode| {
            *shown = ClusterApiNode {
                namespace: "clusters".into(),
                cluster: "clusters/prod".into(),
                machine: MACHINE.into(),
                owner_kind: OwnerKind::MachineSet,
                owner_name: "prod-md-0-7x2kq".into(),
                provider_id: ID.into(),
                is_outdated: false,
                is_new: false,
            };
            change(shown);
        })
}

/// A Node of MachinePool `prod-mp-0`, without a Machine.
fn pooled(version: &str) -> NodeBuilder {
    shown(version, |shown| {
        shown.machine = Box::default();
        shown.owner_kind = OwnerKind::MachinePool;
        shown.owner_name = "prod-mp-0".into();
    })
}

/// A cluster in which all kinds can be read, with its objects.
struct World {
    table: FactTable,
    providers: Providers,
}

impl World {
    /// Nothing but the API server.
    fn empty() -> Self {
        let providers = Providers::standard(&Options::default()).unwrap();
        let mut table = FactTable::new(providers.kinds());
        // OpenShift is not served.
        for (place, kind) in providers.kinds().iter().enumerate() {
            if kind.spec.group.ends_with("openshift.io") {
                table.facts.set_availability(place, Availability::NotServed);
            }
        }
        table.facts.set_api_server_version(Some(API_SERVER.into()));
        Self { table, providers }
    }

    /// A cluster whose MachineDeployment wants the new version.
    fn new() -> Self {
        let mut world = Self::empty();
        world.put::<Cluster>(&cluster(false));
        world.put::<MachineDeployment>(&deployment(NEW));
        world
    }

    /// The same with this Machine.
    fn with(machine: &Value) -> Self {
        let mut world = Self::new();
        world.put::<Machine>(machine);
        world
    }

    fn put<F: Fact>(&mut self, object: &Value) {
        let meta: Meta = serde_json::from_value(object["metadata"].clone()).unwrap();
        self.table.put(&meta.key(), parsed::<F>(object));
    }

    /// A node counts for its Cluster.
    fn count(&mut self, node: NodeBuilder) {
        let keys = self.providers.node_keys(&node.build());
        self.table.facts.count_node(&Keys::default(), &keys);
    }

    fn set(&mut self, plural: &str, availability: Availability) {
        let mut kinds = self.providers.kinds().iter();
        let place = kinds.position(|kind| kind.spec.plural == plural).unwrap();
        self.table.facts.set_availability(place, availability);
    }

    fn reject(&mut self, plural: &str) {
        self.set(plural, Availability::Rejected("forbidden".into()));
    }

    fn state_of(&self, node: NodeBuilder) -> NodeState {
        let (node, view) = (node.build(), self.table.facts.view());
        let assignment = self.providers.assign(&node, &view);
        self.providers
            .evaluate(&node, &assignment, None, &view, None, at(0))
    }

    fn describe(&self, pool: &PoolId) -> PoolFacts {
        let provider = ClusterApi::new(&Settings::new(&Options::default()));
        provider
            .describe(pool, &self.table.facts.view(), at(0))
            .unwrap()
    }

    fn pools(&self) -> Result<Vec<String>, Unavailable> {
        let provider = ClusterApi::new(&Settings::new(&Options::default()));
        let pools = provider.pools(&self.table.facts.view())?;
        Ok(pools.iter().map(|pool| pool.name.to_string()).collect())
    }
}

/// The state of a node with this Machine, whose MachineDeployment wants the new version.
fn state(node: NodeBuilder, machine: &Value) -> NodeState {
    World::with(machine).state_of(node)
}

/// Phase, kind and reason.
fn summary(state: &NodeState) -> (Phase, Option<UpdateKind>, &'static str) {
    (state.phase, state.kind, state.updating.reason)
}

fn desired(state: &NodeState) -> Option<(&str, DesiredVersionSource)> {
    let desired = state.desired.as_ref()?;
    Some((&desired.version, desired.source))
}
