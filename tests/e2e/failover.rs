//! The other replica takes over when the leader is gone.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use node_insights::api::types::ConditionStatus;

use crate::cluster::{Cluster, Replica};
use crate::helm::NAME;
use crate::node::Kubelet;
use crate::support::condition;

/// A leader that shuts down releases its lease, so the other one leads at once.
const AFTER_RELEASE: Duration = Duration::from_secs(10);
/// The lease of a leader that dies has to expire, after 15 s. With slack for a loaded machine.
const AFTER_EXPIRY: Duration = Duration::from_secs(40);

pub async fn the_other_replica_leads(cluster: &mut Cluster) -> Result<()> {
    cluster.is_spread().await?;
    let leader = cluster.leader().await?.context("no leader")?;
    // The new pod may be quicker than the standby, so the next leader may be on either node.
    let leader = hand_over(cluster, &leader).await?;
    let node = leader.node.as_str();

    let start = Instant::now();
    cluster.node(node).power_off().await?;
    let next = cluster.another_leads(&leader.name, AFTER_EXPIRY).await?;
    log(&format!("its node, {node}, died"), start);
    ensure!(next.node != node, "{next:?}");
    // The new leader writes: it reports the dead node.
    cluster
        .world
        .node_becomes(node, "not available", |node| {
            condition(&node.conditions, "Available").status != ConditionStatus::True
        })
        .await?;
    cluster.node(node).boot(Kubelet::Current).await?;
    cluster.is_ready(node).await?;
    cluster
        .world
        .node_becomes(node, "available again", |node| {
            condition(&node.conditions, "Available").status == ConditionStatus::True
        })
        .await?;
    cluster.rolled_out().await
}

/// Deletes the leader's pod, and waits until there are two replicas again; returns the new leader.
async fn hand_over(cluster: &Cluster, leader: &Replica) -> Result<Replica> {
    let start = Instant::now();
    let delete = ["delete", "pod", "-n", NAME, &leader.name, "--wait=false"];
    cluster.kubectl(&delete).await?;
    let next = cluster.another_leads(&leader.name, AFTER_RELEASE).await?;
    log("its pod was deleted", start);
    cluster.rolled_out().await?;
    cluster.is_spread().await?;
    let still = cluster.leader().await?;
    ensure!(
        still.as_ref() == Some(&next),
        "{still:?} leads and not {next:?}"
    );
    Ok(next)
}

fn log(what: &str, since: Instant) {
    let took = since.elapsed().as_secs_f64();
    eprintln!("e2e:          another replica leads {took:.1} s after {what}");
}
