//! Evaluating a node once more changes nothing.

use serde_json::json;

use super::*;
use crate::domain::labels::Labels;
use crate::domain::rows::Rows;

/// A cordoned node of k3s, which a Plan waits to update, in a maintenance that is done.
#[test]
fn what_waits_has_no_part_in_what_acts_however_often_a_node_is_evaluated() {
    let maintenance = json!({
        "metadata": {"name": "nm"},
        "spec": {"nodeName": "x1"},
        "status": {"phase": "Succeeded"},
    });
    let valid = ["Validated", "LatestResolved"].map(|name| json!({"type": name, "status": "True"}));
    let plan = json!({
        "metadata": {"name": "agent-plan", "namespace": "system-upgrade"},
        "spec": {
            "concurrency": 1,
            "nodeSelector": {"matchExpressions": null},
            "upgrade": {"image": "k3s-upgrade"},
        },
        "status": {
            "applying": ["x1"], "conditions": valid,
            "latestHash": "other", "latestVersion": "v1.32.0-k3s1",
        },
    });
    let node = NodeObject {
        name: "x1".into(),
        uid: "uid".into(),
        labels: Labels::new([("kubernetes.io/hostname", "x0")]),
        annotations: Labels::new([("k3s.io/node-args", "[]")]),
        unschedulable: true,
        kubelet_version: "v1.31.2".into(),
        conditions: Rows::new([["Ready", "True", "", "", ""]]),
        ..NodeObject::default()
    };
    let mut operations = ready_kinds(false);
    operations.extend([
        Operation::Object("nodemaintenances", Box::new(maintenance), true),
        Operation::Object("plans", Box::new(plan), true),
        Operation::Shown(Box::new(node)),
        Operation::NodeGone("another".into()),
    ]);
    compare(&operations).unwrap();
}
