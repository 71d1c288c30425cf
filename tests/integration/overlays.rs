//! Tools that update or maintain nodes of any provider, each through all its states on a real API server.

use anyhow::Result;
use node_insights::api::NodeProgressInsightStatus;
use node_insights::api::types::{ConditionStatus, Phase, ProviderName, UpdateKind};
use node_insights_harness::kubernetes::{Cluster, Ready};
use node_insights_harness::overlays::{self, Brupop, Flatcar, NodeMaintenance};

use crate::support::{Operator, World, condition, published_crds};

const VERSION: &str = "v1.36.3";
const NODE: &str = "blue-0";
const OTHER: &str = "blue-1";

/// Two nodes that are up to date.
async fn world() -> Result<World> {
    let world = World::empty().await?;
    let cluster = Cluster::builder(VERSION).control_plane(0).pool("blue", 2);
    cluster.build()?.load(&world.client).await?;
    Ok(world)
}

async fn started(world: &World) -> Result<Operator> {
    let operator = world.operator(&[]).await?;
    operator.ready().await?;
    world.node_reaches(OTHER, Phase::Completed).await?;
    Ok(operator)
}

/// Waits until the node has this phase with this reason.
async fn reaches(world: &World, phase: Phase, reason: &str) -> Result<NodeProgressInsightStatus> {
    let what = format!("{phase}, {reason}");
    let is_so = |node: &NodeProgressInsightStatus| {
        node.phase == phase && condition(&node.conditions, "Updating").reason == reason
    };
    world.node_becomes(NODE, &what, is_so).await
}

fn overlays_of(node: &NodeProgressInsightStatus) -> Vec<&str> {
    node.overlays.iter().map(ProviderName::as_str).collect()
}

fn message(node: &NodeProgressInsightStatus) -> &str {
    &condition(&node.conditions, "Updating").message
}

/// The other node was never touched.
async fn nobody_else_changed(world: &World) -> Result<()> {
    let other = world.node_reaches(OTHER, Phase::Completed).await?;
    assert_eq!(other.timeline.len(), 1);
    Ok(())
}

/// An update of Bottlerocket, from the first report of the agent until the node is idle again.
async fn bottlerocket(world: &World) -> Result<()> {
    let (old, new) = ("1.19.1", "1.20.0");
    let brupop = Brupop::start(&world.client).await?;
    let operator = started(world).await?;
    brupop.label(NODE).await?;
    reaches(world, Phase::Unknown, "NoStatus").await?;
    brupop.report(NODE, "Idle", old, old).await?;
    reaches(world, Phase::Completed, "Updated").await?;

    brupop.report(NODE, "Idle", old, new).await?;
    let pending = reaches(world, Phase::Pending, "Pending").await?;
    assert_eq!(pending.update_kind, Some(UpdateKind::Image));
    assert!(message(&pending).starts_with("Bottlerocket 1.19.1 to 1.20.0"));
    assert_eq!(overlays_of(&pending), ["Bottlerocket"]);
    assert_eq!(pending.provider.as_str(), "Kubernetes");
    let (staged, rebooted) = ("StagedAndPerformedUpdate", "RebootedIntoUpdate");
    brupop.ask(NODE, staged, Some(new)).await?;
    reaches(world, Phase::Updating, "Installing").await?;
    brupop.fail(NODE).await?;
    let failed = reaches(world, Phase::Updating, "ErrorReset").await?;
    let degraded = condition(&failed.conditions, "Degraded");
    assert_eq!(degraded.status, ConditionStatus::True);
    brupop.ask(NODE, "Idle", Some(new)).await?;
    brupop.report(NODE, "Idle", old, new).await?;
    reaches(world, Phase::Pending, "Pending").await?;

    brupop.ask(NODE, staged, Some(new)).await?;
    reaches(world, Phase::Updating, "Installing").await?;
    brupop.report(NODE, staged, old, new).await?;
    reaches(world, Phase::Updating, "Installed").await?;
    brupop.ask(NODE, rebooted, Some(new)).await?;
    let nodes = world.editor.nodes();
    nodes.cordon(NODE, true).await?;
    let drained = reaches(world, Phase::Draining, "Draining").await?;
    assert_eq!(drained.version.as_deref(), Some(VERSION));
    nodes.set_ready(NODE, Ready::Unknown).await?;
    reaches(world, Phase::Rebooting, "Rebooting").await?;
    nodes.boot(NODE, VERSION, "Bottlerocket OS 1.20.0").await?;
    nodes.set_ready(NODE, Ready::Yes).await?;
    reaches(world, Phase::Rebooting, "Rebooted").await?;
    brupop.report(NODE, rebooted, new, new).await?;
    reaches(world, Phase::Updating, "Completing").await?;
    nodes.cordon(NODE, false).await?;
    brupop.ask(NODE, "MonitoringUpdate", Some(new)).await?;
    brupop.report(NODE, "MonitoringUpdate", new, new).await?;
    brupop.ask(NODE, "Idle", Some(new)).await?;
    brupop.report(NODE, "Idle", new, new).await?;
    let done = reaches(world, Phase::Completed, "Updated").await?;
    assert!(done.overlays.is_empty());
    nobody_else_changed(world).await?;
    operator.stop().await?;
    Ok(())
}

#[tokio::test]
async fn an_update_of_bottlerocket_passes_every_phase_and_its_versions_are_in_the_message()
-> Result<()> {
    let world = world().await?;
    overlays::install(&world.client).await?;
    bottlerocket(&world).await
}

#[tokio::test]
async fn the_published_crd_of_bottlerocket_shows_the_same() -> Result<()> {
    let Some(file) = published_crds("brupop/bottlerocketshadows.yaml") else {
        return Ok(());
    };
    let world = world().await?;
    overlays::install_published(&world.client, &file).await?;
    bottlerocket(&world).await
}

#[tokio::test]
async fn an_update_of_flatcar_passes_every_phase_by_labels_and_annotations_alone() -> Result<()> {
    let world = world().await?;
    let flatcar = Flatcar::new(&world.client);
    let _operator = started(&world).await?;
    flatcar.start(NODE, "3510.2.0").await?;
    reaches(&world, Phase::Completed, "Updated").await?;
    let downloading = ("status", "UPDATE_STATUS_DOWNLOADING");
    flatcar.says(NODE, &[downloading]).await?;
    reaches(&world, Phase::Updating, "Downloading").await?;
    let failed = ("status", "UPDATE_STATUS_REPORTING_ERROR_EVENT");
    flatcar.says(NODE, &[failed]).await?;
    let failed = reaches(&world, Phase::Updating, "UpdateFailed").await?;
    let degraded = condition(&failed.conditions, "Degraded");
    assert_eq!(degraded.status, ConditionStatus::True);

    flatcar.installed(NODE, "3602.2.1").await?;
    let waiting = reaches(&world, Phase::Pending, "RebootNeeded").await?;
    assert_eq!(waiting.update_kind, Some(UpdateKind::Image));
    assert!(message(&waiting).starts_with("Flatcar 3510.2.0 to 3602.2.1"));
    assert_eq!(overlays_of(&waiting), ["Flatcar"]);
    flatcar.says(NODE, &[("reboot-paused", "true")]).await?;
    reaches(&world, Phase::Paused, "RebootPaused").await?;
    flatcar.says(NODE, &[("reboot-paused", "false")]).await?;
    flatcar.label(NODE, "before-reboot", Some("true")).await?;
    reaches(&world, Phase::Updating, "BeforeReboot").await?;
    flatcar.says(NODE, &[("reboot-ok", "true")]).await?;
    flatcar.label(NODE, "before-reboot", None).await?;
    reaches(&world, Phase::Updating, "RebootPermitted").await?;
    flatcar.drain(NODE).await?;
    reaches(&world, Phase::Draining, "Draining").await?;

    let nodes = world.editor.nodes();
    nodes.set_ready(NODE, Ready::Unknown).await?;
    reaches(&world, Phase::Rebooting, "Rebooting").await?;
    nodes.boot(NODE, VERSION, "Flatcar 3602.2.1").await?;
    nodes.set_ready(NODE, Ready::Yes).await?;
    reaches(&world, Phase::Updating, "Rebooted").await?;
    flatcar.start(NODE, "3602.2.1").await?;
    reaches(&world, Phase::Updating, "AfterReboot").await?;
    flatcar.says(NODE, &[("reboot-ok", "false")]).await?;
    reaches(&world, Phase::Updating, "Uncordoning").await?;
    flatcar.uncordon(NODE).await?;
    flatcar
        .says(NODE, &[("status", "UPDATE_STATUS_IDLE")])
        .await?;
    let done = reaches(&world, Phase::Completed, "Updated").await?;
    assert!(done.overlays.is_empty());
    nobody_else_changed(&world).await
}

/// A maintenance that ends, and one that fails.
async fn maintenance(world: &World) -> Result<()> {
    let maintenance = NodeMaintenance::new(&world.client);
    let operator = started(world).await?;
    maintenance.request("nm-1", NODE, "replace a disk").await?;
    maintenance.drain(NODE).await?;
    let draining = reaches(world, Phase::Draining, "Draining").await?;
    assert_eq!(draining.update_kind, Some(UpdateKind::Reboot));
    assert_eq!(overlays_of(&draining), ["NodeMaintenance"]);
    // The operator taints the node before it cordons it.
    let is_named = |node: &NodeProgressInsightStatus| {
        let cordon = node.cordoned_by.as_ref();
        let name = cordon.and_then(|cordon| cordon.name.as_deref());
        name == Some("node-maintenance-operator")
    };
    world.node_becomes(NODE, "cordoned", is_named).await?;
    maintenance.progress("nm-1").await?;
    let is_half = |node: &NodeProgressInsightStatus| {
        let message = message(node);
        message.contains("50% done, waiting for shop/db-0")
    };
    world.node_becomes(NODE, "one pod remains", is_half).await?;
    maintenance.drained("nm-1").await?;
    reaches(world, Phase::Updating, "InMaintenance").await?;
    maintenance.delete("nm-1").await?;
    reaches(world, Phase::Updating, "MaintenanceEnds").await?;
    maintenance.end("nm-1", NODE).await?;
    let done = reaches(world, Phase::Completed, "Updated").await?;
    assert!(done.overlays.is_empty());

    maintenance.request("nm-2", NODE, "").await?;
    maintenance.drain(NODE).await?;
    reaches(world, Phase::Draining, "Draining").await?;
    maintenance.fail("nm-2", NODE).await?;
    let is_failed = |node: &NodeProgressInsightStatus| {
        let degraded = condition(&node.conditions, "Degraded");
        node.phase == Phase::Completed && degraded.reason == "MaintenanceFailed"
    };
    world.node_becomes(NODE, "it failed", is_failed).await?;
    maintenance.delete("nm-2").await?;
    maintenance.end("nm-2", NODE).await?;
    let is_over = |node: &NodeProgressInsightStatus| {
        condition(&node.conditions, "Degraded").status == ConditionStatus::False
    };
    world.node_becomes(NODE, "it is over", is_over).await?;
    nobody_else_changed(world).await?;
    operator.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_maintenance_drains_the_node_and_lasts_until_it_is_deleted() -> Result<()> {
    let world = world().await?;
    overlays::install(&world.client).await?;
    maintenance(&world).await
}

#[tokio::test]
async fn the_published_crd_of_the_node_maintenance_operator_shows_the_same() -> Result<()> {
    let Some(file) = published_crds("node-maintenance-operator/nodemaintenances.yaml") else {
        return Ok(());
    };
    let world = world().await?;
    overlays::install_published(&world.client, &file).await?;
    maintenance(&world).await
}

#[tokio::test]
async fn a_change_of_one_shadow_evaluates_its_node_alone() -> Result<()> {
    let world = world().await?;
    overlays::install(&world.client).await?;
    let brupop = Brupop::start(&world.client).await?;
    for node in [NODE, OTHER] {
        brupop.label(node).await?;
        brupop.report(node, "Idle", "1.20.0", "1.20.0").await?;
    }
    let operator = started(&world).await?;
    world.all_reported(2).await?;
    let before = operator.evaluations(None).await?;
    brupop.report(NODE, "Idle", "1.20.0", "1.21.0").await?;
    reaches(&world, Phase::Pending, "Pending").await?;
    assert_eq!(operator.evaluations(None).await?, before + 1);
    nobody_else_changed(&world).await
}
