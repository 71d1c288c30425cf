//! A simulated system-upgrade-controller: Plans, their Jobs and the k3s nodes that they update, one step a request.
//! Nothing runs; everything here writes what the controller, its Jobs and k3s would write.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};
use kube::Client;
use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::{Value, json};

use crate::apply::{apply_objects, apply_yaml};
use crate::kubernetes::node::{NodeTemplate, fingerprint, now, os_image};
use crate::kubernetes::{Nodes, Pace};
use crate::truth::{COMPLETED, DRAINING, PENDING, Truth, UPDATING};

/// A stand-in for its CRD.
const CRDS: &str = include_str!("../fixtures/plans-crds.yaml");

/// The namespace of the controller.
pub const NAMESPACE: &str = "system-upgrade";

/// The label of nodes that k3s sets to `k3s` where no cloud does.
const INSTANCE_TYPE: &str = "node.kubernetes.io/instance-type";

// Nominal durations at the pace of the demo.
const DRAIN: Duration = Duration::from_secs(3);
const UPGRADE: Duration = Duration::from_secs(3);
const SETTLE: Duration = Duration::from_secs(1);
/// How long a Job has failed before the Plan is edited.
const FAILED: Duration = Duration::from_secs(5);

/// Makes the server serve Plans, by a stand-in.
///
/// # Errors
/// When the server refuses it, or does not serve it in time.
pub async fn install(client: &Client) -> Result<()> {
    apply_yaml(client, CRDS).await
}

/// The controller, as far as it writes.
#[derive(Clone)]
pub struct Plans {
    client: Client,
    api: Api<DynamicObject>,
    jobs: Api<DynamicObject>,
    nodes: Nodes,
    truth: Truth,
}

/// A Plan that drains and updates the agents of k3s.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Its name.
    pub name: String,
    /// The version of k3s, as kubelets report it.
    pub version: String,
    /// The hash of what it applies.
    pub hash: String,
}

impl Plan {
    /// A Plan for all agents.
    #[must_use]
    pub fn new(name: &str, version: &str) -> Self {
        Self {
            name: name.to_owned(),
            version: version.to_owned(),
            hash: fingerprint(&[name, version]),
        }
    }

    /// The same, after an edit that changes what it applies.
    #[must_use]
    pub fn edited(self) -> Self {
        let hash = fingerprint(&[&self.hash, "edited"]);
        Self { hash, ..self }
    }

    /// The node label with the hash that was last applied.
    #[must_use]
    pub fn label(&self) -> String {
        format!("plan.upgrade.cattle.io/{}", self.name)
    }

    /// The version as an image tag, which has no `+`.
    fn tag(&self) -> String {
        self.version.replace('+', "-")
    }

    fn job(&self, node: &str) -> String {
        format!("apply-{}-on-{node}", self.name)
    }
}

impl Plans {
    /// Writes to the server that `client` talks to.
    #[must_use]
    pub fn new(client: &Client) -> Self {
        let api = |group: &str, kind: &str, plural: &str| {
            let gvk = GroupVersionKind::gvk(group, "v1", kind);
            let resource = ApiResource::from_gvk_with_plural(&gvk, plural);
            Api::namespaced_with(client.clone(), NAMESPACE, &resource)
        };
        Self {
            client: client.clone(),
            api: api("upgrade.cattle.io", "Plan", "plans"),
            jobs: api("batch", "Job", "jobs"),
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

    /// An agent of k3s joins and is ready.
    ///
    /// # Errors
    /// When the server refuses; so for every method here.
    pub async fn agent(&self, name: &str, version: &str) -> Result<()> {
        let args = r#"["agent"]"#.to_owned();
        let template = NodeTemplate {
            name: name.to_owned(),
            labels: BTreeMap::from([(INSTANCE_TYPE.to_owned(), "k3s".to_owned())]),
            annotations: BTreeMap::from([("k3s.io/node-args".to_owned(), args)]),
            kubelet_version: version.to_owned(),
            os_image: os_image(version),
            images: 0,
        };
        self.nodes.join(&template.object()?).await?;
        self.nodes.become_ready(name).await
    }

    /// Creates a Plan, which the controller has resolved.
    ///
    /// # Errors
    /// As [`Plans::agent`].
    pub async fn create(&self, plan: &Plan) -> Result<()> {
        let namespace = json!({
            "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE},
        });
        apply_objects(&self.client, vec![serde_json::from_value(namespace)?]).await?;
        let object = json!({
            "apiVersion": "upgrade.cattle.io/v1", "kind": "Plan",
            "metadata": {"name": plan.name, "namespace": NAMESPACE},
            "spec": {
                "concurrency": 1,
                "drain": {"force": true},
                "nodeSelector": {"matchExpressions": [
                    {"key": "node-role.kubernetes.io/control-plane", "operator": "DoesNotExist"},
                    {"key": INSTANCE_TYPE, "operator": "In", "values": ["k3s"]},
                ]},
                "serviceAccountName": "system-upgrade",
                "upgrade": {"image": "rancher/k3s-upgrade"},
                "version": plan.version,
            },
        });
        self.api
            .create(&PostParams::default(), &serde_json::from_value(object)?)
            .await?;
        self.resolve(plan).await
    }

    /// The controller reads the Plan: its version and its hash.
    ///
    /// # Errors
    /// As [`Plans::agent`].
    pub async fn resolve(&self, plan: &Plan) -> Result<()> {
        let status = json!({
            "latestVersion": plan.tag(), "latestHash": plan.hash, "applying": [],
            "conditions": [
                condition("Validated", "True", "PlanIsValid", ""),
                condition("LatestResolved", "True", "Version", ""),
                condition("Complete", "False", "Resolved", ""),
            ],
        });
        self.status(plan, status).await
    }

    /// Changes the spec of a Plan.
    ///
    /// # Errors
    /// As [`Plans::agent`].
    pub async fn edit(&self, plan: &Plan, spec: Value) -> Result<()> {
        let patch = Patch::Merge(json!({"spec": spec}));
        self.api
            .patch(&plan.name, &PatchParams::default(), &patch)
            .await?;
        Ok(())
    }

    /// The controller creates the Job of a node, paused.
    ///
    /// # Errors
    /// As [`Plans::agent`].
    pub async fn create_job(&self, plan: &Plan, node: &str) -> Result<()> {
        let object = json!({
            "apiVersion": "batch/v1", "kind": "Job",
            "metadata": {
                "name": plan.job(node), "namespace": NAMESPACE,
                "labels": {
                    "upgrade.cattle.io/controller": "system-upgrade-controller",
                    "upgrade.cattle.io/node": node,
                    "upgrade.cattle.io/plan": plan.name,
                    "upgrade.cattle.io/version": plan.tag(),
                    plan.label(): plan.hash,
                },
            },
            "spec": {
                "activeDeadlineSeconds": 600, "backoffLimit": 2, "parallelism": 0,
                "ttlSecondsAfterFinished": 900,
                "template": {"spec": {
                    "restartPolicy": "Never",
                    "containers": [{"name": "upgrade", "image": "rancher/k3s-upgrade"}],
                }},
            },
        });
        self.jobs
            .create(&PostParams::default(), &serde_json::from_value(object)?)
            .await?;
        self.applying(plan, &[node]).await
    }

    /// The controller starts the Job of a node.
    ///
    /// # Errors
    /// As [`Plans::agent`].
    pub async fn start_job(&self, plan: &Plan, node: &str) -> Result<()> {
        let name = plan.job(node);
        let patch = Patch::Merge(json!({"spec": {"parallelism": 1}}));
        self.jobs
            .patch(&name, &PatchParams::default(), &patch)
            .await?;
        self.job_status(&name, json!({"startTime": now()})).await
    }

    /// The Job cordons its node, to drain it.
    ///
    /// # Errors
    /// As [`Plans::agent`].
    pub async fn cordon(&self, node: &str) -> Result<()> {
        self.nodes.cordon(node, true).await
    }

    /// k3s restarts with the new version.
    ///
    /// # Errors
    /// As [`Plans::agent`].
    pub async fn upgrade(&self, plan: &Plan, node: &str) -> Result<()> {
        let status = json!({"status": {"nodeInfo": {"kubeletVersion": plan.version}}});
        self.nodes
            .api()
            .patch_status(node, &PatchParams::default(), &Patch::Strategic(status))
            .await
            .with_context(|| format!("Patching the status of node {node}"))?;
        Ok(())
    }

    /// The Job is complete, and the controller uncordons the node.
    ///
    /// # Errors
    /// As [`Plans::agent`].
    pub async fn complete_job(&self, plan: &Plan, node: &str) -> Result<()> {
        let status = json!({
            "succeeded": 1, "completionTime": now(),
            "conditions": [
                condition("SuccessCriteriaMet", "True", "CompletionsReached", ""),
                condition("Complete", "True", "CompletionsReached", ""),
            ],
        });
        self.job_status(&plan.job(node), job_conditions(status))
            .await?;
        self.nodes.cordon(node, false).await
    }

    /// The controller counts the node as updated.
    ///
    /// # Errors
    /// As [`Plans::agent`].
    pub async fn label(&self, plan: &Plan, node: &str) -> Result<()> {
        self.nodes
            .label(node, &plan.label(), Some(&plan.hash))
            .await?;
        self.applying(plan, &[]).await
    }

    /// The Job has failed, and the Plan says so.
    ///
    /// # Errors
    /// As [`Plans::agent`].
    pub async fn fail_job(
        &self,
        plan: &Plan,
        node: &str,
        reason: &str,
        message: &str,
    ) -> Result<()> {
        let status = json!({
            "failed": 1,
            "conditions": [
                condition("FailureTarget", "True", reason, message),
                condition("Failed", "True", reason, message),
            ],
        });
        let name = plan.job(node);
        self.job_status(&name, job_conditions(status)).await?;
        let message = format!("Job {NAMESPACE}/{name} failed on Node {node}: {reason}: {message}");
        self.condition(plan, "Complete", "False", "JobFailed", &message)
            .await
    }

    /// A Job that has ended is deleted.
    ///
    /// # Errors
    /// As [`Plans::agent`].
    pub async fn delete_job(&self, plan: &Plan, node: &str) -> Result<()> {
        let params = DeleteParams::background();
        self.jobs.delete(&plan.job(node), &params).await?;
        Ok(())
    }

    /// All nodes of the Plan are updated.
    ///
    /// # Errors
    /// As [`Plans::agent`].
    pub async fn complete(&self, plan: &Plan) -> Result<()> {
        self.condition(plan, "Complete", "True", "Complete", "")
            .await
    }

    /// Applies a Plan to these nodes, one by one; returns when all are updated.
    ///
    /// # Errors
    /// As [`Plans::agent`].
    pub async fn play(&self, plan: &Plan, nodes: &[&str], pace: Pace) -> Result<()> {
        for node in nodes {
            self.apply(plan, node, pace).await?;
        }
        self.complete(plan).await
    }

    /// Applies a Plan to a node, step by step.
    ///
    /// # Errors
    /// As [`Plans::agent`].
    pub async fn apply(&self, plan: &Plan, node: &str, pace: Pace) -> Result<()> {
        let truth = &self.truth;
        let created = self.create_job(plan, node);
        truth.step(node, &[PENDING], created).await?;
        let started = self.start_job(plan, node);
        truth.step(node, &[UPDATING], started).await?;
        pace.pass(SETTLE).await;
        truth.step(node, &[DRAINING], self.cordon(node)).await?;
        pace.pass(DRAIN).await;
        let upgraded = self.upgrade(plan, node);
        truth.step(node, &[UPDATING], upgraded).await?;
        pace.pass(UPGRADE).await;
        let ended = self.complete_job(plan, node);
        truth.step(node, &[UPDATING], ended).await?;
        pace.pass(SETTLE).await;
        let counted = self.label(plan, node);
        truth.step(node, &[COMPLETED], counted).await
    }

    /// The Job of a node fails once it has drained it. An administrator uncordons the node and edits the Plan, and the
    /// node waits again; returns the edited Plan.
    ///
    /// # Errors
    /// As [`Plans::agent`].
    pub async fn fail(&self, plan: Plan, node: &str, pace: Pace) -> Result<Plan> {
        let truth = &self.truth;
        let created = self.create_job(&plan, node);
        truth.step(node, &[PENDING], created).await?;
        let started = self.start_job(&plan, node);
        truth.step(node, &[UPDATING], started).await?;
        pace.pass(SETTLE).await;
        truth.step(node, &[DRAINING], self.cordon(node)).await?;
        pace.pass(DRAIN).await;
        let why = "Job has reached the specified backoff limit";
        let failed = self.fail_job(&plan, node, "BackoffLimitExceeded", why);
        truth.step(node, &[UPDATING], failed).await?;
        pace.pass(FAILED).await;
        let deleted = self.delete_job(&plan, node);
        truth.step(node, &[UPDATING], deleted).await?;
        pace.pass(SETTLE).await;
        let uncordoned = self.nodes.cordon(node, false);
        truth.step(node, &[UPDATING], uncordoned).await?;
        let edited = plan.edited();
        let resolved = self.resolve(&edited);
        truth.step(node, &[PENDING], resolved).await?;
        pace.pass(SETTLE).await;
        Ok(edited)
    }

    /// Sets a condition of a Plan.
    ///
    /// # Errors
    /// As [`Plans::agent`].
    pub async fn condition(
        &self,
        plan: &Plan,
        type_: &str,
        status: &str,
        reason: &str,
        message: &str,
    ) -> Result<()> {
        let live = self.api.get(&plan.name).await?;
        let conditions = live.data["status"]["conditions"].as_array().cloned();
        let mut conditions = conditions.unwrap_or_default();
        conditions.retain(|condition| condition["type"] != type_);
        conditions.push(condition(type_, status, reason, message));
        self.status(plan, json!({"conditions": conditions})).await
    }

    async fn applying(&self, plan: &Plan, nodes: &[&str]) -> Result<()> {
        self.status(plan, json!({"applying": nodes})).await?;
        self.condition(plan, "Complete", "False", "SyncJob", "")
            .await
    }

    async fn status(&self, plan: &Plan, status: Value) -> Result<()> {
        let patch = Patch::Merge(json!({"status": status}));
        self.api
            .patch_status(&plan.name, &PatchParams::default(), &patch)
            .await
            .with_context(|| format!("Patching the status of Plan {}", plan.name))?;
        Ok(())
    }

    async fn job_status(&self, job: &str, status: Value) -> Result<()> {
        let patch = Patch::Merge(json!({"status": status}));
        self.jobs
            .patch_status(job, &PatchParams::default(), &patch)
            .await
            .with_context(|| format!("Patching the status of Job {job}"))?;
        Ok(())
    }
}

/// A condition of a Plan; its time is now.
fn condition(type_: &str, status: &str, reason: &str, message: &str) -> Value {
    json!({
        "type": type_, "status": status, "reason": reason, "message": message,
        "lastUpdateTime": now(),
    })
}

/// The same for Jobs, which name the times of their conditions otherwise.
fn job_conditions(mut status: Value) -> Value {
    for condition in status["conditions"].as_array_mut().into_iter().flatten() {
        let time = condition["lastUpdateTime"].take();
        if let Some(fields) = condition.as_object_mut() {
            fields.remove("lastUpdateTime");
            fields.insert("lastTransitionTime".to_owned(), time);
        }
    }
    status
}
