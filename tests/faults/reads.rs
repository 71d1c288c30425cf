//! Lists and watches of one kind fail: everything that does not need that kind continues, and missed changes are
//! found afterwards.

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
/// A connection without data for 75 s is considered dead; the slack is for a busy machine.
const DEAD_AFTER: Duration = Duration::from_secs(100);

/// Faults of every list and watch of the kind, once its watch was cut.
const REQUEST_FAULTS: [(&str, Fault); 11] = [
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
    ("invalid JSON", Fault::Garble),
];

/// Faults of the next event of the watch.
const EVENT_FAULTS: [(&str, Fault); 4] = [
    ("410 in the watch", Fault::Expire),
    ("an event that ends early", Fault::Truncate),
    ("an event that is not JSON", Fault::Garble),
    ("a slow connection", Fault::Throttle(2000)),
];

#[tokio::test]
async fn while_one_kind_cannot_be_read_nodes_are_reported_and_missed_changes_follow() -> Result<()>
{
    let mut scene = updating().await?;
    let mut is_paused = false;
    for (name, fault) in REQUEST_FAULTS {
        is_paused = !is_paused;
        let rule = Rule::new(fault).reads().resource(KIND);
        inject(&mut scene, rule, true, is_paused)
            .await
            .with_context(|| format!("under {name}"))?;
    }
    Ok(())
}

#[tokio::test]
async fn an_event_that_breaks_a_watch_is_not_lost() -> Result<()> {
    let mut scene = updating().await?;
    let mut is_paused = false;
    for (name, fault) in EVENT_FAULTS {
        is_paused = !is_paused;
        let rule = Rule::new(fault).verbs(&["watch"]).resource(KIND).times(1);
        inject(&mut scene, rule, false, is_paused)
            .await
            .with_context(|| format!("under {name}"))?;
    }
    Ok(())
}

#[tokio::test]
async fn a_watch_that_is_never_answered_times_out_and_holds_up_nothing_else() -> Result<()> {
    let mut scene = updating().await?;
    let rule = Rule::new(Fault::Hang).reads().resource(KIND);
    let rule = scene.proxy.add(rule);
    scene.proxy.cut_watches(KIND);
    scene.world.editor.set_paused("worker", true).await?;
    eventually("the fault hits", SOON, async || {
        Ok((scene.proxy.hits(rule) > 0).then_some(()))
    })
    .await?;
    others_continue(&scene, true).await?;
    scene.proxy.remove(rule);
    let paused = async {
        loop {
            // A single wait may be shorter than the timeout of the watch.
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

/// A cluster whose workers have a pending update, so that their phase shows whether the pool is paused.
async fn updating() -> Result<Scene> {
    let scene = Scene::openshift(&small()?, &[]).await?;
    scene.world.editor.start_update(NEW).await?;
    scene.world.editor.render("worker", NEW).await?;
    // A pool is written at most once a second; after this nothing more is written.
    for (pool, progress) in [("master", "0/1"), ("worker", "0/3"), ("infra", "0/1")] {
        let is_reached = |status: &PoolProgressInsightStatus| status.progress == progress;
        scene.world.pool_becomes(pool, progress, is_reached).await?;
    }
    scene.world.node_reaches("worker-0", Phase::Pending).await?;
    scene.settled().await?;
    Ok(scene)
}

async fn inject(scene: &mut Scene, rule: Rule, cut: bool, pause: bool) -> Result<()> {
    let before = Snapshot::of(&scene.world).await?;
    let rule = scene.proxy.add(rule);
    if cut {
        scene.proxy.cut_watches(KIND);
    }
    scene.world.editor.set_paused("worker", pause).await?;
    eventually("the fault hits", SOON, async || {
        Ok((scene.proxy.hits(rule) > 0).then_some(()))
    })
    .await?;
    others_continue(scene, pause).await?;
    ensure!(scene.proxy.remove(rule) > 0);
    let phase = if pause { Phase::Paused } else { Phase::Pending };
    for node in ["worker-0", "worker-1", "worker-2"] {
        scene.world.node_reaches(node, phase).await?;
    }
    scene.settled().await?;
    before.is_preserved(&Snapshot::of(&scene.world).await?, &TOUCHED)?;
    scene.a_fresh_operator_writes_nothing().await
}

/// Changes a node of another pool, and waits until that is reported.
async fn others_continue(scene: &Scene, cordon: bool) -> Result<()> {
    scene.world.editor.cordon("infra-0", cordon).await?;
    scene
        .reported_as_available("infra-0", "infra", !cordon)
        .await?;
    scene.is_alive().await
}
