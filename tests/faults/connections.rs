//! The whole line between operator and API server: away, silent, slow, cut again and again.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use node_insights_harness::fault_proxy::{Door, Fault, Rule};

use crate::scene::{OLD, Scene, small};
use crate::snapshot::Snapshot;

/// How long a fault lasts: longer than a connection may take to come about, 5 s.
const A_WHILE: Duration = Duration::from_secs(7);
/// How soon a change is reported after the line is whole again: within 5 s on an idle machine. At worst a connection
/// was tried just before, for 5 s, and the pause after that is another 5 s; the rest is for a busy machine.
const BACK_WITHIN: Duration = Duration::from_secs(30);

#[tokio::test]
async fn what_happens_while_no_connection_is_accepted_is_reported_afterwards() -> Result<()> {
    away(Door::Refusing).await
}

#[tokio::test]
async fn what_happens_while_connections_are_accepted_and_silent_is_reported_afterwards()
-> Result<()> {
    away(Door::Silent).await
}

async fn away(door: Door) -> Result<()> {
    let mut scene = Scene::openshift(&small()?, &[]).await?;
    let before = Snapshot::of(&scene.world).await?;
    scene.proxy.door(door);
    let editor = &scene.world.editor;
    editor.cordon("worker-0", true).await?;
    editor.delete_node("worker-2").await?;
    editor.add_node("late", "worker", OLD).await?;
    // It has to be that long: what is tested is that nothing happens.
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
async fn on_a_line_that_breaks_all_the_time_every_change_arrives() -> Result<()> {
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
        // Not waiting for anything is the point: connections break in the middle of whatever goes on.
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    scene.is_alive().await?;
    scene
        .reported_as_available("worker-0", "worker", false)
        .await?;
    scene.proxy.heal();
    scene.settled().await?;
    before.is_kept(&Snapshot::of(&scene.world).await?, &["worker-0", "worker"])?;
    scene.a_fresh_operator_writes_nothing().await
}

#[tokio::test]
async fn on_a_slow_line_every_change_arrives() -> Result<()> {
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
    before.is_kept(&Snapshot::of(&scene.world).await?, &["worker-0", "worker"])?;
    scene.a_fresh_operator_writes_nothing().await
}
