//! The nodes that are drained, their pods and budgets.

use std::fmt::Debug;

use anyhow::{Context as _, Result};
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::core::NamespaceResourceScope;
use kube::{Client, Resource};
use node_insights_harness::kubernetes::{Cluster, numbered};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// Pods on each node that is drained.
pub(crate) const PODS: usize = 100;
/// All budgets.
pub(crate) const BUDGETS: usize = 2000;
/// Each has as many workloads with a budget; its first pods are on every node that is drained.
const NAMESPACES: usize = 50;
/// A minor version below the API server.
const OLD: &str = "v1.35.3";
const POOL: &str = "workers";
const IN_FLIGHT: usize = 32;

/// Loads the nodes, all of them outdated.
///
/// # Errors
/// When the API server rejects an object; the same for every function here.
pub(crate) async fn nodes(client: &Client, count: usize, images: usize) -> Result<()> {
    let cluster = Cluster::builder(OLD)
        .control_plane(0)
        .pool(POOL, count)
        .images_per_node(images);
    cluster.build()?.load(client).await?;
    Ok(())
}

/// The names of all nodes.
pub(crate) fn names(count: usize) -> Vec<String> {
    numbered(POOL, count)
}

/// Creates the budgets, all of which allow an eviction.
pub(crate) async fn budgets(client: &Client) -> Result<()> {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    for index in 0..NAMESPACES {
        let object = serde_json::from_value(json!({"metadata": {"name": namespace(index)}}))?;
        namespaces.create(&PostParams::default(), &object).await?;
    }
    all((0..BUDGETS).map(|index| async move {
        let api: Api<PodDisruptionBudget> = Api::namespaced(client.clone(), &namespace(index));
        let selector = json!({"matchLabels": {"app": app(index / NAMESPACES)}});
        let budget = json!({
            "metadata": {"name": budget(index)},
            "spec": {"maxUnavailable": 1, "selector": selector},
        });
        create(&api, budget, status(true)).await
    }))
    .await
}

/// Creates the pods of a node.
pub(crate) async fn pods(client: &Client, nodes: &[String]) -> Result<()> {
    let pairs = nodes
        .iter()
        .flat_map(|node| (0..PODS).map(move |index| (node, index)));
    all(pairs.map(|(node, index)| async move {
        let app = app(index);
        let owner = json!({
            "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": format!("{app}-5d8f7c9b6"),
            "uid": format!("00000000-0000-4000-8000-{index:012}"), "controller": true,
        });
        let pod = json!({
            "metadata": {
                "name": pod(node, index), "labels": {"app": app, "pod-template-hash": "5d8f7c9b6"},
                "ownerReferences": [owner],
            },
            "spec": {
                "nodeName": node, "automountServiceAccountToken": false,
                "containers": [{"name": "main", "image": "registry.example.com/main"}],
            },
        });
        let api: Api<Pod> = Api::namespaced(client.clone(), &namespace(index));
        create(&api, pod, running(true)).await
    }))
    .await
}

/// The kubelet reports one of the last pods of a node, which have no budgets, as ready, or as not ready. Returns the
/// resource version, which is that of an event.
pub(crate) async fn set_ready(
    client: &Client,
    node: &str,
    pod_from_last: usize,
    is_ready: bool,
) -> Result<String> {
    let index = PODS - 1 - pod_from_last;
    let api: Api<Pod> = Api::namespaced(client.clone(), &namespace(index));
    let patched = patch_status(&api, &pod(node, index), running(is_ready)).await?;
    patched.metadata.resource_version.context("no version")
}

/// The budget of the pods with this index on every node allows an eviction, or none ever.
pub(crate) async fn set_allowed(client: &Client, pod: usize, is_allowed: bool) -> Result<()> {
    let index = pod * NAMESPACES + pod;
    let api: Api<PodDisruptionBudget> = Api::namespaced(client.clone(), &namespace(index));
    patch_status(&api, &budget(index), status(is_allowed)).await?;
    Ok(())
}

fn namespace(index: usize) -> String {
    format!("namespace-{}", index % NAMESPACES)
}

fn app(index: usize) -> String {
    format!("app-{index}")
}

fn budget(index: usize) -> String {
    format!("budget-{index}")
}

fn pod(node: &str, index: usize) -> String {
    format!("app-{index}-5d8f7c9b6-{node}")
}

/// As the disruption controller calculates it.
fn status(is_allowed: bool) -> Value {
    let (desired, allowed) = if is_allowed { (499, 1) } else { (500, 0) };
    json!({
        "observedGeneration": 1, "expectedPods": 500, "currentHealthy": 500,
        "desiredHealthy": desired, "disruptionsAllowed": allowed,
    })
}

fn running(is_ready: bool) -> Value {
    let status = if is_ready { "True" } else { "False" };
    json!({"phase": "Running", "conditions": [{"type": "Ready", "status": status}]})
}

async fn create<K>(api: &Api<K>, object: Value, status: Value) -> Result<()>
where
    K: Resource<Scope = NamespaceResourceScope> + Clone + Debug + Serialize + DeserializeOwned,
{
    let name = object["metadata"]["name"]
        .as_str()
        .context("no name")?
        .to_owned();
    let object: K = serde_json::from_value(object)?;
    api.create(&PostParams::default(), &object).await?;
    patch_status(api, &name, status).await?;
    Ok(())
}

async fn patch_status<K>(api: &Api<K>, name: &str, status: Value) -> Result<K>
where
    K: Clone + Debug + DeserializeOwned,
{
    let patch = Patch::Merge(json!({"status": status}));
    api.patch_status(name, &PatchParams::default(), &patch)
        .await
        .with_context(|| name.to_owned())
}

async fn all<F: Future<Output = Result<()>>>(requests: impl Iterator<Item = F>) -> Result<()> {
    stream::iter(requests)
        .buffer_unordered(IN_FLIGHT)
        .try_collect()
        .await
}
