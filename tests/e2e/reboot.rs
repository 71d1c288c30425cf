//! A drained node goes off, and comes back with another boot ID and another kubelet.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use node_insights::api::types::{ConditionStatus, Phase, UpdateKind};
use node_insights_harness::eventually;

use crate::cluster::{Cluster, SECOND};
use crate::node::Kubelet;
use crate::support::{SOON, condition};

/// What the node lifecycle controller says of each condition of a node that reports no more.
const SILENT: &str = "Kubelet stopped posting node status";

pub async fn a_node_comes_back_with_another_boot_and_version(cluster: &mut Cluster) -> Result<()> {
    let older = Kubelet::AsOlder.version().await?;
    let current = Kubelet::Current.version().await?;
    cluster.second.pull_the_plug().await?;
    let away = cluster.world.node_reaches(SECOND, Phase::Rebooting).await?;
    ensure!(away.version.as_ref() == Some(&older), "{away:#?}");
    let available = condition(&away.conditions, "Available");
    ensure!(available.status != ConditionStatus::True, "{away:#?}");
    // All of its conditions are Unknown now, which is one thing to say and not three.
    let said = format!("{available:?} {:?}", away.message).to_lowercase();
    ensure!(
        available.message.matches(SILENT).count() == 1 && !said.contains("pressure"),
        "not said once, or more than is known: {away:#?}"
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
    told(
        cluster,
        &["UpdateStarted", "DrainStarted", "UpdateCompleted"],
    )
    .await
}

/// Waits until Events about the node were written, for these reasons.
async fn told(cluster: &Cluster, reasons: &[&str]) -> Result<()> {
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
