//! A simulated kured, which reboots nodes of any provider, one after the other: its DaemonSet, whose annotation is its
//! lock, and what its daemons and the kubelets write, one step a method. Nothing runs.

use std::time::Duration;

use anyhow::Result;
use jiff::Timestamp;
use kube::Client;
use kube::api::{Api, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::{Value, json};

use crate::kubernetes::node::os_image;
use crate::kubernetes::{Nodes, Pace, Ready};
use crate::truth::{COMPLETED, DRAINING, REBOOTING, Truth, UPDATING};

/// The annotation of the DaemonSet with the lock.
const LOCK: &str = "weave.works/kured-node-lock";
const NAMESPACE: &str = "kube-system";
const NAME: &str = "kured";

// Nominal durations at the pace of the demo.
const NOTICE: Duration = Duration::from_secs(1);
const DRAIN: Duration = Duration::from_secs(3);
const BOOT: Duration = Duration::from_secs(3);

/// kured, as far as it writes.
#[derive(Clone)]
pub struct Kured {
    sets: Api<DynamicObject>,
    nodes: Nodes,
    truth: Truth,
}

impl Kured {
    /// Writes to the server that `client` talks to.
    #[must_use]
    pub fn new(client: &Client) -> Self {
        let gvk = GroupVersionKind::gvk("apps", "v1", "DaemonSet");
        let resource = ApiResource::from_gvk_with_plural(&gvk, "daemonsets");
        Self {
            sets: Api::namespaced_with(client.clone(), NAMESPACE, &resource),
            nodes: Nodes::new(client.clone()),
            truth: Truth::default(),
        }
    }

    /// The same, which tells the truth about whole updates.
    #[must_use]
    pub fn telling(self, truth: &Truth) -> Self {
        Self {
            truth: truth.clone(),
            ..self
        }
    }

    /// Creates its DaemonSet, as its manifest has it.
    ///
    /// # Errors
    /// When the server refuses; so for every method here.
    pub async fn install(&self) -> Result<()> {
        let labels = json!({"name": NAME});
        let set = json!({
            "apiVersion": "apps/v1", "kind": "DaemonSet",
            "metadata": {"name": NAME, "namespace": NAMESPACE},
            "spec": {
                "selector": {"matchLabels": labels},
                "template": {
                    "metadata": {"labels": labels},
                    "spec": {"containers": [{"name": NAME, "image": NAME}]},
                },
            },
        });
        let set = serde_json::from_value(set)?;
        self.sets.create(&PostParams::default(), &set).await?;
        Ok(())
    }

    /// The daemon of a node takes the lock.
    ///
    /// # Errors
    /// As [`Kured::install`].
    pub async fn lock(&self, node: &str) -> Result<()> {
        let created = Timestamp::now().to_string();
        let lock = json!({
            "nodeID": node, "metadata": {"unschedulable": false}, "created": created, "TTL": 0,
        });
        self.set_lock(Some(lock)).await
    }

    /// It cordons and drains its node.
    ///
    /// # Errors
    /// As [`Kured::install`].
    pub async fn drain(&self, node: &str) -> Result<()> {
        self.nodes.cordon(node, true).await
    }

    /// The machine restarts: its kubelet does not report.
    ///
    /// # Errors
    /// As [`Kured::install`].
    pub async fn reboot(&self, node: &str) -> Result<()> {
        self.nodes.set_ready(node, Ready::Unknown).await
    }

    /// The machine has restarted with the same software, and its kubelet is not ready yet.
    ///
    /// # Errors
    /// As [`Kured::install`].
    pub async fn boot(&self, node: &str, version: &str) -> Result<()> {
        self.nodes.boot(node, version, &os_image(version)).await
    }

    /// The node is ready, and kured is about to release it.
    ///
    /// # Errors
    /// As [`Kured::install`].
    pub async fn back(&self, node: &str) -> Result<()> {
        self.nodes.set_ready(node, Ready::Yes).await
    }

    /// The daemon uncordons its node and releases the lock.
    ///
    /// # Errors
    /// As [`Kured::install`].
    pub async fn release(&self, node: &str) -> Result<()> {
        self.nodes.cordon(node, false).await?;
        self.set_lock(None).await
    }

    /// Reboots a node that runs this version, step by step.
    ///
    /// # Errors
    /// As [`Kured::install`].
    pub async fn play(&self, node: &str, version: &str, pace: Pace) -> Result<()> {
        let truth = &self.truth;
        truth.step(node, &[DRAINING], self.lock(node)).await?;
        pace.pass(NOTICE).await;
        truth.step(node, &[DRAINING], self.drain(node)).await?;
        pace.pass(DRAIN).await;
        truth.step(node, &[REBOOTING], self.reboot(node)).await?;
        pace.pass(BOOT).await;
        let booted = self.boot(node, version);
        truth.step(node, &[REBOOTING], booted).await?;
        pace.pass(NOTICE).await;
        truth.step(node, &[UPDATING], self.back(node)).await?;
        pace.pass(NOTICE).await;
        truth.step(node, &[COMPLETED], self.release(node)).await
    }

    async fn set_lock(&self, lock: Option<Value>) -> Result<()> {
        let lock = lock.map(|lock| lock.to_string());
        let patch = Patch::Merge(json!({"metadata": {"annotations": {LOCK: lock}}}));
        self.sets
            .patch(NAME, &PatchParams::default(), &patch)
            .await?;
        Ok(())
    }
}
