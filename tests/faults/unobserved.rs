//! Changes that no event reports: the operator sees only the state before and the state after.

use anyhow::{Context, Result, ensure};
use node_insights::api::types::Phase;
use node_insights_harness::fault_proxy::{Fault, Rule};
use node_insights_harness::openshift::{Cluster, Pool, config_name, node};
use node_insights_harness::{eventually, kubernetes::Nodes};
use serde_json::json;

use crate::scene::{OLD, Scene, small};
use crate::snapshot::Snapshot;
use crate::support::{SOON, project};

const NODE: &str = "worker-0";

#[tokio::test]
async fn a_node_that_replaces_another_of_the_same_name_gets_a_new_insight() -> Result<()> {
    let mut scene = Scene::openshift(&small()?, &[]).await?;
    let before = Snapshot::of(&scene.world).await?;
    let rule = blind(&scene, "nodes").await?;
    let nodes: &Nodes = scene.world.editor.nodes();
    nodes.delete(NODE).await?;
    let config = config_name("worker", &[OLD]);
    nodes
        .join(&node(NODE, "worker", &config, OLD).object()?)
        .await?;
    nodes.become_ready(NODE).await?;
    scene.proxy.remove(rule);
    let uid = nodes.api().get(NODE).await?.metadata.uid;
    eventually("the insight is owned by the new node", SOON, async || {
        let insight = scene.world.node_insight(NODE).await?;
        let owners = insight.and_then(|insight| insight.metadata.owner_references);
        let owner = owners.and_then(|owners| Some(owners.first()?.uid.clone()));
        Ok((owner == uid).then_some(()))
    })
    .await?;
    scene.world.all_reported(5).await?;
    scene.settled().await?;
    let after = Snapshot::of(&scene.world).await?;
    let ids = [&before, &after].map(|snapshot| snapshot.nodes[NODE].metadata.uid.clone());
    ensure!(
        ids[0] != ids[1],
        "it still has the insight of the deleted node"
    );
    let others = Snapshot {
        nodes: before
            .nodes
            .into_iter()
            .filter(|(name, _)| name != NODE)
            .collect(),
        pools: before.pools,
    };
    others.is_preserved(&after, &["worker"])?;
    scene.a_fresh_operator_writes_nothing().await
}

#[tokio::test]
async fn two_pools_that_swap_their_selectors_swap_their_nodes() -> Result<()> {
    let cluster = Cluster::builder(OLD)
        .pool(Pool::new("master", 1))
        .pool(Pool::new("worker", 1))
        .pool(Pool::new("blue", 3))
        .pool(Pool::new("red", 1))
        .build()?;
    let mut scene = Scene::openshift(&cluster, &[]).await?;
    let before = Snapshot::of(&scene.world).await?;
    let rule = blind(&scene, "machineconfigpools").await?;
    for (pool, role) in [("blue", "red"), ("red", "blue")] {
        let label = format!("node-role.kubernetes.io/{role}");
        let selector = json!({"matchLabels": {label: ""}});
        scene.world.editor.set_selector(pool, selector).await?;
    }
    scene.proxy.remove(rule);
    for (pool, nodes) in [("blue", 1), ("red", 3)] {
        scene
            .world
            .pool_becomes(pool, "the nodes of the other", |status| {
                status.progress.ends_with(&format!("/{nodes}"))
            })
            .await?;
    }
    for (node, pool) in [("blue-0", "red"), ("red-0", "blue")] {
        scene
            .world
            .node_becomes(node, pool, |status| {
                status.pool_ref.as_ref().is_some_and(|of| of.name == pool)
            })
            .await?;
    }
    scene.settled().await?;
    let touched = ["blue-0", "blue-1", "blue-2", "red-0", "blue", "red"];
    before.is_preserved(&Snapshot::of(&scene.world).await?, &touched)?;
    scene.a_fresh_operator_writes_nothing().await
}

#[tokio::test]
async fn insights_are_written_again_after_our_crds_are_deleted_and_recreated() -> Result<()> {
    let mut scene = Scene::openshift(&small()?, &[]).await?;
    let crds = project().join("crds").to_string_lossy().into_owned();
    scene
        .world
        .plane
        .kubectl(&["delete", "-k", &crds, "--wait"])
        .await?;
    scene.operator()?.says_why("does not serve").await?;
    scene.world.install_crds().await?;
    scene.world.all_reported(5).await?;
    scene.pool_has_available("worker", 3).await?;
    scene.world.editor.cordon(NODE, true).await?;
    scene.reported_as_available(NODE, "worker", false).await?;
    scene.settled().await?;
    scene.a_fresh_operator_writes_nothing().await
}

#[tokio::test]
async fn a_crd_of_the_platform_is_watched_again_after_it_is_deleted_and_recreated() -> Result<()> {
    let cluster = small()?;
    let mut scene = Scene::openshift(&cluster, &[]).await?;
    let name = "machineconfigpools.machineconfiguration.openshift.io";
    scene
        .world
        .plane
        .kubectl(&["delete", "crd", name, "--wait"])
        .await?;
    scene.operator()?.says_why("machineconfigpools").await?;
    scene.is_alive().await?;
    cluster.load(&scene.world.client).await?;
    scene.world.editor.cordon(NODE, true).await?;
    scene.reported_as_available(NODE, "worker", false).await?;
    for pool in ["worker-0", "infra-0"] {
        scene
            .world
            .node_reaches(pool, Phase::Completed)
            .await
            .context("with its MachineConfigPool")?;
    }
    scene.settled().await?;
    scene.a_fresh_operator_writes_nothing().await
}

/// Cuts the watch of a kind, fails every list and watch with 410, and waits until that takes effect. Afterwards the
/// operator has to relist: the watch cannot resume.
async fn blind(
    scene: &Scene,
    resource: &str,
) -> Result<node_insights_harness::fault_proxy::RuleId> {
    let expired = Rule::new(Fault::status(410, None))
        .reads()
        .resource(resource);
    let rule = scene.proxy.add(expired);
    scene.proxy.cut_watches(resource);
    eventually("it cannot be read", SOON, async || {
        Ok((scene.proxy.hits(rule) >= 2).then_some(()))
    })
    .await?;
    Ok(rule)
}
