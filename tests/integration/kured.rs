//! kured, which reboots nodes of any provider.

use anyhow::Result;
use kube::api::{Api, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use node_insights::api::types::{Phase, ProviderName, UpdateKind};
use node_insights_harness::kubernetes::{Cluster, Ready};
use serde_json::{Value, json};

use crate::support::World;

const VERSION: &str = "v1.36.3";
const LOCK: &str = "weave.works/kured-node-lock";

fn daemon_sets(world: &World) -> Api<DynamicObject> {
    let gvk = GroupVersionKind::gvk("apps", "v1", "DaemonSet");
    let resource = ApiResource::from_gvk_with_plural(&gvk, "daemonsets");
    Api::namespaced_with(world.client.clone(), "kube-system", &resource)
}

/// kured's DaemonSet, as its manifest has it.
async fn install(world: &World) -> Result<()> {
    let labels = json!({"name": "kured"});
    let set = json!({
        "apiVersion": "apps/v1", "kind": "DaemonSet",
        "metadata": {"name": "kured", "namespace": "kube-system"},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [{"name": "kured", "image": "kured"}]},
            },
        },
    });
    let set = serde_json::from_value(set)?;
    daemon_sets(world)
        .create(&PostParams::default(), &set)
        .await?;
    Ok(())
}

async fn set_lock(world: &World, lock: Option<Value>) -> Result<()> {
    let lock = lock.map(|lock| lock.to_string());
    let patch = Patch::Merge(json!({"metadata": {"annotations": {LOCK: lock}}}));
    daemon_sets(world)
        .patch("kured", &PatchParams::default(), &patch)
        .await?;
    Ok(())
}

#[tokio::test]
async fn a_node_that_kured_reboots_passes_every_phase_and_the_insight_names_kured() -> Result<()> {
    let world = World::empty().await?;
    let cluster = Cluster::builder(VERSION).control_plane(0).pool("blue", 2);
    cluster.build()?.load(&world.client).await?;
    install(&world).await?;
    let operator = world.operator(&[]).await?;
    operator.ready().await?;
    world.node_reaches("blue-0", Phase::Completed).await?;

    let nodes = world.editor.nodes();
    let created = jiff::Timestamp::now().to_string();
    let lock = json!({
        "nodeID": "blue-0", "metadata": {"unschedulable": false}, "created": created, "TTL": 0,
    });
    set_lock(&world, Some(lock)).await?;
    let draining = world.node_reaches("blue-0", Phase::Draining).await?;
    assert_eq!(draining.update_kind, Some(UpdateKind::Reboot));
    assert_eq!(draining.provider.as_str(), "Kubernetes");
    let overlays: Vec<&str> = draining.overlays.iter().map(ProviderName::as_str).collect();
    assert_eq!(overlays, ["kured"]);
    nodes.cordon("blue-0", true).await?;
    nodes.set_ready("blue-0", Ready::Unknown).await?;
    world.node_reaches("blue-0", Phase::Rebooting).await?;
    nodes.boot("blue-0", VERSION, "Debian").await?;
    nodes.set_ready("blue-0", Ready::Yes).await?;
    world.node_reaches("blue-0", Phase::Updating).await?;
    nodes.cordon("blue-0", false).await?;
    set_lock(&world, None).await?;
    let done = world.node_reaches("blue-0", Phase::Completed).await?;
    assert!(done.overlays.is_empty());
    // Nobody else was touched.
    let other = world.node_reaches("blue-1", Phase::Completed).await?;
    assert_eq!(other.timeline.len(), 1);
    Ok(())
}

#[tokio::test]
async fn where_there_is_no_kured_its_kind_is_not_watched() -> Result<()> {
    let world = World::empty().await?;
    let cluster = Cluster::builder(VERSION).control_plane(0).pool("blue", 1);
    cluster.build()?.load(&world.client).await?;
    let operator = world.operator(&[]).await?;
    operator.ready().await?;
    let (_, metrics) = operator.get("/metrics").await?;
    assert!(!metrics.contains("kind=\"daemonsets\""), "{metrics}");
    assert!(!metrics.contains("kind=\"nodeclaims\""), "{metrics}");
    Ok(())
}
