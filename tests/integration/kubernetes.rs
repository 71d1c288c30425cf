//! Plain Kubernetes: pools by label, versions of kubelets, replaced and restarted nodes.

use std::time::Duration;

use anyhow::Result;
use node_insights::api::pool::Assessment;
use node_insights::api::types::{ConditionStatus, DesiredVersionSource, Phase, Scope, UpdateKind};
use node_insights_harness::kubernetes::rollout::{self, Plan};
use node_insights_harness::kubernetes::{Cluster, Pace, Ready};

use crate::support::{Operator, World, condition};

/// The version of the control plane under test.
const API_SERVER: &str = "v1.36.3";
const OLD: &str = "v1.35.4";

async fn world(version: &str) -> Result<World> {
    let world = World::empty().await?;
    Cluster::builder(version)
        .control_plane(1)
        .pool("blue", 2)
        .build()?
        .load(&world.client)
        .await?;
    Ok(world)
}

async fn operator(world: &World, args: &[&str]) -> Result<Operator> {
    let operator = world.operator(args).await?;
    world.all_reported(3).await?;
    Ok(operator)
}

#[tokio::test]
async fn nodes_behind_the_api_server_are_pending_and_grouped_by_label_and_role() -> Result<()> {
    let world = world(OLD).await?;
    let _operator = operator(&world, &[]).await?;
    let pool = world
        .pool_becomes("blue.node-pool", "2 nodes", |pool| pool.progress == "0/2")
        .await?;
    assert_eq!(
        (pool.assessment, pool.provider.as_str()),
        (Assessment::Pending, "Kubernetes")
    );
    assert_eq!(
        (pool.version.as_deref(), pool.desired_version.as_deref()),
        (Some(OLD), Some(API_SERVER))
    );
    assert_eq!(
        pool.desired_version_source,
        Some(DesiredVersionSource::ApiServer)
    );
    assert_eq!(
        (pool.pool_ref.group.as_str(), pool.name.as_str()),
        ("doks.digitalocean.com", "blue")
    );
    let control_plane = world
        .pool_becomes("control-plane", "1 node", |pool| pool.progress == "0/1")
        .await?;
    assert_eq!(control_plane.scope, Scope::ControlPlane);
    Ok(())
}

#[tokio::test]
async fn the_configured_target_and_labels_have_priority() -> Result<()> {
    let world = world(OLD).await?;
    let args = [
        "--target-version",
        OLD,
        "--pool-label-keys",
        "kubernetes.io/hostname",
        "--platform",
        "kubernetes",
    ];
    let _operator = operator(&world, &args).await?;
    let pool = world
        .pool_becomes("blue-0.hostname", "1 node", |pool| pool.progress == "1/1")
        .await?;
    assert_eq!(pool.assessment, Assessment::Completed);
    assert_eq!(
        pool.desired_version_source,
        Some(DesiredVersionSource::UserTarget)
    );
    Ok(())
}

#[tokio::test]
async fn a_node_that_is_updated_in_place_passes_every_phase() -> Result<()> {
    let world = world(OLD).await?;
    let _operator = operator(&world, &[]).await?;
    let nodes = world.editor.nodes();
    let name = nodes_of(&world, "control-plane").await?.remove(0);
    nodes.cordon(&name, true).await?;
    let status = world.node_reaches(&name, Phase::Draining).await?;
    assert_eq!(status.update_kind, Some(UpdateKind::Version));
    assert_eq!(
        condition(&status.conditions, "Available").reason,
        "Unschedulable"
    );
    nodes.set_ready(&name, Ready::Unknown).await?;
    world.node_reaches(&name, Phase::Rebooting).await?;
    nodes.boot(&name, API_SERVER, "Debian").await?;
    nodes.set_ready(&name, Ready::Yes).await?;
    world
        .node_becomes(&name, "back with its new version", |node| {
            node.phase == Phase::Updating && node.version.as_deref() == Some(API_SERVER)
        })
        .await?;
    nodes.cordon(&name, false).await?;
    let done = world.node_reaches(&name, Phase::Completed).await?;
    let phases: Vec<Phase> = done.timeline.iter().map(|entry| entry.phase).collect();
    assert_eq!(
        phases,
        [
            Phase::Pending,
            Phase::Draining,
            Phase::Rebooting,
            Phase::Updating,
            Phase::Completed
        ]
    );
    Ok(())
}

#[tokio::test]
async fn a_manual_cordon_is_no_update_and_a_reboot_is_detected_even_during_operator_downtime()
-> Result<()> {
    let world = world(API_SERVER).await?;
    let operator = operator(&world, &[]).await?;
    let name = nodes_of(&world, "blue").await?.remove(0);
    let nodes = world.editor.nodes();
    nodes.cordon(&name, true).await?;
    let status = world
        .node_becomes(&name, "unavailable", |node| {
            condition(&node.conditions, "Available").status == ConditionStatus::False
        })
        .await?;
    assert_eq!((status.phase, status.update_kind), (Phase::Completed, None));
    nodes.cordon(&name, false).await?;
    world
        .node_becomes(&name, "available", |node| {
            condition(&node.conditions, "Available").status == ConditionStatus::True
        })
        .await?;
    assert!(operator.stop().await?.success());
    nodes.boot(&name, API_SERVER, "Debian").await?;
    nodes.set_ready(&name, Ready::Yes).await?;
    let _operator = world.operator(&[]).await?;
    let status = world
        .node_becomes(&name, "rebooted", |node| {
            condition(&node.conditions, "Updating").reason == "Rebooted"
        })
        .await?;
    assert_eq!(status.phase, Phase::Completed);
    Ok(())
}

#[tokio::test]
async fn a_pool_whose_nodes_are_replaced_ends_completed_without_the_old_nodes() -> Result<()> {
    let world = world(OLD).await?;
    let _operator = operator(&world, &[]).await?;
    let old = nodes_of(&world, "blue").await?;
    let plan = Plan {
        pace: Pace::new(0.05),
        ..Plan::to(API_SERVER)
    };
    tokio::time::timeout(Duration::from_mins(2), rollout::play(&world.client, &plan)).await??;
    let pool = world
        .pool_becomes("blue.node-pool", "done", |pool| {
            pool.assessment == Assessment::Completed
        })
        .await?;
    assert_eq!(pool.version.as_deref(), Some(API_SERVER));
    world.all_reported(3).await?;
    for name in old {
        assert!(world.node_insight(&name).await?.is_none(), "{name} is gone");
    }
    Ok(())
}

/// The names of the nodes with this prefix.
async fn nodes_of(world: &World, prefix: &str) -> Result<Vec<String>> {
    use kube::ResourceExt;
    let nodes = world
        .editor
        .nodes()
        .api()
        .list(&kube::api::ListParams::default())
        .await?;
    Ok(nodes
        .items
        .iter()
        .map(ResourceExt::name_any)
        .filter(|name| name.contains(prefix))
        .collect())
}

#[tokio::test]
async fn a_cluster_that_becomes_openshift_is_evaluated_as_such_without_a_restart() -> Result<()> {
    let world = world(OLD).await?;
    let _operator = operator(&world, &[]).await?;
    world
        .pool_becomes("blue.node-pool", "2 nodes", |pool| pool.progress == "0/2")
        .await?;
    let cluster = node_insights_harness::openshift::Cluster::builder("4.19.14").build()?;
    cluster.load(&world.client).await?;
    let pool = world
        .pool_becomes("worker", "a MachineConfigPool", |pool| {
            pool.provider.as_str() == "OpenShift" && pool.progress == "3/3"
        })
        .await?;
    assert_eq!(pool.pool_ref.resource, "machineconfigpools");
    world.all_reported(6).await?;
    assert!(world.pool_insight("blue.node-pool").await?.is_none());
    Ok(())
}
