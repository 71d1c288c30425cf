//! Nodes that Karpenter replaces, beside nodes of another provider.

use std::time::Duration;

use anyhow::{Error, Result};
use kube::ResourceExt as _;
use node_insights::api::PoolProgressInsightStatus;
use node_insights::api::pool::Assessment;
use node_insights::api::types::{Condition, Phase, UpdateKind};
use node_insights_harness::eventually;
use node_insights_harness::karpenter::{Karpenter, Machine, install};
use node_insights_harness::kubernetes::Cluster;
use serde_json::{Value, json};

use crate::support::{SOON, World, condition, count, published_crds};

/// Three intervals of the discovery, and as much for a busy machine.
const UNDISCOVERED: Duration = Duration::from_mins(3);
const OLD: &str = "v1.35.4";
const NEW: &str = "v1.36.3";

/// Two nodes of GKE, which are none of Karpenter's.
async fn world() -> Result<World> {
    let world = World::empty().await?;
    let cluster = Cluster::builder(NEW).control_plane(0).pool("blue", 2);
    cluster.build()?.load(&world.client).await?;
    Ok(world)
}

async fn pool_of_two(world: &World) -> Result<Karpenter> {
    install(&world.client).await?;
    two_machines(world).await
}

async fn two_machines(world: &World) -> Result<Karpenter> {
    let karpenter = Karpenter::new(&world.client);
    karpenter
        .pool("default", &json!([{"nodes": "10%"}]))
        .await?;
    for name in ["k-0", "k-1"] {
        karpenter
            .machine(&Machine::new(name, "default", OLD))
            .await?;
    }
    Ok(karpenter)
}

#[tokio::test]
async fn a_drifted_node_is_replaced_step_by_step_and_its_pool_counts_it() -> Result<()> {
    let world = world().await?;
    let karpenter = pool_of_two(&world).await?;
    let operator = world.operator(&[]).await?;
    operator.ready().await?;
    let before = world.node_reaches("k-0", Phase::Completed).await?;
    assert_eq!(before.provider.as_str(), "Karpenter");
    let pool = before.pool_ref.unwrap();
    assert_eq!((&*pool.group, &*pool.name), ("karpenter.sh", "default"));

    karpenter.drift("k-0", "AMIDrift").await?;
    let pending = world.node_reaches("k-0", Phase::Pending).await?;
    assert_eq!(pending.update_kind, Some(UpdateKind::Version));
    assert_eq!(pending.desired_version.as_deref(), Some(NEW));
    world
        .pool_becomes("default.nodepool", "0 of 1", |pool| {
            pool.progress == "0/1" && pool.assessment == Assessment::Progressing
        })
        .await?;
    karpenter.disrupt("k-0", "Drifted").await?;
    let replacement = Machine::new("k-2", "default", NEW);
    karpenter.launch(&replacement).await?;
    let updating = world.node_reaches("k-0", Phase::Updating).await?;
    assert_eq!(
        condition(&updating.conditions, "Updating").reason,
        "WaitingForReplacement"
    );
    karpenter.join(&replacement).await?;
    world.node_reaches("k-2", Phase::Completed).await?;
    karpenter.delete("k-0").await?;
    world.node_reaches("k-0", Phase::Draining).await?;
    karpenter.drained("k-0").await?;
    world
        .node_becomes("k-0", "volumes", |node| {
            condition(&node.conditions, "Updating").reason == "AwaitingVolumeDetachment"
        })
        .await?;
    karpenter.terminate("k-0").await?;
    world
        .node_becomes("k-0", "terminating", |node| {
            condition(&node.conditions, "Updating").reason == "InstanceTerminating"
        })
        .await?;
    karpenter.gone("k-0").await?;
    world
        .pool_becomes("default.nodepool", "2 of 2", |pool| {
            pool.progress == "2/2" && pool.assessment == Assessment::Completed
        })
        .await?;
    assert!(world.node_insight("k-0").await?.is_none());
    Ok(())
}

#[tokio::test]
async fn what_the_published_crds_accept_is_evaluated_the_same() -> Result<()> {
    let Some(folder) = published_crds("karpenter") else {
        return Ok(());
    };
    let world = world().await?;
    world.plane.apply_dir(&folder).await?;
    let karpenter = two_machines(&world).await?;
    let operator = world.operator(&[]).await?;
    operator.ready().await?;
    karpenter.drift("k-0", "AMIDrift").await?;
    world.node_reaches("k-0", Phase::Pending).await?;
    karpenter
        .set_budgets("default", &json!([{"nodes": "0"}]))
        .await?;
    world.node_reaches("k-0", Phase::Paused).await?;
    karpenter
        .set_budgets("default", &json!([{"nodes": "1"}]))
        .await?;
    karpenter.disrupt("k-0", "Drifted").await?;
    world.node_reaches("k-0", Phase::Updating).await?;
    karpenter.delete("k-0").await?;
    world.node_reaches("k-0", Phase::Draining).await?;
    Ok(())
}

#[tokio::test]
async fn a_change_of_one_nodeclaim_evaluates_its_node_alone() -> Result<()> {
    let world = world().await?;
    let karpenter = pool_of_two(&world).await?;
    let operator = world.operator(&[]).await?;
    operator.ready().await?;
    world.all_reported(4).await?;
    let before = operator.evaluations(None).await?;
    karpenter.drift("k-1", "NodePoolDrifted").await?;
    world.node_reaches("k-1", Phase::Pending).await?;
    assert_eq!(operator.evaluations(None).await?, before + 1);
    assert_eq!(operator.evaluations(Some("node_claim")).await?, 1);
    Ok(())
}

#[tokio::test]
async fn karpenter_that_comes_later_is_watched_without_a_restart_and_nobody_else_is_written()
-> Result<()> {
    let world = world().await?;
    let operator = world.operator(&[]).await?;
    operator.ready().await?;
    world.all_reported(2).await?;
    let kinds = ["kind=\"nodeclaims\""];
    assert_eq!(
        operator
            .metric("node_insights_watch_synced", &kinds)
            .await?,
        0
    );
    let mark = world.plane.audit().mark()?;
    let karpenter = pool_of_two(&world).await?;
    karpenter.drift("k-0", "AMIDrift").await?;
    world.node_reaches("k-0", Phase::Pending).await?;
    world.node_reaches("k-1", Phase::Completed).await?;
    operator.ready().await?;
    let writes = world.operator_writes(mark)?;
    let of_blue = writes.iter().filter(|write| write.name.starts_with("blue"));
    assert_eq!(of_blue.count(), 0, "{writes:#?}");
    assert!(count(&writes, "update", "nodeprogressinsights", "status") >= 2);
    Ok(())
}

#[tokio::test]
async fn karpenter_that_is_removed_is_no_longer_watched_and_its_nodes_say_so_until_it_is_back()
-> Result<()> {
    let world = world().await?;
    let karpenter = pool_of_two(&world).await?;
    let operator = world.operator(&[]).await?;
    operator.ready().await?;
    world.all_reported(4).await?;
    let mark = world.plane.audit().mark()?;
    let free = r#"--patch={"metadata": {"finalizers": null}}"#;
    for claim in ["nodeclaim/k-0", "nodeclaim/k-1"] {
        let patch = ["patch", claim, "--type=merge", free];
        world.plane.kubectl(&patch).await?;
    }
    let crds = ["nodeclaims.karpenter.sh", "nodepools.karpenter.sh"];
    world
        .plane
        .kubectl(&["delete", "crd", "--wait", crds[0], crds[1]])
        .await?;
    // Three polls in a row have to find that it is gone.
    eventually("its nodes say so", UNDISCOVERED, async || {
        let node = world
            .node_insight("k-0")
            .await?
            .and_then(|node| node.status);
        let message = node.map(|node| condition(&node.conditions, "Updating").message.clone());
        let says_so = message.is_some_and(|text| text.contains("does not serve nodeclaims"));
        Ok(says_so.then_some(()))
    })
    .await?;
    let kinds = ["kind=\"nodeclaims\""];
    eventually("it is not watched", SOON, async || {
        let synced = operator.metric("node_insights_watch_synced", &kinds);
        Ok((synced.await? == 0).then_some(()))
    })
    .await?;
    // It is gone, not missing.
    operator.ready().await?;

    install(&world.client).await?;
    karpenter
        .launch(&Machine::new("k-0", "default", OLD))
        .await?;
    for registered in ["Registered", "Initialized"] {
        karpenter
            .condition("k-0", registered, "True", registered)
            .await?;
    }
    world.node_reaches("k-0", Phase::Completed).await?;
    let writes = world.operator_writes(mark)?;
    let of_blue = writes.iter().filter(|write| write.name.starts_with("blue"));
    assert_eq!(of_blue.count(), 0, "{writes:#?}");
    Ok(())
}

/// The permissions of the operator.
async fn cluster_role(world: &World) -> Result<Value> {
    let role = "clusterrole/node-insights";
    let json = world.plane.kubectl(&["get", role, "-o", "json"]).await?;
    let mut role: Value = serde_json::from_str(&json)?;
    role["metadata"] = json!({"name": "node-insights"});
    Ok(role)
}

#[tokio::test]
async fn without_the_permission_for_nodepools_their_insights_say_so_and_count_on() -> Result<()> {
    let world = world().await?;
    let karpenter = pool_of_two(&world).await?;
    karpenter.drift("k-0", "AMIDrift").await?;
    let operator = world.operator(&[]).await?;
    operator.ready().await?;
    let pool = "default.nodepool";
    let is_of_one = |pool: &PoolProgressInsightStatus| pool.progress == "0/1";
    world.pool_becomes(pool, "0 of 1", is_of_one).await?;
    let uid = async || Ok::<_, Error>(world.pool_insight(pool).await?.unwrap().uid());
    let before = uid().await?;

    let granted = cluster_role(&world).await?;
    let mut role = granted.clone();
    for rule in role["rules"].as_array_mut().unwrap() {
        if rule["apiGroups"] == json!(["karpenter.sh"]) {
            rule["resources"] = json!(["nodeclaims"]);
        }
    }
    world.plane.apply_yaml(&role.to_string()).await?;
    // A running watch goes on until it ends; a new operator has none.
    operator.stop().await?;
    let operator = world.operator(&[]).await?;
    operator.ready().await?;
    let says_so = |conditions: &[Condition]| {
        let message = &condition(conditions, "Updating").message;
        message.contains("nodepools cannot be read")
    };
    world
        .pool_becomes(pool, "says so", |pool| says_so(&pool.conditions))
        .await?;
    world
        .node_becomes("k-0", "says so", |node| says_so(&node.conditions))
        .await?;
    karpenter.drift("k-1", "AMIDrift").await?;
    world
        .pool_becomes(pool, "0 of 2", |pool| pool.progress == "0/2")
        .await?;

    world.plane.apply_yaml(&granted.to_string()).await?;
    world
        .pool_becomes(pool, "complete", |pool| !says_so(&pool.conditions))
        .await?;
    assert_eq!(uid().await?, before, "the insight was made again");
    Ok(())
}

#[tokio::test]
async fn without_the_permission_for_nodeclaims_their_nodes_say_so_and_the_others_go_on()
-> Result<()> {
    let world = world().await?;
    pool_of_two(&world).await?;
    let granted = cluster_role(&world).await?;
    let mut role = granted.clone();
    let rules = role["rules"].as_array_mut().unwrap();
    rules.retain(|rule| rule["apiGroups"] != json!(["karpenter.sh"]));
    world.plane.apply_yaml(&role.to_string()).await?;

    let operator = world.operator(&[]).await?;
    // The rest works, and that is ready.
    operator.ready().await?;
    let node = world.node_reaches("k-0", Phase::Unknown).await?;
    let updating = condition(&node.conditions, "Updating");
    assert_eq!(updating.reason, "SourceUnavailable");
    assert!(
        updating.message.contains("nodeclaims"),
        "{}",
        updating.message
    );
    world.node_reaches("blue-0", Phase::Completed).await?;
    let (_, body) = operator.get("/readyz").await?;
    assert!(body.contains("[~] nodeclaims"), "{body}");

    world.plane.apply_yaml(&granted.to_string()).await?;
    world.node_reaches("k-0", Phase::Completed).await?;
    eventually("nothing is missing", SOON, async || {
        let (_, body) = operator.get("/readyz").await?;
        Ok((!body.contains("[~]")).then_some(()))
    })
    .await
}
