//! The operator on real nodes: containerd, kubelet, kube-proxy and an enforced `NetworkPolicy`, the chart installed by
//! Helm, and nodes that are drained, rebooted and lost.
//!
//! Runs in namespaces that `hack/e2e.sh` creates: see `lab.sh` and `node.sh`. There is one cluster and one sequence of
//! steps, as each step builds on the one before; a failed step ends it and prints the state of the cluster.

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
/// The operator in a cluster, shared with the integration tests.
#[allow(dead_code, reason = "the integration tests use all of it")]
#[path = "../integration/support.rs"]
mod support;

use std::time::Instant;

use anyhow::{Context as _, Result};

use cluster::Cluster;

#[tokio::test]
#[ignore = "needs nodes, which only root can start: make e2e"]
async fn the_operator_works_on_real_nodes() {
    let mut cluster = Cluster::start().await.unwrap();
    if let Err(error) = steps(&mut cluster).await {
        cluster.describe().await;
        // The panic also keeps the logs.
        panic!("{error:#}");
    }
}

async fn steps(cluster: &mut Cluster) -> Result<()> {
    step(
        "the chart is installed where Pod Security `restricted` is enforced",
        install::the_chart_is_installed_under_pod_security_restricted(cluster),
    )
    .await?;
    step(
        "each replica has its own node, and runs with the least privileges",
        install::each_replica_is_confined_and_has_its_own_node(cluster),
    )
    .await?;
    step(
        "every node has its insight",
        install::every_node_is_reported(cluster),
    )
    .await?;
    step("`helm test` passes", install::helm_test_passes(cluster)).await?;
    step(
        "metrics can be read through the Service with an authorized token",
        network::metrics_need_a_token(cluster),
    )
    .await?;
    step(
        "the NetworkPolicy blocks other clients, and egress that the operator does not need",
        network::the_network_policy_is_enforced(cluster),
    )
    .await?;
    step(
        "a node whose drain a PodDisruptionBudget blocks stays Draining",
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
        "the other replica leads when the leader's pod is deleted, and when its node dies",
        failover::the_other_replica_leads(cluster),
    )
    .await?;
    step(
        "a rollback restores the previous release",
        release::a_rollback(cluster),
    )
    .await?;
    step(
        "an uninstall leaves the insights and nothing else",
        release::an_uninstall(cluster),
    )
    .await
}

/// Runs a step; prints how long it took, or fails with its description.
async fn step(what: &str, doing: impl Future<Output = Result<()>>) -> Result<()> {
    let start = Instant::now();
    doing.await.with_context(|| format!("FAILED: {what}"))?;
    eprintln!("e2e: {:5.1} s  {what}", start.elapsed().as_secs_f64());
    Ok(())
}
