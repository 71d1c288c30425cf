//! How a pod is read.

use serde_json::{Value, json};

use super::super::pod::{Controller, Deletion};
use super::*;
use crate::domain::fact::{Fact, Meta, Object, Parsed};

fn parse(change: impl FnOnce(&mut Value)) -> Parsed<Pod> {
    let controller = json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "u", "controller": true}]);
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": "web-0", "namespace": "shop", "ownerReferences": controller,
            "labels": {"app": "web"}, "annotations": {},
            "creationTimestamp": at(-100_000).to_string(),
        },
        "spec": {"nodeName": "a", "containers": []},
        "status": {
            "phase": "Running", "startTime": at(-600).to_string(),
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    });
    change(&mut pod);
    let meta: Meta = serde_json::from_value(pod["metadata"].clone()).unwrap();
    Pod::parse(&Object::new(&meta, &pod.to_string()))
}

fn parsed(change: impl FnOnce(&mut Value)) -> Pod {
    match parse(change) {
        Parsed::Fact(pod) => pod,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_running_pod_has_its_controller_labels_and_readiness() {
    assert_eq!(parsed(|_| ()), running("web-0").build());
    let bare = parsed(|pod| pod["metadata"]["ownerReferences"] = Value::Null);
    assert_eq!(bare.controller, None);
    let owned = parsed(|pod| pod["metadata"]["ownerReferences"][0]["controller"] = false.into());
    assert_eq!(owned.controller, None, "an owner that is no controller");
    let named = parsed(|pod| pod["metadata"]["ownerReferences"][0]["kind"] = "DaemonSet".into());
    let controller = Controller {
        kind: "DaemonSet".into(),
        name: "web".into(),
    };
    assert_eq!(named.controller, Some(controller));
    assert!(named.is_of_daemon_set());
}

#[test]
fn a_pod_without_a_status_has_not_started() {
    let new = parsed(|pod| pod["status"] = json!({}));
    assert_eq!((new.stage, new.is_ready), (Stage::Pending, false));
    for phase in ["Succeeded", "Failed"] {
        let pod = parsed(|pod| pod["status"]["phase"] = phase.into());
        assert_eq!(pod.stage, Stage::Finished);
    }
}

#[test]
fn a_pod_that_is_being_deleted_has_the_end_of_its_grace() {
    let deleting = |grace: i64| {
        parsed(|pod| {
            pod["metadata"]["deletionTimestamp"] = at(30).to_string().into();
            pod["metadata"]["deletionGracePeriodSeconds"] = grace.into();
            pod["metadata"]["finalizers"] = json!(["example.com/a", "example.com/b"]);
        })
    };
    let ends = at(30);
    let pod = deleting(30);
    assert_eq!(
        pod.deletion,
        Some(Deletion {
            ends,
            is_done: false
        })
    );
    assert_eq!(pod.finalizer.as_deref(), Some("example.com/a"));
    assert_eq!(
        deleting(0).deletion,
        Some(Deletion {
            ends,
            is_done: true
        })
    );
}

#[test]
fn marks_of_updaters_and_operators_are_read() {
    let annotated =
        |key: &str, value: &str| parsed(|pod| pod["metadata"]["annotations"][key] = value.into());
    let labelled =
        |key: &str, value: &str| parsed(|pod| pod["metadata"]["labels"][key] = value.into());
    let mark = "karpenter.sh/do-not-disrupt";
    assert_eq!(
        annotated(mark, "true").do_not_disrupt,
        Some(DoNotDisrupt::Always)
    );
    let until = Some(DoNotDisrupt::Until(at(0)));
    assert_eq!(annotated(mark, "10m").do_not_disrupt, until);
    assert_eq!(annotated(mark, "maybe").do_not_disrupt, None);
    let drain = "cluster.x-k8s.io/drain";
    assert_eq!(labelled(drain, "skip").drain, DrainLabel::Skip);
    assert_eq!(
        labelled(drain, "wait-completed").drain,
        DrainLabel::WaitCompleted
    );
    assert_eq!(
        labelled("kubevirt.io", "virt-launcher").operator,
        Some(Operator::KubeVirt)
    );
    let strimzi = annotated("strimzi.io/manual-rolling-update", "true");
    assert_eq!(strimzi.operator, Some(Operator::Strimzi));
}

#[test]
fn tolerations_of_a_pod_say_where_it_stays() {
    let tolerates = |toleration: Value| {
        let pod = parsed(|pod| pod["spec"]["tolerations"] = json!([toleration]));
        (pod.tolerates.disruption, pod.tolerates.cordon)
    };
    assert_eq!(tolerates(json!({"operator": "Exists"})), (true, true));
    let cordon = "node.kubernetes.io/unschedulable";
    assert_eq!(
        tolerates(json!({"key": cordon, "operator": "Exists"})),
        (false, true)
    );
    let other = json!({"key": cordon, "operator": "Exists", "effect": "NoExecute"});
    assert_eq!(tolerates(other), (false, false));
}

#[test]
fn mirrors_of_static_pods_and_pods_without_a_node_are_left_out() {
    let mirror =
        parse(|pod| pod["metadata"]["annotations"]["kubernetes.io/config.mirror"] = "x".into());
    assert_eq!(mirror, Parsed::Ignored);
    assert_eq!(parse(|pod| pod["spec"] = json!({})), Parsed::Ignored);
    let odd = parse(|pod| pod["spec"] = "none".into());
    assert!(matches!(odd, Parsed::Unreadable(_)));
}

#[test]
fn a_pod_that_is_not_ready_says_since_when_and_one_with_an_empty_dir_has_it() {
    let unready = parsed(|pod| {
        pod["status"]["conditions"] = json!([
            {"type": "Ready", "status": "False", "lastTransitionTime": at(-60).to_string()},
        ]);
    });
    assert_eq!(
        (unready.is_ready, unready.unready_since),
        (false, Some(at(-60)))
    );
    let ready = parsed(|pod| {
        pod["status"]["conditions"][0]["lastTransitionTime"] = at(-60).to_string().into();
    });
    assert_eq!((ready.is_ready, ready.unready_since), (true, None));
    for (volume, expected) in [
        (json!({"name": "v", "emptyDir": {}}), true),
        (json!({"name": "v", "emptyDir": {"medium": "Memory"}}), true),
        (
            json!({"name": "v", "persistentVolumeClaim": {"claimName": "v"}}),
            false,
        ),
    ] {
        let pod = parsed(|pod| pod["spec"]["volumes"] = json!([volume]));
        assert_eq!(pod.has_empty_dir, expected, "{volume}");
    }
}
