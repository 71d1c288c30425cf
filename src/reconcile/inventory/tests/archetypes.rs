//! Random nodes and objects of the providers that are recognised by what a Node shows.

use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Affected, Inventory};
use crate::domain::fact::{Meta, Object, Parsed, Select};
use crate::domain::fixtures::at;
use crate::domain::labels::Labels;
use crate::domain::node::NodeObject;
use crate::domain::policy::Policy;
use crate::domain::rows::Rows;
use crate::providers::Providers;

/// How many nodes there are.
const NODES: u8 = 4;

/// Labels, annotations and operating system of a node.
type Archetype = (
    &'static [(&'static str, &'static str)],
    &'static [(&'static str, &'static str)],
    &'static str,
);

const ARCHETYPES: [Archetype; 12] = [
    (
        &[
            ("eks.amazonaws.com/nodegroup", "blue"),
            ("eks.amazonaws.com/nodegroup-image", "ami-1"),
        ],
        &[
            ("cluster.x-k8s.io/cluster-name", "prod"),
            ("cluster.x-k8s.io/cluster-namespace", "clusters"),
            ("cluster.x-k8s.io/owner-kind", "MachinePool"),
            ("cluster.x-k8s.io/owner-name", "blue"),
        ],
        "",
    ),
    (
        &[
            ("eks.amazonaws.com/nodegroup", "blue"),
            ("eks.amazonaws.com/nodegroup-image", "ami-2"),
        ],
        &[],
        "",
    ),
    (&[("cloud.google.com/gke-nodepool", "blue")], &[], "cos-1"),
    (&[("cloud.google.com/gke-nodepool", "blue")], &[], "cos-2"),
    (&[("kubernetes.azure.com/agentpool", "blue")], &[], ""),
    (
        &[],
        &[
            ("cluster.x-k8s.io/cluster-name", "prod"),
            ("cluster.x-k8s.io/cluster-namespace", "clusters"),
            ("cluster.x-k8s.io/machine", "m0"),
            ("cluster.x-k8s.io/owner-kind", "MachineSet"),
            ("cluster.x-k8s.io/owner-name", "md-7x2kq"),
        ],
        "",
    ),
    (
        &[("kubernetes.io/hostname", "x0")],
        &[("k3s.io/node-args", "[]")],
        "",
    ),
    (
        &[
            ("kubernetes.io/hostname", "x1"),
            ("plan.upgrade.cattle.io/agent-plan", "hash"),
        ],
        &[("k3s.io/node-args", "[]")],
        "",
    ),
    (
        &[("bottlerocket.aws/updater-interface-version", "2.0.0")],
        &[],
        "",
    ),
    (
        &[("node-role.kubernetes.io/control-plane", "")],
        &[],
        "Talos (v1.9.0)",
    ),
    (&[("hypershift.openshift.io/nodePool", "blue")], &[], ""),
    (&[("node-role.kubernetes.io/worker", "")], &[], ""),
];

const VERSIONS: [&str; 4] = ["v1.31.2", "v1.32.0", "v1.32.0+k3s1", "unreadable"];
const TAINTS: [(&str, &str); 5] = [
    ("", ""),
    ("medik8s.io/drain", "NoSchedule"),
    ("ToBeDeletedByClusterAutoscaler", "NoSchedule"),
    (
        "node.cluster.x-k8s.io/outdated-revision",
        "PreferNoSchedule",
    ),
    ("tuppr.home-operations.com/outdated", "PreferNoSchedule"),
];

/// A node of any provider, or another state of one.
pub(super) fn a_node() -> impl Strategy<Value = NodeObject> {
    let archetype = prop::sample::select(ARCHETYPES.to_vec());
    let version = prop::sample::select(VERSIONS.to_vec());
    let taint = prop::sample::select(TAINTS.to_vec());
    let flags = any::<(bool, bool, bool)>();
    (0..NODES, archetype, version, taint, 0i64..3, flags).prop_map(
        |(index, (labels, annotations, os_image), version, (taint, effect), age, flags)| {
            let (unschedulable, is_ready, deleting) = flags;
            let since = at(-60).to_string();
            let status = if is_ready { "True" } else { "Unknown" };
            let taints = [[taint, "", effect, since.as_str()]];
            let taints = taints.iter().filter(|[key, ..]| !key.is_empty());
            NodeObject {
                name: format!("x{index}").into(),
                uid: format!("uid-x{index}-{age}").into(),
                labels: Labels::new(labels.iter().copied()),
                annotations: Labels::new(annotations.iter().copied()),
                created: Some(at(-1000 + age)),
                deleting: deleting && age == 0,
                unschedulable,
                taints: Rows::new(taints.copied()),
                kubelet_version: version.into(),
                boot_id: format!("boot-{age}").into(),
                os_image: os_image.into(),
                conditions: Rows::new([["Ready", status, "", since.as_str(), ""]]),
                ..NodeObject::default()
            }
        },
    )
}

fn machine(up_to_date: bool, deleting: bool) -> Value {
    let status = if up_to_date { "True" } else { "False" };
    let reason = if up_to_date {
        "UpToDate"
    } else {
        "NotUpToDate"
    };
    json!({
        "metadata": {
            "name": "m0", "namespace": "clusters",
            "labels": {
                "cluster.x-k8s.io/cluster-name": "prod",
                "cluster.x-k8s.io/deployment-name": "md",
            },
            "deletionTimestamp": deleting.then(|| at(-30).to_string()),
        },
        "spec": {"clusterName": "prod", "version": "v1.32.0"},
        "status": {"nodeRef": {"name": "x0"}, "conditions": [
            {"type": "UpToDate", "status": status, "reason": reason, "message": "* Version"},
        ]},
    })
}

/// A Plan; `label` is one that its nodes must have.
fn plan(hash: &str, host: &str, label: Option<&str>) -> Value {
    let selector = label.map(|label| json!([{"key": label, "operator": "Exists"}]));
    json!({
        "metadata": {"name": "agent-plan", "namespace": "system-upgrade"},
        "spec": {"concurrency": 1, "upgrade": {"image": "k3s-upgrade"},
            "nodeSelector": {"matchExpressions": selector}},
        "status": {
            "latestVersion": "v1.32.0-k3s1", "latestHash": hash, "applying": [host],
            "conditions": [
                {"type": "Validated", "status": "True"}, {"type": "LatestResolved", "status": "True"},
            ],
        },
    })
}

fn job(node: &str, failed: bool) -> Value {
    let conditions = if failed {
        json!([{"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded"}])
    } else {
        json!([])
    };
    json!({
        "metadata": {"name": format!("apply-{node}"), "namespace": "system-upgrade", "labels": {
            "upgrade.cattle.io/plan": "agent-plan", "upgrade.cattle.io/node": node,
            "plan.upgrade.cattle.io/agent-plan": "hash",
        }},
        "spec": {"parallelism": 1},
        "status": {"conditions": conditions},
    })
}

fn shadow(state: &str) -> Value {
    json!({
        "metadata": {"name": "brs-x0", "namespace": "brupop-bottlerocket-aws"},
        "spec": {"state": state, "version": "1.20.0"},
        "status": {"current_state": "Idle", "current_version": "1.19.1", "target_version": "1.20.0", "crash_count": 0},
    })
}

fn maintenance(node: &str, phase: &str) -> Value {
    json!({
        "metadata": {"name": "nm"}, "spec": {"nodeName": node}, "status": {"phase": phase},
    })
}

/// The only pod of a node.
fn pod(node: &str, is_leaving: bool) -> Value {
    json!({
        "metadata": {
            "name": format!("web-{node}"), "namespace": "shop",
            "deletionTimestamp": is_leaving.then(|| at(-10).to_string()),
        },
        "spec": {"nodeName": node},
    })
}

/// The budget of all pods.
fn budget(allowed: i32) -> Value {
    json!({
        "metadata": {"name": "all", "namespace": "shop"}, "spec": {"selector": {}},
        "status": {
            "expectedPods": 1, "desiredHealthy": 1 - allowed, "currentHealthy": 1,
            "disruptionsAllowed": allowed,
        },
    })
}

/// The MachinePool that is a node group of EKS.
fn machine_pool(version: &str) -> Value {
    json!({
        "metadata": {"name": "blue", "namespace": "clusters"},
        "spec": {"clusterName": "prod", "template": {"spec": {"version": version}}},
    })
}

/// Objects by the name of their kind.
fn samples() -> Vec<(&'static str, Value)> {
    let cluster = |paused: bool| json!({"metadata": {"name": "prod", "namespace": "clusters"}, "spec": {"paused": paused}});
    let deployment = |version: &str| {
        json!({
            "metadata": {"name": "md", "namespace": "clusters", "uid": "md"},
            "spec": {"clusterName": "prod", "template": {"spec": {"clusterName": "prod", "version": version}}},
        })
    };
    let config = |version: &str| {
        let text = format!("kubernetesVersion: {version}\n");
        json!({
            "metadata": {"name": "kubeadm-config", "namespace": "kube-system"},
            "data": {"ClusterConfiguration": text},
        })
    };
    vec![
        ("machines", machine(true, false)),
        ("machines", machine(false, false)),
        ("machines", machine(false, true)),
        ("clusters", cluster(true)),
        ("clusters", cluster(false)),
        ("machinedeployments", deployment("v1.32.0")),
        ("machinedeployments", deployment("v1.33.0")),
        ("plans", plan("hash", "x0", None)),
        ("plans", plan("other", "x1", None)),
        ("plans", plan("other", "x0", Some("kubernetes.io/hostname"))),
        (
            "plans",
            plan("other", "x1", Some("plan.upgrade.cattle.io/agent-plan")),
        ),
        ("jobs", job("x0", false)),
        ("jobs", job("x0", true)),
        ("jobs", job("x1", false)),
        ("bottlerocketshadows", shadow("Idle")),
        ("bottlerocketshadows", shadow("StagedAndPerformedUpdate")),
        ("pods", pod("x0", false)),
        ("pods", pod("x0", true)),
        ("pods", pod("x1", true)),
        ("poddisruptionbudgets", budget(0)),
        ("poddisruptionbudgets", budget(1)),
        ("machinepools", machine_pool("v1.31.0")),
        ("machinepools", machine_pool("v1.32.0")),
        ("nodemaintenances", maintenance("x0", "Running")),
        ("nodemaintenances", maintenance("x1", "Succeeded")),
        ("kubeadm-config", config("v1.32.0")),
        ("kubeadm-config", config("v1.33.0")),
    ]
}

/// An object of a kind that appears, changes or goes: name of the kind, the object, and whether it is there.
pub(super) fn an_object() -> impl Strategy<Value = (&'static str, Value, bool)> {
    let samples = prop::sample::select(samples());
    (samples, prop::bool::weighted(0.8))
        .prop_map(|((kind, object), is_here)| (kind, object, is_here))
}

/// A kind that is listed as a whole.
pub(super) fn a_relist(providers: &Providers) -> impl Strategy<Value = usize> + use<> {
    let kinds = providers.kinds().iter().enumerate();
    let whole = kinds.filter(|(_, kind)| kind.spec.select != Select::OnNode);
    prop::sample::select(whole.map(|(kind, _)| kind).collect::<Vec<_>>())
}

/// A policy of the user.
pub(super) fn a_policy() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "",
        "targetVersion: v1.32.0",
        "pools: {blue.nodegroup: {targetVersion: v1.31.2}}",
        "poolLabels: [disk, cloud.google.com/gke-nodepool]",
    ])
}

/// The policy of a text.
pub(super) fn policy(text: &str) -> Arc<Policy> {
    Arc::new(Policy::parse(text, &["disk".to_owned()], &[]).unwrap())
}

/// Applies an object of the kind of this name, or its deletion.
pub(super) fn apply(inventory: &Inventory, kind: &str, object: &Value, is_here: bool) -> Affected {
    let kinds = inventory.providers().kinds();
    let mut labels = kinds.iter().map(|kind| kind.spec.label());
    let place = labels.position(|label| label == kind).unwrap();
    let meta: Meta = serde_json::from_value(object["metadata"].clone()).unwrap();
    match kinds[place].parse(&Object::new(&meta, &object.to_string())) {
        Parsed::Fact(fact) => {
            let key = meta.key();
            let affected = inventory.apply_object(place, &key, is_here.then_some(fact));
            let Some(node) = object["spec"]["nodeName"]
                .as_str()
                .filter(|_| kind == "pods")
            else {
                return affected;
            };
            // The pods of a node are known once all of them are listed.
            let names = is_here.then(|| key.to_string()).into_iter().collect();
            affected.and(inventory.listed_on_node(place, node, &names))
        }
        other => panic!("{object} is no fact: {other:?}"),
    }
}
