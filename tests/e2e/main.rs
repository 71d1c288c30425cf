//! The operator on real nodes: containerd, kubelet, kube-proxy and a `NetworkPolicy` that is in force, the chart
//! installed by Helm, and what happens to nodes when they are drained, rebooted and lost.
//!
//! Runs in namespaces that `hack/e2e.sh` makes: see `lab.sh` and `node.sh`. There is one cluster and one story,
//! because each step needs what the one before left; a step that fails ends it, with what the cluster was like.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failed expectation is the result of a test"
)]
#![allow(unreachable_pub, reason = "modules of one test program")]

mod cluster;
mod drain;
mod failover;
mod install;
mod network;
mod node;
mod reboot;
mod release;
mod toolbox;

#[allow(dead_code, reason = "the tests of the chart use all of it")]
#[path = "../chart/helm.rs"]
mod helm;
/// The operator in a cluster, as the integration tests have it.
#[allow(dead_code, reason = "the integration tests use all of it")]
#[path = "../integration/support.rs"]
mod support;

use std::time::Instant;

use anyhow::{Context as _, Result};

use cluster::Cluster;

#[tokio::test]
#[ignore = "needs nodes, which only root can start: make e2e"]
async fn the_operator_does_its_work_on_real_nodes() {
    let mut cluster = Cluster::start().await.unwrap();
    if let Err(error) = story(&mut cluster).await {
        cluster.describe().await;
        // The panic also keeps the logs.
        panic!("{error:#}");
    }
}

async fn story(cluster: &mut Cluster) -> Result<()> {
    step(
        "the chart is installed where Pod Security `restricted` is enforced",
        install::the_chart_is_installed_under_pod_security_restricted(cluster),
    )
    .await?;
    step(
        "each replica has a node of its own, and runs as the least of users",
        install::each_replica_is_confined_and_has_a_node_of_its_own(cluster),
    )
    .await?;
    step(
        "every node has its insight",
        install::every_node_is_reported(cluster),
    )
    .await?;
    step("`helm test` passes", install::helm_test_passes(cluster)).await?;
    step(
        "metrics come through the Service to whoever has a token for them",
        network::metrics_need_a_token(cluster),
    )
    .await?;
    step(
        "nobody is let in whom the NetworkPolicy does not name, and nothing gets out to where it need not",
        network::the_network_policy_is_in_force(cluster),
    )
    .await?;
    step(
        "a drain that a PodDisruptionBudget holds up is Draining until it goes on",
        drain::a_drain_waits_for_a_disruption_budget(cluster),
    )
    .await?;
    step(
        "a node that reboots into a new version is Rebooting, Updating and Completed",
        reboot::a_node_comes_back_with_another_boot_and_version(cluster),
    )
    .await?;
    step(
        "an upgrade replaces the pods one after the other",
        release::an_upgrade(cluster),
    )
    .await?;
    step(
        "the other replica leads when the leader's pod goes, and when its node dies",
        failover::the_other_replica_leads(cluster),
    )
    .await?;
    step(
        "a rollback brings the release before",
        release::a_rollback(cluster),
    )
    .await?;
    step(
        "an uninstall leaves the insights and nothing else",
        release::an_uninstall(cluster),
    )
    .await
}

/// Says how long a step took, or that it failed.
async fn step(what: &str, doing: impl Future<Output = Result<()>>) -> Result<()> {
    let start = Instant::now();
    doing.await.with_context(|| format!("FAILED: {what}"))?;
    eprintln!("e2e: {:5.1} s  {what}", start.elapsed().as_secs_f64());
    Ok(())
}
