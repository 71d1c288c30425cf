//! A plain cluster: control-plane nodes reboot, nodes of pools are replaced.

use anyhow::Result;
use futures::future::LocalBoxFuture;
use kube::{Client, ResourceExt};

use super::{Script, Update, refs};
use crate::kubernetes::Cluster;
use crate::kubernetes::rollout::{self, Plan};
use crate::truth::PENDING;

/// The node whose drain somebody may hold up.
const HELD_UP: &str = "general-0";

/// A plain cluster and its update.
#[derive(Debug)]
pub(in crate::demo) struct Plain {
    cluster: Cluster,
    plan: Plan,
}

impl Plain {
    pub(in crate::demo) fn new(update: Update) -> Result<Self> {
        let cluster = Cluster::builder(&update.from)
            .control_plane(3)
            .pool("general", 8)
            .pool("memory", 3)
            .build()?;
        let plan = Plan {
            pace: update.pace,
            truth: update.truth,
            ..Plan::to(&update.to)
        };
        Ok(Self { cluster, plan })
    }
}

impl Script for Plain {
    fn name(&self) -> &'static str {
        "Kubernetes"
    }

    fn nodes(&self) -> usize {
        self.cluster.objects().len()
    }

    fn describe(&self) -> String {
        let to = &self.plan.version;
        format!(
            "Updating to {to}, about a minute. Control-plane nodes reboot, nodes of pools are replaced."
        )
    }

    fn load<'a>(&'a self, client: &'a Client) -> LocalBoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let names = self.cluster.objects().iter();
            let names: Vec<String> = names.map(|node| node.value.name_any()).collect();
            let loaded = self.cluster.load(client);
            let truth = &self.plan.truth;
            truth
                .step_of(&refs(&names), &[PENDING], loaded)
                .await
                .map(drop)
        })
    }

    fn play<'a>(&'a self, client: &'a Client) -> LocalBoxFuture<'a, Result<()>> {
        Box::pin(rollout::play(client, &self.plan))
    }

    fn held_drain(&self) -> Option<&'static str> {
        Some(HELD_UP)
    }
}
