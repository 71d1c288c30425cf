//! A leader and a standby, each behind a proxy of its own, and the fresh operator that judges what they wrote.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use node_insights_harness::{FaultProxy, eventually};

use crate::scene::{compares, settled};
use crate::snapshot::Snapshot;
use crate::support::{OPERATOR_USER, Operator, SOON, World};

/// Whom the fresh operator is to the API server, so that its writes are told from those of the others.
const JUDGE: &str = "judge";

/// The lease is longer than any fault lasts: who leads goes on to lead, and is the one whose memory is watched.
const ARGS: [&str; 8] = [
    "--sync-interval",
    "3s",
    "--lease",
    "node-insights/node-insights",
    "--lease-duration",
    "60s",
    "--log-level",
    "info",
];

pub struct Replicas {
    pub world: World,
    pub proxies: [FaultProxy; 2],
    /// The leader, and the standby.
    pub operators: [Operator; 2],
    judge: PathBuf,
}

impl Replicas {
    pub async fn start(world: World, seed: u64) -> Result<Self> {
        let direct = world
            .plane
            .service_account_kubeconfig("node-insights", "node-insights")
            .await?;
        let leading = FaultProxy::start(&world.plane, seed).await?;
        let standing_by = FaultProxy::start(&world.plane, seed.rotate_left(1)).await?;
        let dir = world.plane.dir();
        let leader = Operator::start(&leading.kubeconfig(&direct)?, &ARGS, dir).await?;
        settled(&leader).await?;
        let standby = Operator::start(&standing_by.kubeconfig(&direct)?, &ARGS, dir).await?;
        standby.ready().await?;
        let judge = world.account(JUDGE).await?;
        Ok(Self {
            proxies: [leading, standing_by],
            operators: [leader, standby],
            judge,
            world,
        })
    }

    /// Ends all faults, and waits until the leader has compared everything twice since.
    pub async fn quiet(&mut self) -> Result<()> {
        for proxy in &self.proxies {
            proxy.heal();
        }
        for operator in &self.operators {
            ensure!(
                operator.process.exited()?.is_none(),
                "a replica has ended: {}",
                operator.process.stderr_tail()
            );
            operator.ready().await?;
        }
        let leader = &self.operators[0];
        let before = compares(leader, &[]).await?;
        eventually("two more compares", 2 * SOON, async || {
            Ok((compares(leader, &[]).await? >= before + 2).then_some(()))
        })
        .await?;
        settled(leader).await
    }

    /// Has a fresh operator look: neither it nor the leader has anything to write.
    pub async fn judge(&self) -> Result<()> {
        let before = Snapshot::of(&self.world).await?;
        let mark = self.world.plane.audit().mark()?;
        let fresh = Operator::start(
            &self.judge,
            &["--log-level", "info"],
            self.world.plane.dir(),
        )
        .await?;
        settled(&fresh).await?;
        let exit = fresh.stop().await?;
        ensure!(exit.success(), "the fresh operator ended with {exit}");
        let user = format!("system:serviceaccount:node-insights:{JUDGE}");
        let written = self.world.writes_by(&[OPERATOR_USER, &user], mark)?;
        let of_insights = written
            .iter()
            .filter(|entry| entry.api_group == "nodeinsights.dev");
        let count = of_insights.count();
        let after = Snapshot::of(&self.world).await?;
        ensure!(
            count == 0,
            "there were {count} insights to write at rest:\n{}",
            before.difference(&after)
        );
        Ok(())
    }
}
