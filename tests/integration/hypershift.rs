//! Nodes of a hosted cluster: updated in place, or replaced.

use anyhow::Result;
use node_insights::api::pool::Assessment;
use node_insights::api::types::{ConditionStatus, Phase, UpdateKind};
use node_insights_harness::hypershift::HyperShift;

use crate::support::{World, condition};

const OLD: &str = "v1.35.4";
const NEW: &str = "v1.36.3";
/// The hash of version and configuration that an update sets.
const CONFIG: &str = "9b2e7c05";
const POOL: &str = "workers.nodepools";

/// A hosted cluster whose control plane has been updated, with two nodes that have not.
async fn guest() -> Result<(World, HyperShift)> {
    let world = World::empty().await?;
    let guest = HyperShift::new(&world.client);
    for name in ["workers-0", "workers-1"] {
        guest.join(name, "workers", OLD).await?;
    }
    Ok((world, guest))
}

#[tokio::test]
async fn a_node_that_is_updated_in_place_passes_every_phase_and_its_pool_counts_it() -> Result<()> {
    let (world, guest) = guest().await?;
    let operator = world.operator(&[]).await?;
    operator.ready().await?;
    let node = "workers-0";
    let before = world.node_reaches(node, Phase::Pending).await?;
    assert_eq!(before.provider.as_str(), "HyperShift");
    assert_eq!(before.update_kind, Some(UpdateKind::Version));
    let pool = before.pool_ref.unwrap();
    assert_eq!(
        (&*pool.group, &*pool.name),
        ("hypershift.openshift.io", "workers")
    );

    guest.retarget(node, CONFIG).await?;
    world.node_reaches(node, Phase::Updating).await?;
    guest.drain(node, CONFIG).await?;
    world.node_reaches(node, Phase::Draining).await?;
    guest.drained(node, CONFIG).await?;
    world.node_reaches(node, Phase::Updating).await?;
    guest.reboot(node).await?;
    world.node_reaches(node, Phase::Rebooting).await?;
    guest.boot(node, NEW).await?;
    world
        .node_becomes(node, "back", |node| node.version.as_deref() == Some(NEW))
        .await?;
    guest.done(node, CONFIG).await?;
    let uncordoning = world.node_reaches(node, Phase::Updating).await?;
    assert_eq!(
        condition(&uncordoning.conditions, "Updating").reason,
        "Uncordoning"
    );
    guest.uncordon(node, CONFIG).await?;
    let done = world.node_reaches(node, Phase::Completed).await?;
    let phases: Vec<Phase> = done.timeline.iter().map(|entry| entry.phase).collect();
    assert_eq!(
        phases,
        [
            Phase::Pending,
            Phase::Updating,
            Phase::Draining,
            Phase::Updating,
            Phase::Rebooting,
            Phase::Updating,
            Phase::Completed
        ]
    );
    world
        .pool_becomes(POOL, "1 of 2", |pool| {
            pool.progress == "1/2" && pool.assessment == Assessment::Progressing
        })
        .await?;
    let other = world.node_reaches("workers-1", Phase::Pending).await?;
    assert_eq!(other.timeline.len(), 1);
    Ok(())
}

#[tokio::test]
async fn a_degraded_node_stops_its_pool_and_the_nodes_that_wait_say_so() -> Result<()> {
    let (world, guest) = guest().await?;
    let _operator = world.operator(&[]).await?;
    world.all_reported(2).await?;
    guest.retarget("workers-0", CONFIG).await?;
    guest.degrade("workers-0", "disk full").await?;
    let degraded = world
        .node_becomes("workers-0", "Degraded", |node| {
            condition(&node.conditions, "Degraded").status == ConditionStatus::True
        })
        .await?;
    assert_eq!(
        condition(&degraded.conditions, "Degraded").message,
        "disk full"
    );
    world
        .node_becomes("workers-1", "stopped", |node| {
            node.phase == Phase::Pending
                && condition(&node.conditions, "Updating").reason == "PoolDegraded"
        })
        .await?;
    world
        .pool_becomes(POOL, "Degraded", |pool| {
            pool.assessment == Assessment::Degraded
        })
        .await?;
    Ok(())
}

#[tokio::test]
async fn nodes_of_a_pool_that_replaces_them_are_drained_and_the_pool_ends_completed() -> Result<()>
{
    let (world, guest) = guest().await?;
    let operator = world.operator(&[]).await?;
    operator.ready().await?;
    let nodes = world.editor.nodes();
    for (old, new) in [("workers-0", "workers-2"), ("workers-1", "workers-3")] {
        guest.outdate(old).await?;
        guest.join(new, "workers", NEW).await?;
        world.node_reaches(new, Phase::Completed).await?;
        nodes.cordon(old, true).await?;
        let draining = world.node_reaches(old, Phase::Draining).await?;
        assert_eq!(draining.update_kind, Some(UpdateKind::Version));
        nodes.delete(old).await?;
    }
    world
        .pool_becomes(POOL, "2 of 2", |pool| {
            pool.progress == "2/2" && pool.assessment == Assessment::Completed
        })
        .await?;
    Ok(())
}
