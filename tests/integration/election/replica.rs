//! One of several replicas.

use std::time::Instant;

use anyhow::{Context, Result, ensure};

use super::{NAMESPACE, POLL};
use crate::link::Link;
use crate::support::{Operator, SOON, World};

/// A replica with its own service account and network link.
pub struct Replica {
    pub user: String,
    pub link: Link,
    pub operator: Option<Operator>,
    args: &'static [&'static str],
}

impl Replica {
    pub async fn start(world: &World, name: &str, args: &'static [&'static str]) -> Result<Self> {
        let kubeconfig = world.account(name).await?;
        let mut replica = Self {
            user: format!("system:serviceaccount:{NAMESPACE}:{name}"),
            link: Link::to(&kubeconfig).await?,
            operator: None,
            args,
        };
        replica.run(world).await?;
        Ok(replica)
    }

    /// Starts it, if it is not running.
    pub async fn run(&mut self, world: &World) -> Result<()> {
        self.link.restore();
        if let Some(operator) = &self.operator
            && operator.process.exited()?.is_none()
        {
            return Ok(());
        }
        let dir = world.plane.dir();
        let operator = Operator::start(&self.link.kubeconfig, self.args, dir).await?;
        operator.ready().await?;
        self.operator = Some(operator);
        Ok(())
    }

    pub fn operator(&self) -> Result<&Operator> {
        self.operator.as_ref().context("the replica is not running")
    }

    pub async fn leads(&self) -> bool {
        let Ok(operator) = self.operator() else {
            return false;
        };
        let status = operator.metric("leader_election_master_status", &[]).await;
        // An error means that it is suspended or gone.
        status.is_ok_and(|status| status == 1)
    }

    /// Waits until it leads. If it loses the lease meanwhile, as on a machine that is busy for seconds, it is started
    /// again, as a cluster would do.
    pub async fn until_it_leads(&mut self, world: &World) -> Result<()> {
        let end = Instant::now() + SOON;
        while !self.leads().await {
            ensure!(Instant::now() < end, "{} does not lead", self.user);
            self.run(world).await?;
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    /// Checks that it still leads, unless it was too slow to renew.
    pub async fn stays(&mut self) -> Result<()> {
        if self.leads().await {
            return Ok(());
        }
        let log = self.until_it_ends().await?;
        ensure!(
            log.contains("renewed for"),
            "it did not keep the lease: {log}"
        );
        Ok(())
    }

    pub async fn until_it_ends(&mut self) -> Result<String> {
        let operator = self.operator.take().context("the replica is not running")?;
        let exit = operator.process.wait_timeout(SOON).await?;
        ensure!(!exit.success(), "a leader that loses its lease fails");
        let log = operator.process.read_stderr();
        // Also as the final error message, not only in the log.
        let is_final_error = log
            .lines()
            .any(|line| line.starts_with("node-insights: The lease is lost"));
        ensure!(is_final_error, "{log}");
        Ok(log)
    }
}
