//! The state file: what it restores, and what is reported when it cannot be used.

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result};
use kube::api::{Api, DeleteParams};
use node_insights::api::NodeProgressInsight;
use node_insights::api::node::TimelineEntry;
use node_insights::api::types::Phase;
use node_insights_harness::eventually;
use node_insights_harness::openshift::{Cluster, Pool};

use crate::support::{SOON, World, spawn};

async fn world() -> Result<World> {
    let cluster = Cluster::builder("4.19.14")
        .pool(Pool::new("master", 3))
        .pool(Pool::new("worker", 2))
        .build()?;
    World::openshift(&cluster).await
}

fn state_file(world: &World) -> PathBuf {
    world.plane.dir().join("state.redb")
}

fn backend(file: &Path) -> String {
    format!("file:{}", file.display())
}

async fn timeline(world: &World, node: &str) -> Result<Vec<TimelineEntry>> {
    let insight = world.node_insight(node).await?.context("no insight")?;
    Ok(insight.status.context("no status")?.timeline)
}

/// Files beside the state file whose name contains `part`.
fn siblings(file: &Path, part: &str) -> Result<Vec<PathBuf>> {
    let folder = file.parent().context("no folder")?;
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path
            .file_name()
            .is_some_and(|name| name.to_string_lossy().contains(part))
        {
            found.push(path);
        }
    }
    Ok(found)
}

#[tokio::test]
async fn a_timeline_outlives_a_power_failure_even_if_the_insight_is_gone() -> Result<()> {
    let world = world().await?;
    let file = backend(&state_file(&world));
    let args = ["--state-backend", file.as_str()];
    let operator = world.operator(&args).await?;
    world.all_reported(5).await?;
    world.editor.start_update("4.20.3").await?;
    world.node_reaches("worker-0", Phase::Pending).await?;
    let before = timeline(&world, "worker-0").await?;
    assert_eq!(before.len(), 2, "{before:?}");
    // The file is written asynchronously. A later commit includes it, so change other nodes until there is one.
    let seen = SystemTime::now();
    let paused = Cell::new(false);
    eventually("the state file is written again", SOON, async || {
        paused.set(!paused.get());
        world.editor.set_paused("master", paused.get()).await?;
        Ok((fs::metadata(state_file(&world))?.modified()? > seen).then_some(()))
    })
    .await?;
    operator.kill().await?;
    let insights: Api<NodeProgressInsight> = Api::all(world.client.clone());
    insights
        .delete("worker-0", &DeleteParams::default())
        .await?;
    let operator = world.operator(&args).await?;
    operator.ready().await?;
    world.node_reaches("worker-0", Phase::Pending).await?;
    assert_eq!(timeline(&world, "worker-0").await?, before);
    assert!(operator.stop().await?.success());
    Ok(())
}

#[tokio::test]
async fn a_stopped_operator_has_persisted_its_last_state() -> Result<()> {
    let world = world().await?;
    let file = backend(&state_file(&world));
    let args = ["--state-backend", file.as_str()];
    let operator = world.operator(&args).await?;
    world.all_reported(5).await?;
    world.editor.start_update("4.20.3").await?;
    world.node_reaches("worker-1", Phase::Pending).await?;
    let before = timeline(&world, "worker-1").await?;
    assert!(operator.stop().await?.success());
    let insights: Api<NodeProgressInsight> = Api::all(world.client.clone());
    insights
        .delete("worker-1", &DeleteParams::default())
        .await?;
    let _operator = world.operator(&args).await?;
    world.node_reaches("worker-1", Phase::Pending).await?;
    assert_eq!(timeline(&world, "worker-1").await?, before);
    Ok(())
}

#[tokio::test]
async fn a_damaged_state_file_is_quarantined_and_the_operator_continues() -> Result<()> {
    let world = world().await?;
    let path = state_file(&world);
    fs::write(&path, "not a database".repeat(1000))?;
    let operator = world
        .operator(&["--state-backend", &backend(&path)])
        .await?;
    world.all_reported(5).await?;
    operator.ready().await?;
    assert_eq!(
        operator
            .metric("node_insights_backend_set_aside_total", &[])
            .await?,
        1
    );
    let quarantined = siblings(&path, ".damaged-")?;
    assert_eq!(quarantined.len(), 1, "{quarantined:?}");
    assert!(fs::read_to_string(&quarantined[0])?.starts_with("not a database"));
    let file = quarantined[0].display().to_string();
    let is_logged = operator
        .log()
        .into_iter()
        .any(|line| line["level"] == "ERROR" && line["path"] == *file);
    assert!(is_logged, "{}", operator.process.read_stderr());
    Ok(())
}

#[tokio::test]
async fn a_second_operator_on_the_same_state_file_exits_and_the_first_continues() -> Result<()> {
    let world = world().await?;
    let file = backend(&state_file(&world));
    let args = ["--state-backend", file.as_str()];
    let operator = world.operator(&args).await?;
    world.all_reported(5).await?;
    let kubeconfig = world
        .plane
        .service_account_kubeconfig("node-insights", "node-insights")
        .await?;
    let second = spawn(
        &[
            "run",
            "--metrics-address",
            "127.0.0.1:0",
            "--state-backend",
            &file,
        ],
        &[("KUBECONFIG", &kubeconfig.to_string_lossy())],
        world.plane.dir(),
    )?;
    let exit = second.wait_timeout(SOON).await?;
    assert!(!exit.success());
    let error = second.read_stderr();
    assert!(
        error.contains("state.redb") && error.contains("another process"),
        "{error}"
    );
    operator.ready().await
}

#[tokio::test]
async fn a_disk_without_room_for_the_state_file_is_reported_at_the_start() -> Result<()> {
    let world = world().await?;
    let path = state_file(&world);
    let kubeconfig = world
        .plane
        .service_account_kubeconfig("node-insights", "node-insights")
        .await?;
    // No file of this process may grow beyond 4 KiB.
    let script = format!(
        "trap '' XFSZ; ulimit -f 4; exec {} run --metrics-address 127.0.0.1:0 --log-level error --state-backend {} --sync-status file:{}",
        env!("CARGO_BIN_EXE_node-insights"),
        backend(&path),
        world.plane.dir().join("sync.json").display(),
    );
    let envs = [
        ("KUBECONFIG", &*kubeconfig.to_string_lossy()),
        ("NODE_INSIGHTS_HEALTH_ADDRESS", "127.0.0.1:0"),
    ];
    let operator = node_insights_harness::Process::spawn(
        "node-insights",
        Path::new("/bin/bash"),
        ["-c", &script],
        &envs,
        world.plane.dir(),
    )?;
    let exit = operator.wait_timeout(SOON).await?;
    assert!(!exit.success());
    let error = operator.read_stderr();
    assert!(error.contains("state.redb"), "{error}");
    Ok(())
}
