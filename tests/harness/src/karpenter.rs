//! A simulated Karpenter: NodePools, NodeClaims and their Nodes, and what Karpenter does to them, one step a
//! request. Nothing runs; everything here writes what Karpenter would write.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};
use jiff::Timestamp;
use kube::Client;
use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::{Value, json};

use crate::apply::apply_yaml;
use crate::kubernetes::node::{NodeTemplate, os_image};
use crate::kubernetes::{Nodes, Pace};
use crate::pods::Pods;
use crate::truth::{COMPLETED, DRAINING, Phases, Truth, UPDATING};

pub mod rollout;

/// Stand-ins for its CRDs.
const CRDS: &str = include_str!("../fixtures/karpenter-crds.yaml");

/// The label of its nodes.
pub const POOL_LABEL: &str = "karpenter.sh/nodepool";

/// What keeps a NodeClaim until its machine is gone.
const FINALIZER: &str = "karpenter.sh/termination";

// Nominal durations at the pace of the demo.
const LAUNCH: Duration = Duration::from_secs(3);
const DRAIN: Duration = Duration::from_secs(4);
const TERMINATE: Duration = Duration::from_secs(2);

/// Makes the server serve Karpenter's kinds, by stand-ins.
///
/// # Errors
/// When the server refuses them, or does not serve them in time.
pub async fn install(client: &Client) -> Result<()> {
    apply_yaml(client, CRDS).await
}

/// Karpenter, as far as it writes.
#[derive(Clone)]
pub struct Karpenter {
    claims: Api<DynamicObject>,
    pools: Api<DynamicObject>,
    nodes: Nodes,
    pods: Pods,
    truth: Truth,
}

/// One machine: a NodeClaim, and the Node of the same name.
#[derive(Debug, Clone)]
pub struct Machine {
    /// Name of both.
    pub name: String,
    /// The NodePool.
    pub pool: String,
    /// The kubelet.
    pub version: String,
}

impl Machine {
    /// A machine of a pool.
    #[must_use]
    pub fn new(name: &str, pool: &str, version: &str) -> Self {
        Self {
            name: name.to_owned(),
            pool: pool.to_owned(),
            version: version.to_owned(),
        }
    }

    fn provider_id(&self) -> String {
        format!("aws:///us-east-2a/i-{}", self.name)
    }
}

impl Karpenter {
    /// Writes to the server that `client` talks to.
    #[must_use]
    pub fn new(client: &Client) -> Self {
        let api = |kind: &str, plural: &str| {
            let gvk = GroupVersionKind::gvk("karpenter.sh", "v1", kind);
            let resource = ApiResource::from_gvk_with_plural(&gvk, plural);
            Api::all_with(client.clone(), &resource)
        };
        Self {
            claims: api("NodeClaim", "nodeclaims"),
            pools: api("NodePool", "nodepools"),
            nodes: Nodes::new(client.clone()),
            pods: Pods::new(client),
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

    /// Creates a NodePool with these disruption budgets.
    ///
    /// # Errors
    /// When the server refuses; so for every method here.
    pub async fn pool(&self, name: &str, budgets: &Value) -> Result<()> {
        let object = json!({
            "apiVersion": "karpenter.sh/v1", "kind": "NodePool", "metadata": {"name": name},
            "spec": {
                "disruption": {"consolidateAfter": "0s", "budgets": budgets},
                "template": {"spec": {
                    "nodeClassRef": {
                        "group": "karpenter.k8s.aws", "kind": "EC2NodeClass", "name": "default",
                    },
                    "requirements": [],
                }},
            },
        });
        create(&self.pools, object).await
    }

    /// Changes the disruption budgets of a NodePool.
    ///
    /// # Errors
    /// As [`Karpenter::pool`].
    pub async fn set_budgets(&self, pool: &str, budgets: &Value) -> Result<()> {
        let patch = json!({"spec": {"disruption": {"budgets": budgets}}});
        self.pools
            .patch(pool, &PatchParams::default(), &Patch::Merge(patch))
            .await?;
        Ok(())
    }

    /// A NodeClaim, launched, whose Node has not joined.
    ///
    /// # Errors
    /// As [`Karpenter::pool`].
    pub async fn launch(&self, machine: &Machine) -> Result<()> {
        let object = json!({
            "apiVersion": "karpenter.sh/v1", "kind": "NodeClaim",
            "metadata": {
                "name": machine.name, "labels": {POOL_LABEL: machine.pool},
                "finalizers": [FINALIZER],
            },
            "spec": {
                "expireAfter": "720h", "requirements": [],
                "nodeClassRef": {
                    "group": "karpenter.k8s.aws", "kind": "EC2NodeClass", "name": "default",
                },
            },
        });
        create(&self.claims, object).await?;
        let status = json!({"providerID": machine.provider_id(), "nodeName": machine.name});
        self.status(&machine.name, status).await?;
        self.condition(&machine.name, "Launched", "True", "Launched")
            .await
    }

    /// The Node joins, and is initialized.
    ///
    /// # Errors
    /// As [`Karpenter::pool`].
    pub async fn join(&self, machine: &Machine) -> Result<()> {
        let template = NodeTemplate {
            name: machine.name.clone(),
            labels: BTreeMap::from([(POOL_LABEL.to_owned(), machine.pool.clone())]),
            annotations: BTreeMap::new(),
            kubelet_version: machine.version.clone(),
            os_image: os_image(&machine.version),
            images: 0,
        };
        let mut node = template.object()?;
        node.value.data["spec"]["providerID"] = machine.provider_id().into();
        self.nodes.join(&node).await?;
        self.nodes.become_ready(&machine.name).await?;
        for condition in ["Registered", "Initialized"] {
            self.condition(&machine.name, condition, "True", condition)
                .await?;
        }
        Ok(())
    }

    /// A machine that has joined.
    ///
    /// # Errors
    /// As [`Karpenter::pool`].
    pub async fn machine(&self, machine: &Machine) -> Result<()> {
        self.launch(machine).await?;
        self.join(machine).await
    }

    /// The NodeClaim has drifted.
    ///
    /// # Errors
    /// As [`Karpenter::pool`].
    pub async fn drift(&self, name: &str, reason: &str) -> Result<()> {
        self.condition(name, "Drifted", "True", reason).await
    }

    /// Taints the node and says why it is disrupted.
    ///
    /// # Errors
    /// As [`Karpenter::pool`].
    pub async fn disrupt(&self, name: &str, reason: &str) -> Result<()> {
        self.nodes
            .taint(name, "karpenter.sh/disrupted", "NoSchedule")
            .await?;
        self.condition(name, "DisruptionReason", "True", reason)
            .await
    }

    /// Deletes the NodeClaim, which stays until its machine is gone.
    ///
    /// # Errors
    /// As [`Karpenter::pool`].
    pub async fn delete(&self, name: &str) -> Result<()> {
        self.claims.delete(name, &DeleteParams::default()).await?;
        self.condition(name, "Drained", "Unknown", "Draining").await
    }

    /// The pods are gone, and volumes are being detached.
    ///
    /// # Errors
    /// As [`Karpenter::pool`].
    pub async fn drained(&self, name: &str) -> Result<()> {
        self.condition(name, "Drained", "True", "Drained").await?;
        self.condition(
            name,
            "VolumesDetached",
            "Unknown",
            "AwaitingVolumeDetachment",
        )
        .await
    }

    /// The machine is being terminated.
    ///
    /// # Errors
    /// As [`Karpenter::pool`].
    pub async fn terminate(&self, name: &str) -> Result<()> {
        self.condition(name, "VolumesDetached", "True", "VolumesDetached")
            .await?;
        self.condition(name, "InstanceTerminating", "True", "InstanceTerminating")
            .await
    }

    /// The machine is gone, and with it Node and NodeClaim.
    ///
    /// # Errors
    /// As [`Karpenter::pool`].
    pub async fn gone(&self, name: &str) -> Result<()> {
        self.nodes.delete(name).await?;
        let patch = json!({"metadata": {"finalizers": null}});
        self.claims
            .patch(name, &PatchParams::default(), &Patch::Merge(patch))
            .await?;
        Ok(())
    }

    /// Sets a condition of a NodeClaim.
    ///
    /// # Errors
    /// As [`Karpenter::pool`].
    pub async fn condition(
        &self,
        name: &str,
        type_: &str,
        status: &str,
        reason: &str,
    ) -> Result<()> {
        let claim = self.claims.get(name).await?;
        let conditions = claim.data["status"]["conditions"].as_array().cloned();
        let mut conditions = conditions.unwrap_or_default();
        conditions.retain(|condition| condition["type"] != type_);
        conditions.push(json!({
            "type": type_, "status": status, "reason": reason, "message": "",
            "lastTransitionTime": Timestamp::now().to_string(),
        }));
        self.status(name, json!({"conditions": conditions})).await
    }

    async fn status(&self, name: &str, status: Value) -> Result<()> {
        let patch = Patch::Merge(json!({"status": status}));
        self.claims
            .patch_status(name, &PatchParams::default(), &patch)
            .await
            .with_context(|| format!("Patching the status of NodeClaim {name}"))?;
        Ok(())
    }

    /// Replaces a drifted machine by another one, step by step.
    ///
    /// # Errors
    /// As [`Karpenter::pool`].
    pub async fn replace(&self, old: &str, new: &Machine, pace: Pace) -> Result<()> {
        let launched = async {
            self.disrupt(old, "Drifted").await?;
            self.launch(new).await
        };
        self.truth.step(old, &[UPDATING], launched).await?;
        pace.pass(LAUNCH).await;
        let joined = self.join(new);
        self.truth.joins(&new.name, &[COMPLETED], joined).await?;
        self.remove(old, [&[DRAINING], &[UPDATING]], pace).await
    }

    /// Removes a machine that is not needed, step by step, which is no update.
    ///
    /// # Errors
    /// As [`Karpenter::pool`].
    pub async fn consolidate(&self, name: &str, pace: Pace) -> Result<()> {
        let tainted = self.disrupt(name, "Empty");
        self.truth.step(name, &[COMPLETED], tainted).await?;
        pace.pass(LAUNCH).await;
        self.remove(name, [&[COMPLETED]; 2], pace).await
    }

    /// The phases are those of a machine that is drained, and of one that is terminated.
    async fn remove(&self, name: &str, phases: [Phases; 2], pace: Pace) -> Result<()> {
        let [drained, terminated] = phases;
        let truth = &self.truth;
        truth.step(name, drained, self.delete(name)).await?;
        pace.pass(DRAIN).await;
        self.pods.drain(name).await?;
        truth.step(name, terminated, self.drained(name)).await?;
        pace.pass(TERMINATE).await;
        truth.step(name, terminated, self.terminate(name)).await?;
        pace.pass(TERMINATE).await;
        truth.gone(name, self.gone(name)).await
    }
}

async fn create(api: &Api<DynamicObject>, object: Value) -> Result<()> {
    let object: DynamicObject = serde_json::from_value(object)?;
    api.create(&PostParams::default(), &object).await?;
    Ok(())
}
