//! A rollout of many nodes, several at a time, whose drains really evict; ten of them are held up, each by something
//! else.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result};
use futures::stream::{self, StreamExt, TryStreamExt};
use node_insights::api::PoolProgressInsightStatus;
use node_insights::api::pool::{Assessment, BlockedDrains};
use node_insights::api::types::Phase;
use node_insights_harness::eventually;
use node_insights_harness::kubernetes::{Cluster, numbered};
use node_insights_harness::load::{IN_FLIGHT, write_objects};
use node_insights_harness::pods::Pods;
use serde_json::json;
use tokio::task::JoinSet;

use self::blocker::{Blocker, all, needs_human};
use self::observer::{Downtime, Observer};
use self::updater::Updater;
use crate::disruption::{Owner, calculated, metadata, protect};
use crate::drains::age;
use crate::support::{Operator, SOON, World};

mod blocker;
mod observer;
mod updater;

/// A minor version below the API server.
const OLD: &str = "v1.35.3";
const NODES: usize = 300;
/// Nodes that are updated at once, besides those whose drain is held up.
const AT_ONCE: usize = 30;
/// Nodes that run what the others are updated to: pods that were evicted come back there.
const SPARE: &str = "spare-0";
/// Workloads with a budget that allows two pods less; three nodes of each step have one of its pods.
const SERVICES: usize = 10;
/// How many steps after it held up a drain a blocker is removed.
const FREED_AFTER: usize = 2;

#[tokio::test]
async fn in_a_rollout_of_many_nodes_each_blocker_is_named_within_two_seconds_and_no_other_is()
-> Result<()> {
    let mut world = World::empty().await?;
    world.plane.start_controller_manager().await?;
    let version = world.client.apiserver_version().await?.git_version;
    let nodes = numbered("blue", NODES);
    let blockers = all(&nodes, AT_ONCE);
    assert_eq!(blockers.len(), NODES / AT_ONCE, "one a step");
    load(&world, &nodes, &version, &blockers).await?;
    let operator = world.operator(&[]).await?;
    operator.ready().await?;
    world.node_reaches(&nodes[0], Phase::Pending).await?;
    let is_of_nodes = |status: &PoolProgressInsightStatus| status.name == "blue";
    let pool = eventually("the nodes have a pool", SOON, async || {
        let mut pools = world.pool_insights().await?.into_iter();
        let found = pools.find(|(_, pool)| pool.status.as_ref().is_some_and(is_of_nodes));
        Ok(found.map(|(name, _)| name))
    })
    .await?;
    let mut rollout = Rollout {
        updater: Arc::new(Updater::new(&world, &version, blockers).await?),
        observer: Observer::start(&world.client),
        updates: JoinSet::new(),
        operator: Some(operator),
        world,
        pool,
    };
    for (step, nodes) in nodes.chunks(AT_ONCE).enumerate() {
        rollout.step(step, nodes).await?;
    }
    rollout.finish(&nodes).await
}

/// Creates the nodes, their pods and budgets, and what will hold drains up.
async fn load(world: &World, nodes: &[String], version: &str, blockers: &[Blocker]) -> Result<()> {
    let client = &world.client;
    let old = Cluster::builder(OLD).control_plane(0).pool("blue", NODES);
    old.build()?.load(client).await?;
    let new = Cluster::builder(version).control_plane(0).pool("spare", 1);
    write_objects(client, new.build()?.objects(), true).await?;
    for blocker in blockers {
        blocker.create(client).await?;
    }
    let mut services = Vec::new();
    for index in 0..SERVICES {
        let app = format!("service-{index}");
        let owners = Owner::ReplicaSet.create(client, &app, NODES / SERVICES);
        services.push((app.clone(), owners.await?));
        protect(client, &app, &app, &json!({"maxUnavailable": 2})).await?;
    }
    // A node whose blocker is an exhausted budget has no other pods: theirs may be exhausted for a moment as well.
    let is_alone = |node: &String| blockers.iter().any(|each| each.is_alone_on(node));
    let pods = &Pods::new(client);
    let of_nodes = nodes.iter().enumerate().filter(|(_, node)| !is_alone(node));
    let created = of_nodes.map(|(index, node)| {
        let (app, owners) = &services[index % SERVICES];
        let service = metadata(&format!("{app}-{node}"), app, owners);
        let task = metadata(&format!("task-{node}"), "task", &json!([]));
        async move {
            pods.run_as(service, node, true).await?;
            if index % 3 == 0 {
                pods.run_as(task, node, true).await?;
            }
            anyhow::Ok(())
        }
    });
    stream::iter(created)
        .buffer_unordered(IN_FLIGHT)
        .try_collect::<()>()
        .await?;
    let budgets = blockers.iter().map(Blocker::budgets).sum::<usize>();
    calculated(client, budgets + SERVICES).await
}

struct Rollout {
    world: World,
    operator: Option<Operator>,
    updater: Arc<Updater>,
    observer: Observer,
    updates: JoinSet<Result<()>>,
    /// The name of the insight of the pool.
    pool: String,
}

impl Rollout {
    /// Updates these nodes; one of them is held up, and one of an earlier step is freed.
    async fn step(&mut self, step: usize, nodes: &[String]) -> Result<()> {
        let updater = Arc::clone(&self.updater);
        let held = &updater.blockers[step];
        self.cordon(nodes).await?;
        for node in nodes {
            let update = Arc::clone(&updater).update(node.clone());
            self.updates.spawn(update);
        }
        let freed = step.checked_sub(FREED_AFTER);
        let freed = freed.map(|step| &updater.blockers[step]);
        if let Some(freed) = freed.filter(|freed| !freed.is_late()) {
            self.observer.until_named(freed).await?;
            updater.free(freed).await?;
        }
        let rest = nodes.iter().filter(|node| **node != held.node);
        let rest: Vec<&str> = rest.map(String::as_str).collect();
        let completed = self.observer.until_all(&rest, Phase::Completed).await;
        // An update that failed explains why a node is not.
        while let Some(update) = self.updates.try_join_next() {
            update??;
        }
        completed?;
        self.pool_agrees().await
    }

    /// The drains of these nodes begin, so long ago that what holds them up is known.
    async fn cordon(&mut self, nodes: &[String]) -> Result<()> {
        let names: Vec<&str> = nodes.iter().map(String::as_str).collect();
        let cordoned = names
            .iter()
            .map(|node| self.updater.nodes.cordon(node, true));
        stream::iter(cordoned)
            .buffer_unordered(IN_FLIGHT)
            .try_collect::<()>()
            .await?;
        self.observer.until_all(&names, Phase::Draining).await?;
        let since = Instant::now();
        let operator = self.operator.take().context("the operator runs")?;
        operator.stop().await?;
        let aged = names.iter().map(|node| {
            let blockers = self.updater.blockers.iter();
            let own = blockers.filter(|blocker| blocker.node == **node);
            let by = own.map(Blocker::age).next().unwrap_or("70s");
            age(&self.world, node, by)
        });
        stream::iter(aged)
            .buffer_unordered(IN_FLIGHT)
            .try_collect::<()>()
            .await?;
        let operator = self.world.operator(&[]).await?;
        operator.ready().await?;
        self.operator = Some(operator);
        self.observer.was_down(Downtime {
            since,
            until: Instant::now(),
        });
        for blocker in &self.updater.blockers {
            if names.contains(&blocker.node.as_str()) {
                blocker.drain_began(since);
            }
        }
        Ok(())
    }

    /// Waits until the insight of the pool counts the drains that the insights of nodes call held up.
    async fn pool_agrees(&self) -> Result<()> {
        let observer = &self.observer;
        let agrees = |blocked: Option<&BlockedDrains>| {
            let held = observer.held();
            let Some(blocked) = blocked else {
                return held.is_empty();
            };
            let worst = &blocked.worst.reason;
            usize::try_from(blocked.nodes).ok() == Some(held.len())
                && held.get(&blocked.worst_node) == Some(worst)
                && (needs_human(worst) || !held.values().any(|reason| needs_human(reason)))
        };
        self.world
            .pool_becomes(&self.pool, "its blocked drains", |status| {
                agrees(status.blocked_drains.as_ref())
            })
            .await?;
        Ok(())
    }

    /// Frees what is still held up, and compares what was shown with what was true.
    async fn finish(mut self, nodes: &[String]) -> Result<()> {
        let updater = Arc::clone(&self.updater);
        for blocker in updater
            .blockers
            .iter()
            .filter(|blocker| !blocker.is_freed())
        {
            self.observer.until_named(blocker).await?;
            self.pool_agrees().await?;
            updater.free(blocker).await?;
        }
        let all_over = async {
            while let Some(update) = self.updates.join_next().await {
                update??;
            }
            anyhow::Ok(())
        };
        tokio::time::timeout(SOON, all_over)
            .await
            .context("an update hangs")??;
        let names: Vec<&str> = nodes.iter().map(String::as_str).collect();
        self.observer.until_all(&names, Phase::Completed).await?;
        self.world
            .pool_becomes(&self.pool, "Completed", |status| {
                status.assessment == Assessment::Completed && status.blocked_drains.is_none()
            })
            .await?;
        let (delays, complaints) = self.observer.compare(&updater.blockers);
        println!("{delays}");
        assert!(complaints.is_empty(), "{complaints:#?}");
        Ok(())
    }
}
