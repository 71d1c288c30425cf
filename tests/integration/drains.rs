//! What holds a drain up, against the eviction API of the real API server.

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{Api, DeleteParams, EvictParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use node_insights::api::node::Drain;
use node_insights::api::types::Phase;
use node_insights::api::{NodeProgressInsight, NodeProgressInsightStatus};
use node_insights_harness::kubernetes::Cluster;
use node_insights_harness::pods::{NAMESPACE, Owner, Pods};
use serde_json::json;

use crate::events::event;
use crate::support::{Operator, World, condition};

/// What is read of a drain.
const READ: &[&str] = &["pods", "poddisruptionbudgets"];
const NODE: &str = "blue-0";
/// A minor version below the API server.
const VERSION: &str = "v1.35.3";

/// The budgets of a server, with the status that the disruption controller would calculate.
struct Budgets(Api<PodDisruptionBudget>);

impl Budgets {
    fn new(client: &Client) -> Self {
        Self(Api::namespaced(client.clone(), NAMESPACE))
    }

    /// The budget of one pod, by its name, which it needs.
    async fn create(&self, name: &str, pod: &str) -> Result<()> {
        let budget = json!({
            "apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
            "metadata": {"name": name},
            "spec": {"maxUnavailable": 0, "selector": {"matchLabels": {"app": pod}}},
        });
        let budget = serde_json::from_value(budget)?;
        self.0.create(&PostParams::default(), &budget).await?;
        self.set(name, 1, 0).await
    }

    async fn set(&self, name: &str, desired: i32, allowed: i32) -> Result<()> {
        let status = json!({"status": {
            "observedGeneration": 1, "expectedPods": 1, "currentHealthy": 1,
            "desiredHealthy": desired, "disruptionsAllowed": allowed,
        }});
        let patch = Patch::Merge(status);
        self.0
            .patch_status(name, &PatchParams::default(), &patch)
            .await?;
        Ok(())
    }

    async fn delete(&self, name: &str) -> Result<()> {
        self.0.delete(name, &DeleteParams::default()).await?;
        Ok(())
    }
}

/// Pods, for evictions that are sent once: the client of other tests repeats them for minutes.
pub async fn evictable(world: &World) -> Result<Api<Pod>> {
    let kubeconfig = Kubeconfig::read_from(world.plane.kubeconfig())?;
    let mut config =
        Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    config.default_retry = false;
    Ok(Api::namespaced(Client::try_from(config)?, NAMESPACE))
}

/// The status code with which the API server answers an eviction.
pub async fn evict(pods: &Api<Pod>, name: &str) -> Result<u16> {
    match pods.evict(name, &EvictParams::default()).await {
        Ok(_) => Ok(201),
        Err(kube::Error::Api(status)) => Ok(status.code),
        Err(error) => Err(error.into()),
    }
}

/// The node has been Draining for longer than it has: the insight says since when.
pub async fn age(world: &World, node: &str, by: &str) -> Result<()> {
    let api: Api<NodeProgressInsight> = Api::all(world.client.clone());
    let mut insight = api.get(node).await?;
    let status = insight.status.as_mut().context("no status")?;
    let span: jiff::Span = by.parse()?;
    let since = status.phase_start_time.checked_sub(span)?;
    status.phase_start_time = since;
    status
        .timeline
        .last_mut()
        .context("no timeline")?
        .start_time = since;
    api.replace_status(node, &PostParams::default(), &insight)
        .await?;
    Ok(())
}

/// A cluster with one worker, which is outdated.
async fn one_node() -> Result<World> {
    let world = World::empty().await?;
    let cluster = Cluster::builder(VERSION).control_plane(0).pool("blue", 1);
    cluster.build()?.load(&world.client).await?;
    Ok(world)
}

/// The worker is cordoned, and has been Draining for so long when this operator starts.
async fn drained_for(world: &World, span: &str, arguments: &[&str]) -> Result<Operator> {
    let operator = world.operator(arguments).await?;
    operator.ready().await?;
    world.editor.nodes().cordon(NODE, true).await?;
    world.node_reaches(NODE, Phase::Draining).await?;
    operator.stop().await?;
    age(world, NODE, span).await?;
    let operator = world.operator(arguments).await?;
    operator.ready().await?;
    Ok(operator)
}

fn reasons(drain: &Drain) -> Vec<(&str, &str)> {
    let blockers = drain.blockers.iter();
    blockers
        .map(|blocker| (&*blocker.reason, &*blocker.name))
        .collect()
}

/// Waits until the insight names these blockers and no others.
async fn names(world: &World, expected: &[(&str, &str)]) -> Result<NodeProgressInsightStatus> {
    world
        .node_becomes(NODE, &format!("{expected:?}"), |status| {
            let drain = status.drain.as_ref();
            drain.is_some_and(|drain| drain.pods_left.is_some() && reasons(drain) == expected)
        })
        .await
}

#[tokio::test]
async fn a_drain_that_the_api_server_refuses_names_its_budgets_and_one_that_it_allows_names_nothing()
-> Result<()> {
    let world = one_node().await?;
    let (pods, budgets) = (Pods::new(&world.client), Budgets::new(&world.client));
    for pod in ["orders", "twice", "free"] {
        pods.run(pod, NODE, Owner::ReplicaSet).await?;
    }
    pods.run("agent", NODE, Owner::DaemonSet).await?;
    budgets.create("orders", "orders").await?;
    budgets.create("one", "twice").await?;
    budgets.create("two", "twice").await?;
    let mark = world.plane.audit().mark()?;
    let operator = world.operator(&[]).await?;
    operator.ready().await?;
    world.node_reaches(NODE, Phase::Pending).await?;
    assert_eq!(
        world.operator_requests(mark, READ)?,
        0,
        "nothing is read at rest"
    );

    world.editor.nodes().cordon(NODE, true).await?;
    let draining = world.node_reaches(NODE, Phase::Draining).await?;
    assert_eq!(draining.drain, None);
    assert_eq!(
        world.operator_requests(mark, READ)?,
        0,
        "most drains end soon"
    );
    let evictable = evictable(&world).await?;
    let answers = [
        evict(&evictable, "orders").await?,
        evict(&evictable, "twice").await?,
        evict(&evictable, "free").await?,
    ];
    assert_eq!(answers, [429, 500, 201]);
    pods.finish("free").await?;
    operator.stop().await?;
    age(&world, NODE, "2m").await?;
    let operator = world.operator(&[]).await?;
    operator.ready().await?;
    let blocked = [("MultipleBudgets", "one"), ("BudgetNeverAllows", "orders")];
    let status = names(&world, &blocked).await?;
    let drain = status.drain.clone().unwrap();
    assert_eq!(drain.pods_left, Some(2), "a drain leaves the agent alone");
    assert_eq!(drain.blockers[0].pods, ["twice"]);
    assert_eq!(status.message.as_ref(), Some(&drain.blockers[0].message));

    // What was said stays what it was, and since when.
    let before = world.node_insight(NODE).await?.unwrap();
    operator.stop().await?;
    let operator = world.operator(&[]).await?;
    operator.ready().await?;
    budgets.set("orders", 0, 1).await?;
    let status = names(&world, &[("MultipleBudgets", "one")]).await?;
    let since =
        |status: &NodeProgressInsightStatus| status.drain.as_ref().unwrap().blockers[0].since;
    assert_eq!(since(&status), since(&before.status.unwrap()));
    assert_eq!(evict(&evictable, "orders").await?, 201);
    pods.finish("orders").await?;
    budgets.delete("two").await?;
    budgets.set("one", 0, 1).await?;
    let status = names(&world, &[]).await?;
    assert_eq!(status.drain.unwrap().pods_left, Some(1));
    assert_eq!(evict(&evictable, "twice").await?, 201);
    pods.finish("twice").await?;
    world.editor.nodes().cordon(NODE, false).await?;
    let over = world.node_reaches(NODE, Phase::Pending).await?;
    assert_eq!(over.drain, None);
    Ok(())
}

/// What holds the drain up has done so for eleven minutes: the insight says since when.
async fn age_blockers(world: &World) -> Result<()> {
    let api: Api<NodeProgressInsight> = Api::all(world.client.clone());
    let mut insight = api.get(NODE).await?;
    let status = insight.status.as_mut().context("no status")?;
    for blocker in &mut status.drain.as_mut().context("no drain")?.blockers {
        blocker.since = blocker
            .since
            .checked_sub(jiff::SignedDuration::from_mins(11))?;
    }
    api.replace_status(NODE, &PostParams::default(), &insight)
        .await?;
    Ok(())
}

#[tokio::test]
async fn a_drain_that_only_a_human_can_free_stalls_and_events_say_so_and_when_it_is_free()
-> Result<()> {
    let world = one_node().await?;
    let (pods, budgets) = (Pods::new(&world.client), Budgets::new(&world.client));
    pods.run("orders", NODE, Owner::ReplicaSet).await?;
    budgets.create("orders", "orders").await?;
    let operator = drained_for(&world, "12m", &[]).await?;
    let status = names(&world, &[("BudgetNeverAllows", "orders")]).await?;
    let is_stalled = |status: &NodeProgressInsightStatus| {
        let mut conditions = status.conditions.iter();
        conditions.any(|each| each.type_ == "Stalled")
    };
    assert!(!is_stalled(&status), "it was named just now");
    operator.stop().await?;
    age_blockers(&world).await?;
    let operator = world.operator(&[]).await?;
    operator.ready().await?;
    let stalled = world.node_becomes(NODE, "stalled", is_stalled).await?;
    let condition = condition(&stalled.conditions, "Stalled");
    assert_eq!(condition.reason, "DrainBlocked");
    assert!(
        condition
            .message
            .contains("PodDisruptionBudget default/orders")
    );
    let about = format!("NodeProgressInsight {NODE}");
    event(&world, "default", &format!("Warning DrainBlocked {about}")).await?;

    budgets.set("orders", 0, 1).await?;
    world
        .node_becomes(NODE, "free", |status| !is_stalled(status))
        .await?;
    event(&world, "default", &format!("Normal DrainUnblocked {about}")).await?;
    Ok(())
}

#[tokio::test]
async fn a_finalizer_keeps_a_pod_that_has_ended_and_the_insight_names_it() -> Result<()> {
    let world = one_node().await?;
    let pods = Pods::new(&world.client);
    pods.run("backup", NODE, Owner::ReplicaSet).await?;
    let api: &Api<Pod> = pods.api();
    let finalizers = json!({"metadata": {"finalizers": ["example.com/upload"]}});
    api.patch("backup", &PatchParams::default(), &Patch::Merge(finalizers))
        .await?;
    let _operator = drained_for(&world, "2m", &[]).await?;
    names(&world, &[]).await?;
    // Its containers end, and the kubelet is done with it.
    let ended = json!({"status": {"phase": "Succeeded"}});
    api.patch_status("backup", &PatchParams::default(), &Patch::Merge(ended))
        .await?;
    pods.finish("backup").await?;
    let status = names(&world, &[("FinalizerHolds", "backup")]).await?;
    let drain = status.drain.unwrap();
    assert!(drain.blockers[0].message.contains("example.com/upload"));
    assert_eq!(drain.blockers[0].kind, "ReplicaSet");
    let updating = condition(&status.conditions, "Updating");
    assert_eq!(updating.reason, "Draining");
    Ok(())
}

#[tokio::test]
async fn nothing_is_read_of_a_drain_where_the_user_does_not_want_it() -> Result<()> {
    let world = one_node().await?;
    let mark = world.plane.audit().mark()?;
    let _operator = drained_for(&world, "2m", &["--enable-drain-blockers=false"]).await?;
    world.editor.nodes().cordon(NODE, false).await?;
    let over = world.node_reaches(NODE, Phase::Pending).await?;
    assert_eq!(over.drain, None);
    assert_eq!(world.operator_requests(mark, READ)?, 0);
    Ok(())
}
