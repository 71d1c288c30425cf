//! Plays a drift rollout: the nodes of a NodePool get another image, and are replaced, two at a time. Beside it one
//! empty node is removed, which is no update, and one node is held by `karpenter.sh/do-not-disrupt`.

use std::time::Duration;

use anyhow::Result;
use futures::stream::{self, StreamExt, TryStreamExt};
use kube::{Client, ResourceExt};
use serde_json::json;

use super::{Karpenter, Machine};
use crate::kubernetes::{Nodes, Pace, numbered};
use crate::truth::{COMPLETED, PAUSED, PENDING, Truth};

/// The pool whose only node is held.
pub const HELD_POOL: &str = "stateful";
const HELD: &str = "karpenter-stateful-0";
const ANNOTATION: &str = "karpenter.sh/do-not-disrupt";
/// The node that is removed because it is empty.
const EMPTY: &str = "karpenter-batch-2";
/// How many nodes are replaced at once.
const AT_ONCE: usize = 2;
const LOOK: Duration = Duration::from_millis(200);
/// How long Karpenter takes to disrupt a node that is no longer held, at the pace of the demo.
const NOTICE: Duration = Duration::from_secs(1);

/// A rollout to be played.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What the nodes run before.
    pub from: String,
    /// What they run after.
    pub version: String,
    /// How fast.
    pub pace: Pace,
    /// Where the truth is told.
    pub truth: Truth,
}

impl Plan {
    /// How many nodes there are before.
    #[must_use]
    pub fn nodes(&self) -> usize {
        self.machines().len()
    }

    fn machines(&self) -> Vec<Machine> {
        let pools = [("general", 6), ("batch", 3), (HELD_POOL, 1)];
        let names = |(pool, count): (&'static str, usize)| {
            let names = numbered(&format!("karpenter-{pool}"), count).into_iter();
            names.map(move |name| (name, pool))
        };
        let all = pools.into_iter().flat_map(names);
        all.map(|(name, pool)| Machine::new(&name, pool, &self.from))
            .collect()
    }
}

/// Makes the server hold the cluster, before the rollout; it serves Karpenter's kinds already.
///
/// # Errors
/// When the server refuses an object.
pub async fn load(client: &Client, plan: &Plan) -> Result<()> {
    let karpenter = Karpenter::new(client);
    for pool in ["general", "batch", HELD_POOL] {
        karpenter.pool(pool, &json!([{"nodes": "20%"}])).await?;
    }
    for machine in plan.machines() {
        let joined = karpenter.machine(&machine);
        plan.truth
            .joins(&machine.name, &[COMPLETED], joined)
            .await?;
    }
    let nodes = Nodes::new(client.clone());
    nodes.annotate(HELD, &[(ANNOTATION, Some("true"))]).await
}

/// Plays the rollout; returns when every drifted node is replaced, the held one after its release.
///
/// # Errors
/// When the server does not answer.
pub async fn play(client: &Client, plan: &Plan) -> Result<()> {
    let karpenter = Karpenter::new(client).telling(&plan.truth);
    let drifted: Vec<Machine> = plan
        .machines()
        .into_iter()
        .filter(|machine| machine.pool != "batch")
        .collect();
    for machine in &drifted {
        let name = machine.name.as_str();
        let phases = if name == HELD { &[PAUSED] } else { &[PENDING] };
        let drifted = karpenter.drift(name, "AMIDrift");
        plan.truth.step(name, phases, drifted).await?;
    }
    let replace = |machine: Machine| {
        let (karpenter, pace) = (karpenter.clone(), plan.pace);
        let name = format!("{}-new", machine.name);
        let new = Machine::new(&name, &machine.pool, &plan.version);
        async move { karpenter.replace(&machine.name, &new, pace).await }
    };
    let (held, free): (Vec<Machine>, Vec<Machine>) = drifted
        .into_iter()
        .partition(|machine| machine.name == HELD);
    let rollout = stream::iter(free)
        .map(&replace)
        .buffer_unordered(AT_ONCE)
        .try_collect::<()>();
    let consolidation = karpenter.consolidate(EMPTY, plan.pace);
    futures::future::try_join(rollout, consolidation).await?;
    wait_until_released(client).await?;
    plan.pace.pass(NOTICE).await;
    for machine in held {
        replace(machine).await?;
    }
    Ok(())
}

/// Lets the held node be replaced.
///
/// # Errors
/// When the server refuses.
pub async fn release(client: &Client, plan: &Plan) -> Result<()> {
    let nodes = Nodes::new(client.clone());
    let released = nodes.annotate(HELD, &[(ANNOTATION, None)]);
    plan.truth.step(HELD, &[PENDING], released).await
}

async fn wait_until_released(client: &Client) -> Result<()> {
    let nodes = Nodes::new(client.clone());
    while nodes
        .api()
        .get(HELD)
        .await?
        .annotations()
        .contains_key(ANNOTATION)
    {
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}
