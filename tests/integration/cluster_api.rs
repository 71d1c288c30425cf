//! Nodes that Cluster API replaces, with and without its objects.

use anyhow::Result;
use node_insights::api::pool::Assessment;
use node_insights::api::types::{DesiredVersionSource, Phase, UpdateKind};
use node_insights_harness::cluster_api::{ClusterApi, Machine, install};
use node_insights_harness::kubernetes::{Nodes, Pace, Ready};
use serde_json::{Value, json};

use crate::support::{World, condition, published_crds};

const OLD: &str = "v1.35.4";
const NEW: &str = "v1.36.3";
const DEPLOYMENT: &str = "prod-md-0";
const POOL: &str = "prod-md-0.machinedeployments";

/// The machines before the update.
fn old() -> [Machine; 2] {
    ["m-0", "m-1"].map(|name| Machine::new(name, DEPLOYMENT, OLD))
}

/// A MachineDeployment with two machines.
async fn two_machines(world: &World) -> Result<ClusterApi> {
    let cluster_api = ClusterApi::new(&world.client);
    cluster_api.cluster().await?;
    cluster_api.deployment(DEPLOYMENT, OLD, 2).await?;
    for machine in old() {
        cluster_api.machine(&machine).await?;
    }
    Ok(cluster_api)
}

/// Waits until the condition `Updating` of a node has this reason.
async fn reaches(world: &World, node: &str, reason: &str) -> Result<String> {
    let status = world
        .node_becomes(node, reason, |status| {
            condition(&status.conditions, "Updating").reason == reason
        })
        .await?;
    Ok(condition(&status.conditions, "Updating").message.clone())
}

async fn progress(world: &World, progress: &str, assessment: Assessment) -> Result<()> {
    world
        .pool_becomes(POOL, progress, |pool| {
            pool.progress == progress && pool.assessment == assessment
        })
        .await
        .map(|_| ())
}

#[tokio::test]
async fn a_rolling_update_replaces_each_node_step_by_step_and_its_pool_counts_it() -> Result<()> {
    let world = World::empty().await?;
    install(&world.client).await?;
    let cluster_api = two_machines(&world).await?;
    cluster_api.deployment("prod-md-1", OLD, 0).await?;
    let operator = world.operator(&[]).await?;
    operator.ready().await?;
    let before = world.node_reaches("m-0", Phase::Completed).await?;
    assert_eq!(before.provider.as_str(), "ClusterAPI");
    assert_eq!(before.desired_version.as_deref(), Some(OLD));
    let pool = before.pool_ref.unwrap();
    assert_eq!(
        (&*pool.group, &*pool.resource, &*pool.name),
        ("cluster.x-k8s.io", "machinedeployments", DEPLOYMENT)
    );
    progress(&world, "2/2", Assessment::Completed).await?;
    // A MachineDeployment without nodes is a pool as well.
    world
        .pool_becomes("prod-md-1.machinedeployments", "empty", |pool| {
            pool.progress == "0/0" && pool.assessment == Assessment::Completed
        })
        .await?;

    let [first, second] = old();
    cluster_api
        .upgrade(DEPLOYMENT, NEW, &[first.clone(), second.clone()])
        .await?;
    let pending = world.node_reaches("m-0", Phase::Pending).await?;
    assert_eq!(pending.update_kind, Some(UpdateKind::Version));
    assert_eq!(pending.desired_version.as_deref(), Some(NEW));
    assert_eq!(
        pending.desired_version_source,
        Some(DesiredVersionSource::Provider)
    );
    progress(&world, "0/2", Assessment::Pending).await?;

    let surge = Machine::new("m-2", DEPLOYMENT, NEW);
    cluster_api.launch(&surge).await?;
    cluster_api.join(&surge).await?;
    world.node_reaches("m-2", Phase::Completed).await?;
    // The surge node is none of the two nodes that the rollout began with.
    progress(&world, "0/2", Assessment::Progressing).await?;

    let blocker =
        "\n* Pod shop/db-0: cannot evict pod as it would violate the pod's disruption budget.";
    cluster_api.delete("m-0", blocker).await?;
    world.node_reaches("m-0", Phase::Draining).await?;
    let message = reaches(&world, "m-0", "DrainingNode").await?;
    assert!(message.contains("Pod shop/db-0"), "{message}");
    cluster_api.drained("m-0").await?;
    reaches(&world, "m-0", "WaitingForVolumeDetach").await?;
    cluster_api.terminate("m-0").await?;
    reaches(&world, "m-0", "WaitingForInfrastructureDeletion").await?;
    world.node_reaches("m-0", Phase::Updating).await?;
    cluster_api.gone("m-0").await?;
    progress(&world, "1/2", Assessment::Progressing).await?;
    assert!(world.node_insight("m-0").await?.is_none());

    let last = Machine::new("m-3", DEPLOYMENT, NEW);
    cluster_api.replace(&second, &last, Pace::TEST).await?;
    progress(&world, "2/2", Assessment::Completed).await
}

#[tokio::test]
async fn what_the_published_crds_accept_is_evaluated_the_same() -> Result<()> {
    let Some(folder) = published_crds("cluster-api") else {
        return Ok(());
    };
    let world = World::empty().await?;
    world.plane.apply_dir(&folder).await?;
    let cluster_api = two_machines(&world).await?;
    let operator = world.operator(&[]).await?;
    operator.ready().await?;
    world.node_reaches("m-0", Phase::Completed).await?;
    cluster_api.upgrade(DEPLOYMENT, NEW, &old()).await?;
    world.node_reaches("m-0", Phase::Pending).await?;
    cluster_api.pause(true).await?;
    world.node_reaches("m-0", Phase::Paused).await?;
    world
        .pool_becomes(POOL, "paused", |pool| {
            pool.assessment == Assessment::Excluded
        })
        .await?;
    cluster_api.pause(false).await?;
    world.node_reaches("m-0", Phase::Pending).await?;
    cluster_api.delete("m-0", "").await?;
    world.node_reaches("m-0", Phase::Draining).await?;
    cluster_api.drained("m-0").await?;
    world.node_reaches("m-0", Phase::Updating).await?;
    Ok(())
}

#[tokio::test]
async fn a_change_of_one_machine_evaluates_its_node_alone() -> Result<()> {
    let world = World::empty().await?;
    install(&world.client).await?;
    let cluster_api = two_machines(&world).await?;
    let operator = world.operator(&[]).await?;
    operator.ready().await?;
    world.all_reported(2).await?;
    let before = operator.evaluations(None).await?;
    cluster_api
        .outdated("m-1", "* KubeadmConfig is not up-to-date")
        .await?;
    let pending = world.node_reaches("m-1", Phase::Pending).await?;
    assert_eq!(pending.update_kind, Some(UpdateKind::Configuration));
    assert_eq!(operator.evaluations(None).await?, before + 1);
    assert_eq!(operator.evaluations(Some("machine")).await?, 1);
    Ok(())
}

#[tokio::test]
async fn without_objects_the_taints_of_the_nodes_remain() -> Result<()> {
    let world = World::empty().await?;
    let cluster_api = ClusterApi::new(&world.client);
    for machine in old().map(|machine| Machine {
        version: NEW.to_owned(),
        ..machine
    }) {
        cluster_api.node(&machine).await?;
    }
    let operator = world.operator(&[]).await?;
    operator.ready().await?;
    progress(&world, "2/2", Assessment::Completed).await?;
    cluster_api.taint("m-0").await?;
    let pending = world.node_reaches("m-0", Phase::Pending).await?;
    assert_eq!(pending.update_kind, Some(UpdateKind::Configuration));
    progress(&world, "0/1", Assessment::Progressing).await?;
    let nodes = Nodes::new(world.client.clone());
    nodes.cordon("m-0", true).await?;
    world.node_reaches("m-0", Phase::Draining).await?;
    nodes.set_ready("m-0", Ready::Unknown).await?;
    world.node_reaches("m-0", Phase::Updating).await?;
    nodes.delete("m-0").await?;
    progress(&world, "1/1", Assessment::Completed).await
}

#[tokio::test]
async fn without_the_permission_for_machines_the_pool_stays_and_its_nodes_say_so() -> Result<()> {
    let world = World::empty().await?;
    install(&world.client).await?;
    let cluster_api = two_machines(&world).await?;
    cluster_api.upgrade(DEPLOYMENT, NEW, &old()).await?;
    let role = "clusterrole/node-insights";
    let json = world.plane.kubectl(&["get", role, "-o", "json"]).await?;
    let mut granted: Value = serde_json::from_str(&json)?;
    granted["metadata"] = json!({"name": "node-insights"});
    let mut limited = granted.clone();
    let rules = limited["rules"].as_array_mut().unwrap();
    rules.retain(|rule| rule["apiGroups"] != json!(["cluster.x-k8s.io"]));
    world.plane.apply_yaml(&limited.to_string()).await?;

    let operator = world.operator(&[]).await?;
    operator.ready().await?;
    let pending = world.node_reaches("m-0", Phase::Pending).await?;
    let message = &condition(&pending.conditions, "Updating").message;
    assert!(message.contains("machines cannot be read"), "{message}");
    progress(&world, "0/2", Assessment::Pending).await?;

    world.plane.apply_yaml(&granted.to_string()).await?;
    world
        .node_becomes("m-0", "complete", |node| {
            let message = &condition(&node.conditions, "Updating").message;
            !message.contains("cannot be read")
        })
        .await?;
    // The pool is the same one.
    assert_eq!(world.pool_insights().await?.len(), 1);
    Ok(())
}
