//! Nodes of k3s that the system-upgrade-controller updates by Plans.

use anyhow::Result;
use node_insights::api::NodeProgressInsightStatus;
use node_insights::api::types::{
    ConditionStatus, CordonerKind, DesiredVersionSource, Phase, ProviderName, UpdateKind,
};
use node_insights_harness::kubernetes::Pace;
use node_insights_harness::plans::{Plan, Plans, install};
use serde_json::json;

use crate::support::{World, condition, published_crds};

const OLD: &str = "v1.35.4+k3s1";
const NEW: &str = "v1.36.3+k3s1";

/// Two agents of k3s.
async fn agents(world: &World) -> Result<Plans> {
    let plans = Plans::new(&world.client);
    for name in ["agent-0", "agent-1"] {
        plans.agent(name, OLD).await?;
    }
    Ok(plans)
}

fn overlays(node: &NodeProgressInsightStatus) -> Vec<&str> {
    node.overlays.iter().map(ProviderName::as_str).collect()
}

/// Waits until the Updating condition of a node has this reason.
async fn reason(world: &World, node: &str, reason: &str) -> Result<NodeProgressInsightStatus> {
    let has_reason =
        |node: &NodeProgressInsightStatus| condition(&node.conditions, "Updating").reason == reason;
    world.node_becomes(node, reason, has_reason).await
}

/// Waits until a node waits for its turn in a Plan.
async fn waits_for_a_plan(world: &World, node: &str) -> Result<NodeProgressInsightStatus> {
    let waits = |node: &NodeProgressInsightStatus| {
        node.phase == Phase::Pending && overlays(node) == ["system-upgrade-controller"]
    };
    world.node_becomes(node, "waits for a Plan", waits).await
}

#[tokio::test]
async fn a_plan_updates_its_nodes_step_by_step_and_the_insight_names_the_controller() -> Result<()>
{
    let world = World::empty().await?;
    install(&world.client).await?;
    let plans = agents(&world).await?;
    let operator = world.operator(&[]).await?;
    operator.ready().await?;
    let before = world.node_reaches("agent-0", Phase::Pending).await?;
    assert_eq!(before.provider.as_str(), "k3s");
    assert!(before.overlays.is_empty());

    let plan = Plan::new("agent-plan", NEW);
    plans.create(&plan).await?;
    let pending = waits_for_a_plan(&world, "agent-0").await?;
    assert_eq!(pending.update_kind, Some(UpdateKind::Version));
    assert_eq!(pending.desired_version.as_deref(), Some(NEW));
    let source = pending.desired_version_source;
    assert_eq!(source, Some(DesiredVersionSource::Provider));

    plans.create_job(&plan, "agent-0").await?;
    let paused = reason(&world, "agent-0", "JobPaused").await?;
    assert_eq!(paused.phase, Phase::Pending);
    plans.start_job(&plan, "agent-0").await?;
    world.node_reaches("agent-0", Phase::Updating).await?;
    plans.cordon("agent-0").await?;
    let draining = world.node_reaches("agent-0", Phase::Draining).await?;
    let cordon = draining.cordoned_by.unwrap();
    assert_eq!(
        (cordon.kind, cordon.foreign),
        (CordonerKind::Updater, false)
    );
    assert_eq!(cordon.name.as_deref(), Some("system-upgrade-controller"));
    plans.upgrade(&plan, "agent-0").await?;
    let updating = world.node_reaches("agent-0", Phase::Updating).await?;
    assert_eq!(updating.update_kind, Some(UpdateKind::Version));
    assert_eq!(updating.version.as_deref(), Some(NEW));
    plans.complete_job(&plan, "agent-0").await?;
    let complete = reason(&world, "agent-0", "PostCompleteDelay").await?;
    assert_eq!(complete.phase, Phase::Updating);
    plans.label(&plan, "agent-0").await?;
    let done = world.node_reaches("agent-0", Phase::Completed).await?;
    assert!(done.overlays.is_empty());
    // The other one has not had its turn.
    let other = waits_for_a_plan(&world, "agent-1").await?;
    assert_eq!(other.timeline.len(), 1);

    plans.play(&plan, &["agent-1"], Pace::TEST).await?;
    world.node_reaches("agent-1", Phase::Completed).await?;
    Ok(())
}

#[tokio::test]
async fn a_failed_job_makes_its_node_degraded_until_the_plan_is_edited() -> Result<()> {
    let world = World::empty().await?;
    install(&world.client).await?;
    let plans = agents(&world).await?;
    let operator = world.operator(&[]).await?;
    operator.ready().await?;
    let plan = Plan::new("agent-plan", NEW);
    plans.create(&plan).await?;
    plans.create_job(&plan, "agent-0").await?;
    plans.start_job(&plan, "agent-0").await?;
    world.node_reaches("agent-0", Phase::Updating).await?;
    let why = "Job has reached the specified backoff limit";
    plans
        .fail_job(&plan, "agent-0", "BackoffLimitExceeded", why)
        .await?;
    let failed = reason(&world, "agent-0", "JobFailed").await?;
    let degraded = condition(&failed.conditions, "Degraded");
    assert_eq!(degraded.status, ConditionStatus::True);
    assert!(degraded.message.contains(why), "{}", degraded.message);
    // Without the Job, the Plan still has the reason.
    plans.delete_job(&plan, "agent-0").await?;
    let by_plan = world
        .node_becomes("agent-0", "degraded by the Plan", |node| {
            let message = &condition(&node.conditions, "Degraded").message;
            message.starts_with("Plan system-upgrade/agent-plan")
        })
        .await?;
    assert_eq!(by_plan.phase, Phase::Updating);
    let waiting = waits_for_a_plan(&world, "agent-1").await?;
    let other = condition(&waiting.conditions, "Degraded");
    assert_eq!(other.status, ConditionStatus::False);
    let updating = condition(&waiting.conditions, "Updating");
    assert!(updating.message.contains("agent-0"), "{}", updating.message);

    plans.resolve(&plan.edited()).await?;
    let again = waits_for_a_plan(&world, "agent-0").await?;
    let degraded = condition(&again.conditions, "Degraded");
    assert_eq!(degraded.status, ConditionStatus::False);
    Ok(())
}

#[tokio::test]
async fn what_the_published_crd_accepts_is_evaluated_the_same() -> Result<()> {
    let Some(folder) = published_crds("system-upgrade-controller") else {
        return Ok(());
    };
    let world = World::empty().await?;
    world.plane.apply_dir(&folder).await?;
    let plans = agents(&world).await?;
    let operator = world.operator(&[]).await?;
    operator.ready().await?;
    let plan = Plan::new("agent-plan", NEW);
    plans.create(&plan).await?;
    waits_for_a_plan(&world, "agent-0").await?;
    plans.edit(&plan, json!({"concurrency": 0})).await?;
    let paused = reason(&world, "agent-0", "ConcurrencyZero").await?;
    assert_eq!(paused.phase, Phase::Paused);
    let window = json!({"days": ["sunday"], "startTime": "02:00", "endTime": "04:00"});
    plans
        .edit(&plan, json!({"concurrency": 1, "window": window}))
        .await?;
    plans
        .condition(&plan, "Complete", "False", "Waiting", "outside the window")
        .await?;
    reason(&world, "agent-0", "OutsideWindow").await?;
    plans.create_job(&plan, "agent-0").await?;
    plans.start_job(&plan, "agent-0").await?;
    plans.cordon("agent-0").await?;
    world.node_reaches("agent-0", Phase::Draining).await?;
    plans.upgrade(&plan, "agent-0").await?;
    plans.complete_job(&plan, "agent-0").await?;
    plans.label(&plan, "agent-0").await?;
    world.node_reaches("agent-0", Phase::Completed).await?;
    plans
        .condition(
            &plan,
            "Validated",
            "False",
            "Error",
            "spec.window is invalid",
        )
        .await?;
    reason(&world, "agent-1", "PlanInvalid").await?;
    Ok(())
}

#[tokio::test]
async fn a_plan_that_comes_later_is_watched_without_a_restart() -> Result<()> {
    let world = World::empty().await?;
    let plans = agents(&world).await?;
    let operator = world.operator(&[]).await?;
    operator.ready().await?;
    world.all_reported(2).await?;
    let synced = async || {
        let kinds = ["kind=\"plans\""];
        operator.metric("node_insights_watch_synced", &kinds).await
    };
    assert_eq!(synced().await?, 0);
    install(&world.client).await?;
    let plan = Plan::new("agent-plan", NEW);
    plans.create(&plan).await?;
    waits_for_a_plan(&world, "agent-0").await?;
    assert_eq!(synced().await?, 1);
    plans.create_job(&plan, "agent-0").await?;
    plans.start_job(&plan, "agent-0").await?;
    plans.cordon("agent-0").await?;
    world.node_reaches("agent-0", Phase::Draining).await?;
    operator.ready().await
}
