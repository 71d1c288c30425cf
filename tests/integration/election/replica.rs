//! One of several replicas, and what is done to it.

use std::time::Instant;

use anyhow::{Context, Result, ensure};

use super::{LOOK, NAMESPACE};
use crate::line::Line;
use crate::support::{Operator, SOON, World};

/// A replica with an account and a line of its own.
pub struct Replica {
    pub user: String,
    pub line: Line,
    pub operator: Option<Operator>,
    args: &'static [&'static str],
}

impl Replica {
    pub async fn start(world: &World, name: &str, args: &'static [&'static str]) -> Result<Self> {
        let kubeconfig = world.account(name).await?;
        let mut replica = Self {
            user: format!("system:serviceaccount:{NAMESPACE}:{name}"),
            line: Line::to(&kubeconfig).await?,
            operator: None,
            args,
        };
        replica.run(world).await?;
        Ok(replica)
    }

    /// Starts it, if it does not run.
    pub async fn run(&mut self, world: &World) -> Result<()> {
        self.line.mend();
        if let Some(operator) = &self.operator
            && operator.process.exited()?.is_none()
        {
            return Ok(());
        }
        let dir = world.plane.dir();
        let operator = Operator::start(&self.line.kubeconfig, self.args, dir).await?;
        operator.ready().await?;
        self.operator = Some(operator);
        Ok(())
    }

    pub fn operator(&self) -> Result<&Operator> {
        self.operator.as_ref().context("the replica does not run")
    }

    pub async fn leads(&self) -> bool {
        let Ok(operator) = self.operator() else {
            return false;
        };
        let status = operator.metric("leader_election_master_status", &[]).await;
        // Stopped, or gone.
        status.is_ok_and(|status| status == 1)
    }

    /// Waits until it leads. One that has lost the lease meanwhile, as on a machine that is busy with something
    /// else for seconds, is started again, as a cluster does it.
    pub async fn until_it_leads(&mut self, world: &World) -> Result<()> {
        let end = Instant::now() + SOON;
        while !self.leads().await {
            ensure!(Instant::now() < end, "{} does not lead", self.user);
            self.run(world).await?;
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    /// Checks that it leads still, unless it was too slow to renew.
    pub async fn stays(&mut self) -> Result<()> {
        if self.leads().await {
            return Ok(());
        }
        let said = self.until_it_ends().await?;
        ensure!(
            said.contains("renewed for"),
            "it did not keep the lease: {said}"
        );
        Ok(())
    }

    pub async fn until_it_ends(&mut self) -> Result<String> {
        let operator = self.operator.take().context("the replica does not run")?;
        let exit = operator.process.wait_timeout(SOON).await?;
        ensure!(!exit.success(), "a leader that loses its lease fails");
        let said = operator.process.read_stderr();
        // In its last words, and not in the log alone.
        let last = said
            .lines()
            .any(|line| line.starts_with("node-insights: The lease is lost"));
        ensure!(last, "{said}");
        Ok(said)
    }
}
