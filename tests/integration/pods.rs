//! Pods, which the operator reads only on nodes whose evaluation needs them.

use anyhow::Result;
use k8s_openapi::api::rbac::v1::ClusterRole;
use kube::api::{Api, PostParams};
use node_insights::api::NodeProgressInsightStatus;
use node_insights::api::types::{Phase, UpdateKind};
use node_insights_harness::managed::{Cloud, Machine, Managed};
use node_insights_harness::pods::{Owner, Pods};

use crate::support::{World, condition};

const OLD: &str = "v1.35.4-eks-94953ac";
const NEW: &str = "v1.36.2-eks-1552ad0";

/// A node group of `old` outdated nodes with two pods each, and of one new node.
async fn group(world: &World, old: usize) -> Result<Managed> {
    let eks = Managed::new(&world.client, Cloud::Eks);
    let pods = Pods::new(&world.client);
    for index in 0..old {
        let node = format!("old-{index}");
        eks.machine(&Machine::new(&node, "blue", OLD, "ami-0aaa"))
            .await?;
        pods.run(&format!("web-{index}"), &node, Owner::ReplicaSet)
            .await?;
        pods.run(&format!("agent-{index}"), &node, Owner::DaemonSet)
            .await?;
    }
    eks.machine(&Machine::new("new-0", "blue", NEW, "ami-0bbb"))
        .await?;
    Ok(eks)
}

/// Revokes the operator's permission to read pods.
async fn forbid(world: &World) -> Result<()> {
    let api: Api<ClusterRole> = Api::all(world.client.clone());
    let mut role = api.get("node-insights").await?;
    if let Some(rules) = &mut role.rules {
        rules.retain(|rule| rule.resources.as_deref() != Some(&["pods".to_owned()]));
    }
    role.metadata.managed_fields = None;
    api.replace("node-insights", &PostParams::default(), &role)
        .await?;
    Ok(())
}

async fn waits(world: &World, node: &str) -> Result<()> {
    let is_waiting = |status: &NodeProgressInsightStatus| {
        status.phase == Phase::Pending
            && condition(&status.conditions, "Updating").reason == "Cordoned"
    };
    world.node_becomes(node, "Cordoned", is_waiting).await?;
    Ok(())
}

#[tokio::test]
async fn the_pods_that_leave_say_which_of_the_cordoned_nodes_is_being_drained() -> Result<()> {
    let world = World::empty().await?;
    let eks = group(&world, 2).await?;
    let pods = Pods::new(&world.client);
    let mark = world.plane.audit().mark()?;
    let operator = world.operator(&[]).await?;
    operator.ready().await?;
    world.node_reaches("old-0", Phase::Pending).await?;
    assert_eq!(
        world.operator_requests(mark, &["pods"])?,
        0,
        "nothing is read at rest"
    );

    eks.cordon(&["old-0", "old-1"]).await?;
    waits(&world, "old-0").await?;
    waits(&world, "old-1").await?;
    // A drain leaves pods of DaemonSets alone.
    pods.evict("agent-1").await?;
    pods.evict("web-0").await?;
    let draining = world.node_reaches("old-0", Phase::Draining).await?;
    assert_eq!(draining.update_kind, Some(UpdateKind::Version));
    assert_eq!(
        condition(&draining.conditions, "Updating").reason,
        "PodsLeaving"
    );
    waits(&world, "old-1").await?;

    // The pods are gone, and the drain is not over yet: also not for an operator that begins to look.
    pods.finish("web-0").await?;
    operator.stop().await?;
    let operator = world.operator(&[]).await?;
    operator.ready().await?;
    eks.exclude("old-0").await?;
    let updating = world.node_reaches("old-0", Phase::Updating).await?;
    let phases: Vec<Phase> = updating.timeline.iter().map(|entry| entry.phase).collect();
    assert_eq!(phases, [Phase::Pending, Phase::Draining, Phase::Updating]);
    Ok(())
}

#[tokio::test]
async fn the_pods_of_more_nodes_than_can_be_watched_are_listed_in_turns() -> Result<()> {
    const NODES: usize = 70;
    let world = World::empty().await?;
    let eks = group(&world, NODES).await?;
    let names: Vec<String> = (0..NODES).map(|index| format!("old-{index}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    eks.cordon(&names).await?;
    let operator = world.operator(&[]).await?;
    operator.ready().await?;
    waits(&world, "old-69").await?;
    let pods = Pods::new(&world.client);
    for index in 0..NODES {
        pods.evict(&format!("web-{index}")).await?;
    }
    for node in &names {
        world.node_reaches(node, Phase::Draining).await?;
    }
    Ok(())
}

#[tokio::test]
async fn without_the_permission_for_pods_the_nodes_that_need_them_say_so_and_wait() -> Result<()> {
    let world = World::empty().await?;
    forbid(&world).await?;
    let eks = group(&world, 1).await?;
    let operator = world.operator(&[]).await?;
    operator.ready().await?;
    world.node_reaches("old-0", Phase::Pending).await?;
    eks.cordon(&["old-0"]).await?;
    let message = "pods cannot be read";
    let reports = |status: &NodeProgressInsightStatus| {
        let updating = condition(&status.conditions, "Updating");
        updating.reason == "Cordoned" && updating.message.contains(message)
    };
    world.node_becomes("old-0", message, reports).await?;
    world.node_reaches("new-0", Phase::Completed).await?;
    Pods::new(&world.client).evict("web-0").await?;
    // Once it is granted, nothing has to be restarted.
    world.install_rbac().await?;
    world.node_reaches("old-0", Phase::Draining).await?;
    Ok(())
}
