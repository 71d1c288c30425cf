//! The version of the API server flips, as behind the load balancer of a control plane that is being updated.

use anyhow::{Result, ensure};
use node_insights::api::types::Phase;
use node_insights_harness::eventually;
use node_insights_harness::fault_proxy::{Fault, Rule};
use node_insights_harness::kubernetes::Cluster;

use crate::scene::{Scene, settled};
use crate::support::{OPERATOR_USER, SOON, World};

const NODES: usize = 200;
/// The version of the nodes and of one of the two API servers.
const OLD: &str = "v1.36.3";
/// The version of the other one.
const NEW: &str = "v1.37.0";
/// Each compare asks for the version.
const ALL_THE_TIME: [&str; 2] = ["--sync-interval", "1s"];
/// How often each version is to be seen.
const FLIPS: u64 = 5;

#[tokio::test]
async fn while_the_version_of_the_api_server_flips_the_lower_one_changes_nothing() -> Result<()> {
    let world = World::empty().await?;
    Cluster::builder(OLD)
        .control_plane(0)
        .pool("blue", NODES)
        .build()?
        .load(&world.client)
        .await?;
    let mut scene = Scene::of(world, &ALL_THE_TIME).await?;
    scene.world.all_reported(NODES).await?;
    scene.settled().await?;

    // The first API server is updated: its version becomes the desired one.
    let new = scene.proxy.add(version(NEW));
    eventually("every node waits for the new version", SOON, async || {
        let insights = scene.world.node_insights().await?;
        let pending = insights
            .values()
            .filter_map(|insight| insight.status.as_ref());
        let pending = pending
            .filter(|status| status.phase == Phase::Pending)
            .count();
        Ok((pending == NODES).then_some(()))
    })
    .await?;
    // A pool is written at most once a second, so its last write may come after those of all nodes.
    scene
        .world
        .pool_becomes("blue.node-pool", "no node is updated", |pool| {
            pool.progress == format!("0/{NODES}")
        })
        .await?;
    settled(scene.operator()?).await?;

    // Each request is answered by either of the two.
    let mark = scene.world.plane.audit().mark()?;
    scene.proxy.remove(new);
    let old = scene.proxy.add(version(OLD).chance(0.5));
    let new = scene.proxy.add(version(NEW));
    eventually("the version flips", SOON, async || {
        let (old, new) = (scene.proxy.hits(old), scene.proxy.hits(new));
        Ok((old >= FLIPS && new >= FLIPS).then_some(()))
    })
    .await?;
    scene.compared_again().await?;

    // An operator that starts is answered by the old server first.
    scene.kill().await?;
    scene.proxy.remove(old);
    scene.proxy.remove(new);
    let old = scene.proxy.add(version(OLD).times(3));
    scene.proxy.add(version(NEW));
    scene.start().await?;
    scene.settled().await?;
    ensure!(scene.proxy.hits(old) > 0, "nobody asked for the version");
    scene.compared_again().await?;
    let writes = scene.world.operator_writes(mark)?;
    ensure!(
        writes.is_empty(),
        "{} writes by {OPERATOR_USER}: {:?}",
        writes.len(),
        writes.first()
    );
    Ok(())
}

fn version(version: &str) -> Rule {
    Rule::new(Fault::Version(version.to_owned())).resource("/version")
}
