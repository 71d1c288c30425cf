//! A Node and its cluster, as large as real ones, for benchmarks.

use jiff::Timestamp;
use node_insights::domain::evaluate::Evaluator;
use node_insights::domain::evaluate::kubernetes::{Kubernetes, WELL_KNOWN_POOL_LABELS};
use node_insights::domain::evaluate::openshift::OpenShift;
use node_insights::domain::labels::Selector;
use node_insights::domain::pool::{PoolFacts, PoolId};
use node_insights::kubernetes::objects::WatchedNode;
use node_insights::reconcile::inventory::Inventory;
use node_insights_harness::openshift::{PREFIX, node};
use serde_json::{Value, json};

/// The name of the node.
pub(crate) const NAME: &str = "ip-10-0-131-27.us-east-2.compute.internal";
const OLD: &str = "4.19.14";
const NEW: &str = "4.20.3";
const CONFIG: &str = "rendered-worker-4c1f1c3ab0a14b5d9f6e2f0c7d8e9a10";

/// A Node as an API server sends it: 50 images of two names each, annotations, managed fields.
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

/// What four writers of a Node leave behind.
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

/// The rules of OpenShift.
pub(crate) fn openshift() -> Box<dyn Evaluator> {
    Box::new(OpenShift)
}

/// The rules of plain Kubernetes, with default flags.
pub(crate) fn kubernetes() -> Box<dyn Evaluator> {
    let labels = WELL_KNOWN_POOL_LABELS.map(str::to_owned);
    Box::new(Kubernetes::new(&labels, None))
}

/// A cluster with the node, which is outdated, and what its judgement depends on.
pub(crate) fn inventory(rules: Box<dyn Evaluator>) -> Inventory {
    let inventory = Inventory::new(rules);
    inventory.set_cluster_version(Some(NEW.into()));
    inventory.set_api_server_version(Some("v1.33.3".into()));
    inventory.set_release_version(&CONFIG.into(), Some(OLD.into()));
    for name in ["infra", "master", "storage", "worker"] {
        let labels = json!({"matchLabels": {format!("node-role.kubernetes.io/{name}"): ""}});
        let labels = serde_json::from_value(labels).expect("this is a selector");
        inventory.apply_pool(PoolFacts {
            id: PoolId::machine_config_pool(name).into(),
            uid: name.into(),
            paused: false,
            configuration: Some(CONFIG.into()),
            selector: Selector::parse(Some(&labels)).expect("this is a selector"),
        });
    }
    let node: WatchedNode = serde_json::from_slice(&node_json()).expect("this is a Node");
    inventory.apply_node(node.into_parts().0);
    inventory
}

/// A moment.
pub(crate) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_790_000_000 + seconds).expect("this is a moment")
}
