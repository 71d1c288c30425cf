//! What happens to nodes, and to the operator itself, is recorded as Events: once each, and at a rate that a cluster
//! can take.

use std::time::Instant;

use anyhow::Result;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::events::v1::Event;
use kube::Api;
use kube::api::ListParams;
use node_insights::api::types::{ConditionStatus, Phase};
use node_insights_harness::openshift::{Cluster, Pool};
use node_insights_harness::{eventually, kubernetes};

use crate::support::{OPERATOR_USER, SOON, World, condition, count};

const OLD: &str = "4.19.14";
const NEW: &str = "4.20.3";
const NODE: &str = "worker-0";
const CONTROLLER: &str = "nodeinsights.dev/node-insights";

async fn world() -> Result<World> {
    let cluster = Cluster::builder(OLD).pool(Pool::new("worker", 2)).build()?;
    World::openshift(&cluster).await
}

/// The Events of a namespace, each with its type, its reason and its object.
async fn events(world: &World, namespace: &str) -> Result<Vec<(String, Event)>> {
    let api: Api<Event> = Api::namespaced(world.client.clone(), namespace);
    let events = api.list(&ListParams::default()).await?.items;
    let about = |event: &Event| {
        let regarding = event.regarding.clone().unwrap_or_default();
        let (kind, name) = (regarding.kind, regarding.name);
        format!(
            "{} {} {} {}",
            event.type_.clone().unwrap_or_default(),
            event.reason.clone().unwrap_or_default(),
            kind.unwrap_or_default(),
            name.unwrap_or_default()
        )
    };
    Ok(events
        .into_iter()
        .map(|event| (about(&event), event))
        .collect())
}

/// Waits for an Event whose type, reason and object begin with `text`.
pub async fn event(world: &World, namespace: &str, text: &str) -> Result<Event> {
    eventually(text, SOON, async || {
        let events = events(world, namespace).await?;
        let found = events.iter().find(|(about, _)| about.starts_with(text));
        match found {
            Some((_, event)) => Ok(Some(event.clone())),
            None => anyhow::bail!(
                "{:?}",
                events.iter().map(|(about, _)| about).collect::<Vec<_>>()
            ),
        }
    })
    .await
}

/// Starts an update of the cluster; the configuration that workers get.
async fn start_update(world: &World) -> Result<String> {
    world.editor.start_update(NEW).await?;
    world.editor.render("worker", NEW).await
}

#[tokio::test]
async fn each_step_of_an_update_is_recorded_as_one_event_even_after_a_restart() -> Result<()> {
    let world = world().await?;
    let operator = world.operator(&[]).await?;
    world.all_reported(2).await?;
    let config = start_update(&world).await?;
    world.node_reaches(NODE, Phase::Pending).await?;
    world.editor.begin_drain(NODE, &config).await?;
    world.node_reaches(NODE, Phase::Draining).await?;
    event(&world, "default", "Normal DrainStarted").await?;

    // Another process continues where this one ended.
    operator.kill().await?;
    let operator = world.operator(&[]).await?;
    operator.ready().await?;
    world
        .editor
        .set_state(NODE, "Degraded", "disk is full")
        .await?;
    let degraded = event(&world, "default", "Warning NodeDegraded").await?;
    assert!(degraded.note.unwrap_or_default().contains("disk is full"));
    world.editor.complete_node(NODE, &config).await?;
    let completed = event(&world, "default", "Normal UpdateCompleted").await?;

    let insight = world
        .node_insight(NODE)
        .await?
        .unwrap_or_else(|| panic!("no insight"));
    let regarding = completed.regarding.unwrap_or_default();
    assert_eq!(regarding.uid, insight.metadata.uid);
    let related = completed.related.unwrap_or_default();
    assert_eq!(related.kind.as_deref(), Some("Node"));
    assert_eq!(related.name.as_deref(), Some(NODE));
    let mut recorded: Vec<String> = events(&world, "default")
        .await?
        .into_iter()
        .filter(|(_, event)| event.reporting_controller.as_deref() == Some(CONTROLLER))
        .map(|(about, _)| about)
        .collect();
    // Times are whole seconds, and several Events fall into one.
    recorded.sort();
    let about = |text: &str| format!("{text} NodeProgressInsight {NODE}");
    let once = [
        about("Normal DrainStarted"),
        about("Normal UpdateCompleted"),
        about("Normal UpdateStarted"),
        about("Warning NodeDegraded"),
    ];
    assert_eq!(recorded, once);
    // `kubectl describe` shows them.
    let output = world.plane.kubectl(&["describe", "npi", NODE]).await?;
    assert!(output.contains("UpdateCompleted"), "{output}");
    assert!(operator.stop().await?.success());
    Ok(())
}

#[tokio::test]
async fn a_cluster_that_is_seen_for_the_first_time_gets_no_events() -> Result<()> {
    let world = world().await?;
    start_update(&world).await?;
    world
        .editor
        .set_state(NODE, "Degraded", "disk is full")
        .await?;
    let operator = world.operator(&[]).await?;
    world.all_reported(2).await?;
    // Events follow the insights in order: once this one is there, there was none before it.
    world
        .editor
        .set_state("worker-1", "Degraded", "no disk")
        .await?;
    event(
        &world,
        "default",
        "Warning NodeDegraded NodeProgressInsight worker-1",
    )
    .await?;
    let all = events(&world, "default").await?;
    let of_first = all.iter().filter(|(about, _)| about.ends_with(NODE));
    assert_eq!(of_first.count(), 0, "{all:#?}");
    assert!(operator.stop().await?.success());
    Ok(())
}

#[tokio::test]
async fn events_are_rate_limited_and_do_not_delay_the_insights() -> Result<()> {
    const NODES: usize = 320;
    let world = World::empty().await?;
    kubernetes::Cluster::builder("v1.35.0")
        .control_plane(0)
        .pool("blue", NODES)
        .build()?
        .load(&world.client)
        .await?;
    let operator = world.operator(&[]).await?;
    world.all_reported(NODES).await?;
    operator.ready().await?;
    let mark = world.plane.audit().mark()?;
    let started = Instant::now();
    let names = kubernetes::numbered("blue", NODES);
    let cordons = names.iter().map(|name| world.editor.cordon(name, true));
    stream::iter(cordons)
        .buffer_unordered(8)
        .try_collect::<()>()
        .await?;
    eventually("every insight shows it", SOON, async || {
        let insights = world.node_insights().await?;
        let draining = insights.values().filter(|insight| {
            let status = insight.status.as_ref();
            status.is_some_and(|status| status.phase == Phase::Draining)
        });
        Ok((draining.count() == NODES).then_some(()))
    })
    .await?;
    let dropped = ["outcome=\"dropped\""];
    let dropped = operator
        .metric("node_insights_events_total", &dropped)
        .await?;
    // An operator that stops sends as many pending Events as the rate allows; without a limit, that would be all.
    assert!(operator.stop().await?.success());
    let log = world.operator_writes(mark)?;
    let seconds = started.elapsed().as_secs();
    let created = count(&log, "create", "events", "");
    // Two Events per node, its update and its drain: 640. At most 50 in any 25 s, and 250 pending.
    let most = 50 * (1 + usize::try_from(seconds)? / 25 + 1);
    assert!((50..=most).contains(&created), "{created} in {seconds} s");
    assert!(
        dropped >= 640 - 250 - u64::try_from(most)?,
        "{dropped} dropped"
    );

    // After a restart the operator records missing Events, without delaying new ones.
    let operator = world.operator(&[]).await?;
    operator.ready().await?;
    let nodes = kubernetes::Nodes::new(world.client.clone());
    nodes.boot(&names[0], "v1.36.3", "Debian").await?;
    nodes.become_ready(&names[0]).await?;
    world.editor.cordon(&names[0], false).await?;
    let text = format!("Normal UpdateCompleted NodeProgressInsight {}", names[0]);
    event(&world, "default", &text).await?;
    let of_start = operator.metric("node_insights_events_total", &[]).await?;
    assert!(
        (51..=60).contains(&of_start),
        "{of_start} Events after the start"
    );
    Ok(())
}

#[tokio::test]
async fn the_leader_is_recorded_as_an_event_on_the_lease() -> Result<()> {
    let world = world().await?;
    let operator = world
        .operator(&["--lease", "node-insights/node-insights"])
        .await?;
    operator.ready().await?;
    let event = event(
        &world,
        "node-insights",
        "Normal LeaderElection Lease node-insights",
    )
    .await?;
    assert!(event.note.unwrap_or_default().ends_with(" became leader"));
    assert!(operator.stop().await?.success());
    Ok(())
}

#[tokio::test]
async fn with_events_disabled_none_is_written_and_everything_else_is() -> Result<()> {
    let world = world().await?;
    let mark = world.plane.audit().mark()?;
    let operator = world.operator(&["--enable-events=false"]).await?;
    world.all_reported(2).await?;
    world
        .editor
        .set_state(NODE, "Degraded", "disk is full")
        .await?;
    world
        .node_becomes(NODE, "degraded", |status| {
            condition(&status.conditions, "Degraded").status == ConditionStatus::True
        })
        .await?;
    assert!(operator.stop().await?.success());
    let requests = world.plane.audit().since(mark)?;
    let of_operator = requests.iter().filter(|entry| entry.user == OPERATOR_USER);
    assert_eq!(
        of_operator
            .filter(|entry| entry.resource == "events")
            .count(),
        0
    );
    Ok(())
}
