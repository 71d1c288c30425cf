//! Starting, stopping, flags, logs.

use std::time::Duration;

use anyhow::Result;
use node_insights::api::pool::Assessment;
use node_insights::api::types::Phase;
use node_insights_harness::openshift::{Cluster, Pool};
use node_insights_harness::{Exit, Process, eventually};

use crate::support::{SOON, World, spawn};

async fn world() -> Result<World> {
    let cluster = Cluster::builder("4.19.14")
        .pool(Pool::new("master", 1))
        .pool(Pool::new("worker", 2))
        .build()?;
    World::openshift(&cluster).await
}

#[tokio::test]
async fn a_change_can_be_followed_by_its_reconcile_id_from_trigger_to_written_insight() -> Result<()>
{
    let world = world().await?;
    let operator = world.operator(&[]).await?;
    world.all_reported(3).await?;
    world.editor.start_update("4.20.3").await?;
    world.node_reaches("worker-0", Phase::Pending).await?;
    operator.ready().await?;
    // The insight is visible a moment before the operator receives the response.
    let (log, written) = eventually("the write is logged", SOON, async || {
        let log = operator.log();
        let written = log.iter().rfind(|line| {
            line["message"] == "Wrote the insight of a node" && line["node"] == "worker-0"
        });
        let written = written.filter(|line| line["phase"] == "Pending").cloned();
        Ok(written.map(|written| (log, written)))
    })
    .await?;
    for key in [
        "node",
        "pool",
        "phase",
        "trigger",
        "resource_version",
        "reconcile_id",
        "reason",
    ] {
        assert!(!written[key].is_null(), "{key} is in {written}");
    }
    assert_eq!(written["trigger"], "cluster_version");
    let steps: Vec<&str> = log
        .iter()
        .filter(|line| line["reconcile_id"] == written["reconcile_id"])
        .filter(|line| line["node"].is_null() || line["node"] == "worker-0")
        .filter_map(|line| line["message"].as_str())
        .collect();
    let first = [
        "Taking in a change",
        "The state of the node changed",
        "Wrote the insight of a node",
    ];
    let found: Vec<&&str> = steps.iter().filter(|step| first.contains(step)).collect();
    assert_eq!(found, first.iter().collect::<Vec<_>>(), "{steps:?}");
    Ok(())
}

#[tokio::test]
async fn sigterm_ends_the_operator_in_order_with_the_last_state_written() -> Result<()> {
    let world = world().await?;
    let operator = world.operator(&[]).await?;
    world.all_reported(3).await?;
    operator.ready().await?;
    // Two changes of one pool within a second, its minimum interval: the second one is written on shutdown.
    world.editor.set_paused("worker", true).await?;
    world.editor.start_update("4.20.3").await?;
    world
        .pool_becomes("worker", "Excluded", |pool| {
            pool.assessment == Assessment::Excluded && pool.progress == "0/2"
        })
        .await?;
    world.editor.set_paused("worker", false).await?;
    world.node_reaches("worker-0", Phase::Pending).await?;
    world.node_reaches("worker-1", Phase::Pending).await?;
    let log_file = operator.process.stderr_log();
    assert_eq!(operator.stop().await?, Exit::Code(0));
    let pool = world
        .pool_insight("worker")
        .await?
        .and_then(|pool| pool.status)
        .expect("it is there");
    assert_eq!(pool.assessment, Assessment::Pending);
    let log = std::fs::read_to_string(log_file)?;
    let at = |text: &str| {
        log.find(text)
            .unwrap_or_else(|| panic!("{text:?} is in the log"))
    };
    assert!(at("\"Stopping\"") < at("\"Stopped\""));
    assert!(log.contains("\"complete\":true"), "{log}");
    Ok(())
}

#[tokio::test]
async fn with_both_insights_disabled_nothing_is_watched_and_the_log_says_so() -> Result<()> {
    let world = world().await?;
    let mark = world.plane.audit().mark()?;
    let operator = world
        .operator(&[
            "--enable-node-insights=false",
            "--enable-pool-insights=false",
        ])
        .await?;
    operator.ready().await?;
    let is_logged = operator.log().iter().any(|line| {
        line["message"]
            .as_str()
            .is_some_and(|text| text.contains("disabled"))
    });
    assert!(is_logged, "{:?}", operator.log());
    assert_eq!(operator.metric("node_insights_watch_synced", &[]).await?, 0);
    assert!(operator.stop().await?.success());
    let requests = world.plane.audit().since(mark)?;
    assert!(
        requests
            .iter()
            .all(|entry| entry.user != crate::support::OPERATOR_USER),
        "{requests:#?}"
    );
    Ok(())
}

#[tokio::test]
async fn one_insight_alone_is_written_without_the_other() -> Result<()> {
    let world = world().await?;
    let operator = world.operator(&["--enable-node-insights=false"]).await?;
    world
        .pool_becomes("worker", "2 nodes", |pool| pool.progress == "2/2")
        .await?;
    assert!(world.node_insights().await?.is_empty());
    assert!(operator.stop().await?.success());
    let _operator = world.operator(&["--enable-pool-insights=false"]).await?;
    world.all_reported(3).await?;
    Ok(())
}

#[tokio::test]
async fn a_failed_start_exits_with_a_code_and_a_remedy() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let nowhere = folder.path().join("no-kubeconfig");
    let nowhere = nowhere.to_string_lossy();
    let taken = std::net::TcpListener::bind("127.0.0.1:0")?;
    let taken = taken.local_addr()?.to_string();
    let cases: [(&[&str], i32, &str); 6] = [
        (
            &["run", "--platform", "nomad"],
            2,
            "[possible values: auto, openshift, kubernetes]",
        ),
        (&["run", "--no-such-flag"], 2, "--no-such-flag"),
        (&["fly"], 2, "fly"),
        (
            &["run", "--metrics-address", &taken],
            1,
            "choose another address with --metrics-address",
        ),
        (
            &["run", "--metrics-tls", "/nowhere"],
            1,
            "give a folder with tls.crt and tls.key",
        ),
        (
            &["run", "--metrics-address", "127.0.0.1:0"],
            1,
            "set KUBECONFIG",
        ),
    ];
    for (args, code, hint) in cases {
        let envs = [("KUBECONFIG", nowhere.as_ref()), ("HOME", nowhere.as_ref())];
        let process: Process = spawn(args, &envs, folder.path())?;
        let exit = process.wait_timeout(SOON).await?;
        let error = process.read_stderr();
        assert_eq!(exit, Exit::Code(code), "{args:?}: {error}");
        assert!(error.contains(hint), "{args:?}: {error}");
        assert!(!error.contains("panicked"), "{error}");
    }
    Ok(())
}

#[tokio::test]
async fn sigterm_ends_an_operator_whose_api_server_is_down() -> Result<()> {
    let mut world = world().await?;
    let operator = world.operator(&[]).await?;
    world.all_reported(3).await?;
    operator.ready().await?;
    world.plane.stop_api_server().await?;
    operator.says_why("cannot be reached").await?;
    operator.process.terminate()?;
    let exit = operator
        .process
        .wait_timeout(Duration::from_secs(20))
        .await?;
    assert!(exit.success(), "{exit}");
    Ok(())
}
