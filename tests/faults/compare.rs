//! The full compare while a kind cannot be read, or its watch keeps failing: everything that does not need that kind
//! is compared and repaired on schedule.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use node_insights::api::types::Phase;
use node_insights_harness::eventually;
use node_insights_harness::fault_proxy::{Fault, Rule};

use crate::scene::{Scene, damage, small};
use crate::support::SOON;

/// The kind that fails.
const KIND: &str = "machineconfigs";
const NODE: &str = "worker-0";
const INTERVAL: [&str; 2] = ["--sync-interval", "6s"];
/// The interval, 10 % jitter, the second for which an event may be late, and slack for a busy machine.
const REPAIRED_WITHIN: Duration = Duration::from_secs(20);
/// Less than the interval: if each failure triggered a compare, the due one would never run.
const FAILS_EVERY: Duration = Duration::from_millis(1500);

#[tokio::test]
async fn while_a_watch_keeps_failing_the_due_compare_repairs_what_no_event_reported() -> Result<()>
{
    let mut scene = damaged().await?;
    let fails = async {
        loop {
            let error = Rule::new(Fault::status(500, None))
                .verbs(&["watch"])
                .resource(KIND);
            scene.proxy.add(error.times(1));
            scene.proxy.cut_watches(KIND);
            tokio::time::sleep(FAILS_EVERY).await;
        }
    };
    let repaired = tokio::time::timeout(REPAIRED_WITHIN, repaired(&scene));
    tokio::select! {
        () = fails => {}
        repaired = repaired => repaired.context("not repaired by the due compare")??,
    }
    scene.proxy.heal();
    scene.compared_again().await?;
    scene.a_fresh_operator_writes_nothing().await
}

#[tokio::test]
async fn without_the_permission_for_one_kind_it_is_reported_and_the_others_are_compared_and_repaired()
-> Result<()> {
    let mut scene = damaged().await?;
    scene
        .proxy
        .add(Rule::new(Fault::status(403, None)).reads().resource(KIND));
    scene.proxy.cut_watches(KIND);
    let why = scene.operator()?.says_why(KIND).await?;
    ensure!(why.contains("may not list and watch"), "{why}");
    tokio::time::timeout(REPAIRED_WITHIN, repaired(&scene))
        .await
        .context("not repaired by the due compare")??;
    scene.proxy.heal();
    scene.compared_again().await?;
    scene.a_fresh_operator_writes_nothing().await
}

/// An insight is edited by hand, and no watch event reports it.
async fn damaged() -> Result<Scene> {
    let scene = Scene::openshift(&small()?, &INTERVAL).await?;
    let silent = Rule::new(Fault::Drop).verbs(&["watch"]);
    let silent = scene.proxy.add(silent.resource("nodeprogressinsights"));
    damage(&scene.world.client, NODE).await?;
    eventually("the event is lost", SOON, async || {
        Ok((scene.proxy.hits(silent) > 0).then_some(()))
    })
    .await?;
    Ok(scene)
}

async fn repaired(scene: &Scene) -> Result<()> {
    scene
        .world
        .node_reaches(NODE, Phase::Completed)
        .await
        .map(|_| ())
}
