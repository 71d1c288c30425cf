//! A simulated Cluster API in a cluster that holds its own objects: a Cluster, MachineDeployments and their Machines,
//! and what the controllers do to them and to the Nodes, one step a method. Nothing runs; everything here writes what
//! Cluster API would write.
//!
//! A rolling update with a surge of one: the MachineDeployment gets another template and a new MachineSet. For each old
//! Machine a new one is made; once its Node has joined, the old Machine is deleted, which cordons and drains its Node,
//! waits for its volumes, terminates the machine, and deletes the Node last.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};
use kube::Client;
use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::{Value, json};

use crate::apply::{apply_objects, apply_yaml};
use crate::kubernetes::node::{NodeTemplate, now, os_image};
use crate::kubernetes::{Nodes, Pace, Ready};
use crate::truth::{COMPLETED, DRAINING, PENDING, Truth, UPDATING};

/// Stand-ins for its CRDs.
const CRDS: &str = include_str!("../fixtures/cluster-api-crds.yaml");

/// The namespace of all objects.
pub const NAMESPACE: &str = "clusters";
/// The Cluster that all nodes belong to.
pub const CLUSTER: &str = "prod";

const GROUP: &str = "cluster.x-k8s.io";
/// What keeps a Machine until its machine is gone.
const FINALIZER: &str = "machine.cluster.x-k8s.io";
const OUTDATED: &str = "node.cluster.x-k8s.io/outdated-revision";

// Nominal durations at the pace of the demo.
const LAUNCH: Duration = Duration::from_secs(3);
const DRAIN: Duration = Duration::from_secs(4);
const TERMINATE: Duration = Duration::from_secs(2);

/// Makes the server serve the kinds of Cluster API, by stand-ins.
///
/// # Errors
/// When the server refuses them, or does not serve them in time.
pub async fn install(client: &Client) -> Result<()> {
    apply_yaml(client, CRDS).await
}

/// A machine of a MachineDeployment: a Machine, and the Node of the same name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// Name of both.
    pub name: String,
    /// The MachineDeployment.
    pub deployment: String,
    /// The MachineSet.
    pub set: String,
    /// The Kubernetes version.
    pub version: String,
}

impl Machine {
    /// A machine of the MachineSet that a MachineDeployment has for this version.
    #[must_use]
    pub fn new(name: &str, deployment: &str, version: &str) -> Self {
        Self {
            name: name.to_owned(),
            deployment: deployment.to_owned(),
            set: set_name(deployment, version),
            version: version.to_owned(),
        }
    }

    fn provider_id(&self) -> String {
        format!("docker:////{}", self.name)
    }
}

/// The name of the MachineSet: that of the MachineDeployment, and a suffix without a dash.
fn set_name(deployment: &str, version: &str) -> String {
    let suffix: String = version.chars().filter(char::is_ascii_digit).collect();
    format!("{deployment}-{suffix}")
}

/// Cluster API, as far as it writes.
#[derive(Clone)]
pub struct ClusterApi {
    client: Client,
    machines: Api<DynamicObject>,
    deployments: Api<DynamicObject>,
    nodes: Nodes,
    truth: Truth,
}

impl ClusterApi {
    /// Writes to the server that `client` talks to.
    #[must_use]
    pub fn new(client: &Client) -> Self {
        Self {
            machines: api(client, "Machine", "machines"),
            deployments: api(client, "MachineDeployment", "machinedeployments"),
            nodes: Nodes::new(client.clone()),
            client: client.clone(),
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

    /// Creates the namespace and the Cluster.
    ///
    /// # Errors
    /// When the server refuses; so for every method here.
    pub async fn cluster(&self) -> Result<()> {
        let namespace = json!({
            "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE},
        });
        apply_objects(&self.client, vec![serde_json::from_value(namespace)?]).await?;
        let cluster = object("Cluster", CLUSTER, &json!({"paused": false}));
        let clusters = api(&self.client, "Cluster", "clusters");
        create(&clusters, cluster).await
    }

    /// Pauses or resumes the Cluster.
    ///
    /// # Errors
    /// As [`ClusterApi::cluster`].
    pub async fn pause(&self, yes: bool) -> Result<()> {
        let clusters: Api<DynamicObject> = api(&self.client, "Cluster", "clusters");
        patch(&clusters, CLUSTER, json!({"spec": {"paused": yes}})).await
    }

    /// Creates a MachineDeployment and its MachineSet.
    ///
    /// # Errors
    /// As [`ClusterApi::cluster`].
    pub async fn deployment(&self, name: &str, version: &str, replicas: usize) -> Result<()> {
        let mut spec = spec(name, version);
        spec["replicas"] = replicas.into();
        spec["rollout"] = json!({"strategy": {
            "type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0},
        }});
        create(&self.deployments, object("MachineDeployment", name, &spec)).await?;
        self.set(name, version).await
    }

    async fn set(&self, deployment: &str, version: &str) -> Result<()> {
        let sets = api(&self.client, "MachineSet", "machinesets");
        let name = set_name(deployment, version);
        create(
            &sets,
            object("MachineSet", &name, &spec(deployment, version)),
        )
        .await
    }

    /// The infrastructure makes a machine, whose Node has not joined.
    ///
    /// # Errors
    /// As [`ClusterApi::cluster`].
    pub async fn launch(&self, machine: &Machine) -> Result<()> {
        let mut spec = machine_spec(&machine.name, &machine.version);
        spec["providerID"] = machine.provider_id().into();
        let mut object = object("Machine", &machine.name, &spec);
        object["metadata"]["finalizers"] = json!([FINALIZER]);
        object["metadata"]["labels"] = json!({
            "cluster.x-k8s.io/cluster-name": CLUSTER,
            "cluster.x-k8s.io/deployment-name": machine.deployment,
            "cluster.x-k8s.io/set-name": machine.set,
        });
        create(&self.machines, object).await?;
        self.up_to_date(&machine.name).await
    }

    /// The Node joins, gets its annotations, and is the Node of its Machine.
    ///
    /// # Errors
    /// As [`ClusterApi::cluster`].
    pub async fn join(&self, machine: &Machine) -> Result<()> {
        self.node(machine).await?;
        self.status(&machine.name, json!({"nodeRef": {"name": machine.name}}))
            .await
    }

    /// The Node alone, as it is where the objects are in another cluster.
    ///
    /// # Errors
    /// As [`ClusterApi::cluster`].
    pub async fn node(&self, machine: &Machine) -> Result<()> {
        let annotations = [
            ("cluster-name", CLUSTER),
            ("cluster-namespace", NAMESPACE),
            ("machine", &machine.name),
            ("owner-kind", "MachineSet"),
            ("owner-name", &machine.set),
        ];
        let annotations = annotations.map(|(key, value)| {
            let key = format!("cluster.x-k8s.io/{key}");
            (key, value.to_owned())
        });
        let template = NodeTemplate {
            name: machine.name.clone(),
            labels: BTreeMap::new(),
            annotations: BTreeMap::from(annotations),
            kubelet_version: machine.version.clone(),
            os_image: os_image(&machine.version),
            images: 0,
        };
        let mut node = template.object()?;
        node.value.data["spec"]["providerID"] = machine.provider_id().into();
        self.nodes.join(&node).await?;
        self.nodes.become_ready(&machine.name).await
    }

    /// A machine that has joined.
    ///
    /// # Errors
    /// As [`ClusterApi::cluster`].
    pub async fn machine(&self, machine: &Machine) -> Result<()> {
        self.launch(machine).await?;
        self.join(machine).await
    }

    /// Changes the version of a MachineDeployment, which creates another MachineSet: these old Machines are no longer
    /// up to date, and their Nodes are tainted.
    ///
    /// # Errors
    /// As [`ClusterApi::cluster`].
    pub async fn upgrade(&self, deployment: &str, version: &str, old: &[Machine]) -> Result<()> {
        let template = json!({"spec": {"template": {"spec": {"version": version}}}});
        patch(&self.deployments, deployment, template).await?;
        self.set(deployment, version).await?;
        for machine in old {
            let why = format!("* Version {}, {version} required", machine.version);
            self.outdated(&machine.name, &why).await?;
            self.taint(&machine.name).await?;
        }
        Ok(())
    }

    /// The Machine is what its MachineDeployment wants.
    ///
    /// # Errors
    /// As [`ClusterApi::cluster`].
    pub async fn up_to_date(&self, name: &str) -> Result<()> {
        self.condition(name, ["UpToDate", "True", "UpToDate", ""])
            .await
    }

    /// The Machine differs from its MachineDeployment, and how.
    ///
    /// # Errors
    /// As [`ClusterApi::cluster`].
    pub async fn outdated(&self, name: &str, why: &str) -> Result<()> {
        self.condition(name, ["UpToDate", "False", "NotUpToDate", why])
            .await
    }

    /// Taints the Node of an older revision.
    ///
    /// # Errors
    /// As [`ClusterApi::cluster`].
    pub async fn taint(&self, name: &str) -> Result<()> {
        self.nodes.taint(name, OUTDATED, "PreferNoSchedule").await
    }

    /// Deletes a Machine, which cordons and drains its Node; `blockers` is what holds the drain up.
    ///
    /// # Errors
    /// As [`ClusterApi::cluster`].
    pub async fn delete(&self, name: &str, blockers: &str) -> Result<()> {
        self.machines.delete(name, &DeleteParams::default()).await?;
        let started = now();
        self.status(name, json!({"deletion": {"nodeDrainStartTime": started}}))
            .await?;
        self.nodes.cordon(name, true).await?;
        let message = format!("Drain not completed yet (started at {started}):{blockers}");
        self.deleting(name, "DrainingNode", &message).await
    }

    /// The pods are gone, and volumes are being detached.
    ///
    /// # Errors
    /// As [`ClusterApi::cluster`].
    pub async fn drained(&self, name: &str) -> Result<()> {
        self.deleting(name, "WaitingForVolumeDetach", "").await
    }

    /// The machine is being terminated: its kubelet does not report any more.
    ///
    /// # Errors
    /// As [`ClusterApi::cluster`].
    pub async fn terminate(&self, name: &str) -> Result<()> {
        let waiting = "Waiting for DockerMachine to be deleted";
        self.deleting(name, "WaitingForInfrastructureDeletion", waiting)
            .await?;
        self.nodes.set_ready(name, Ready::Unknown).await
    }

    /// The machine is gone, then its Node, then its Machine.
    ///
    /// # Errors
    /// As [`ClusterApi::cluster`].
    pub async fn gone(&self, name: &str) -> Result<()> {
        self.nodes.delete(name).await?;
        patch(
            &self.machines,
            name,
            json!({"metadata": {"finalizers": null}}),
        )
        .await
    }

    /// Replaces an old machine by a new one, step by step.
    ///
    /// # Errors
    /// As [`ClusterApi::cluster`].
    pub async fn replace(&self, old: &Machine, new: &Machine, pace: Pace) -> Result<()> {
        let (truth, name) = (&self.truth, old.name.as_str());
        self.launch(new).await?;
        pace.pass(LAUNCH).await;
        let joined = self.join(new);
        truth.joins(&new.name, &[COMPLETED], joined).await?;
        let deleted = self.delete(name, "");
        truth.step(name, &[DRAINING], deleted).await?;
        pace.pass(DRAIN).await;
        truth.step(name, &[UPDATING], self.drained(name)).await?;
        pace.pass(TERMINATE).await;
        truth.step(name, &[UPDATING], self.terminate(name)).await?;
        pace.pass(TERMINATE).await;
        truth.gone(name, self.gone(name)).await
    }

    /// Updates all machines of a MachineDeployment to another version, one after the other.
    ///
    /// # Errors
    /// As [`ClusterApi::cluster`].
    pub async fn roll(&self, old: &[Machine], version: &str, pace: Pace) -> Result<()> {
        let Some(first) = old.first() else {
            return Ok(());
        };
        let names: Vec<&str> = old.iter().map(|machine| machine.name.as_str()).collect();
        let outdated = self.upgrade(&first.deployment, version, old);
        self.truth.step_of(&names, &[PENDING], outdated).await?;
        for machine in old {
            let name = format!("{}-new", machine.name);
            let new = Machine::new(&name, &machine.deployment, version);
            self.replace(machine, &new, pace).await?;
        }
        Ok(())
    }

    /// Sets the condition `Deleting` of a Machine.
    ///
    /// # Errors
    /// As [`ClusterApi::cluster`].
    pub async fn deleting(&self, name: &str, reason: &str, message: &str) -> Result<()> {
        self.condition(name, ["Deleting", "True", reason, message])
            .await
    }

    /// Sets a condition of a Machine: type, status, reason and message.
    ///
    /// # Errors
    /// As [`ClusterApi::cluster`].
    pub async fn condition(
        &self,
        name: &str,
        [type_, status, reason, message]: [&str; 4],
    ) -> Result<()> {
        let machine = self.machines.get(name).await?;
        let conditions = machine.data["status"]["conditions"].as_array().cloned();
        let mut conditions = conditions.unwrap_or_default();
        conditions.retain(|condition| condition["type"] != type_);
        conditions.push(json!({
            "type": type_, "status": status, "reason": reason, "message": message,
            "lastTransitionTime": now(),
        }));
        self.status(name, json!({"conditions": conditions})).await
    }

    async fn status(&self, name: &str, status: Value) -> Result<()> {
        let patch = Patch::Merge(json!({"status": status}));
        self.machines
            .patch_status(name, &PatchParams::default(), &patch)
            .await
            .with_context(|| format!("Patching the status of Machine {name}"))?;
        Ok(())
    }
}

fn api(client: &Client, kind: &str, plural: &str) -> Api<DynamicObject> {
    let gvk = GroupVersionKind::gvk(GROUP, "v1beta2", kind);
    let resource = ApiResource::from_gvk_with_plural(&gvk, plural);
    Api::namespaced_with(client.clone(), NAMESPACE, &resource)
}

fn object(kind: &str, name: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": format!("{GROUP}/v1beta2"), "kind": kind,
        "metadata": {"name": name, "namespace": NAMESPACE}, "spec": spec,
    })
}

/// The spec of a MachineDeployment, or of its MachineSet.
fn spec(deployment: &str, version: &str) -> Value {
    let labels = json!({"cluster.x-k8s.io/deployment-name": deployment});
    json!({
        "clusterName": CLUSTER, "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": machine_spec(deployment, version)},
    })
}

fn machine_spec(name: &str, version: &str) -> Value {
    json!({
        "clusterName": CLUSTER, "version": version,
        "bootstrap": {"dataSecretName": name},
        "infrastructureRef": {
            "apiGroup": "infrastructure.cluster.x-k8s.io", "kind": "DockerMachine", "name": name,
        },
    })
}

async fn create(api: &Api<DynamicObject>, object: Value) -> Result<()> {
    let object: DynamicObject = serde_json::from_value(object)?;
    api.create(&PostParams::default(), &object).await?;
    Ok(())
}

async fn patch(api: &Api<DynamicObject>, name: &str, patch: Value) -> Result<()> {
    api.patch(name, &PatchParams::default(), &Patch::Merge(patch))
        .await?;
    Ok(())
}
