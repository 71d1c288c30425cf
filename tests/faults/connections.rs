//! All connections between operator and API server: refused, silent, slow, or cut again and again.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use node_insights_harness::fault_proxy::{Door, Fault, Rule};

use crate::scene::{OLD, Scene, small};
use crate::snapshot::Snapshot;

/// How long a fault lasts: longer than the connect timeout of 5 s.
const A_WHILE: Duration = Duration::from_secs(7);
/// How soon a change is reported after the fault ends: within 5 s on an idle machine. At worst a connection attempt
/// of 5 s began just before, and a backoff of 5 s follows; the rest is slack for a busy machine.
const BACK_WITHIN: Duration = Duration::from_secs(30);

#[tokio::test]
async fn changes_while_connections_are_refused_are_reported_afterwards() -> Result<()> {
    outage(Door::Refusing).await
}

#[tokio::test]
async fn changes_while_connections_are_silent_are_reported_afterwards() -> Result<()> {
    outage(Door::Silent).await
}

async fn outage(door: Door) -> Result<()> {
    let mut scene = Scene::openshift(&small()?, &[]).await?;
    let before = Snapshot::of(&scene.world).await?;
    scene.proxy.door(door);
    let editor = &scene.world.editor;
    editor.cordon("worker-0", true).await?;
    editor.delete_node("worker-2").await?;
    editor.add_node("late", "worker", OLD).await?;
    // A fixed time: the test is that nothing happens.
    tokio::time::sleep(A_WHILE).await;
    scene.is_alive().await?;
    before.is_the_same(&Snapshot::of(&scene.world).await?)?;
    scene.proxy.heal();
    let back = async {
        scene
            .reported_as_available("worker-0", "worker", false)
            .await?;
        scene.world.all_reported(5).await
    };
    let after = tokio::time::timeout(BACK_WITHIN, back)
        .await
        .context("late after the end of the fault")??;
    ensure!(
        after.contains_key("late") && !after.contains_key("worker-2"),
        "{after:?}"
    );
    scene.settled().await?;
    scene.a_fresh_operator_writes_nothing().await
}

#[tokio::test]
async fn every_change_arrives_over_connections_that_keep_breaking() -> Result<()> {
    let mut scene = Scene::openshift(&small()?, &[]).await?;
    let before = Snapshot::of(&scene.world).await?;
    for fault in [Fault::status(503, None), Fault::Cut, Fault::LoseResponse] {
        scene.proxy.add(Rule::new(fault).chance(0.15));
    }
    let mut is_cordoned = false;
    for _ in 0..15 {
        is_cordoned = !is_cordoned;
        scene.world.editor.cordon("worker-0", is_cordoned).await?;
        scene.proxy.cut_connections();
        // Deliberately not waiting for anything: connections break at any moment.
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    scene.is_alive().await?;
    scene
        .reported_as_available("worker-0", "worker", false)
        .await?;
    scene.proxy.heal();
    scene.settled().await?;
    before.is_preserved(&Snapshot::of(&scene.world).await?, &["worker-0", "worker"])?;
    scene.a_fresh_operator_writes_nothing().await
}

#[tokio::test]
async fn every_change_arrives_over_slow_connections() -> Result<()> {
    let mut scene = Scene::openshift(&small()?, &[]).await?;
    let before = Snapshot::of(&scene.world).await?;
    for fault in [
        Fault::Delay(Duration::from_millis(300)),
        Fault::Throttle(20_000),
    ] {
        scene.proxy.add(Rule::new(fault));
    }
    scene.proxy.cut_connections();
    scene.world.editor.cordon("worker-0", true).await?;
    scene
        .reported_as_available("worker-0", "worker", false)
        .await?;
    scene.is_alive().await?;
    scene.settled().await?;
    before.is_preserved(&Snapshot::of(&scene.world).await?, &["worker-0", "worker"])?;
    scene.a_fresh_operator_writes_nothing().await
}
