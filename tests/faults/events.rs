//! Watches that lie: duplicate, lost or reordered events, and stale lists. No error reveals them, so the full compare
//! has to find the differences.

use anyhow::{Context, Result, ensure};
use kube::api::DeleteParams;
use node_insights::api::types::Phase;
use node_insights_harness::eventually;
use node_insights_harness::fault_proxy::{Fault, Rule};

use crate::scene::{OFTEN, OLD, Scene, damage, settled, small};
use crate::snapshot::Snapshot;
use crate::support::{SOON, World, count};

const NODE: &str = "worker-0";

#[tokio::test]
async fn an_event_that_comes_twice_is_one_write() -> Result<()> {
    let mut scene = Scene::openshift(&small()?, &[]).await?;
    let rule = scene
        .proxy
        .add(Rule::new(Fault::Duplicate).verbs(&["watch"]));
    let mark = scene.world.plane.audit().mark()?;
    scene.world.editor.cordon(NODE, true).await?;
    scene.reported_as_available(NODE, "worker", false).await?;
    scene.settled().await?;
    ensure!(scene.proxy.hits(rule) > 0);
    let writes = scene.world.operator_writes(mark)?;
    let of_node = count(&writes, "update", "nodeprogressinsights", "status");
    ensure!(of_node == 1, "{writes:#?}");
    scene.a_fresh_operator_writes_nothing().await
}

#[tokio::test]
async fn changes_that_no_event_reported_are_found_by_the_next_compare() -> Result<()> {
    let mut scene = Scene::openshift(&small()?, &OFTEN).await?;
    let before = Snapshot::of(&scene.world).await?;
    let rule = scene.proxy.add(Rule::new(Fault::Drop).verbs(&["watch"]));
    let editor = &scene.world.editor;
    editor.cordon(NODE, true).await?;
    editor.delete_node("worker-1").await?;
    editor.add_node("late", "worker", OLD).await?;
    // A user edits an insight by hand.
    damage(&scene.world.client, "worker-2").await?;
    // While events are lost all the time.
    scene.reported_as_available(NODE, "worker", false).await?;
    let insights = scene.world.all_reported(5).await?;
    ensure!(insights.contains_key("late") && !insights.contains_key("worker-1"));
    let repaired = scene
        .world
        .node_reaches("worker-2", Phase::Completed)
        .await?;
    ensure!(
        Some(&repaired) == before.nodes["worker-2"].status.as_ref(),
        "{repaired:#?}"
    );
    ensure!(scene.proxy.hits(rule) >= 3);
    scene.proxy.heal();
    scene.compared_again().await?;
    scene.a_fresh_operator_writes_nothing().await
}

#[tokio::test]
async fn a_standby_that_missed_the_deletion_of_a_pool_forgets_it_after_the_next_relist()
-> Result<()> {
    let args = ["--lease", "node-insights/node-insights"];
    let world = World::openshift(&small()?).await?;
    let leader = world.operator(&args).await?;
    settled(&leader).await?;
    let standby = Scene::of(world, &[&OFTEN[..], &args].concat()).await?;
    standby.operator()?.ready().await?;
    let series = "pool=\"infra\"";
    let of_pool = async || {
        let (_, metrics) = standby.operator()?.get("/metrics").await?;
        let lines = metrics.lines();
        anyhow::Ok(lines.filter(|line| line.contains(series)).count())
    };
    ensure!(of_pool().await? > 0, "it has no series of infra");

    let silent = Rule::new(Fault::Drop).verbs(&["watch"]);
    let rule = standby.proxy.add(silent.resource("machineconfigpools"));
    let pools = standby.world.editor.pools();
    pools.delete("infra", &DeleteParams::default()).await?;
    eventually("the event is lost", SOON, async || {
        Ok((standby.proxy.hits(rule) > 0).then_some(()))
    })
    .await?;
    standby.proxy.heal();
    eventually("it has forgotten the pool", SOON, async || {
        Ok((of_pool().await? == 0).then_some(()))
    })
    .await
}

#[tokio::test]
async fn reordered_events_end_in_the_same_insights() -> Result<()> {
    let mut scene = Scene::openshift(&small()?, &OFTEN).await?;
    let before = Snapshot::of(&scene.world).await?;
    let swap = Rule::new(Fault::Swap).verbs(&["watch"]).chance(0.5);
    let rule = scene.proxy.add(swap);
    for round in 0..12 {
        let node = format!("worker-{}", round % 3);
        scene.world.editor.cordon(&node, true).await?;
        scene.world.editor.cordon(&node, false).await?;
    }
    scene.world.editor.cordon(NODE, true).await?;
    eventually("events are swapped", SOON, async || {
        Ok((scene.proxy.hits(rule) > 2).then_some(()))
    })
    .await?;
    scene.proxy.heal();
    scene.compared_again().await?;
    scene.reported_as_available(NODE, "worker", false).await?;
    let touched = [NODE, "worker-1", "worker-2", "worker"];
    before.is_preserved(&Snapshot::of(&scene.world).await?, &touched)?;
    scene.a_fresh_operator_writes_nothing().await
}

#[tokio::test]
async fn a_stale_list_is_corrected_by_the_next_one() -> Result<()> {
    let mut scene = Scene::openshift(&small()?, &OFTEN).await?;
    scene.proxy.record("nodes");
    eventually("a list is recorded", SOON, async || {
        Ok(scene.proxy.has_recorded("nodes").then_some(()))
    })
    .await?;
    scene.world.editor.cordon(NODE, true).await?;
    scene.reported_as_available(NODE, "worker", false).await?;
    let before = Snapshot::of(&scene.world).await?;
    let replay = Rule::new(Fault::Replay).verbs(&["list"]).resource("nodes");
    let rule = scene.proxy.add(replay.times(2));
    eventually("old lists are read", SOON, async || {
        Ok((scene.proxy.hits(rule) == 2).then_some(()))
    })
    .await?;
    scene.compared_again().await?;
    scene
        .reported_as_available(NODE, "worker", false)
        .await
        .context("after old lists")?;
    before.is_preserved(&Snapshot::of(&scene.world).await?, &[NODE, "worker"])?;
    scene.a_fresh_operator_writes_nothing().await
}
