//! The full compare: when it runs, what it persists, what it finds.

use anyhow::Result;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::Api;
use node_insights::registry::sync::{SyncPhase, SyncReason, SyncStatus};
use node_insights_harness::eventually;
use node_insights_harness::openshift::{Cluster, Pool};

use crate::support::{Operator, SOON, World};

async fn world(workers: usize) -> Result<World> {
    let cluster = Cluster::builder("4.19.14")
        .pool(Pool::new("master", 3))
        .pool(Pool::new("worker", workers))
        .build()?;
    World::openshift(&cluster).await
}

const CONFIG_MAP: [&str; 2] = [
    "--sync-status",
    "configmap:node-insights/node-insights-sync-status",
];

async fn persisted(world: &World) -> Result<Option<SyncStatus>> {
    let maps: Api<ConfigMap> = Api::namespaced(world.client.clone(), "node-insights");
    let map = maps.get_opt("node-insights-sync-status").await?;
    let json = map.and_then(|map| map.data?.remove("status.json"));
    Ok(json.map(|json| serde_json::from_str(&json)).transpose()?)
}

async fn complete(world: &World, reason: SyncReason) -> Result<SyncStatus> {
    eventually(
        &format!("a compare of reason {reason:?}"),
        SOON,
        async || {
            let status = persisted(world).await?;
            let is_expected = |status: &SyncStatus| {
                status.phase == SyncPhase::Complete && status.reason == reason
            };
            Ok(status.filter(is_expected))
        },
    )
    .await
}

async fn syncs(operator: &Operator, reason: &str) -> Result<u64> {
    let reason = format!("reason=\"{reason}\"");
    let labels = [reason.as_str(), "result=\"success\""];
    operator
        .metric("node_insights_sync_attempts_total", &labels)
        .await
}

#[tokio::test]
async fn the_first_and_every_periodic_compare_is_persisted_in_a_config_map_and_finds_nothing_at_rest()
-> Result<()> {
    let world = world(5).await?;
    let mut args = CONFIG_MAP.to_vec();
    args.extend(["--sync-interval", "2s"]);
    let operator = world.operator(&args).await?;
    world.all_reported(8).await?;
    let status = complete(&world, SyncReason::Interval).await?;
    assert_eq!((status.nodes_compared, status.attempts), (8, 1));
    let mark = world.plane.audit().mark()?;
    let before = syncs(&operator, "interval").await?;
    eventually("three more intervals", SOON, async || {
        Ok((syncs(&operator, "interval").await? >= before + 3).then_some(()))
    })
    .await?;
    assert_eq!(syncs(&operator, "start").await?, 1);
    for metric in [
        "node_insights_sync_differences_total",
        "node_insights_insights_out_of_sync",
    ] {
        assert_eq!(operator.metric(metric, &[]).await?, 0, "{metric}");
    }
    let writes = world.operator_writes(mark)?;
    assert!(
        writes.iter().all(|write| write.resource == "configmaps"),
        "comparing writes no insight: {writes:?}"
    );
    assert!(operator.stop().await?.success());
    Ok(())
}

#[tokio::test]
async fn a_restart_continues_from_the_persisted_status() -> Result<()> {
    let world = world(1).await?;
    let mut args = CONFIG_MAP.to_vec();
    args.extend(["--sync-interval", "1s"]);
    let operator = world.operator(&args).await?;
    world.all_reported(4).await?;
    let first = complete(&world, SyncReason::Interval).await?;
    operator.kill().await?;
    let operator = world.operator(&CONFIG_MAP).await?;
    operator.ready().await?;
    eventually("the compare of the start", SOON, async || {
        Ok((syncs(&operator, "start").await? == 1).then_some(()))
    })
    .await?;
    let second = complete(&world, SyncReason::Start).await?;
    assert!(second.last_success >= first.last_success);
    assert_eq!((second.nodes_compared, second.attempts), (4, 1));
    Ok(())
}

#[tokio::test]
async fn a_status_that_cannot_be_persisted_is_reported_and_stops_no_compare() -> Result<()> {
    let world = world(1).await?;
    let operator = world
        .operator(&[
            "--sync-status",
            "configmap:default/not-ours",
            "--sync-interval",
            "2s",
        ])
        .await?;
    world.all_reported(4).await?;
    eventually("two compares", SOON, async || {
        Ok((syncs(&operator, "interval").await? >= 2).then_some(()))
    })
    .await?;
    let failures = operator
        .metric("node_insights_sync_persist_failures_total", &[])
        .await?;
    assert!(failures >= 1);
    let is_logged = operator.log().into_iter().any(|line| {
        let error = line["error"].as_str().unwrap_or_default();
        error.contains("configmaps") && error.contains("default")
    });
    assert!(is_logged, "{:?}", operator.process.read_stderr());
    // It works, and reports the missing permission.
    let why = operator.says_why("[-] permissions: ").await?;
    assert!(
        why.contains("permission: create configmaps in default"),
        "{why}"
    );
    let others = why.lines().filter(|line| line.starts_with("[-]")).count();
    assert_eq!(others, 1, "{why}");
    Ok(())
}

#[tokio::test]
async fn a_watch_that_recovers_is_followed_by_a_compare() -> Result<()> {
    let mut world = world(1).await?;
    let operator = world.operator(&[]).await?;
    world.all_reported(4).await?;
    operator.ready().await?;
    world.plane.stop_api_server().await?;
    operator.says_why("nodes").await?;
    world.plane.start_api_server().await?;
    operator.ready().await?;
    eventually("a compare", SOON, async || {
        Ok((syncs(&operator, "watch_restarted").await? >= 1).then_some(()))
    })
    .await
}
