//! SIGKILL after every single write, each time before the operator receives the response.

use std::collections::BTreeMap;
use std::future::Future;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::events::v1::Event;
use kube::Api;
use kube::api::ListParams;
use node_insights::api::types::Phase;
use node_insights_harness::eventually;

use crate::scene::{NEW, Scene, small};
use crate::snapshot::Snapshot;
use crate::support::{SOON, World};

const INSIGHTS: [&str; 2] = ["nodeprogressinsights", "poolprogressinsights"];
const NODE: &str = "worker-0";
/// More writes than any step of the scenario has: the operator would write forever.
const TOO_MANY: usize = 60;

#[tokio::test]
async fn killed_after_every_single_write_the_operator_writes_each_insight_once_and_recreates_none()
-> Result<()> {
    let mut scene = Scene::idle(World::openshift(&small()?).await?, &[]).await?;
    let editor = scene.world.editor.clone();
    step(&mut scene, "the first start", async { Ok(()) }).await?;
    step(&mut scene, "the start of an update", async {
        editor.start_update(NEW).await?;
        editor.render("worker", NEW).await.map(|_| ())
    })
    .await?;
    for phase in [Phase::Draining, Phase::Updating, Phase::Completed] {
        step(&mut scene, phase.as_str(), advance(&editor, phase)).await?;
    }
    step(&mut scene, "one node for another", async {
        editor.delete_node("worker-2").await?;
        editor.add_node("late", "worker", NEW).await
    })
    .await?;
    scene.start().await?;
    scene.settled().await?;
    scene.world.node_reaches(NODE, Phase::Completed).await?;
    scene.a_fresh_operator_writes_nothing().await
}

#[tokio::test]
async fn every_step_of_an_update_is_recorded_as_one_event_even_after_kills() -> Result<()> {
    let mut scene = Scene::idle(World::openshift(&small()?).await?, &[]).await?;
    let editor = scene.world.editor.clone();
    step(&mut scene, "the first start", async { Ok(()) }).await?;
    step(&mut scene, "the start of an update", async {
        editor.start_update(NEW).await?;
        editor.render("worker", NEW).await.map(|_| ())
    })
    .await?;
    for phase in [Phase::Draining, Phase::Updating, Phase::Completed] {
        step(&mut scene, phase.as_str(), advance(&editor, phase)).await?;
    }
    scene.start().await?;
    scene.settled().await?;
    let wanted = ["DrainStarted", "UpdateCompleted", "UpdateStarted"];
    let reasons = eventually("every step has its Event", SOON, async || {
        let reasons = event_reasons(&scene.world).await?;
        ensure!(reasons.len() >= wanted.len(), "only {reasons:?}");
        Ok(Some(reasons))
    })
    .await?;
    ensure!(reasons == wanted, "{reasons:?}");
    // A restart records no Event again.
    scene.a_fresh_operator_writes_nothing().await?;
    ensure!(event_reasons(&scene.world).await? == wanted);
    Ok(())
}

/// Makes a change, and runs operators until all of it is written, each of which is killed after one write of an
/// insight. Every insight that changed was written exactly once.
async fn step(
    scene: &mut Scene,
    name: &str,
    change: impl Future<Output = Result<()>>,
) -> Result<()> {
    let before = Snapshot::of(&scene.world).await?;
    let mark = scene.world.plane.audit().mark()?;
    change.await.with_context(|| format!("making {name}"))?;
    one_by_one(scene)
        .await
        .with_context(|| format!("at {name}"))?;
    let after = Snapshot::of(&scene.world).await?;
    let expected = writes_between(&before.nodes, &after.nodes, |insight| &insight.metadata)
        + writes_between(&before.pools, &after.pools, |insight| &insight.metadata);
    let writes = scene.world.operator_writes(mark)?;
    let writes: Vec<_> = writes
        .iter()
        .filter(|write| INSIGHTS.contains(&write.resource.as_str()))
        .map(|write| format!("{} {} {}", write.verb, write.resource, write.name))
        .collect();
    ensure!(
        writes.len() == expected,
        "not {expected} writes at {name}: {writes:#?}"
    );
    Ok(())
}

async fn one_by_one(scene: &mut Scene) -> Result<()> {
    for _ in 0..TOO_MANY {
        scene.proxy.allow_writes(1, &INSIGHTS);
        scene.start().await?;
        let is_done = tokio::select! {
            () = scene.proxy.writes_spent() => false,
            settled = scene.settled() => { settled?; true }
        };
        scene.kill().await?;
        scene.proxy.cut_connections();
        if is_done {
            scene.proxy.allow_all_writes();
            return Ok(());
        }
    }
    anyhow::bail!("still not settled after {TOO_MANY} writes")
}

/// How many writes lead from one to the other: two create an insight, one changes or deletes it.
fn writes_between<I>(
    before: &BTreeMap<String, I>,
    after: &BTreeMap<String, I>,
    metadata: impl Fn(&I) -> &kube::api::ObjectMeta,
) -> usize {
    let of = |insight: &I| {
        let metadata = metadata(insight);
        (metadata.uid.clone(), metadata.resource_version.clone())
    };
    let made = after.iter().map(|(name, new)| match before.get(name) {
        Some(old) if of(old).0 == of(new).0 => usize::from(of(old).1 != of(new).1),
        Some(_) => 3,
        None => 2,
    });
    let gone = before.keys().filter(|name| !after.contains_key(*name));
    made.sum::<usize>() + gone.count()
}

/// Takes the first worker to the next step of its update.
async fn advance(editor: &node_insights_harness::openshift::Editor, phase: Phase) -> Result<()> {
    let config = editor.pool_configuration("worker").await?;
    match phase {
        Phase::Draining => editor.begin_drain(NODE, &config).await,
        Phase::Updating => {
            let drain = format!("drain-{config}");
            editor
                .annotate(NODE, &[("lastAppliedDrain", Some(&*drain))])
                .await
        }
        _ => editor.complete_node(NODE, &config).await,
    }
}

/// The reasons of the Events about the node, sorted.
async fn event_reasons(world: &World) -> Result<Vec<String>> {
    let api: Api<Event> = Api::namespaced(world.client.clone(), "default");
    let events = api.list(&ListParams::default()).await?.items;
    let mut reasons: Vec<String> = events
        .into_iter()
        .filter(|event| {
            let regarding = event.regarding.as_ref();
            regarding.and_then(|about| about.name.as_deref()) == Some(NODE)
        })
        .filter_map(|event| event.reason)
        .collect();
    reasons.sort();
    Ok(reasons)
}
