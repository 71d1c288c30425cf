//! kured, which reboots nodes of any provider.

use anyhow::Result;
use node_insights::api::types::{Phase, ProviderName, UpdateKind};
use node_insights_harness::kubernetes::Cluster;
use node_insights_harness::kured::Kured;

use crate::support::World;

const VERSION: &str = "v1.36.3";

#[tokio::test]
async fn a_node_that_kured_reboots_passes_every_phase_and_the_insight_names_kured() -> Result<()> {
    let world = World::empty().await?;
    let cluster = Cluster::builder(VERSION).control_plane(0).pool("blue", 2);
    cluster.build()?.load(&world.client).await?;
    let kured = Kured::new(&world.client);
    kured.install().await?;
    let operator = world.operator(&[]).await?;
    operator.ready().await?;
    world.node_reaches("blue-0", Phase::Completed).await?;

    kured.lock("blue-0").await?;
    let draining = world.node_reaches("blue-0", Phase::Draining).await?;
    assert_eq!(draining.update_kind, Some(UpdateKind::Reboot));
    assert_eq!(draining.provider.as_str(), "Kubernetes");
    let overlays: Vec<&str> = draining.overlays.iter().map(ProviderName::as_str).collect();
    assert_eq!(overlays, ["kured"]);
    kured.drain("blue-0").await?;
    kured.reboot("blue-0").await?;
    world.node_reaches("blue-0", Phase::Rebooting).await?;
    kured.boot("blue-0", VERSION).await?;
    kured.back("blue-0").await?;
    world.node_reaches("blue-0", Phase::Updating).await?;
    kured.release("blue-0").await?;
    let done = world.node_reaches("blue-0", Phase::Completed).await?;
    assert!(done.overlays.is_empty());
    // Nobody else was touched.
    let other = world.node_reaches("blue-1", Phase::Completed).await?;
    assert_eq!(other.timeline.len(), 1);
    Ok(())
}

#[tokio::test]
async fn where_there_is_no_kured_its_kind_is_not_watched() -> Result<()> {
    let world = World::empty().await?;
    let cluster = Cluster::builder(VERSION).control_plane(0).pool("blue", 1);
    cluster.build()?.load(&world.client).await?;
    let operator = world.operator(&[]).await?;
    operator.ready().await?;
    let (_, metrics) = operator.get("/metrics").await?;
    assert!(!metrics.contains("kind=\"daemonsets\""), "{metrics}");
    assert!(!metrics.contains("kind=\"nodeclaims\""), "{metrics}");
    Ok(())
}
