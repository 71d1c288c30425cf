//! Which pods a drain moves away.

use serde_json::{Value, json};

use super::*;
use crate::domain::fact::Meta;

fn parse(change: impl FnOnce(&mut Value)) -> Parsed<Pod> {
    let controller = json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "u", "controller": true}]);
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "web-0", "namespace": "shop", "ownerReferences": controller, "annotations": {}},
        "spec": {"nodeName": "a"},
        "status": {"phase": "Running"},
    });
    change(&mut pod);
    let meta: Meta = serde_json::from_value(pod["metadata"].clone()).unwrap();
    Pod::parse(&Object::new(&meta, &pod.to_string()))
}

fn pod(is_leaving: bool) -> Parsed<Pod> {
    Parsed::Fact(Pod {
        node: "a".into(),
        is_leaving,
    })
}

#[test]
fn a_pod_leaves_its_node_once_it_is_being_deleted() {
    assert_eq!(parse(|_| ()), pod(false));
    let deleting = |pod: &mut Value| {
        pod["metadata"]["deletionTimestamp"] = "2026-11-21T10:00:00Z".into();
    };
    assert_eq!(parse(deleting), pod(true));
}

#[test]
fn pods_without_a_controller_or_a_status_are_moved_as_well() {
    assert_eq!(
        parse(|pod| pod["metadata"]["ownerReferences"] = Value::Null),
        pod(false)
    );
    assert_eq!(parse(|pod| pod["status"] = Value::Null), pod(false));
}

#[test]
fn a_drain_leaves_pods_of_daemon_sets_static_pods_and_finished_pods_alone() {
    let changes: [fn(&mut Value); 5] = [
        |pod| pod["metadata"]["ownerReferences"][0]["kind"] = "DaemonSet".into(),
        |pod| pod["metadata"]["annotations"][MIRROR] = "hash".into(),
        |pod| pod["status"]["phase"] = "Succeeded".into(),
        |pod| pod["status"]["phase"] = "Failed".into(),
        |pod| pod["spec"]["nodeName"] = Value::Null,
    ];
    for change in changes {
        assert_eq!(parse(change), Parsed::Ignored);
    }
}

#[test]
fn an_owner_that_is_no_controller_says_nothing() {
    let owned = |pod: &mut Value| {
        let owner = &mut pod["metadata"]["ownerReferences"][0];
        owner["kind"] = "DaemonSet".into();
        owner["controller"] = false.into();
    };
    assert_eq!(parse(owned), pod(false));
}

#[test]
fn a_pod_that_cannot_be_read_is_reported() {
    let odd = |pod: &mut Value| pod["spec"] = "none".into();
    assert!(matches!(parse(odd), Parsed::Unreadable(_)));
}
