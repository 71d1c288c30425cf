//! Simulated managed node pools: what EKS, AKS and GKE write on the Nodes of a pool while they update it, one step a
//! request. Nothing runs.
//!
//! ```text
//! EKS  new node joins ─ all old nodes cordoned ─ each: drained ─ excluded from load balancers ─ deleted
//! AKS  surge node joins ─ each: marked ─ cordoned ─ drained ─ deleted ─ joins under its name ─ unmarked
//! GKE  new node joins ─ old node cordoned ─ drained ─ deleted, one after the other
//! ```
//!
//! [`rollout`] plays whole updates.

use std::collections::BTreeMap;

use anyhow::Result;
use kube::Client;

use crate::kubernetes::node::{NodeTemplate, boot_id};
use crate::kubernetes::{Nodes, Ready};
use crate::pods::{Owner, Pods};
use crate::truth::Truth;

pub mod rollout;

/// The label that excludes a node from load balancers.
const EXCLUDED: &str = "node.kubernetes.io/exclude-from-external-load-balancers";

/// The label of AKS on a node whose upgrade has stopped.
const STATUS: &str = "kubernetes.azure.com/upgrade-status";

/// The annotations of a node that AKS upgrades.
const UPGRADING: [(&str, &str); 2] = [
    (
        "cluster-autoscaler.kubernetes.io/scale-down-disabled",
        "true",
    ),
    (
        "kubernetes.azure.com/azure-cluster-autoscaler-scale-down-disabled-reason",
        "upgrade",
    ),
];

/// The pods of a node that a drain evicts.
const WORKLOAD: usize = 2;

/// Who manages a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cloud {
    /// Managed node groups of EKS.
    Eks,
    /// Agent pools of AKS.
    Aks,
    /// Node pools of GKE.
    Gke,
}

impl Cloud {
    /// The label whose value names the pool of a node.
    #[must_use]
    pub fn pool_label(self) -> &'static str {
        match self {
            Self::Eks => "eks.amazonaws.com/nodegroup",
            Self::Aks => "kubernetes.azure.com/agentpool",
            Self::Gke => "cloud.google.com/gke-nodepool",
        }
    }

    /// What the cloud labels its nodes with.
    fn labels(self, machine: &Machine) -> BTreeMap<String, String> {
        let image = machine.image.as_str();
        let more: &[(&str, &str)] = match self {
            Self::Eks => &[("eks.amazonaws.com/nodegroup-image", image)],
            Self::Aks => &[
                ("kubernetes.azure.com/node-image-version", image),
                ("kubernetes.azure.com/mode", "User"),
                ("agentpool", &machine.pool),
            ],
            Self::Gke => &[],
        };
        let pool = (self.pool_label(), machine.pool.as_str());
        let all = more.iter().copied().chain([pool]);
        all.map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect()
    }

    fn os_image(self, machine: &Machine) -> String {
        match self {
            Self::Eks => "Amazon Linux 2023".to_owned(),
            Self::Aks => "Ubuntu 22.04.4 LTS".to_owned(),
            Self::Gke => machine.image.clone(),
        }
    }
}

/// One machine of a pool, and the Node of the same name.
#[derive(Debug, Clone)]
pub struct Machine {
    /// Name of the Node.
    pub name: String,
    /// Its pool.
    pub pool: String,
    /// The kubelet.
    pub version: String,
    /// The machine image.
    pub image: String,
}

impl Machine {
    /// A machine of a pool.
    #[must_use]
    pub fn new(name: &str, pool: &str, version: &str, image: &str) -> Self {
        Self {
            name: name.to_owned(),
            pool: pool.to_owned(),
            version: version.to_owned(),
            image: image.to_owned(),
        }
    }
}

/// The pools of one cloud.
#[derive(Clone)]
pub struct Managed {
    cloud: Cloud,
    nodes: Nodes,
    pods: Pods,
    truth: Truth,
}

impl Managed {
    /// Writes to the server that `client` talks to.
    #[must_use]
    pub fn new(client: &Client, cloud: Cloud) -> Self {
        Self {
            cloud,
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

    /// The nodes of the cluster.
    #[must_use]
    pub fn nodes(&self) -> &Nodes {
        &self.nodes
    }

    /// The Node joins, and is not ready yet.
    ///
    /// # Errors
    /// When the server refuses; so for every method here.
    pub async fn join(&self, machine: &Machine) -> Result<()> {
        let template = NodeTemplate {
            name: machine.name.clone(),
            labels: self.cloud.labels(machine),
            annotations: BTreeMap::new(),
            kubelet_version: machine.version.clone(),
            os_image: self.cloud.os_image(machine),
            images: 0,
        };
        let mut node = template.object()?;
        // A machine that is reimaged keeps its name.
        let boot = boot_id(&[&machine.name, &machine.version, &machine.image]);
        node.value.data["status"]["nodeInfo"]["bootID"] = boot.into();
        self.nodes.join(&node).await
    }

    /// A machine that has joined and is ready.
    ///
    /// # Errors
    /// As [`Managed::join`].
    pub async fn machine(&self, machine: &Machine) -> Result<()> {
        self.join(machine).await?;
        self.nodes.become_ready(&machine.name).await
    }

    /// Cordons nodes, one after the other.
    ///
    /// # Errors
    /// As [`Managed::join`].
    pub async fn cordon(&self, nodes: &[&str]) -> Result<()> {
        for node in nodes {
            self.nodes.cordon(node, true).await?;
        }
        Ok(())
    }

    /// EKS: the node is drained, and excluded from load balancers.
    ///
    /// # Errors
    /// As [`Managed::join`].
    pub async fn exclude(&self, node: &str) -> Result<()> {
        self.nodes.label(node, EXCLUDED, Some("true")).await
    }

    /// AKS: the node is being upgraded, or no longer.
    ///
    /// # Errors
    /// As [`Managed::join`].
    pub async fn mark(&self, node: &str, yes: bool) -> Result<()> {
        let marks = UPGRADING.map(|(key, value)| (key, yes.then_some(value)));
        self.nodes.annotate(node, &marks).await
    }

    /// AKS: the node could not be drained.
    ///
    /// # Errors
    /// As [`Managed::join`].
    pub async fn quarantine(&self, node: &str) -> Result<()> {
        self.nodes.label(node, STATUS, Some("Quarantined")).await
    }

    /// AKS: another try to upgrade a quarantined node.
    ///
    /// # Errors
    /// As [`Managed::join`].
    pub async fn retry(&self, node: &str) -> Result<()> {
        self.nodes.label(node, STATUS, None).await
    }

    /// AKS: the Node is deleted and registers again under its name, with what `machine` says.
    ///
    /// # Errors
    /// As [`Managed::join`].
    pub async fn reimage(&self, machine: &Machine) -> Result<()> {
        self.nodes.delete(&machine.name).await?;
        self.join(machine).await
    }

    /// The machine ends: its kubelet no longer reports.
    ///
    /// # Errors
    /// As [`Managed::join`].
    pub async fn terminate(&self, node: &str) -> Result<()> {
        self.nodes.set_ready(node, Ready::Unknown).await
    }

    /// The machine is gone, and with it the Node.
    ///
    /// # Errors
    /// As [`Managed::join`].
    pub async fn gone(&self, node: &str) -> Result<()> {
        self.nodes.delete(node).await
    }

    /// Pods run on a node: some that a drain evicts, and one of a DaemonSet.
    ///
    /// # Errors
    /// As [`Managed::join`].
    pub async fn workload(&self, node: &str) -> Result<()> {
        for name in workload(node) {
            self.pods.run(&name, node, Owner::ReplicaSet).await?;
        }
        let logs = format!("{node}-logs");
        self.pods.run(&logs, node, Owner::DaemonSet).await
    }
}

/// The names of the pods of a node that a drain evicts.
fn workload(node: &str) -> [String; WORKLOAD] {
    std::array::from_fn(|index| format!("{node}-web-{index}"))
}
