//! Who writes when the replica that did is gone.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use node_insights::api::types::ConditionStatus;

use crate::cluster::{Cluster, Replica};
use crate::helm::NAME;
use crate::node::Kubelet;
use crate::support::condition;

/// A leader that ends lets the other one lead at once.
const HANDED_OVER: Duration = Duration::from_secs(10);
/// One that dies holds its lease of 15 s until that is over. More than the promise, as a loaded machine is slow.
const EXPIRED: Duration = Duration::from_secs(40);

pub async fn the_other_replica_leads(cluster: &mut Cluster) -> Result<()> {
    cluster.is_spread().await?;
    let leader = cluster.leader().await?.context("nobody leads")?;
    // The pod that starts may be quicker than the one that stands by, so it may be on either node.
    let leader = hands_over(cluster, &leader).await?;
    let node = leader.node.as_str();

    let start = Instant::now();
    cluster.node(node).pull_the_plug().await?;
    let next = cluster.another_leads(&leader.name, EXPIRED).await?;
    say(&format!("its node, {node}, died"), start);
    ensure!(next.node != node, "{next:?}");
    // Who leads now writes: this node is not what it was.
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

/// Deletes the leader's pod, and waits until both replicas are there again.
async fn hands_over(cluster: &Cluster, leader: &Replica) -> Result<Replica> {
    let start = Instant::now();
    let delete = ["delete", "pod", "-n", NAME, &leader.name, "--wait=false"];
    cluster.kubectl(&delete).await?;
    let next = cluster.another_leads(&leader.name, HANDED_OVER).await?;
    say("its pod was deleted", start);
    cluster.rolled_out().await?;
    cluster.is_spread().await?;
    let still = cluster.leader().await?;
    ensure!(
        still.as_ref() == Some(&next),
        "{still:?} leads and not {next:?}"
    );
    Ok(next)
}

fn say(what: &str, since: Instant) {
    let took = since.elapsed().as_secs_f64();
    eprintln!("e2e:          another replica leads {took:.1} s after {what}");
}
