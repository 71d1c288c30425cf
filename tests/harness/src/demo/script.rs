//! Scripts of updaters: what the cluster has before, and the update that is played.

use std::fmt::Debug;
use std::sync::Arc;

use anyhow::Result;
use futures::future::BoxFuture;
use kube::Client;

use crate::cluster_api::{self, ClusterApi, Machine};
use crate::hypershift::HyperShift;
use crate::kubernetes::{Nodes, Pace, numbered};
use crate::managed::{self, Cloud, Managed};
use crate::plans::{self, Plan, Plans};

/// A cluster and its update.
pub(super) trait Script: Debug + Send + Sync {
    /// What kind of cluster it is.
    fn name(&self) -> &'static str;

    /// Number of nodes, before and after the update.
    fn nodes(&self) -> usize;

    /// A description of the update.
    fn describe(&self) -> String;

    /// Loads the cluster, before its update.
    fn load<'a>(&'a self, client: &'a Client) -> BoxFuture<'a, Result<()>>;

    /// Plays the update.
    fn play<'a>(&'a self, client: &'a Client) -> BoxFuture<'a, Result<()>>;
}

/// The versions of an update, and how fast it goes.
#[derive(Debug, Clone)]
pub(super) struct Update {
    pub(super) from: String,
    pub(super) to: String,
    pub(super) pace: Pace,
}

/// The script of a platform.
pub(super) fn cluster_api(update: Update) -> Arc<dyn Script> {
    Arc::new(RollingUpdate(update))
}

/// The script of a platform.
pub(super) fn k3s(update: Update) -> Arc<dyn Script> {
    Arc::new(PlanOfAgents(update))
}

/// The script of a platform.
pub(super) fn hypershift(update: Update) -> Arc<dyn Script> {
    Arc::new(InPlace(update))
}

/// The script of a platform.
pub(super) fn eks(update: Update) -> Arc<dyn Script> {
    Arc::new(NodeGroup(update))
}

/// A node group of EKS is replaced: new nodes join, then all old ones are cordoned, drained and terminated.
#[derive(Debug)]
struct NodeGroup(Update);

const GROUP: &str = "general";
const MEMBERS: usize = 4;

impl NodeGroup {
    fn machines(generation: &str, version: &str) -> Vec<managed::Machine> {
        let names = numbered(generation, MEMBERS).into_iter();
        let image = format!("ami-{generation}");
        names
            .map(|name| managed::Machine::new(&name, GROUP, version, &image))
            .collect()
    }
}

impl Script for NodeGroup {
    fn name(&self) -> &'static str {
        "EKS"
    }

    fn nodes(&self) -> usize {
        MEMBERS
    }

    fn describe(&self) -> String {
        let to = &self.0.to;
        format!(
            "Updating a managed node group of {MEMBERS} nodes to {to}: new nodes join, all old ones are cordoned at once, then drained and terminated."
        )
    }

    fn load<'a>(&'a self, client: &'a Client) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let eks = Managed::new(client, Cloud::Eks);
            for machine in Self::machines("blue", &self.0.from) {
                eks.machine(&machine).await?;
            }
            Ok(())
        })
    }

    fn play<'a>(&'a self, client: &'a Client) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let eks = Managed::new(client, Cloud::Eks);
            let old = Self::machines("blue", &self.0.from);
            let new = Self::machines("green", &self.0.to);
            eks.update(&old, &new, self.0.pace).await
        })
    }
}

/// Machines of two MachineDeployments are replaced, one at a time.
#[derive(Debug)]
struct RollingUpdate(Update);

const DEPLOYMENTS: [(&str, usize); 2] = [("general", 4), ("memory", 2)];

impl RollingUpdate {
    fn machines(&self, deployment: &str, count: usize) -> Vec<Machine> {
        let names = numbered(deployment, count).into_iter();
        names
            .map(|name| Machine::new(&name, deployment, &self.0.from))
            .collect()
    }
}

impl Script for RollingUpdate {
    fn name(&self) -> &'static str {
        "Cluster API"
    }

    fn nodes(&self) -> usize {
        DEPLOYMENTS.iter().map(|(_, count)| count).sum()
    }

    fn describe(&self) -> String {
        let to = &self.0.to;
        format!(
            "Updating two MachineDeployments to {to}, about a minute. A new machine joins, then an old one is drained and deleted."
        )
    }

    fn load<'a>(&'a self, client: &'a Client) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            cluster_api::install(client).await?;
            let api = ClusterApi::new(client);
            api.cluster().await?;
            for (deployment, count) in DEPLOYMENTS {
                api.deployment(deployment, &self.0.from, count).await?;
                for machine in self.machines(deployment, count) {
                    api.machine(&machine).await?;
                }
            }
            Ok(())
        })
    }

    fn play<'a>(&'a self, client: &'a Client) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let api = ClusterApi::new(client);
            let rolls = DEPLOYMENTS.map(|(deployment, count)| {
                let (api, machines) = (api.clone(), self.machines(deployment, count));
                async move { api.roll(&machines, &self.0.to, self.0.pace).await }
            });
            futures::future::try_join_all(rolls).await.map(drop)
        })
    }
}

/// A Plan of the system-upgrade-controller updates agents of k3s, one at a time.
#[derive(Debug)]
struct PlanOfAgents(Update);

const AGENTS: usize = 5;

impl PlanOfAgents {
    fn version(version: &str) -> String {
        format!("{version}+k3s1")
    }
}

impl Script for PlanOfAgents {
    fn name(&self) -> &'static str {
        "k3s"
    }

    fn nodes(&self) -> usize {
        AGENTS
    }

    fn describe(&self) -> String {
        let to = Self::version(&self.0.to);
        format!(
            "A Plan of the system-upgrade-controller updates {AGENTS} agents of k3s to {to}, one after the other, about a minute."
        )
    }

    fn load<'a>(&'a self, client: &'a Client) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            plans::install(client).await?;
            let plans = Plans::new(client);
            for agent in numbered("agent", AGENTS) {
                plans.agent(&agent, &Self::version(&self.0.from)).await?;
            }
            Ok(())
        })
    }

    fn play<'a>(&'a self, client: &'a Client) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let plans = Plans::new(client);
            let plan = Plan::new("agent-plan", &Self::version(&self.0.to));
            plans.create(&plan).await?;
            plans.resolve(&plan).await?;
            let agents = numbered("agent", AGENTS);
            let agents: Vec<&str> = agents.iter().map(String::as_str).collect();
            plans.play(&plan, &agents, self.0.pace).await
        })
    }
}

/// The nodes of a hosted cluster are updated in place.
#[derive(Debug)]
struct InPlace(Update);

const HOSTED: usize = 4;
const CONFIG: &str = "0c1de7ab";

impl Script for InPlace {
    fn name(&self) -> &'static str {
        "hosted OpenShift"
    }

    fn nodes(&self) -> usize {
        HOSTED
    }

    fn describe(&self) -> String {
        let to = &self.0.to;
        format!(
            "Updating a node pool of {HOSTED} nodes of a hosted cluster in place to {to}: drain, change, reboot; about half a minute."
        )
    }

    fn load<'a>(&'a self, client: &'a Client) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let hosted = HyperShift::new(client);
            for node in numbered("worker", HOSTED) {
                hosted.join(&node, "workers", &self.0.from).await?;
            }
            Ok(())
        })
    }

    fn play<'a>(&'a self, client: &'a Client) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let hosted = HyperShift::new(client);
            let second = std::time::Duration::from_secs(1);
            for node in numbered("worker", HOSTED) {
                hosted.retarget(&node, CONFIG).await?;
                hosted.drain(&node, CONFIG).await?;
                self.0.pace.pass(3 * second).await;
                hosted.drained(&node, CONFIG).await?;
                self.0.pace.pass(2 * second).await;
                hosted.reboot(&node).await?;
                self.0.pace.pass(3 * second).await;
                hosted.boot(&node, &self.0.to).await?;
                hosted.done(&node, CONFIG).await?;
                hosted.uncordon(&node, CONFIG).await?;
                Nodes::new(client.clone()).cordon(&node, false).await?;
            }
            Ok(())
        })
    }
}
