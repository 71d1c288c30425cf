//! What holds a drain up, with budgets whose status the real disruption controller calculates.

use std::time::Instant;

use anyhow::{Context, Result};
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::Client;
use kube::api::{Api, DeleteParams, ListParams, PostParams};
use node_insights::api::node::Drain;
use node_insights::api::types::Phase;
use node_insights_harness::eventually;
use node_insights_harness::kubernetes::Cluster;
use node_insights_harness::pods::{NAMESPACE, Pods};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::drains::{age, evict, evictable};
use crate::support::{SOON, World};

/// A minor version below the API server.
const VERSION: &str = "v1.35.3";
const NODES: [&str; 2] = ["blue-0", "blue-1"];

/// What makes the pods of a workload.
#[derive(Clone, Copy, PartialEq)]
pub enum Owner {
    ReplicaSet,
    Job,
    None,
}

/// Pods of one kind, on one node, and their budgets.
pub struct Workload {
    pub name: &'static str,
    pub node: String,
    pub owner: Owner,
    pub pods: usize,
    pub are_ready: bool,
    /// More fields of the spec of its pods.
    pub fields: Value,
    pub budgets: Vec<Value>,
    /// How the API server answers the eviction of the first pod.
    pub answer: u16,
    pub reason: Option<&'static str>,
}

impl Workload {
    /// Two ready pods of a ReplicaSet.
    fn new(name: &'static str, budget: Value, answer: u16, reason: &'static str) -> Self {
        Self {
            budgets: vec![budget],
            answer,
            reason: Some(reason),
            ..Self::free(name, NODES[0])
        }
    }

    /// The same without a budget.
    pub fn free(name: &'static str, node: &str) -> Self {
        Self {
            name,
            node: node.to_owned(),
            owner: Owner::ReplicaSet,
            pods: 2,
            are_ready: true,
            fields: json!({}),
            budgets: Vec::new(),
            answer: 201,
            reason: None,
        }
    }

    fn first(&self) -> String {
        format!("{}-0", self.name)
    }

    pub async fn create(&self, client: &Client) -> Result<()> {
        let owners = self.owner.create(client, self.name, self.pods).await?;
        let pods = Pods::new(client);
        for index in 0..self.pods {
            let name = format!("{}-{index}", self.name);
            let metadata = metadata(&name, self.name, &owners);
            pods.run_with(metadata, &self.node, self.are_ready, &self.fields)
                .await?;
        }
        for (index, budget) in self.budgets.iter().enumerate() {
            let name = format!("{}-{index}", self.name);
            protect(client, &name, self.name, budget).await?;
        }
        Ok(())
    }
}

impl Owner {
    /// Creates the owner of so many pods; returns what its pods have as `ownerReferences`.
    pub async fn create(self, client: &Client, name: &str, pods: usize) -> Result<Value> {
        let template = json!({
            "metadata": {"labels": {"app": name}},
            "spec": {
                "restartPolicy": if self == Self::Job { "Never" } else { "Always" },
                "containers": [{"name": "main", "image": "registry.example.com/main"}],
            },
        });
        let metadata = json!({"name": name});
        let (version, kind, uid) = match self {
            Self::ReplicaSet => {
                let set = json!({"metadata": metadata, "spec": {
                    "replicas": pods, "template": template,
                    "selector": {"matchLabels": {"app": name}},
                }});
                let uid = created::<ReplicaSet>(client, set).await?.metadata.uid;
                ("apps/v1", "ReplicaSet", uid)
            }
            Self::Job => {
                let job = json!({"metadata": metadata, "spec": {"template": template}});
                let uid = created::<Job>(client, job).await?.metadata.uid;
                ("batch/v1", "Job", uid)
            }
            Self::None => return Ok(json!([])),
        };
        let owner = json!({
            "apiVersion": version, "kind": kind, "name": name, "uid": uid, "controller": true,
        });
        Ok(json!([owner]))
    }
}

/// The metadata of a pod of an application.
pub fn metadata(name: &str, app: &str, owners: &Value) -> Value {
    json!({"name": name, "labels": {"app": app}, "ownerReferences": owners})
}

/// Creates a budget of the pods of an application.
pub async fn protect(client: &Client, name: &str, app: &str, budget: &Value) -> Result<()> {
    let mut spec = budget.clone();
    spec["selector"] = json!({"matchLabels": {"app": app}});
    let budget = json!({"metadata": {"name": name}, "spec": spec});
    created::<PodDisruptionBudget>(client, budget).await?;
    Ok(())
}

async fn created<K>(client: &Client, object: Value) -> Result<K>
where
    K: kube::Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + Serialize
        + DeserializeOwned,
{
    let api: Api<K> = Api::namespaced(client.clone(), NAMESPACE);
    let object = serde_json::from_value(object)?;
    Ok(api.create(&PostParams::default(), &object).await?)
}

fn workloads() -> Vec<Workload> {
    vec![
        Workload::new(
            "none-unavailable",
            json!({"maxUnavailable": 0}),
            429,
            "BudgetNeverAllows",
        ),
        Workload::new(
            "all",
            json!({"minAvailable": "100%"}),
            429,
            "BudgetNeverAllows",
        ),
        Workload {
            pods: 1,
            ..Workload::new(
                "single",
                json!({"minAvailable": 1}),
                429,
                "BudgetNeverAllows",
            )
        },
        Workload {
            budgets: vec![json!({"maxUnavailable": 1}), json!({"maxUnavailable": 1})],
            ..Workload::new("twice", json!({}), 500, "MultipleBudgets")
        },
        Workload {
            are_ready: false,
            node: NODES[1].to_owned(),
            ..Workload::new(
                "crashing",
                json!({"maxUnavailable": 1}),
                429,
                "BudgetUnhealthy",
            )
        },
        Workload {
            owner: Owner::None,
            node: NODES[1].to_owned(),
            ..Workload::new(
                "bare",
                json!({"maxUnavailable": 1}),
                429,
                "BudgetUnmanagedPods",
            )
        },
        Workload {
            owner: Owner::Job,
            node: NODES[1].to_owned(),
            ..Workload::new("job", json!({"maxUnavailable": 1}), 429, "BudgetSyncFailed")
        },
        Workload {
            budgets: vec![json!({"minAvailable": 1})],
            ..Workload::free("free", NODES[1])
        },
        Workload {
            are_ready: false,
            budgets: vec![
                json!({"maxUnavailable": 1, "unhealthyPodEvictionPolicy": "AlwaysAllow"}),
            ],
            ..Workload::free("crashing-but-free", NODES[1])
        },
    ]
}

/// The reasons and budgets that a node's insight is expected to name, sorted.
fn expected(workloads: &[Workload], node: &str) -> Vec<(String, String)> {
    let of_node = workloads.iter().filter(|each| each.node == node);
    let mut all: Vec<(String, String)> = of_node
        .filter_map(|each| Some((each.reason?.to_owned(), each.first())))
        .collect();
    all.sort();
    all
}

fn named(drain: &Drain) -> Vec<(String, String)> {
    let blockers = drain.blockers.iter();
    let mut all: Vec<(String, String)> = blockers
        .map(|blocker| (blocker.reason.clone(), blocker.name.clone()))
        .collect();
    all.sort();
    all
}

/// Waits until the disruption controller has calculated every budget.
pub async fn calculated(client: &Client, count: usize) -> Result<()> {
    let api: Api<PodDisruptionBudget> = Api::namespaced(client.clone(), NAMESPACE);
    eventually("every budget is calculated", SOON, async || {
        let all = api.list(&ListParams::default()).await?.items;
        let has_status = |budget: &&PodDisruptionBudget| {
            let status = budget.status.as_ref();
            status.is_some_and(|status| status.conditions.iter().flatten().next().is_some())
        };
        let calculated = all.iter().filter(has_status).count();
        Ok((calculated == count).then_some(()))
    })
    .await
}

#[tokio::test]
async fn each_budget_that_refuses_an_eviction_is_named_with_its_reason_and_no_other() -> Result<()>
{
    let mut world = World::empty().await?;
    world.plane.start_controller_manager().await?;
    let cluster = Cluster::builder(VERSION).control_plane(0).pool("blue", 2);
    cluster.build()?.load(&world.client).await?;
    let operator = world.operator(&[]).await?;
    operator.ready().await?;
    for node in NODES {
        world.editor.nodes().cordon(node, true).await?;
        world.node_reaches(node, Phase::Draining).await?;
    }
    operator.stop().await?;
    for node in NODES {
        age(&world, node, "2m").await?;
    }
    let operator = world.operator(&[]).await?;
    operator.ready().await?;

    let workloads = workloads();
    for workload in &workloads {
        workload.create(&world.client).await?;
    }
    let budgets = workloads.iter().map(|each| each.budgets.len()).sum();
    calculated(&world.client, budgets).await?;
    let began = Instant::now();
    for node in NODES {
        let expected = expected(&workloads, node);
        world
            .node_becomes(node, &format!("{expected:?}"), |status| {
                status.drain.as_ref().map(named).as_ref() == Some(&expected)
            })
            .await?;
    }
    println!(
        "All of them are named {:.1} s after the last was calculated",
        began.elapsed().as_secs_f64()
    );
    let evictable = evictable(&world).await?;
    for workload in &workloads {
        let answer = evict(&evictable, &workload.first()).await?;
        assert_eq!(answer, workload.answer, "{}", workload.name);
    }

    let node = world.node_insight(NODES[0]).await?;
    let pool = node.and_then(|node| node.status?.pool_ref);
    let pool = pool.context("the node has a pool")?.name;
    let counts = async || {
        let pools = world.pool_insights().await?.into_values();
        let mut all = pools.filter_map(|insight| insight.status);
        let blocked = all
            .find(|status| status.name == pool)
            .and_then(|status| status.blocked_drains);
        Ok(blocked.filter(|blocked| blocked.nodes == 2))
    };
    let blocked = eventually("the pool has two blocked drains", SOON, counts).await?;
    assert_eq!(blocked.worst.kind, "PodDisruptionBudget");

    // Without the budget, the API server evicts the pod, and nothing is named for it.
    let api: Api<PodDisruptionBudget> = Api::namespaced(world.client.clone(), NAMESPACE);
    api.delete("bare-0", &DeleteParams::default()).await?;
    let mut rest = expected(&workloads, NODES[1]);
    rest.retain(|(_, budget)| budget != "bare-0");
    let began = Instant::now();
    world
        .node_becomes(NODES[1], &format!("{rest:?}"), |status| {
            status.drain.as_ref().map(named).as_ref() == Some(&rest)
        })
        .await?;
    println!(
        "What is gone is not named {:.1} s later",
        began.elapsed().as_secs_f64()
    );
    assert_eq!(evict(&evictable, "bare-0").await?, 201);
    Ok(())
}
