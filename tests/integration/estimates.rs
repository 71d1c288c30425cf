//! When nodes and pools will be updated: shown while they are, kept by whoever writes next, and learned from.

use anyhow::{Context, Result};
use kube::Api;
use kube::api::{Patch, PatchParams};
use node_insights::api::PoolProgressInsight;
use node_insights::api::node::{NodeProgressInsightStatus, TimelineEntry};
use node_insights::api::pool::PoolProgressInsightStatus;
use node_insights::api::types::{EstimateBasis, Phase};
use node_insights_harness::eventually;
use node_insights_harness::openshift::{Cluster, Pool};
use serde_json::json;

use crate::support::{Operator, SOON, World};

const OLD: &str = "4.19.14";
const NEW: &str = "4.20.3";
const NODE: &str = "worker-0";
const POOL: &str = "worker";
const LEASE: &[&str] = &["--lease", "node-insights/node-insights"];

async fn world() -> Result<World> {
    let cluster = Cluster::builder(OLD).pool(Pool::new(POOL, 2)).build()?;
    World::openshift(&cluster).await
}

/// Starts the update, and the drain of the first node.
async fn begin(world: &World) -> Result<String> {
    world.all_reported(2).await?;
    world.editor.start_update(NEW).await?;
    let config = world.editor.render(POOL, NEW).await?;
    world.node_reaches(NODE, Phase::Pending).await?;
    world.editor.begin_drain(NODE, &config).await?;
    Ok(config)
}

async fn complete(world: &World, config: &str) -> Result<NodeProgressInsightStatus> {
    world.editor.complete_node(NODE, config).await?;
    world.node_reaches(NODE, Phase::Completed).await
}

async fn drains(world: &World) -> Result<NodeProgressInsightStatus> {
    let is_estimated = |status: &NodeProgressInsightStatus| {
        status.phase == Phase::Draining && status.estimated_completion.is_some()
    };
    world
        .node_becomes(NODE, "draining, with an estimate", is_estimated)
        .await
}

async fn rolls(world: &World) -> Result<PoolProgressInsightStatus> {
    let is_estimated = |pool: &PoolProgressInsightStatus| {
        let in_progress = pool.rollout.as_ref().map(|rollout| rollout.in_progress);
        pool.estimated_completion.is_some() && in_progress == Some(1)
    };
    world
        .pool_becomes(POOL, "rolling, with an estimate", is_estimated)
        .await
}

#[tokio::test]
async fn a_node_and_its_pool_say_when_they_will_be_updated_until_they_are() -> Result<()> {
    let world = world().await?;
    let _operator = world.operator(&[]).await?;
    let config = begin(&world).await?;
    let (node, pool) = (drains(&world).await?, rolls(&world).await?);
    let (node, pool) = (
        node.estimated_completion.context("of the node")?,
        pool.estimated_completion.context("of the pool")?,
    );
    assert!(node.time <= node.latest && pool.time <= pool.latest);
    // Another node waits.
    assert!(node.time < pool.time, "{node:?} {pool:?}");
    assert_eq!(
        (node.basis, node.samples),
        (EstimateBasis::PlatformConstant, 0)
    );
    let row = world.plane.kubectl(&["get", "npi", NODE]).await?;
    let time = format!("{:.0}", node.time);
    assert!(row.contains("ETA") && row.contains(&time), "{row}");

    let updated = complete(&world, &config).await?;
    assert_eq!(updated.estimated_completion, None);
    let [.., drain, _] = &*updated.timeline else {
        panic!("{:?}", updated.timeline);
    };
    let TimelineEntry {
        phase,
        duration_seconds,
        usual_seconds,
        ..
    } = drain;
    assert_eq!(*phase, Phase::Draining);
    assert!(
        duration_seconds.is_some_and(|seconds| seconds < 60),
        "{drain:?}"
    );
    assert!(
        usual_seconds.is_some_and(|seconds| seconds > 0),
        "{drain:?}"
    );
    let has_learned = |pool: &PoolProgressInsightStatus| {
        pool.progress == "1/2" && pool.learned_durations.is_some()
    };
    world
        .pool_becomes(POOL, "1/2, and learned", has_learned)
        .await?;
    Ok(())
}

#[tokio::test]
async fn another_leader_shows_the_same_estimates_and_knows_the_same_durations() -> Result<()> {
    let world = world().await?;
    let first = world.operator(LEASE).await?;
    first.ready().await?;
    let second = world.account("second").await?;
    let second = Operator::start(&second, LEASE, world.plane.dir()).await?;
    second.ready().await?;
    let config = begin(&world).await?;
    drains(&world).await?;
    complete(&world, &config).await?;
    let has_learned = |pool: &PoolProgressInsightStatus| pool.learned_durations.is_some();
    let before = world.pool_becomes(POOL, "learned", has_learned).await?;
    assert!(first.stop().await?.success());
    eventually("the other replica leads", SOON, async || {
        let leads = second.metric("leader_election_master_status", &[]).await?;
        Ok((leads == 1).then_some(()))
    })
    .await?;
    // A write of the new leader.
    world.editor.set_paused(POOL, true).await?;
    let paused = |pool: &PoolProgressInsightStatus| pool.estimated_completion.is_none();
    let after = world.pool_becomes(POOL, "paused", paused).await?;
    assert_eq!(after.learned_durations, before.learned_durations);
    assert!(second.stop().await?.success());
    Ok(())
}

#[tokio::test]
async fn a_restart_keeps_estimates_and_a_damaged_summary_costs_nothing_but_what_was_learned()
-> Result<()> {
    let world = world().await?;
    let operator = world.operator(&[]).await?;
    begin(&world).await?;
    let (node, pool) = (drains(&world).await?, rolls(&world).await?);
    operator.kill().await?;
    let mark = world.plane.audit().mark()?;
    let operator = world.operator(&[]).await?;
    operator.ready().await?;
    assert_eq!(drains(&world).await?, node);
    assert_eq!(rolls(&world).await?, pool);
    assert_eq!(world.operator_writes(mark)?.len(), 0);
    operator.kill().await?;

    let api: Api<PoolProgressInsight> = Api::all(world.client.clone());
    let patch = json!({"status": {"learnedDurations": "eta1:100;0;AA,.:AAAAAA"}});
    let (params, patch) = (PatchParams::default(), Patch::Merge(&patch));
    api.patch_status(POOL, &params, &patch).await?;
    let operator = world.operator(&[]).await?;
    operator.ready().await?;
    rolls(&world).await?;
    let log = operator.log();
    let mut lines = log.iter().filter_map(|line| line["error"].as_str());
    assert!(lines.any(|error| error.contains("checksum")), "{log:#?}");
    Ok(())
}
