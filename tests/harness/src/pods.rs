//! Simulated pods on simulated nodes, for drains: what schedulers, kubelets and drainers write, one step a method.
//! Nothing runs.
//!
//! As no kubelet runs, an evicted pod keeps its `deletionTimestamp` until the test says that it is gone. The owners do
//! not exist: where the garbage collector of kube-controller-manager runs, it deletes the pods.

use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, EvictParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};

use crate::kubernetes::node::{boot_id, now};

/// The namespace of all pods.
pub const NAMESPACE: &str = "default";

/// What a pod that is evicted has left, in seconds: the default of Kubernetes.
pub const GRACE: u32 = 30;

/// How often a drainer repeats an eviction.
const ATTEMPT: Duration = Duration::from_secs(1);

/// Who made a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// A `ReplicaSet`: a drain evicts the pod.
    ReplicaSet,
    /// A `DaemonSet`: a drain leaves the pod alone.
    DaemonSet,
    /// The kubelet, from a file of its node: the pod is a mirror, and a drain leaves it alone.
    Kubelet,
}

impl Owner {
    fn reference(self, pod: &str, node: &str) -> Value {
        let (version, kind, name) = match self {
            Self::ReplicaSet => ("apps/v1", "ReplicaSet", pod),
            Self::DaemonSet => ("apps/v1", "DaemonSet", pod),
            Self::Kubelet => ("v1", "Node", node),
        };
        let random = fastrand::u64(..).to_string();
        json!({
            "apiVersion": version, "kind": kind, "name": name,
            "uid": boot_id(&[kind, name, &random]), "controller": true,
        })
    }

    fn annotations(self, pod: &str) -> Value {
        match self {
            Self::ReplicaSet | Self::DaemonSet => json!({}),
            Self::Kubelet => json!({"kubernetes.io/config.mirror": boot_id(&[pod])}),
        }
    }
}

/// The pods of a server, for writing.
#[derive(Clone)]
pub struct Pods {
    api: Api<Pod>,
}

impl Pods {
    /// The pods of the server that `client` talks to.
    #[must_use]
    pub fn new(client: &Client) -> Self {
        Self {
            api: Api::namespaced(client.clone(), NAMESPACE),
        }
    }

    /// For reading.
    #[must_use]
    pub fn api(&self) -> &Api<Pod> {
        &self.api
    }

    /// A pod is bound to a node, and runs there, ready.
    ///
    /// # Errors
    /// When the server refuses; so for every method here.
    pub async fn run(&self, name: &str, node: &str, owner: Owner) -> Result<()> {
        let metadata = json!({
            "name": name, "labels": {"app": name},
            "annotations": owner.annotations(name),
            "ownerReferences": [owner.reference(name, node)],
        });
        self.run_as(metadata, node, true).await
    }

    /// A pod with this metadata is bound to a node, and runs there, ready or not.
    ///
    /// # Errors
    /// As [`Pods::run`].
    pub async fn run_as(&self, metadata: Value, node: &str, is_ready: bool) -> Result<()> {
        self.run_with(metadata, node, is_ready, &json!({})).await
    }

    /// The same with a pod whose spec has these fields as well.
    ///
    /// # Errors
    /// As [`Pods::run`].
    pub async fn run_with(
        &self,
        metadata: Value,
        node: &str,
        is_ready: bool,
        fields: &Value,
    ) -> Result<()> {
        let mut spec = json!({
            "nodeName": node,
            // The admission plugin ServiceAccount would mount a token, if it is enabled.
            "automountServiceAccountToken": false,
            "containers": [{"name": "main", "image": "registry.example.com/main"}],
            "terminationGracePeriodSeconds": GRACE,
        });
        for (field, value) in fields.as_object().into_iter().flatten() {
            spec[field] = value.clone();
        }
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec});
        let pod: Pod = serde_json::from_value(pod)?;
        let name = pod.metadata.name.clone().context("a pod has a name")?;
        self.api
            .create(&PostParams::default(), &pod)
            .await
            .with_context(|| format!("Creating pod {name}"))?;
        let (scheduled, initialized) = (
            condition("PodScheduled", true),
            condition("Initialized", true),
        );
        let status = json!({
            "phase": "Running", "startTime": now(), "conditions": [scheduled, initialized],
        });
        self.set_status(&name, status, is_ready).await
    }

    /// The kubelet reports that a pod is ready, or that it is not.
    ///
    /// # Errors
    /// As [`Pods::run`].
    pub async fn set_ready(&self, name: &str, is_ready: bool) -> Result<()> {
        self.set_status(name, json!({"conditions": []}), is_ready)
            .await
    }

    async fn set_status(&self, name: &str, mut status: Value, is_ready: bool) -> Result<()> {
        if let Some(conditions) = status["conditions"].as_array_mut() {
            conditions.extend(["ContainersReady", "Ready"].map(|kind| condition(kind, is_ready)));
        }
        let patch = Patch::Strategic(json!({"status": status}));
        self.api
            .patch_status(name, &PatchParams::default(), &patch)
            .await
            .with_context(|| format!("Patching the status of pod {name}"))?;
        Ok(())
    }

    /// A drainer evicts a pod, which now ends: it has a `deletionTimestamp`, and stays.
    ///
    /// # Errors
    /// As [`Pods::run`].
    pub async fn evict(&self, name: &str) -> Result<()> {
        self.delete(name, GRACE).await
    }

    /// A drainer evicts the pods of a node, again and again until they are gone; the kubelet ends each at once. Leaves
    /// those of DaemonSets, and mirrors.
    ///
    /// # Errors
    /// As [`Pods::run`].
    pub async fn drain(&self, node: &str) -> Result<()> {
        let of_node = ListParams::default().fields(&format!("spec.nodeName={node}"));
        let mut attempts = tokio::time::interval(ATTEMPT);
        loop {
            attempts.tick().await;
            let pods = self.api.list(&of_node).await?.items;
            let must_go = |pod: &Pod| {
                let mut owners = pod.owner_references().iter();
                !owners.any(|owner| matches!(&*owner.kind, "DaemonSet" | "Node"))
            };
            let left: Vec<String> = pods
                .iter()
                .filter(|pod| must_go(pod))
                .map(ResourceExt::name_any)
                .collect();
            if left.is_empty() {
                return Ok(());
            }
            for pod in left {
                if self.is_evicted(&pod).await? {
                    self.finish(&pod).await?;
                }
            }
        }
    }

    /// Sends one eviction.
    async fn is_evicted(&self, pod: &str) -> Result<bool> {
        let params = EvictParams::default();
        // The client repeats by itself what is refused, less and less often.
        match tokio::time::timeout(ATTEMPT, self.api.evict(pod, &params)).await {
            Ok(Ok(_)) => Ok(true),
            Err(_) => Ok(false),
            Ok(Err(kube::Error::Api(status))) if status.code == 429 => Ok(false),
            Ok(Err(error)) => Err(error).with_context(|| format!("Evicting pod {pod}")),
        }
    }

    /// The kubelet reports that a pod has ended: it is gone.
    ///
    /// # Errors
    /// As [`Pods::run`].
    pub async fn finish(&self, name: &str) -> Result<()> {
        self.delete(name, 0).await
    }

    /// The names of the pods of a node.
    ///
    /// # Errors
    /// As [`Pods::run`].
    pub async fn of(&self, node: &str) -> Result<Vec<String>> {
        let of_node = ListParams::default().fields(&format!("spec.nodeName={node}"));
        let list = self.api.list(&of_node).await?;
        let names = list.items.into_iter().filter_map(|pod| pod.metadata.name);
        Ok(names.collect())
    }

    async fn delete(&self, name: &str, grace: u32) -> Result<()> {
        let params = DeleteParams::default().grace_period(grace);
        self.api
            .delete(name, &params)
            .await
            .with_context(|| format!("Deleting pod {name}"))?;
        Ok(())
    }
}

/// A condition of a pod whose transition is now.
fn condition(kind: &str, is_so: bool) -> Value {
    let status = if is_so { "True" } else { "False" };
    json!({"type": kind, "status": status, "lastTransitionTime": now()})
}
