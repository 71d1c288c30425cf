//! Node pools of EKS, AKS and GKE.

use anyhow::Result;
use futures::future::LocalBoxFuture;
use kube::Client;

use super::{Script, Update};
use crate::kubernetes::numbered;
use crate::managed::{Cloud, Machine, Managed};

/// How many nodes a pool has.
const MEMBERS: usize = 4;

/// A pool of a cloud is updated.
#[derive(Debug)]
pub(in crate::demo) struct NodePool {
    cloud: Cloud,
    update: Update,
}

impl NodePool {
    /// The pool of a cloud.
    pub(in crate::demo) fn new(cloud: Cloud, update: Update) -> Self {
        Self { cloud, update }
    }

    fn prefix(&self) -> &'static str {
        match self.cloud {
            Cloud::Eks => "eks",
            Cloud::Aks => "aks",
            Cloud::Gke => "gke",
        }
    }

    fn machine(&self, name: &str, generation: &str) -> Machine {
        let (version, pool) = match generation {
            "blue" => (&self.update.from, "general"),
            _ => (&self.update.to, "general"),
        };
        let (version, image) = match self.cloud {
            Cloud::Eks => (
                format!("{version}-eks-94953ac"),
                format!("ami-{generation}"),
            ),
            Cloud::Aks => (
                version.clone(),
                format!("AKSUbuntu-2204gen2containerd-{generation}"),
            ),
            Cloud::Gke => (
                format!("{version}-gke.1014001"),
                "Container-Optimized OS from Google".to_owned(),
            ),
        };
        Machine::new(name, pool, &version, &image)
    }

    fn machines(&self, generation: &str) -> Vec<Machine> {
        let prefix = self.prefix();
        let stem = match self.cloud {
            Cloud::Aks => prefix.to_owned(),
            Cloud::Eks | Cloud::Gke => format!("{prefix}-{generation}"),
        };
        let names = numbered(&stem, MEMBERS).into_iter();
        names.map(|name| self.machine(&name, generation)).collect()
    }

    /// What the pool has after the update; AKS has another machine meanwhile.
    fn new_machines(&self) -> Vec<Machine> {
        let surge = self.machine(&format!("{}-surge", self.prefix()), "green");
        let is_kept = self.cloud == Cloud::Aks;
        let surge = is_kept.then_some(surge);
        surge.into_iter().chain(self.machines("green")).collect()
    }

    /// The node that cannot be drained at first.
    fn quarantined(&self) -> Option<String> {
        (self.cloud == Cloud::Aks).then(|| format!("{}-1", self.prefix()))
    }
}

impl Script for NodePool {
    fn name(&self) -> &'static str {
        match self.cloud {
            Cloud::Eks => "EKS",
            Cloud::Aks => "AKS",
            Cloud::Gke => "GKE",
        }
    }

    fn nodes(&self) -> usize {
        MEMBERS
    }

    fn describe(&self) -> String {
        let (to, what) = (&self.update.to, MEMBERS);
        match self.cloud {
            Cloud::Eks => format!(
                "Updating a managed node group of {what} nodes to {to}: new nodes join, all old ones are cordoned at once, then drained and terminated."
            ),
            Cloud::Aks => format!(
                "Upgrading an agent pool of {what} nodes to {to}: each is drained and reimaged under its name, beside a surge node. One cannot be drained at first, and is quarantined."
            ),
            Cloud::Gke => format!(
                "Upgrading a node pool of {what} nodes to {to}: a new node joins, then an old one is drained and deleted."
            ),
        }
    }

    fn load<'a>(&'a self, client: &'a Client) -> LocalBoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let managed = Managed::new(client, self.cloud).telling(&self.update.truth);
            for machine in self.machines("blue") {
                managed.outdated(&machine).await?;
            }
            Ok(())
        })
    }

    fn play<'a>(&'a self, client: &'a Client) -> LocalBoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let managed = Managed::new(client, self.cloud).telling(&self.update.truth);
            let (old, new) = (self.machines("blue"), self.new_machines());
            let quarantined = self.quarantined();
            managed
                .update_with(&old, &new, quarantined.as_deref(), self.update.pace)
                .await
        })
    }
}
