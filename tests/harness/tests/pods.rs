//! Simulated pods on a real API server.
#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{Api, Patch, PatchParams, PostParams};
use node_insights_harness::ControlPlane;
use node_insights_harness::kubernetes::Cluster;
use node_insights_harness::pods::{GRACE, NAMESPACE, Owner, Pods};
use serde_json::json;

/// The pods `web`, `logs` and `proxy` on one node: of a `ReplicaSet`, of a `DaemonSet`, and a mirror.
async fn three_pods() -> (ControlPlane, Pods) {
    let control_plane = ControlPlane::start().await.unwrap();
    let client = control_plane.client();
    let cluster = Cluster::builder("v1.36.3").control_plane(0).pool("blue", 2);
    cluster.build().unwrap().load(&client).await.unwrap();
    let pods = Pods::new(&client);
    for (name, owner) in [
        ("web", Owner::ReplicaSet),
        ("logs", Owner::DaemonSet),
        ("proxy", Owner::Kubelet),
    ] {
        pods.run(name, "blue-0", owner).await.unwrap();
    }
    (control_plane, pods)
}

async fn get(pods: &Pods, name: &str) -> Option<Pod> {
    pods.api().get_opt(name).await.unwrap()
}

#[tokio::test]
async fn a_pod_is_bound_and_ready_and_its_owner_is_what_a_drain_looks_at() {
    let (_control_plane, pods) = three_pods().await;
    assert_eq!(pods.of("blue-0").await.unwrap(), ["logs", "proxy", "web"]);
    assert!(pods.of("blue-1").await.unwrap().is_empty());
    let mirror = "kubernetes.io/config.mirror";
    for (name, kind, is_mirror) in [
        ("web", "ReplicaSet", false),
        ("logs", "DaemonSet", false),
        ("proxy", "Node", true),
    ] {
        let pod = get(&pods, name).await.unwrap();
        let status = pod.status.unwrap();
        assert_eq!(status.phase.as_deref(), Some("Running"));
        let conditions = status.conditions.unwrap();
        let mut ready = conditions.iter().filter(|each| each.type_ == "Ready");
        assert_eq!(ready.next().unwrap().status, "True");
        let owner = &pod.metadata.owner_references.unwrap()[0];
        assert_eq!((&*owner.kind, owner.controller), (kind, Some(true)));
        let annotations = pod.metadata.annotations.unwrap_or_default();
        assert_eq!(annotations.contains_key(mirror), is_mirror);
        assert_eq!(pod.spec.unwrap().node_name.as_deref(), Some("blue-0"));
    }
}

#[tokio::test]
async fn an_evicted_pod_stays_with_its_deletion_timestamp_until_it_has_ended() {
    let (_control_plane, pods) = three_pods().await;
    for name in ["web", "logs", "proxy"] {
        pods.evict(name).await.unwrap();
        let metadata = get(&pods, name).await.unwrap().metadata;
        assert!(metadata.deletion_timestamp.is_some());
        let grace = metadata.deletion_grace_period_seconds;
        assert_eq!(grace, Some(i64::from(GRACE)));
        pods.finish(name).await.unwrap();
        assert!(get(&pods, name).await.is_none());
    }
    // A pod that is killed has no time to end.
    pods.run("batch", "blue-1", Owner::ReplicaSet)
        .await
        .unwrap();
    pods.finish("batch").await.unwrap();
    assert!(get(&pods, "batch").await.is_none());
}

#[tokio::test]
async fn a_drain_evicts_again_and_again_until_the_budget_allows_it_and_leaves_daemons_alone() {
    let (control_plane, pods) = three_pods().await;
    let budgets: Api<PodDisruptionBudget> = Api::namespaced(control_plane.client(), NAMESPACE);
    let budget = json!({
        "metadata": {"name": "web"},
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": {"app": "web"}}},
    });
    let budget = serde_json::from_value(budget).unwrap();
    let params = PostParams::default();
    budgets.create(&params, &budget).await.unwrap();
    let allow = async |allowed: i32| {
        let status = json!({"status": {
            "observedGeneration": 1, "expectedPods": 1, "currentHealthy": 1, "desiredHealthy": 1 - allowed,
            "disruptionsAllowed": allowed,
        }});
        let patch = Patch::Merge(status);
        let params = PatchParams::default();
        budgets.patch_status("web", &params, &patch).await.unwrap();
    };
    allow(0).await;
    let refused = tokio::time::timeout(Duration::from_secs(3), pods.drain("blue-0")).await;
    assert!(refused.is_err());
    assert!(get(&pods, "web").await.is_some());
    let (drained, ()) = tokio::join!(pods.drain("blue-0"), allow(1));
    drained.unwrap();
    assert_eq!(pods.of("blue-0").await.unwrap(), ["logs", "proxy"]);
}
