//! Pods that a drain stops at, waits for, or that it costs.

use super::*;

fn marked(pod: Value, field: &str, key: &str, value: &str) -> Value {
    let mut pod = pod;
    pod["metadata"][field][key] = value.into();
    pod
}

fn of(drainer: Drainer) -> Method {
    Method::of(drainer)
}

#[test]
fn a_mark_for_karpenter_counts_only_where_karpenter_drains() {
    let mark = |value: &str| {
        marked(
            pod("web-0", "a"),
            "annotations",
            "karpenter.sh/do-not-disrupt",
            value,
        )
    };
    let karpenter = of(Drainer::Karpenter);
    let expected = ["Blocker DoNotDisrupt ReplicaSet shop/web 1"];
    assert_eq!(Scene::new([mark("true")]).by(karpenter).found(), expected);
    // Durations count from the start of the pod, 600 s ago.
    assert_eq!(Scene::new([mark("20m")]).by(karpenter).found(), expected);
    assert_eq!(Scene::new([mark("5m")]).by(karpenter).found(), [""; 0]);
    let kubectl = Scene::new([mark("true")]);
    assert_eq!(kubectl.found(), [""; 0]);
}

#[test]
fn a_node_claim_with_a_deadline_turns_what_holds_its_drain_up_into_warnings() {
    let deadline = Method {
        removal: Removal::EvictionUntilDeadline,
        ..Method::of(Drainer::Karpenter)
    };
    let scene = Scene::new([pod("web-0", "a")]).with([budget("web", 3, 3, 3)]);
    let scene = scene.by(deadline);
    assert_eq!(
        scene.found(),
        ["Warning BudgetNeverAllows PodDisruptionBudget shop/web 1"]
    );
    assert!(
        scene
            .message()
            .contains("terminationGracePeriod of its NodeClaim")
    );
}

#[test]
fn a_pod_that_cluster_api_leaves_to_finish_blocks_only_its_drains() {
    let waits = || {
        marked(
            pod("web-0", "a"),
            "labels",
            "cluster.x-k8s.io/drain",
            "wait-completed",
        )
    };
    let scene = Scene::new([waits()]).by(of(Drainer::ClusterApi));
    assert_eq!(
        scene.found(),
        ["Blocker WaitsForCompletion ReplicaSet shop/web 1"]
    );
    assert_eq!(Scene::new([waits()]).found(), [""; 0]);
}

#[test]
fn a_pod_without_a_controller_is_lost_or_stops_the_drain_or_stays() {
    let scene = Scene::new([bare("job", "a")]);
    assert_eq!(scene.found(), ["Warning UnmanagedPod Pod shop/job 1"]);
    let strict = Method::of(Drainer::SystemUpgrade {
        is_forced: false,
        loses_local_data: true,
    });
    let scene = Scene::new([bare("job", "a")]).by(strict);
    assert_eq!(scene.found(), ["Blocker UnmanagedPod Pod shop/job 1"]);
    assert!(scene.message().contains("spec.drain.force"));
    let talos = Scene::new([bare("job", "a")]).by(of(Drainer::Talos));
    assert_eq!(talos.found(), [""; 0]);
}

#[test]
fn data_in_empty_dirs_is_lost_or_stops_the_drain() {
    let local = |mut pod: Value| {
        pod["spec"]["volumes"] =
            json!([{"name": "config", "configMap": {}}, {"name": "data", "emptyDir": {}}]);
        pod
    };
    let scene = Scene::new([local(pod("web-0", "a")), local(pod("web-1", "b"))]);
    assert_eq!(
        scene.found(),
        ["Warning LocalStorage ReplicaSet shop/web 2"]
    );
    let strict = Method::of(Drainer::SystemUpgrade {
        is_forced: true,
        loses_local_data: false,
    });
    let scene = scene.by(strict);
    assert_eq!(
        scene.found(),
        ["Blocker LocalStorage ReplicaSet shop/web 2"]
    );
    assert!(scene.message().contains("spec.drain.deleteEmptydirData"));
    let daemon = local(owned_by(pod("agent", "a"), "DaemonSet", "agent"));
    for drainer in [Drainer::Kubectl, Drainer::Karpenter] {
        let scene = Scene::new([daemon.clone()]).by(of(drainer));
        assert_eq!(scene.found(), [""; 0], "{drainer:?}");
    }
}

#[test]
fn a_workload_with_one_pod_is_interrupted() {
    let alone = || owned_by(pod("db-0", "a"), "StatefulSet", "db");
    let expected = ["Warning SingleReplica StatefulSet shop/db 1"];
    assert_eq!(Scene::new([alone()]).found(), expected);
    let mut second = alone();
    second["spec"]["nodeName"] = "elsewhere".into();
    second["metadata"]["name"] = "db-1".into();
    assert_eq!(Scene::new([alone(), second.clone()]).found(), [""; 0]);
    // A replica that has finished is none.
    second["status"]["phase"] = "Failed".into();
    assert_eq!(Scene::new([alone(), second]).found(), expected);
    let job = owned_by(pod("backup", "a"), "Job", "backup");
    assert_eq!(Scene::new([job]).found(), [""; 0]);
}

#[test]
fn a_single_replica_that_cannot_go_is_one_finding() {
    let alone = owned_by(pod("db-0", "a"), "StatefulSet", "db");
    let scene = Scene::new([alone]).with([budget("web", 1, 1, 1)]);
    assert_eq!(
        scene.found(),
        ["Blocker BudgetNeverAllows PodDisruptionBudget shop/web 1"]
    );
}

#[test]
fn a_pod_that_should_have_ended_blocks() {
    let ending = |seconds: i64| {
        let mut pod = pod("web-0", "a");
        pod["metadata"]["deletionTimestamp"] = at(seconds).to_string().into();
        pod["metadata"]["deletionGracePeriodSeconds"] = 30.into();
        pod
    };
    for (seconds, expected) in [
        (
            -600,
            &["Blocker TerminatingPastGrace ReplicaSet shop/web 1"][..],
        ),
        (-30, &[]),
        (600, &[]),
    ] {
        assert_eq!(Scene::new([ending(seconds)]).found(), expected, "{seconds}");
    }
}

#[test]
fn a_finalizer_that_keeps_a_pod_blocks_and_that_of_a_job_after_a_while() {
    let ended = |finalizer: &str, seconds: i64| {
        let mut pod = pod("web-0", "a");
        pod["metadata"]["deletionTimestamp"] = at(seconds).to_string().into();
        pod["metadata"]["deletionGracePeriodSeconds"] = 0.into();
        pod["metadata"]["finalizers"] = json!([finalizer]);
        pod["status"]["phase"] = "Succeeded".into();
        pod
    };
    let expected = ["Blocker FinalizerHolds ReplicaSet shop/web 1"];
    let tracking = "batch.kubernetes.io/job-tracking";
    assert_eq!(Scene::new([ended("example.com/x", -10)]).found(), expected);
    assert_eq!(Scene::new([ended(tracking, -10)]).found(), [""; 0]);
    assert_eq!(Scene::new([ended(tracking, -300)]).found(), expected);
}

#[test]
fn a_node_that_is_updated_with_its_pods_on_it_has_nothing_to_drain() {
    let pods = [bare("job", "a"), pod("web-0", "a")];
    let scene = Scene::new(pods).with([budget("web", 3, 3, 3)]).by(None);
    assert_eq!(scene.found(), [""; 0]);
}

#[test]
fn budgets_do_not_matter_to_a_drain_that_deletes_pods() {
    let method = Method {
        removal: Removal::Deletion,
        ..Method::of(Drainer::Kubectl)
    };
    let scene = Scene::new([pod("web-0", "a")]).with([budget("web", 3, 3, 3)]);
    assert_eq!(scene.by(method).found(), [""; 0]);
}
