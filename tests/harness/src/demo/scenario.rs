//! The cluster that the demo simulates, and its update.

use std::str::FromStr;
use std::sync::Arc;

use anyhow::{Result, bail};
use kube::Client;

use super::script::mixed::{Fargate, Mixed};
use super::script::{self, Shared, Update};
use crate::kubernetes::Pace;
use crate::managed::Cloud;
use crate::openshift::Pool;
use crate::truth::Truth;

/// A kind of cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Platform {
    /// Nodes are updated in place by the Machine Config Operator.
    OpenShift,
    /// Nodes of pools are replaced.
    Kubernetes,
    /// Nodes that have drifted are replaced by Karpenter.
    Karpenter,
    /// A node group of EKS is replaced.
    Eks,
    /// Nodes of an agent pool of AKS are reimaged.
    Aks,
    /// Nodes of a node pool of GKE are replaced.
    Gke,
    /// Machines of Cluster API are replaced.
    ClusterApi,
    /// A Plan updates agents of k3s.
    K3s,
    /// Nodes of a hosted OpenShift are updated in place.
    HyperShift,
    /// kured reboots nodes.
    Kured,
    /// Several of them in one cluster.
    Mixed,
}

impl Platform {
    /// Each platform by its name.
    pub const NAMED: [(&str, Self); 11] = [
        ("openshift", Self::OpenShift),
        ("kubernetes", Self::Kubernetes),
        ("karpenter", Self::Karpenter),
        ("eks", Self::Eks),
        ("aks", Self::Aks),
        ("gke", Self::Gke),
        ("cluster-api", Self::ClusterApi),
        ("k3s", Self::K3s),
        ("hypershift", Self::HyperShift),
        ("kured", Self::Kured),
        ("mixed", Self::Mixed),
    ];

    /// What runs at once in [`Platform::Mixed`].
    const MIXED: [Self; 4] = [Self::Eks, Self::Karpenter, Self::K3s, Self::Kured];

    /// All that can be in one cluster. The plain cluster comes first, as it removes all other nodes.
    pub const COMBINABLE: [Self; 9] = [
        Self::Kubernetes,
        Self::Eks,
        Self::Aks,
        Self::Gke,
        Self::Karpenter,
        Self::ClusterApi,
        Self::K3s,
        Self::HyperShift,
        Self::Kured,
    ];
}

impl FromStr for Platform {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let Some((_, platform)) = Self::NAMED.iter().find(|(name, _)| *name == text) else {
            let names = Self::NAMED.map(|(name, _)| name).join(", ");
            bail!("'{text}' is none of {names}");
        };
        Ok(*platform)
    }
}

/// A simulated cluster and the update to simulate.
#[derive(Debug, Clone)]
pub struct Scenario {
    script: Shared,
}

impl Scenario {
    /// The cluster of a platform. A plain one is updated to the version of the API server, which the
    /// operator takes as the target version.
    ///
    /// # Errors
    /// Never in practice: the objects are made of valid JSON.
    pub fn new(platform: Platform, server_version: &str, pace: Pace) -> Result<Self> {
        Self::telling(&[platform], server_version, pace, &Truth::default())
    }

    /// The clusters of these platforms in one, which are updated at the same time, and the truth about it.
    ///
    /// # Errors
    /// As [`Scenario::new`].
    pub fn telling(
        platforms: &[Platform],
        server_version: &str,
        pace: Pace,
        truth: &Truth,
    ) -> Result<Self> {
        let update = Update {
            from: previous_minor(server_version),
            to: server_version.to_owned(),
            pace,
            truth: truth.clone(),
        };
        let script = match platforms {
            [platform] => script(*platform, &update)?,
            several => mixed(several, &update)?,
        };
        Ok(Self { script })
    }

    /// A cluster of OpenShift of these pools and a paused one, in which the update of one node fails at first, and the
    /// truth about it.
    ///
    /// # Errors
    /// As [`Scenario::new`].
    pub fn openshift(pools: &[Pool], degraded: &str, pace: Pace, truth: &Truth) -> Result<Self> {
        let script = script::openshift::InPlace::of(pools, degraded, pace, truth.clone())?;
        Ok(Self {
            script: Arc::new(script),
        })
    }

    /// A description of the cluster.
    #[must_use]
    pub fn describe(&self) -> String {
        let (what, nodes) = (self.script.name(), self.nodes());
        format!("a simulated {what} cluster of {nodes} nodes")
    }

    /// A description of the update.
    #[must_use]
    pub fn describe_update(&self) -> String {
        let update = self.script.describe();
        match self.held_drain() {
            None => update,
            Some(node) => format!(
                "{update}\nA PodDisruptionBudget holds up the drain of {node}. Its insight says so after a minute, as \
                 most drains end within that; so this takes up to a minute longer."
            ),
        }
    }

    /// The node whose drain somebody may hold up: one of the first that are drained.
    #[must_use]
    pub fn held_drain(&self) -> Option<&'static str> {
        self.script.held_drain()
    }

    /// How many nodes it has after the update.
    #[must_use]
    pub fn nodes_afterwards(&self) -> usize {
        self.script.nodes_afterwards()
    }

    /// How many nodes the cluster has.
    #[must_use]
    pub fn nodes(&self) -> usize {
        self.script.nodes()
    }

    /// Makes the server serve the kinds of the updater, by stand-ins.
    ///
    /// # Errors
    /// When the server refuses them, or does not serve them in time.
    pub async fn install(&self, client: &Client) -> Result<()> {
        self.script.install(client).await
    }

    /// Loads the cluster, before its update, into the server, which serves its kinds already.
    ///
    /// # Errors
    /// When the server rejects an object.
    pub async fn load(&self, client: &Client) -> Result<()> {
        self.script.load(client).await
    }

    /// Simulates the update. Returns only after a paused pool is unpaused.
    ///
    /// # Errors
    /// When the server does not answer, or other clients change the nodes.
    pub async fn play(&self, client: &Client) -> Result<()> {
        self.script.play(client).await
    }

    /// The pool that is paused, or held, at the start.
    #[must_use]
    pub fn paused_pool(&self) -> Option<&'static str> {
        self.script.held_pool()
    }

    /// Unpauses the paused pool.
    ///
    /// # Errors
    /// When the server rejects it.
    pub async fn unpause(&self, client: &Client) -> Result<()> {
        self.script.release(client).await
    }
}

fn script(platform: Platform, update: &Update) -> Result<Shared> {
    let of_cloud = |cloud| script::managed::NodePool::new(cloud, update.clone());
    let update = update.clone();
    Ok(match platform {
        Platform::OpenShift => {
            Arc::new(script::openshift::InPlace::new(update.pace, update.truth)?)
        }
        Platform::Kubernetes => Arc::new(script::kubernetes::Plain::new(update)?),
        Platform::Karpenter => Arc::new(script::karpenter::Drift::new(update)),
        Platform::Eks => Arc::new(of_cloud(Cloud::Eks)),
        Platform::Aks => Arc::new(of_cloud(Cloud::Aks)),
        Platform::Gke => Arc::new(of_cloud(Cloud::Gke)),
        Platform::ClusterApi => Arc::new(script::cluster_api::RollingUpdate(update)),
        Platform::K3s => Arc::new(script::k3s::PlanOfAgents(update)),
        Platform::HyperShift => Arc::new(script::hypershift::InPlace(update)),
        Platform::Kured => Arc::new(script::kured::Reboots(update)),
        Platform::Mixed => mixed(&Platform::MIXED, &update)?,
    })
}

/// Several platforms at once, beside a node that nobody updates.
fn mixed(platforms: &[Platform], update: &Update) -> Result<Shared> {
    let parts = platforms.iter().map(|platform| script(*platform, update));
    let mut parts: Vec<Shared> = parts.collect::<Result<_>>()?;
    parts.push(Arc::new(Fargate(update.clone())));
    Ok(Arc::new(Mixed::new(parts)))
}

/// `v1.36.3` becomes `v1.35.3`.
fn previous_minor(version: &str) -> String {
    let mut parts = version.trim_start_matches('v').split('.');
    let major = parts.next().unwrap_or("1");
    let minor = parts
        .next()
        .and_then(|minor| minor.parse::<u32>().ok())
        .unwrap_or(1);
    let patch = parts.next().unwrap_or("0");
    format!("v{major}.{}.{patch}", minor.saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plain_cluster_starts_one_minor_version_below_its_api_server() {
        assert_eq!(previous_minor("v1.36.3"), "v1.35.3");
    }
}
