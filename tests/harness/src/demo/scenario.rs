//! The cluster that the demo simulates, and its update.

use std::str::FromStr;
use std::sync::Arc;

use anyhow::{Result, bail};
use kube::Client;

use super::script::{self, Script, Update};
use crate::karpenter;
use crate::kubernetes::{self, Pace};
use crate::load::{Kind, Object};
use crate::openshift::{self, Editor, Pool};

/// The releases that the simulated `OpenShift` is updated from and to.
const RELEASES: (&str, &str) = ("4.19.14", "4.20.3");

/// The pool that stays behind until all others are done.
const PAUSED: &str = "edge";

/// The node whose update fails at first.
const DEGRADED: &str = "worker-04";

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
    /// Machines of Cluster API are replaced.
    ClusterApi,
    /// A Plan updates agents of k3s.
    K3s,
    /// Nodes of a hosted OpenShift are updated in place.
    HyperShift,
}

impl Platform {
    /// Each platform by its name.
    pub const NAMED: [(&str, Self); 7] = [
        ("openshift", Self::OpenShift),
        ("kubernetes", Self::Kubernetes),
        ("karpenter", Self::Karpenter),
        ("eks", Self::Eks),
        ("cluster-api", Self::ClusterApi),
        ("k3s", Self::K3s),
        ("hypershift", Self::HyperShift),
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
    cluster: Simulated,
}

#[derive(Debug, Clone)]
enum Simulated {
    OpenShift(openshift::Cluster, openshift::rollout::Plan),
    Kubernetes(kubernetes::Cluster, kubernetes::rollout::Plan),
    Karpenter(karpenter::rollout::Plan),
    Script(Arc<dyn Script>),
}

impl Scenario {
    /// The cluster of a platform. A plain one is updated to the version of the API server, which the
    /// operator takes as the target version.
    ///
    /// # Errors
    /// Never in practice: the objects are made of valid JSON.
    pub fn new(platform: Platform, server_version: &str, pace: Pace) -> Result<Self> {
        let update = || Update {
            from: previous_minor(server_version),
            to: server_version.to_owned(),
            pace,
        };
        let cluster = match platform {
            Platform::Eks => Simulated::Script(script::eks(update())),
            Platform::ClusterApi => Simulated::Script(script::cluster_api(update())),
            Platform::K3s => Simulated::Script(script::k3s(update())),
            Platform::HyperShift => Simulated::Script(script::hypershift(update())),
            Platform::OpenShift => {
                let cluster = openshift::Cluster::builder(RELEASES.0)
                    .pool(Pool::new("master", 3))
                    .pool(Pool::new("worker", 12).max_unavailable(3))
                    .pool(Pool::new("infra", 3))
                    .pool(Pool::new(PAUSED, 2).max_unavailable(2).paused())
                    .build()?;
                let plan = openshift::rollout::Plan {
                    pace,
                    degraded: Some(DEGRADED.to_owned()),
                    ..openshift::rollout::Plan::to(RELEASES.1)
                };
                Simulated::OpenShift(cluster, plan)
            }
            Platform::Kubernetes => {
                let cluster = kubernetes::Cluster::builder(&previous_minor(server_version))
                    .control_plane(3)
                    .pool("general", 8)
                    .pool("memory", 3)
                    .build()?;
                let plan = kubernetes::rollout::Plan {
                    pace,
                    ..kubernetes::rollout::Plan::to(server_version)
                };
                Simulated::Kubernetes(cluster, plan)
            }
            Platform::Karpenter => Simulated::Karpenter(karpenter::rollout::Plan {
                from: previous_minor(server_version),
                version: server_version.to_owned(),
                pace,
            }),
        };
        Ok(Self { cluster })
    }

    /// A description of the cluster.
    #[must_use]
    pub fn describe(&self) -> String {
        let what = match &self.cluster {
            Simulated::OpenShift(..) => "OpenShift",
            Simulated::Kubernetes(..) => "Kubernetes",
            Simulated::Karpenter(_) => "Karpenter",
            Simulated::Script(script) => script.name(),
        };
        format!("a simulated {what} cluster of {} nodes", self.nodes())
    }

    /// A description of the update.
    #[must_use]
    pub fn describe_update(&self) -> String {
        match &self.cluster {
            Simulated::OpenShift(cluster, plan) => format!(
                "Updating from {} to {}, about a minute. The pool {PAUSED} is paused until the others are done; {DEGRADED} fails at first.",
                cluster.version, plan.version
            ),
            Simulated::Kubernetes(_, plan) => format!(
                "Updating to {}, about a minute. Control-plane nodes reboot, nodes of pools are replaced.",
                plan.version
            ),
            Simulated::Karpenter(plan) => format!(
                "The image of the node class goes to {}, and drifted nodes are replaced, about a minute. An empty node is removed, which is no update; a node of the pool {} is held by karpenter.sh/do-not-disrupt until the others are done.",
                plan.version,
                karpenter::rollout::HELD_POOL
            ),
            Simulated::Script(script) => script.describe(),
        }
    }

    /// How many nodes it has after the update.
    #[must_use]
    pub fn nodes_afterwards(&self) -> usize {
        match &self.cluster {
            Simulated::OpenShift(..) | Simulated::Kubernetes(..) | Simulated::Script(_) => {
                self.nodes()
            }
            // One is empty, and removed.
            Simulated::Karpenter(_) => self.nodes() - 1,
        }
    }

    /// How many nodes the cluster has.
    #[must_use]
    pub fn nodes(&self) -> usize {
        let objects = match &self.cluster {
            Simulated::OpenShift(cluster, _) => cluster.objects(),
            Simulated::Kubernetes(cluster, _) => cluster.objects(),
            Simulated::Karpenter(plan) => return plan.nodes(),
            Simulated::Script(script) => return script.nodes(),
        };
        let is_node = |object: &&Object| object.kind == Kind::Node;
        objects.iter().filter(is_node).count()
    }

    /// Loads the cluster, before its update, into the server.
    ///
    /// # Errors
    /// When the server rejects an object.
    pub async fn load(&self, client: &Client) -> Result<()> {
        match &self.cluster {
            Simulated::OpenShift(cluster, _) => cluster.load(client).await.map(|_| ()),
            Simulated::Kubernetes(cluster, _) => cluster.load(client).await.map(|_| ()),
            Simulated::Karpenter(plan) => karpenter::rollout::load(client, plan).await,
            Simulated::Script(script) => script.load(client).await,
        }
    }

    /// Simulates the update. Returns only after a paused pool is unpaused.
    ///
    /// # Errors
    /// When the server does not answer, or other clients change the nodes.
    pub async fn play(&self, client: &Client) -> Result<()> {
        match &self.cluster {
            Simulated::OpenShift(_, plan) => openshift::rollout::play(client, plan).await,
            Simulated::Kubernetes(_, plan) => kubernetes::rollout::play(client, plan).await,
            Simulated::Karpenter(plan) => karpenter::rollout::play(client, plan).await,
            Simulated::Script(script) => script.play(client).await,
        }
    }

    /// The pool that is paused, or held, at the start.
    #[must_use]
    pub fn paused_pool(&self) -> Option<&'static str> {
        match &self.cluster {
            Simulated::OpenShift(..) => Some(PAUSED),
            Simulated::Kubernetes(..) | Simulated::Script(_) => None,
            Simulated::Karpenter(_) => Some(karpenter::rollout::HELD_POOL),
        }
    }

    /// Unpauses the paused pool.
    ///
    /// # Errors
    /// When the server rejects it.
    pub async fn unpause(&self, client: &Client) -> Result<()> {
        match &self.cluster {
            Simulated::OpenShift(..) => Editor::new(client).set_paused(PAUSED, false).await,
            Simulated::Kubernetes(..) | Simulated::Script(_) => Ok(()),
            Simulated::Karpenter(_) => karpenter::rollout::release(client).await,
        }
    }
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

    #[test]
    fn the_node_that_fails_is_one_of_the_cluster() {
        let scenario = Scenario::new(Platform::OpenShift, "v1.36.3", Pace::DEMO).unwrap();
        let Simulated::OpenShift(cluster, _) = scenario.cluster else {
            unreachable!();
        };
        assert!(cluster.nodes_of("worker").contains(&DEGRADED.to_owned()));
        assert_eq!(cluster.nodes_of(PAUSED).len(), 2);
    }
}
