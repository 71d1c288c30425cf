//! A Plan of the system-upgrade-controller updates agents of k3s, one at a time.

use anyhow::Result;
use futures::future::LocalBoxFuture;
use kube::Client;

use super::{Script, Update, refs};
use crate::kubernetes::numbered;
use crate::plans::{self, Plan, Plans};
use crate::truth::PENDING;

const AGENTS: usize = 5;

/// A Plan for all agents; the Job of the first one fails once.
#[derive(Debug)]
pub(in crate::demo) struct PlanOfAgents(pub(in crate::demo) Update);

impl PlanOfAgents {
    fn version(version: &str) -> String {
        format!("{version}+k3s1")
    }

    fn agents() -> Vec<String> {
        numbered("k3s-agent", AGENTS)
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
            "A Plan of the system-upgrade-controller updates {AGENTS} agents of k3s to {to}, one after the other, about a minute. The Job of the first one fails once."
        )
    }

    fn install<'a>(&'a self, client: &'a Client) -> LocalBoxFuture<'a, Result<()>> {
        Box::pin(plans::install(client))
    }

    fn load<'a>(&'a self, client: &'a Client) -> LocalBoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let plans = Plans::new(client);
            for agent in Self::agents() {
                let version = Self::version(&self.0.from);
                let joined = plans.agent(&agent, &version);
                self.0.truth.joins(&agent, &[PENDING], joined).await?;
            }
            Ok(())
        })
    }

    fn play<'a>(&'a self, client: &'a Client) -> LocalBoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let plans = Plans::new(client).telling(&self.0.truth);
            let agents = Self::agents();
            let agents = refs(&agents);
            let plan = Plan::new("agent-plan", &Self::version(&self.0.to));
            plans.create(&plan).await?;
            let plan = match agents.first() {
                Some(first) => plans.fail(plan, first, self.0.pace).await?,
                None => plan,
            };
            plans.play(&plan, &agents, self.0.pace).await
        })
    }
}
