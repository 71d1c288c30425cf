//! The operator is moved to a second API server on the same etcd, which was frozen for a while and is stale.

use std::time::Duration;

use anyhow::{Result, ensure};
use node_insights::api::types::Phase;
use node_insights_harness::Signal;

use crate::scene::{NEW, Scene, small};
use crate::snapshot::Snapshot;

/// How long the operator is connected to an API server that does not answer.
const FROZEN: Duration = Duration::from_secs(3);

#[tokio::test]
async fn behind_a_stale_api_server_nothing_goes_back_and_nothing_is_lost() -> Result<()> {
    let mut scene = Scene::openshift(&small()?, &[]).await?;
    let other = scene.world.plane.another_api_server().await?;
    scene.proxy.move_to(&other.url);
    let editor = scene.world.editor.clone();
    editor.cordon("worker-1", true).await?;
    scene
        .reported_as_available("worker-1", "worker", false)
        .await?;
    ensure!(
        !other.audit().entries()?.is_empty(),
        "the operator was moved"
    );

    // From now on its data is stale.
    other.process.signal(Signal::STOP)?;
    scene.proxy.move_to(scene.world.plane.url());
    editor.start_update(NEW).await?;
    editor.render("worker", NEW).await?;
    scene.world.node_reaches("worker-0", Phase::Pending).await?;
    for cordon in [true, false, true] {
        editor.cordon("worker-0", cordon).await?;
        scene
            .reported_as_available("worker-0", "worker", !cordon)
            .await?;
    }
    scene.settled().await?;
    let before = Snapshot::of(&scene.world).await?;

    scene.proxy.move_to(&other.url);
    editor.cordon("infra-0", true).await?;
    tokio::time::sleep(FROZEN).await;
    scene.is_alive().await?;
    other.process.signal(Signal::CONT)?;
    scene
        .reported_as_available("infra-0", "infra", false)
        .await?;
    scene.settled().await?;
    // At no moment was an older state written.
    before.is_preserved(&Snapshot::of(&scene.world).await?, &["infra-0", "infra"])?;
    scene.a_fresh_operator_writes_nothing().await
}
