//! Objects as an API server sends them, and as it should not.

use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::api::node::NodeProgressInsightStatus;
use crate::api::types::ConditionStatus;
use crate::api::types::CordonerKind;
use crate::domain::cordon::{Cordon, Cordoner};
use crate::domain::interruption::Interruption;
use crate::domain::labels::Labels;
use crate::domain::node::{NodeCondition, NodeConditions, NodeFacts};

fn worker() -> Value {
    serde_json::from_str(include_str!("tests/worker.json")).unwrap()
}

fn node_object(node: &Value) -> NodeObject {
    let node: WatchedNode = serde_json::from_str(&node.to_string()).unwrap();
    node.into_parts().0
}

fn facts(node: &Value) -> NodeFacts {
    NodeFacts::new(node_object(node), Vec::new())
}

/// The facts of the worker node after a change of its JSON.
fn changed(change: impl FnOnce(&mut Value)) -> NodeFacts {
    let mut node = worker();
    change(&mut node);
    facts(&node)
}

fn moment(text: &str) -> Timestamp {
    text.parse().unwrap()
}

#[test]
fn a_node_as_the_api_server_sends_it_is_parsed_into_facts() {
    let node: WatchedNode = serde_json::from_value(worker()).unwrap();
    assert_eq!(node.meta().name.as_deref(), Some("worker-0.example.com"));
    let (object, resource_version) = node.into_parts();
    assert_eq!(resource_version, "104857");
    let annotation = "machineconfiguration.openshift.io/currentConfig";
    assert_eq!(
        object.annotations.get(annotation),
        Some("rendered-worker-old")
    );
    let facts = NodeFacts::new(object, Vec::new());
    let labels: Vec<_> = facts.labels.iter().collect();
    assert_eq!(labels.len(), 5);
    assert!(labels.contains(&("node-role.kubernetes.io/worker", "")));
    let healthy = |status, since| NodeCondition {
        status,
        since: Some(moment(since)),
        message: "".into(),
    };
    let expected = NodeFacts {
        machine: None,
        name: "worker-0.example.com".into(),
        uid: "5f0c3b1e-6f0e-4b8e-9a55-0d8f6f5a9b01".into(),
        labels: facts.labels.clone(),
        created: Some(moment("2026-09-01T08:00:00Z")),
        deleting: false,
        cordoned: Some(Box::new(Cordon {
            since: Some(moment("2026-11-21T08:55:00Z")),
            by: Cordoner::updater("machine-config-operator"),
        })),
        kubelet_version: Some("v1.27.6+f67aeb3".into()),
        boot_id: Some("11111111-2222-4333-8444-555555555555".into()),
        conditions: NodeConditions {
            ready: Some(healthy(ConditionStatus::True, "2026-09-01T08:01:00Z")),
            ..NodeConditions::default()
        },
        evidence: Box::default(),
        interruption: None,
    };
    assert_eq!(facts, expected);
}

#[test]
fn a_heartbeat_results_in_equal_facts() {
    let after = changed(|node| {
        node["metadata"]["resourceVersion"] = json!("104999");
        node["metadata"]["managedFields"][0]["time"] = json!("2026-11-21T09:05:00Z");
        for condition in node["status"]["conditions"].as_array_mut().unwrap() {
            condition["lastHeartbeatTime"] = json!("2026-11-21T09:05:00Z");
        }
        node["status"]["images"] = json!([]);
        node["status"]["conditions"][2]["message"] = json!("kubelet is posting ready status again");
    });
    assert_eq!(after, facts(&worker()));
}

#[test]
fn the_writer_of_the_cordon_is_found_among_the_writers_of_the_node() {
    let writer = |name: &str, fields: Value| {
        json!({
            "manager": name, "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1",
            "time": "2026-11-21T08:50:00Z", "fieldsV1": fields,
        })
    };
    let found = |managers: Value| {
        let facts = changed(|node| {
            node["metadata"]["annotations"] = json!({});
            node["metadata"]["managedFields"] = managers;
        });
        facts.cordoned.unwrap().by
    };
    let cordons = json!({"f:spec": {"f:unschedulable": {}}});
    let labels = json!({"f:metadata": {"f:labels": {"f:unschedulable": {}}}});
    let by = found(json!([
        writer("kubelet", labels.clone()),
        writer("kubectl", cordons)
    ]));
    assert_eq!((by.kind, &*by.name), (CordonerKind::Person, "kubectl"));
    assert_eq!(found(json!([writer("kubelet", labels)])), Cordoner::UNKNOWN);
    assert_eq!(found(Value::Null), Cordoner::UNKNOWN);
}

#[test]
fn a_node_without_any_status_is_parsed() {
    let bare = json!({"metadata": {"name": "n", "uid": "u", "resourceVersion": "1"}});
    let nothing = facts(&bare);
    assert_eq!(nothing.labels, Labels::default());
    assert_eq!(nothing.conditions, NodeConditions::default());
    assert_eq!(
        (nothing.cordoned.as_ref(), nothing.interruption),
        (None, None)
    );

    let null = json!({
        "metadata": {
            "name": "n", "uid": "u", "resourceVersion": "1", "labels": null, "annotations": null,
            "deletionTimestamp": null, "ownerReferences": null,
        },
        "spec": null,
        "status": null,
    });
    assert_eq!(facts(&null), nothing);

    let mut hollow = bare;
    hollow["spec"] = json!({"unschedulable": null, "taints": null});
    hollow["status"] = json!({"conditions": null, "nodeInfo": null});
    assert_eq!(facts(&hollow), nothing);
    hollow["status"] = json!({"nodeInfo": {"kubeletVersion": null, "bootID": ""}});
    assert_eq!(facts(&hollow), nothing);
}

#[test]
fn an_invalid_condition_status_is_unknown() {
    for (text, status) in [
        ("True", ConditionStatus::True),
        ("False", ConditionStatus::False),
        ("Unknown", ConditionStatus::Unknown),
        ("true", ConditionStatus::Unknown),
        ("", ConditionStatus::Unknown),
    ] {
        let facts = changed(|node| node["status"]["conditions"][2]["status"] = json!(text));
        assert_eq!(facts.conditions.ready.unwrap().status, status, "{text}");
    }
}

#[test]
fn the_message_of_an_unhealthy_condition_is_retained_as_one_line() {
    let facts = changed(|node| {
        let ready = &mut node["status"]["conditions"][2];
        ready["status"] = json!("False");
        ready["message"] = json!("container runtime\n  is down");
        ready["lastTransitionTime"] = json!("yesterday");
    });
    let ready = facts.conditions.ready.unwrap();
    assert_eq!(&*ready.message, "container runtime is down");
    assert_eq!(ready.since, None);
}

#[test]
fn each_maintenance_condition_is_read_into_its_own_field() {
    for name in [
        "DrainInProgress",
        "Drained",
        "MaintenancePlanned",
        "MaintenanceInProgress",
        "GracefulNodeShutdownInProgress",
        "NetworkUnavailable",
    ] {
        let conditions = changed(|node| {
            node["status"]["conditions"] = json!([{"type": name, "status": "True"}]);
        })
        .conditions;
        let lifecycle = conditions.lifecycle;
        let slots = [
            ("DrainInProgress", lifecycle.drain_in_progress),
            ("Drained", lifecycle.drained),
            ("MaintenancePlanned", lifecycle.maintenance_planned),
            ("MaintenanceInProgress", lifecycle.maintenance_in_progress),
            (
                "GracefulNodeShutdownInProgress",
                lifecycle.graceful_shutdown_in_progress,
            ),
            (
                "NetworkUnavailable",
                conditions.network_unavailable.is_some(),
            ),
        ];
        for (slot, is_set) in slots {
            assert_eq!(is_set, slot == name, "{name} in {slot}");
        }
    }
}

#[test]
fn a_cordon_has_the_time_of_its_taint_if_there_is_one() {
    let since = |taints: Value| {
        let facts = changed(|node| node["spec"]["taints"] = taints);
        facts.cordoned.unwrap().since
    };
    let key = "node.kubernetes.io/unschedulable";
    let other = json!({"key": "node.kubernetes.io/not-ready", "timeAdded": "2026-11-01T00:00:00Z"});
    assert_eq!(
        since(json!([other, {"key": key, "timeAdded": "2026-11-21T08:00:00Z"}])),
        Some(moment("2026-11-21T08:00:00Z"))
    );
    assert_eq!(since(json!([other])), None);
    assert_eq!(since(json!([{"key": key}])), None);
    assert_eq!(since(json!([{"key": key, "timeAdded": null}])), None);
    // The taint alone is no cordon.
    let facts = changed(|node| node["spec"]["unschedulable"] = json!(false));
    assert_eq!(facts.cordoned, None);
}

#[test]
fn the_autoscalers_taint_and_a_deletion_are_read() {
    let facts = changed(|node| {
        node["metadata"]["deletionTimestamp"] = json!("2026-11-21T09:00:00Z");
        node["spec"]["taints"] = json!([{
            "key": "ToBeDeletedByClusterAutoscaler", "value": "1795000000", "effect": "NoSchedule",
        }]);
    });
    assert!(facts.deleting);
    assert_eq!(facts.interruption, Some(Interruption::ClusterAutoscaler));
}

#[test]
fn node_fields_that_providers_need_are_retained_in_full() {
    let node = json!({
        "metadata": {
            "name": "n", "uid": "u", "resourceVersion": "1",
            "ownerReferences": [
                {"apiVersion": "karpenter.sh/v1", "kind": "NodeClaim", "name": "c", "uid": "u2"},
            ],
        },
        "spec": {
            "providerID": "aws:///zone/i-1",
            "taints": [{
                "key": "karpenter.sh/disrupted", "effect": "NoSchedule",
                "timeAdded": "2026-11-21T08:00:00Z",
            }],
        },
        "status": {"conditions": [{"type": "Other", "status": "True", "reason": "Because"}]},
    });
    let node = node_object(&node);
    assert_eq!(&*node.provider_id, "aws:///zone/i-1");
    let owners: Vec<_> = node.owners.iter().collect();
    assert_eq!(owners, [["karpenter.sh/v1", "NodeClaim", "c"]]);
    assert_eq!(
        node.taint("karpenter.sh/disrupted", "NoSchedule"),
        Some(("", Some(moment("2026-11-21T08:00:00Z"))))
    );
    assert_eq!(node.taint("karpenter.sh/disrupted", "NoExecute"), None);
    let conditions: Vec<_> = node.conditions.iter().collect();
    assert_eq!(conditions, [["Other", "True", "Because", "", ""]]);
}

#[test]
fn an_object_of_a_provider_kind_is_read_from_a_list_and_from_an_event() {
    let object = json!({
        "apiVersion": "apps/v1", "kind": "DaemonSet",
        "metadata": {
            "name": "kured", "namespace": "kube-system", "uid": "u", "resourceVersion": "7",
            "annotations": {"a": "b"},
        },
        "spec": {"updateStrategy": {"type": "OnDelete"}},
    });
    let list = json!({
        "kind": "DaemonSetList", "apiVersion": "apps/v1",
        "metadata": {"resourceVersion": "8"}, "items": [object],
    });
    let list: kube::core::ObjectList<WatchedObject<false>> =
        serde_json::from_str(&list.to_string()).unwrap();
    let event = format!(r#"{{"type":"ADDED","object":{object}}}"#);
    let event: kube::core::WatchEvent<WatchedObject<true>> = serde_json::from_str(&event).unwrap();
    let kube::core::WatchEvent::Added(added) = event else {
        panic!("{event:?}");
    };
    for (meta, object) in [
        (list.items[0].meta(), list.items[0].object()),
        (added.meta(), added.object()),
    ] {
        // The key has the namespace: the name alone is not unique.
        assert_eq!(meta.name.as_deref(), Some("kube-system/kured"));
        assert_eq!(meta.resource_version.as_deref(), Some("7"));
        assert_eq!(object.meta.annotation("a"), Some("b"));
        let whole: Value = object.read().unwrap();
        assert_eq!(whole["spec"]["updateStrategy"]["type"], "OnDelete");
    }
}

fn insight(object: &Value) -> WatchedInsight<NodeProgressInsightStatus> {
    serde_json::from_str(&object.to_string()).unwrap()
}

fn readable_status() -> Value {
    let since = "2026-11-21T09:00:00Z";
    json!({
        "name": "n", "provider": "Kubernetes", "scope": "WorkerPool", "phase": "Pending",
        "phaseStartTime": since, "conditions": [],
        "timeline": [{"phase": "Pending", "startTime": since}],
    })
}

fn insight_json() -> Value {
    json!({
        "apiVersion": "nodeinsights.dev/v1alpha1",
        "kind": "NodeProgressInsight",
        "metadata": {
            "name": "n", "uid": "u", "resourceVersion": "7", "generation": 3,
            "ownerReferences": [{
                "apiVersion": "v1", "kind": "Node", "name": "n", "uid": "owner", "controller": true,
            }],
        },
        "status": readable_status(),
    })
}

#[test]
fn an_insight_is_read_with_its_owner_generation_and_status() {
    let insight = insight(&insight_json());
    assert_eq!(insight.owner_uid.as_deref(), Some("owner"));
    assert_eq!(insight.metadata().generation, Some(3));
    assert_eq!(insight.metadata().resource_version.as_deref(), Some("7"));
    assert!(!insight.unreadable);
    let status = serde_json::to_value(insight.status.unwrap()).unwrap();
    assert_eq!(status, readable_status());
}

#[test]
fn an_insight_without_a_status_is_new_and_not_unreadable() {
    let mut object = insight_json();
    object["status"] = Value::Null;
    let null = insight(&object);
    object.as_object_mut().unwrap().remove("status");
    object["metadata"]["ownerReferences"] = Value::Null;
    let absent = insight(&object);
    for insight in [&null, &absent] {
        assert!(insight.status.is_none() && !insight.unreadable);
    }
    assert_eq!(absent.owner_uid, None);
}

#[test]
fn an_insight_whose_status_is_of_another_schema_is_unreadable_and_does_not_fail() {
    let mut newer = readable_status();
    newer["phase"] = json!("Levitating");
    let mut older = readable_status();
    older.as_object_mut().unwrap().remove("timeline");
    for status in [newer, older, json!({}), json!("text"), json!([1]), json!(7)] {
        let mut object = insight_json();
        object["status"] = status.clone();
        let insight = insight(&object);
        assert!(insight.unreadable && insight.status.is_none(), "{status}");
        assert_eq!(insight.metadata().name.as_deref(), Some("n"));
        assert_eq!(insight.owner_uid.as_deref(), Some("owner"));
    }
}

proptest! {
    #[test]
    fn whatever_text_stands_in_a_node_it_is_read(
        texts in prop::collection::vec(any::<String>(), 7),
    ) {
        let mut text = texts.into_iter();
        let mut next = || json!(text.next());
        let node = json!({
            "metadata": {
                "name": "n", "uid": "u",
                "labels": {"zone": next()},
                "annotations": {"some": next(), "other": next()},
                "deletionTimestamp": next(),
            },
            "spec": {"unschedulable": true, "taints": [{"key": next(), "timeAdded": next()}]},
            "status": {"conditions": [{"type": "Ready", "status": next()}]},
        });
        let facts = facts(&node);
        prop_assert!(facts.deleting);
    }
}
