//! Simulated rollouts against a real API server, watched while they go.
#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::Node;
use kube::api::{Api, ListParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, ResourceExt};
use node_insights_harness::ControlPlane;
use node_insights_harness::kubernetes::{self, Pace};
use node_insights_harness::openshift::{
    self, Editor, PREFIX, Pool, VERSION, config_name, kubelet_of, rollout,
};

const OLD: &str = "4.19.14";
const NEW: &str = "4.20.3";

fn annotation<'a>(node: &'a Node, key: &str) -> &'a str {
    node.annotations()
        .get(&format!("{PREFIX}{key}"))
        .map_or("", String::as_str)
}

fn pool_of(node: &str) -> &str {
    node.rsplit_once('-').unwrap().0
}

async fn nodes(client: &Client) -> Vec<Node> {
    Api::<Node>::all(client.clone())
        .list(&ListParams::default())
        .await
        .unwrap()
        .items
}

/// Watches the nodes until `work` is done; returns every observed version of every node.
async fn watched<T>(client: &Client, work: impl Future<Output = T>) -> (T, Vec<Node>) {
    let mut seen = Vec::new();
    let watch = watcher(Api::<Node>::all(client.clone()), watcher::Config::default());
    let mut watch = pin!(watch.applied_objects().boxed());
    let mut work = pin!(work);
    loop {
        tokio::select! {
            biased;
            node = watch.try_next() => seen.extend(node.unwrap()),
            done = &mut work => return (done, seen),
        }
    }
}

#[tokio::test]
async fn a_rollout_never_exceeds_max_unavailable_and_ends_with_all_nodes_at_the_target() {
    let control_plane = ControlPlane::start().await.unwrap();
    let client = control_plane.client();
    let cluster = openshift::Cluster::builder(OLD)
        .pool(Pool::new("master", 3))
        .pool(Pool::new("worker", 9).max_unavailable("34%"))
        .pool(Pool::new("infra", 2).paused())
        .build()
        .unwrap();
    cluster.load(&client).await.unwrap();
    let boots: BTreeMap<_, _> = nodes(&client)
        .await
        .iter()
        .map(|node| (node.name_any(), boot(node)))
        .collect();
    let editor = Editor::new(&client);
    let plan = rollout::Plan {
        pace: Pace::TEST,
        degraded: Some("worker-4".to_owned()),
        ..rollout::Plan::to(NEW)
    };
    let unpause = async {
        // The control plane completes even if a pool is paused.
        node_insights_harness::eventually(
            "update completed",
            std::time::Duration::from_mins(1),
            async || {
                let state = version(&client).await["history"][0]["state"].clone();
                Ok((state == "Completed").then_some(()))
            },
        )
        .await
        .unwrap();
        let infra = nodes(&client).await;
        let infra = infra
            .iter()
            .filter(|node| node.name_any().starts_with("infra"));
        let waiting = infra
            .filter(|node| annotation(node, "desiredConfig") == config_name("infra", &[OLD]))
            .count();
        editor.set_paused("infra", false).await.unwrap();
        waiting
    };
    let work = async { tokio::join!(rollout::play(&client, &plan), unpause) };
    let ((played, waiting), seen) = watched(&client, work).await;
    played.unwrap();
    assert_eq!(waiting, 2, "a paused pool is left alone");

    let limits = BTreeMap::from([("master", 1), ("worker", 3), ("infra", 1)]);
    let mut busy: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    let (mut states, mut actions) = (BTreeSet::new(), BTreeSet::new());
    for node in &seen {
        let name = node.name_any();
        states.insert(annotation(node, "state").to_owned());
        actions.insert(annotation(node, "post-config-action").to_owned());
        let pool = *limits.keys().find(|pool| **pool == pool_of(&name)).unwrap();
        let at_work = busy.entry(pool).or_default();
        let unavailable = annotation(node, "state") != "Done"
            || annotation(node, "currentConfig") != annotation(node, "desiredConfig")
            || node.spec.as_ref().unwrap().unschedulable == Some(true);
        if unavailable {
            at_work.insert(name);
        } else {
            at_work.remove(&name);
        }
        assert!(at_work.len() <= limits[pool], "{pool}: {at_work:?}");
    }
    let all = ["Degraded", "Done", "Working"].map(str::to_owned);
    assert_eq!(states, BTreeSet::from(all));
    let announced = ["", "Rebooting"].map(str::to_owned);
    assert_eq!(actions, BTreeSet::from(announced));

    for node in nodes(&client).await {
        let name = node.name_any();
        let old = config_name(pool_of(&name), &[OLD]);
        let wanted = config_name(pool_of(&name), &[NEW, &old]);
        assert_eq!(annotation(&node, "currentConfig"), wanted);
        assert_eq!(annotation(&node, "desiredConfig"), wanted);
        assert_eq!(
            annotation(&node, "lastAppliedDrain"),
            format!("uncordon-{wanted}")
        );
        let spec = node.spec.as_ref().unwrap();
        assert_eq!(
            (
                spec.unschedulable,
                spec.taints.as_deref().unwrap_or_default().len()
            ),
            (None, 0)
        );
        let info = node.status.as_ref().unwrap().node_info.as_ref().unwrap();
        assert_eq!(info.kubelet_version, kubelet_of(NEW));
        assert_ne!(boot(&node), boots[&name]);
        assert!(is_ready(&node));
    }
    let history = version(&client).await["history"].clone();
    assert_eq!(
        (&history[0]["version"], &history[0]["state"]),
        (&NEW.into(), &"Completed".into())
    );
    assert_eq!(history[1]["version"], OLD);
}

#[tokio::test]
async fn a_plain_rollout_replaces_the_nodes_of_pools_and_keeps_those_of_the_control_plane() {
    let control_plane = ControlPlane::start().await.unwrap();
    let client = control_plane.client();
    let cluster = kubernetes::Cluster::builder("v1.35.4")
        .control_plane(2)
        .pool("blue", 4)
        .pool("green", 2);
    cluster.build().unwrap().load(&client).await.unwrap();
    let before: BTreeSet<String> = nodes(&client)
        .await
        .iter()
        .map(ResourceExt::name_any)
        .collect();
    let plan = kubernetes::rollout::Plan {
        pace: Pace::TEST,
        ..kubernetes::rollout::Plan::to("v1.36.3")
    };
    kubernetes::rollout::play(&client, &plan).await.unwrap();

    let after = nodes(&client).await;
    assert_eq!(after.len(), before.len());
    for node in &after {
        let control_plane = node.labels().contains_key(kubernetes::CONTROL_PLANE_LABEL);
        assert_eq!(
            before.contains(&node.name_any()),
            control_plane,
            "{}",
            node.name_any()
        );
        let info = node.status.as_ref().unwrap().node_info.as_ref().unwrap();
        assert_eq!(info.kubelet_version, "v1.36.3");
        let spec = node.spec.as_ref().unwrap();
        assert_eq!(
            (
                spec.unschedulable,
                spec.taints.as_deref().unwrap_or_default().len()
            ),
            (None, 0)
        );
        assert!(is_ready(node));
    }
    let blue = after.iter().filter(|node| {
        node.labels()
            .get(kubernetes::POOL_LABEL)
            .is_some_and(|pool| pool == "blue")
    });
    assert_eq!(blue.count(), 4);
}

#[tokio::test]
async fn a_large_cluster_is_written_in_reasonable_time() {
    let control_plane = ControlPlane::start().await.unwrap();
    let client = control_plane.client();
    let cluster = openshift::Cluster::builder(OLD)
        .pool(Pool::new("worker", 300))
        .images_per_node(50)
        .machine_configs(3, 100_000)
        .build()
        .unwrap();
    let summary = cluster.load(&client).await.unwrap();
    println!("{summary}");
    assert_eq!(nodes(&client).await.len(), 300);
}

fn boot(node: &Node) -> String {
    node.status
        .as_ref()
        .unwrap()
        .node_info
        .as_ref()
        .unwrap()
        .boot_id
        .clone()
}

fn is_ready(node: &Node) -> bool {
    let conditions = node.status.as_ref().unwrap().conditions.as_ref().unwrap();
    conditions
        .iter()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

async fn version(client: &Client) -> serde_json::Value {
    let resource = node_insights_harness::load::Kind::ClusterVersion.resource();
    let api: Api<kube::api::DynamicObject> = Api::all_with(client.clone(), &resource);
    api.get(VERSION).await.unwrap().data["status"].clone()
}
