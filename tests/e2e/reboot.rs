//! A drained node is powered off, and comes back with a new boot ID and another kubelet version.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use node_insights::api::types::{ConditionStatus, Phase, UpdateKind};
use node_insights_harness::eventually;

use crate::cluster::{Cluster, SECOND};
use crate::node::Kubelet;
use crate::support::{SOON, condition};

/// The node lifecycle controller's message for each condition of a node that no longer reports.
const SILENT: &str = "Kubelet stopped posting node status";

pub async fn a_node_comes_back_with_another_boot_and_version(cluster: &mut Cluster) -> Result<()> {
    let older = Kubelet::AsOlder.version().await?;
    let current = Kubelet::Current.version().await?;
    cluster.second.power_off().await?;
    let down = cluster.world.node_reaches(SECOND, Phase::Rebooting).await?;
    ensure!(down.version.as_ref() == Some(&older), "{down:#?}");
    let available = condition(&down.conditions, "Available");
    ensure!(available.status != ConditionStatus::True, "{down:#?}");
    // All of its conditions are Unknown now, which is reported once and not three times.
    let messages = format!("{available:?} {:?}", down.message).to_lowercase();
    ensure!(
        available.message.matches(SILENT).count() == 1 && !messages.contains("pressure"),
        "not reported exactly once, or more than is known: {down:#?}"
    );

    cluster.second.boot(Kubelet::Current).await?;
    cluster.is_ready(SECOND).await?;
    let boot = cluster.second.boot_id();
    let back = cluster
        .world
        .node_becomes(SECOND, "back with its new version", |node| {
            node.phase == Phase::Updating && node.version.as_ref() == Some(&current)
        })
        .await?;
    ensure!(back.boot_id.as_ref() == Some(&boot), "{back:#?}");
    ensure!(back.update_kind == Some(UpdateKind::Version), "{back:#?}");

    cluster.kubectl(&["uncordon", SECOND]).await?;
    let done = cluster.world.node_reaches(SECOND, Phase::Completed).await?;
    let phases: Vec<Phase> = done.timeline.iter().map(|entry| entry.phase).collect();
    ensure!(
        phases
            == [
                Phase::Pending,
                Phase::Draining,
                Phase::Rebooting,
                Phase::Updating,
                Phase::Completed
            ],
        "{phases:?}"
    );
    cluster
        .world
        .pool_becomes("worker", "done", |pool| pool.progress == "1/1")
        .await?;
    events_are_recorded(
        cluster,
        &["UpdateStarted", "DrainStarted", "UpdateCompleted"],
    )
    .await
}

/// Waits until Events about the node with these reasons are recorded.
async fn events_are_recorded(cluster: &Cluster, reasons: &[&str]) -> Result<()> {
    let field = format!(
        "--field-selector=involvedObject.kind=NodeProgressInsight,involvedObject.name={SECOND}"
    );
    eventually("Events about the node", SOON, async || {
        let events = cluster.get(&["events", "-A", &field]).await?;
        let found: BTreeSet<&str> = events["items"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|event| event["reason"].as_str())
            .collect();
        let missing: Vec<&&str> = reasons.iter().filter(|it| !found.contains(**it)).collect();
        ensure!(missing.is_empty(), "{missing:?} are not among {found:?}");
        Ok(Some(()))
    })
    .await
}
