//! A Node and its cluster of realistic size, for benchmarks.

use jiff::Timestamp;
use node_insights::domain::fact::Parsed;
use node_insights::domain::facts::Availability;
use node_insights::kubernetes::objects::{WatchedNode, WatchedObject};
use node_insights::providers::settings::WELL_KNOWN_POOL_LABELS;
use node_insights::providers::{Options, Platform, Providers};
use node_insights::reconcile::inventory::Inventory;
use node_insights_harness::openshift::{PREFIX, node};
use serde_json::{Value, json};

/// The name of the node.
pub(crate) const NAME: &str = "ip-10-0-131-27.us-east-2.compute.internal";
const OLD: &str = "4.19.14";
const NEW: &str = "4.20.3";
const CONFIG: &str = "rendered-worker-4c1f1c3ab0a14b5d9f6e2f0c7d8e9a10";

/// A Node as sent by an API server: 50 images with two names each, annotations, managed fields.
pub(crate) fn node_json() -> Vec<u8> {
    let mut template = node(NAME, "worker", CONFIG, OLD);
    template.images = 50;
    let desired = format!("{PREFIX}desiredConfig");
    template
        .annotations
        .insert(desired, "rendered-worker-new".to_owned());
    let object = template.object().expect("the template is a Node");
    let mut value = serde_json::to_value(object.value).expect("a Node is JSON");
    value["metadata"]["uid"] = "5f0c3b1e-6f0e-4b8e-9a55-0d8f6f5a9b01".into();
    value["metadata"]["resourceVersion"] = "104857".into();
    value["metadata"]["managedFields"] = managed_fields();
    let images = value["status"]["images"].as_array_mut();
    for image in images.expect("a Node has images") {
        let digest = image["names"][0].as_str().unwrap_or_default().to_owned();
        image["names"] = json!([digest, digest.replace("@sha256:", ":")]);
    }
    serde_json::to_vec(&value).expect("a Node is JSON")
}

/// The managed fields of four writers of a Node.
fn managed_fields() -> Value {
    let conditions = ["DiskPressure", "MemoryPressure", "PIDPressure", "Ready"].map(|kind| {
        let fields = json!({
            ".": {}, "f:lastHeartbeatTime": {}, "f:lastTransitionTime": {}, "f:message": {},
            "f:reason": {}, "f:status": {}, "f:type": {},
        });
        (format!(r#"k:{{"type":"{kind}"}}"#), fields)
    });
    let fields =
        json!({"f:status": {"f:conditions": Value::from_iter(conditions), "f:images": {}}});
    let writers = [
        "kubelet",
        "kube-controller-manager",
        "machine-config-daemon",
        "ovnkube",
    ];
    let entries = writers.map(|manager| {
        json!({
            "manager": manager, "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1",
            "time": "2026-01-01T00:00:00Z", "fieldsV1": fields,
        })
    });
    Value::from_iter(entries)
}

/// All providers, with default flags.
pub(crate) fn all() -> Providers {
    only(Platform::Any)
}

/// Only the OpenShift provider.
pub(crate) fn openshift() -> Providers {
    only(Platform::OpenShift)
}

/// All providers except OpenShift, with default flags.
pub(crate) fn kubernetes() -> Providers {
    only(Platform::Kubernetes)
}

fn only(platform: Platform) -> Providers {
    let options = Options {
        platform,
        pool_label_keys: WELL_KNOWN_POOL_LABELS.map(str::to_owned).to_vec(),
        target_version: None,
        ..Options::default()
    };
    Providers::standard(&options).expect("the providers can be combined")
}

/// A cluster with the outdated node, and the objects that its evaluation depends on.
pub(crate) fn inventory(providers: Providers) -> Inventory {
    let inventory = empty(providers);
    add(&inventory, &node_json());
    inventory
}

/// A cluster of all providers, with the outdated node as a cordoned one of EKS, or as one of Karpenter that has drifted.
pub(crate) fn mixed(pool: &str) -> Inventory {
    const PROVIDER_ID: &str = "aws:///us-east-2a/i-0123456789abcdef0";
    let inventory = empty(all());
    let mut node: Value = serde_json::from_slice(&node_json()).expect("a Node is JSON");
    node["metadata"]["annotations"] = json!({});
    node["metadata"]["labels"][pool] = "general".into();
    node["spec"]["unschedulable"] = true.into();
    node["spec"]["providerID"] = PROVIDER_ID.into();
    add(
        &inventory,
        &serde_json::to_vec(&node).expect("a Node is JSON"),
    );
    let conditions = ["Launched", "Registered", "Initialized", "Drifted"]
        .map(|name| json!({"type": name, "status": "True", "reason": name}));
    let claim = json!({
        "metadata": {"labels": {"karpenter.sh/nodepool": "general"}},
        "spec": {}, "status": {"providerID": PROVIDER_ID, "conditions": conditions},
    });
    put(&inventory, "nodeclaims", "general-x7f2k", claim);
    let budgets = json!([{"nodes": "10%"}]);
    let pool = json!({"spec": {"disruption": {"budgets": budgets}, "template": {"spec": {}}}});
    put(&inventory, "nodepools", "general", pool);
    inventory
}

pub(crate) fn add(inventory: &Inventory, node: &[u8]) {
    let node: WatchedNode = serde_json::from_slice(node).expect("this is a Node");
    inventory.apply_node_object(node.into_parts().0);
    inventory.open();
}

/// A cluster without nodes, and the objects of OpenShift.
pub(crate) fn empty(providers: Providers) -> Inventory {
    let inventory = Inventory::new(providers);
    for place in 0..inventory.providers().kinds().len() {
        inventory.set_availability(place, Availability::Ready);
    }
    inventory.set_api_server_version(Some("v1.33.3".into()));
    let version = json!({"status": {"history": [{"version": NEW}]}});
    put(&inventory, "clusterversions", "version", version);
    let release = json!({"metadata": {"annotations": {
        format!("{PREFIX}release-image-version"): OLD,
    }}});
    put(&inventory, "machineconfigs", CONFIG, release);
    for name in ["infra", "master", "storage", "worker"] {
        let labels = json!({format!("node-role.kubernetes.io/{name}"): ""});
        let pool = json!({"spec": {
            "nodeSelector": {"matchLabels": labels}, "configuration": {"name": CONFIG},
        }});
        put(&inventory, "machineconfigpools", name, pool);
    }
    inventory
}

/// Stores an object if a provider reads its kind.
pub(crate) fn put(inventory: &Inventory, plural: &str, name: &str, mut object: Value) {
    let mut kinds = inventory.providers().kinds().iter().enumerate();
    let Some((place, kind)) = kinds.find(|(_, kind)| kind.spec.plural == plural) else {
        return;
    };
    object["metadata"]["name"] = name.rsplit('/').next().into();
    object["metadata"]["uid"] = name.into();
    let object: WatchedObject<false> =
        serde_json::from_str(&object.to_string()).expect("this is an object");
    let Parsed::Fact(fact) = kind.parse(&object.object()) else {
        return;
    };
    inventory.apply_object(place, &name.into(), Some(fact));
}

/// A moment.
pub(crate) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_790_000_000 + seconds).expect("this is a moment")
}
