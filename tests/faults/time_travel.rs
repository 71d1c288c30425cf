//! etcd is restored from a backup while the operator runs: resource versions go back, and what the operator has seen
//! and written since is gone.

use std::time::Duration;

use anyhow::{Context, Result};
use node_insights::api::types::Phase;
use node_insights_harness::openshift::{Cluster, Pool};

use crate::scene::{NEW, OLD, Scene};

/// How long recovery may take once the API server is back.
const HEALED_WITHIN: Duration = Duration::from_mins(1);

#[tokio::test]
async fn after_a_restore_of_etcd_the_insights_are_correct_again_within_a_minute() -> Result<()> {
    let cluster = Cluster::builder(OLD)
        .pool(Pool::new("master", 1))
        .pool(Pool::new("worker", 12))
        .build()?;
    // The default interval of ten minutes: the periodic compare is not what repairs it.
    let mut scene = Scene::openshift(&cluster, &[]).await?;
    let backup = scene.world.plane.backup().await?;
    let editor = scene.world.editor.clone();
    scene.settled().await?;

    // Changes that the restore undoes.
    editor.start_update(NEW).await?;
    editor.render("worker", NEW).await?;
    editor.delete_node("worker-11").await?;
    editor.add_node("late", "worker", NEW).await?;
    scene
        .world
        .node_reaches("worker-00", Phase::Pending)
        .await?;
    for _ in 0..5 {
        for cordon in [true, false] {
            editor.cordon("worker-01", cordon).await?;
            scene
                .reported_as_available("worker-01", "worker", !cordon)
                .await?;
        }
    }
    scene.world.all_reported(13).await?;
    scene.settled().await?;

    scene.world.plane.restore(&backup).await?;
    editor.cordon("worker-02", true).await?;
    let healed = async {
        scene
            .reported_as_available("worker-02", "worker", false)
            .await?;
        scene
            .world
            .node_reaches("worker-00", Phase::Completed)
            .await?;
        let insights = scene.world.all_reported(13).await?;
        assert!(insights.contains_key("worker-11") && !insights.contains_key("late"));
        scene.settled().await
    };
    tokio::time::timeout(HEALED_WITHIN, healed)
        .await
        .context("not recovered within a minute")??;
    scene.a_fresh_operator_writes_nothing().await
}
