//! Machines of two MachineDeployments are replaced, one at a time.

use anyhow::Result;
use futures::future::{LocalBoxFuture, try_join_all};
use kube::Client;

use super::{Script, Update};
use crate::cluster_api::{self, ClusterApi, Machine};
use crate::kubernetes::numbered;
use crate::truth::COMPLETED;

const DEPLOYMENTS: [(&str, usize); 2] = [("general", 4), ("memory", 2)];

/// A rolling update of all MachineDeployments.
#[derive(Debug)]
pub(in crate::demo) struct RollingUpdate(pub(in crate::demo) Update);

impl RollingUpdate {
    fn machines(&self, deployment: &str, count: usize) -> Vec<Machine> {
        let names = numbered(&format!("capi-{deployment}"), count).into_iter();
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

    fn install<'a>(&'a self, client: &'a Client) -> LocalBoxFuture<'a, Result<()>> {
        Box::pin(cluster_api::install(client))
    }

    fn load<'a>(&'a self, client: &'a Client) -> LocalBoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let api = ClusterApi::new(client);
            api.cluster().await?;
            for (deployment, count) in DEPLOYMENTS {
                api.deployment(deployment, &self.0.from, count).await?;
                for machine in self.machines(deployment, count) {
                    let joined = api.machine(&machine);
                    let truth = &self.0.truth;
                    truth.joins(&machine.name, &[COMPLETED], joined).await?;
                }
            }
            Ok(())
        })
    }

    fn play<'a>(&'a self, client: &'a Client) -> LocalBoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let api = ClusterApi::new(client).telling(&self.0.truth);
            let rolls = DEPLOYMENTS.map(|(deployment, count)| {
                let (api, machines) = (api.clone(), self.machines(deployment, count));
                async move { api.roll(&machines, &self.0.to, self.0.pace).await }
            });
            try_join_all(rolls).await.map(drop)
        })
    }
}
