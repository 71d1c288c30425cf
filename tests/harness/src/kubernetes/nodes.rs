//! What kubelets, controllers and admins do to a Node, as single requests.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Taint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::Client;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Map, Value, json};

use super::node::{boot_id, condition, now};
use crate::load::Object;

/// How long a write may take before the simulation reports that the server does not answer.
const DEADLINE: Duration = Duration::from_secs(30);

/// Kubelets and controllers write Nodes too; more conflicts in a row than this are an error.
const ATTEMPTS: usize = 10;

/// The taint that comes and goes with `spec.unschedulable`.
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";

/// The taint that admission puts on a new node.
const NOT_READY: &str = "node.kubernetes.io/not-ready";

/// The conditions that a kubelet reports with each heartbeat.
const KUBELET_CONDITIONS: [&str; 4] = ["MemoryPressure", "DiskPressure", "PIDPressure", "Ready"];

/// The status of a node's Ready condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ready {
    /// The kubelet runs.
    Yes,
    /// The kubelet runs, and reports that it is not ready yet.
    No,
    /// The kubelet does not report.
    Unknown,
}

/// The nodes of a server, for writing.
#[derive(Clone)]
pub struct Nodes {
    api: Api<Node>,
}

impl Nodes {
    /// The nodes of the server that `client` talks to.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self {
            api: Api::all(client),
        }
    }

    /// For reading.
    #[must_use]
    pub fn api(&self) -> &Api<Node> {
        &self.api
    }

    /// Sets annotations, and removes those whose value is `None`.
    ///
    /// # Errors
    /// When the server rejects it, or there is no such node; the same for every method here.
    pub async fn annotate(&self, node: &str, annotations: &[(&str, Option<&str>)]) -> Result<()> {
        let map: Map<String, Value> = annotations
            .iter()
            .map(|(key, value)| ((*key).to_owned(), json!(value)))
            .collect();
        self.patch(node, json!({"metadata": {"annotations": map}}))
            .await
    }

    /// Sets a label, or removes it.
    ///
    /// # Errors
    /// As [`Nodes::annotate`].
    pub async fn label(&self, node: &str, key: &str, value: Option<&str>) -> Result<()> {
        self.patch(node, json!({"metadata": {"labels": {key: value}}}))
            .await
    }

    /// Cordons or uncordons a node, including the taint.
    ///
    /// # Errors
    /// As [`Nodes::annotate`].
    pub async fn cordon(&self, node: &str, yes: bool) -> Result<()> {
        let taint = Taint {
            key: UNSCHEDULABLE.to_owned(),
            effect: "NoSchedule".to_owned(),
            time_added: Some(Time(Timestamp::now())),
            value: None,
        };
        let taint = yes.then_some(taint);
        self.set_taint(
            node,
            UNSCHEDULABLE,
            taint,
            json!({"unschedulable": yes.then_some(true)}),
        )
        .await
    }

    /// Puts a taint on a node.
    ///
    /// # Errors
    /// As [`Nodes::annotate`].
    pub async fn taint(&self, node: &str, key: &str, effect: &str) -> Result<()> {
        let taint = Taint {
            key: key.to_owned(),
            effect: effect.to_owned(),
            time_added: Some(Time(Timestamp::now())),
            value: None,
        };
        self.set_taint(node, key, Some(taint), json!({})).await
    }

    /// Sets the Ready condition.
    ///
    /// # Errors
    /// As [`Nodes::annotate`].
    pub async fn set_ready(&self, node: &str, ready: Ready) -> Result<()> {
        self.patch_status(node, json!({"conditions": [ready.condition()]}))
            .await
    }

    /// A heartbeat of the kubelet: only its timestamps change.
    ///
    /// # Errors
    /// As [`Nodes::annotate`].
    pub async fn heartbeat(&self, node: &str) -> Result<()> {
        let now = now();
        let beat = |kind: &&str| json!({"type": kind, "lastHeartbeatTime": now});
        let conditions: Vec<Value> = KUBELET_CONDITIONS.iter().map(beat).collect();
        self.patch_status(node, json!({"conditions": conditions}))
            .await
    }

    /// Sets a condition of any type.
    ///
    /// # Errors
    /// As [`Nodes::annotate`].
    pub async fn set_condition(
        &self,
        node: &str,
        kind: &str,
        status: &str,
        reason: &str,
    ) -> Result<()> {
        self.patch_status(
            node,
            json!({"conditions": [condition(kind, status, reason, "")]}),
        )
        .await
    }

    /// The kubelet's first report after a boot into other software: not ready yet, with a new boot ID.
    ///
    /// # Errors
    /// As [`Nodes::annotate`].
    pub async fn boot(&self, node: &str, kubelet_version: &str, os_image: &str) -> Result<()> {
        let info = json!({
            "bootID": boot_id(&[node, kubelet_version, &now()]),
            "kubeletVersion": kubelet_version,
            "osImage": os_image,
        });
        self.patch_status(
            node,
            json!({"nodeInfo": info, "conditions": [Ready::No.condition()]}),
        )
        .await
    }

    /// Creates a node that is not ready yet, and that admission taints as such.
    ///
    /// # Errors
    /// When the node exists, or the server rejects it.
    pub async fn join(&self, object: &Object) -> Result<()> {
        let mut node: Node = object.value.clone().try_parse()?;
        let name = node.metadata.name.clone().unwrap_or_default();
        let conditions = node
            .status
            .as_mut()
            .and_then(|status| status.conditions.as_mut());
        for ready in conditions
            .into_iter()
            .flatten()
            .filter(|condition| condition.type_ == "Ready")
        {
            *ready = serde_json::from_value(Ready::No.condition())?;
        }
        within(self.api.create(&PostParams::default(), &node))
            .await
            .with_context(|| name)?;
        Ok(())
    }

    /// Removes a new node's not-ready taint, as the node lifecycle controller does, and reports it as
    /// ready.
    ///
    /// # Errors
    /// As [`Nodes::annotate`].
    pub async fn become_ready(&self, node: &str) -> Result<()> {
        self.set_ready(node, Ready::Yes).await?;
        self.set_taint(node, NOT_READY, None, json!({})).await
    }

    /// Deletes a node.
    ///
    /// # Errors
    /// As [`Nodes::annotate`].
    pub async fn delete(&self, node: &str) -> Result<()> {
        let deleted = within(self.api.delete(node, &DeleteParams::default())).await;
        deleted.with_context(|| format!("Deleting node {node}"))?;
        Ok(())
    }

    /// Changes the spec, and sets or removes the taint of that key. Taints are one field, which is
    /// written as a whole: read, modify, write, and retry on a conflict.
    async fn set_taint(
        &self,
        node: &str,
        key: &str,
        taint: Option<Taint>,
        mut spec: Value,
    ) -> Result<()> {
        for _ in 0..ATTEMPTS {
            let live = self
                .api
                .get(node)
                .await
                .with_context(|| format!("Reading node {node}"))?;
            let taints = live.spec.and_then(|spec| spec.taints).unwrap_or_default();
            let others = taints.into_iter().filter(|taint| taint.key != key);
            let taints: Vec<Taint> = others.chain(taint.clone()).collect();
            spec["taints"] = if taints.is_empty() {
                Value::Null
            } else {
                json!(taints)
            };
            let patch = json!({"metadata": {"resourceVersion": live.metadata.resource_version}, "spec": spec});
            let patch = Patch::Merge(patch);
            match within(self.api.patch(node, &PatchParams::default(), &patch)).await {
                Err(error) if is_conflict(&error) => {}
                Err(error) => return Err(error).with_context(|| format!("Tainting node {node}")),
                Ok(_) => return Ok(()),
            }
        }
        bail!("Node {node} was changed by others {ATTEMPTS} times in a row")
    }

    async fn patch(&self, node: &str, patch: Value) -> Result<()> {
        let params = PatchParams::default();
        let patched = within(self.api.patch_metadata(node, &params, &Patch::Merge(patch))).await;
        patched.with_context(|| format!("Patching node {node}"))?;
        Ok(())
    }

    /// A strategic merge, so that conditions are merged by their type.
    async fn patch_status(&self, node: &str, status: Value) -> Result<()> {
        let patch = Patch::Strategic(json!({"status": status}));
        let patched = within(self.api.patch_status(node, &PatchParams::default(), &patch)).await;
        patched.with_context(|| format!("Patching the status of node {node}"))?;
        Ok(())
    }
}

impl Ready {
    fn condition(self) -> Value {
        let (status, reason, message) = match self {
            Self::Yes => ("True", "KubeletReady", "kubelet is posting ready status"),
            Self::No => (
                "False",
                "KubeletNotReady",
                "container runtime network not ready",
            ),
            Self::Unknown => (
                "Unknown",
                "NodeStatusUnknown",
                "Kubelet stopped posting node status.",
            ),
        };
        condition("Ready", status, reason, message)
    }
}

async fn within<T>(request: impl Future<Output = kube::Result<T>>) -> Result<T> {
    let answer = tokio::time::timeout(DEADLINE, request).await;
    Ok(answer.context("The API server does not answer")??)
}

fn is_conflict(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(kube::Error::Api(status)) if status.is_conflict())
}
