//! Lists and watches of one kind that fail: everything that does not need it goes on, and afterwards what was
//! missed is known.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use node_insights::api::PoolProgressInsightStatus;
use node_insights::api::types::Phase;
use node_insights_harness::eventually;
use node_insights_harness::fault_proxy::{Fault, Rule};

use crate::scene::{NEW, Scene, small};
use crate::snapshot::Snapshot;
use crate::support::SOON;

const KIND: &str = "machineconfigpools";
const TOUCHED: [&str; 6] = [
    "worker-0", "worker-1", "worker-2", "worker", "infra-0", "infra",
];
/// A connection on which nothing is heard for 75 s is dead; the slack is for a busy machine.
const DEAD_AFTER: Duration = Duration::from_secs(100);

/// What happens to every list and watch of the kind, once its watch was cut.
const REFUSED: [(&str, Fault); 11] = [
    ("403", Fault::status(403, None)),
    ("410", Fault::status(410, None)),
    ("429 without Retry-After", Fault::status(429, None)),
    ("429 with Retry-After", Fault::status(429, Some(1))),
    ("500", Fault::status(500, None)),
    ("503", Fault::status(503, None)),
    ("504", Fault::status(504, None)),
    ("a connection that is cut", Fault::Cut),
    ("a slow API server", Fault::Delay(Duration::from_secs(1))),
    ("JSON that ends early", Fault::Truncate),
    ("what is no JSON", Fault::Garble),
];

/// What happens to the next event of the watch.
const BROKEN: [(&str, Fault); 4] = [
    ("410 in the watch", Fault::Expire),
    ("an event that ends early", Fault::Truncate),
    ("an event that is no JSON", Fault::Garble),
    ("a slow line", Fault::Throttle(2000)),
];

#[tokio::test]
async fn while_one_kind_cannot_be_read_nodes_are_reported_and_afterwards_what_was_missed_is()
-> Result<()> {
    let mut scene = updating().await?;
    let mut is_paused = false;
    for (name, fault) in REFUSED {
        is_paused = !is_paused;
        let rule = Rule::new(fault).reads().resource(KIND);
        strike(&mut scene, rule, true, is_paused)
            .await
            .with_context(|| format!("under {name}"))?;
    }
    Ok(())
}

#[tokio::test]
async fn an_event_that_breaks_a_watch_is_not_lost() -> Result<()> {
    let mut scene = updating().await?;
    let mut is_paused = false;
    for (name, fault) in BROKEN {
        is_paused = !is_paused;
        let rule = Rule::new(fault).verbs(&["watch"]).resource(KIND).times(1);
        strike(&mut scene, rule, false, is_paused)
            .await
            .with_context(|| format!("under {name}"))?;
    }
    Ok(())
}

#[tokio::test]
async fn a_watch_that_is_never_answered_is_given_up_and_holds_up_nothing_else() -> Result<()> {
    let mut scene = updating().await?;
    let rule = Rule::new(Fault::Hang).reads().resource(KIND);
    let rule = scene.proxy.add(rule);
    scene.proxy.cut_watches(KIND);
    scene.world.editor.set_paused("worker", true).await?;
    eventually("the fault strikes", SOON, async || {
        Ok((scene.proxy.hits(rule) > 0).then_some(()))
    })
    .await?;
    goes_on(&scene, true).await?;
    scene.proxy.remove(rule);
    let paused = async {
        loop {
            // Each waits less long than this may take.
            if scene
                .world
                .node_reaches("worker-0", Phase::Paused)
                .await
                .is_ok()
            {
                break;
            }
        }
    };
    tokio::time::timeout(DEAD_AFTER, paused).await?;
    scene.a_fresh_operator_writes_nothing().await
}

/// A cluster whose workers are to be updated, so that it shows whether their pool is paused.
async fn updating() -> Result<Scene> {
    let scene = Scene::openshift(&small()?, &[]).await?;
    scene.world.editor.start_update(NEW).await?;
    scene.world.editor.render("worker", NEW).await?;
    // A pool rests for a second between two writes; nothing is written after this.
    for (pool, progress) in [("master", "0/1"), ("worker", "0/3"), ("infra", "0/1")] {
        let is_so = |status: &PoolProgressInsightStatus| status.progress == progress;
        scene.world.pool_becomes(pool, progress, is_so).await?;
    }
    scene.world.node_reaches("worker-0", Phase::Pending).await?;
    scene.settled().await?;
    Ok(scene)
}

async fn strike(scene: &mut Scene, rule: Rule, cut: bool, pause: bool) -> Result<()> {
    let before = Snapshot::of(&scene.world).await?;
    let rule = scene.proxy.add(rule);
    if cut {
        scene.proxy.cut_watches(KIND);
    }
    scene.world.editor.set_paused("worker", pause).await?;
    eventually("the fault strikes", SOON, async || {
        Ok((scene.proxy.hits(rule) > 0).then_some(()))
    })
    .await?;
    goes_on(scene, pause).await?;
    ensure!(scene.proxy.remove(rule) > 0);
    let phase = if pause { Phase::Paused } else { Phase::Pending };
    for node in ["worker-0", "worker-1", "worker-2"] {
        scene.world.node_reaches(node, phase).await?;
    }
    scene.settled().await?;
    before.is_kept(&Snapshot::of(&scene.world).await?, &TOUCHED)?;
    scene.a_fresh_operator_writes_nothing().await
}

/// A node of another pool changes, and that is reported.
async fn goes_on(scene: &Scene, cordon: bool) -> Result<()> {
    scene.world.editor.cordon("infra-0", cordon).await?;
    scene
        .reported_as_available("infra-0", "infra", !cordon)
        .await?;
    scene.is_alive().await
}
