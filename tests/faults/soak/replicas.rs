//! A leader and a standby, each behind a proxy of its own, and the fresh operator that judges what they wrote.

use std::path::PathBuf;

use anyhow::{Result, bail, ensure};
use node_insights_harness::{FaultProxy, eventually};

use crate::scene::{compares, settled};
use crate::snapshot::Snapshot;
use crate::support::{OPERATOR_USER, Operator, SOON, WATCHED, World};

/// Whom the fresh operator is to the API server, so that its writes are told from those of the others.
const JUDGE: &str = "judge";

const ARGS: [&str; 6] = [
    "--sync-interval",
    "3s",
    "--lease",
    "node-insights/node-insights",
    "--log-level",
    "info",
];

/// How the replicas are started.
#[derive(Clone, Copy)]
pub struct Choices {
    /// By whose rules nodes are judged.
    pub platform: &'static str,
    /// Longer than any fault lasts: who leads then goes on to lead unless it is killed.
    pub lease: &'static str,
}

pub struct Replicas {
    pub world: World,
    pub proxies: [FaultProxy; 2],
    pub members: [Replica; 2],
    judge: PathBuf,
    choices: Choices,
}

/// One of the two, whichever leads.
pub struct Replica {
    pub operator: Operator,
    choices: Choices,
    kubeconfig: PathBuf,
    log_dir: PathBuf,
}

impl Replica {
    async fn start(kubeconfig: PathBuf, log_dir: PathBuf, choices: Choices) -> Result<Self> {
        let Choices { platform, lease } = choices;
        let mut args = ARGS.to_vec();
        args.extend(["--platform", platform, "--lease-duration", lease]);
        Ok(Self {
            operator: Operator::start(&kubeconfig, &args, &log_dir).await?,
            choices,
            kubeconfig,
            log_dir,
        })
    }

    /// Ends it as a power failure does, and starts it again.
    pub async fn kill_and_start(&mut self) -> Result<()> {
        self.operator.process.kill()?;
        self.operator.process.wait_timeout(SOON).await?;
        *self = Self::start(self.kubeconfig.clone(), self.log_dir.clone(), self.choices).await?;
        Ok(())
    }

    /// Whether it is the one that writes.
    pub async fn leads(&self) -> Result<bool> {
        let status = self.operator.metric("leader_election_master_status", &[]);
        Ok(status.await? == 1)
    }

    /// Waits until it is ready, also where a watch is not answered and has to be given up first.
    async fn ready(&self) -> Result<()> {
        let exit = self.operator.process.exited()?;
        ensure!(
            exit.is_none(),
            "a replica has ended: {}",
            self.operator.process.stderr_tail()
        );
        eventually("a replica is ready", 2 * SOON, async || {
            match self.operator.get("/readyz").await? {
                (200, _) => Ok(Some(())),
                (_, body) => bail!("{body}"),
            }
        })
        .await
    }
}

impl Replicas {
    pub async fn start(world: World, seed: u64, choices: Choices) -> Result<Self> {
        let direct = world
            .plane
            .service_account_kubeconfig("node-insights", "node-insights")
            .await?;
        let leading = FaultProxy::start(&world.plane, seed).await?;
        let standing_by = FaultProxy::start(&world.plane, seed.rotate_left(1)).await?;
        let start = async |proxy: &FaultProxy| {
            let log_dir = world.plane.dir().to_owned();
            Replica::start(proxy.kubeconfig(&direct)?, log_dir, choices).await
        };
        let leader = start(&leading).await?;
        settled(&leader.operator).await?;
        let standby = start(&standing_by).await?;
        standby.operator.ready().await?;
        let judge = world.account(JUDGE).await?;
        let replicas = Self {
            proxies: [leading, standing_by],
            members: [leader, standby],
            judge,
            choices,
            world,
        };
        replicas.record();
        Ok(replicas)
    }

    /// The one that writes, once one does.
    async fn leader(&self) -> Result<&Operator> {
        eventually("one of the replicas leads", 2 * SOON, async || {
            for member in &self.members {
                if member.leads().await? {
                    return Ok(Some(&member.operator));
                }
            }
            Ok(None)
        })
        .await
    }

    /// Ends all faults, and waits until the leader has compared everything twice since. What is held up by a fault
    /// is cut, or else has to be given up by the replicas themselves.
    pub async fn quiet(&self, cuts: bool) -> Result<()> {
        for proxy in &self.proxies {
            proxy.heal();
            if cuts {
                proxy.cut_connections();
            }
        }
        for member in &self.members {
            member.ready().await?;
        }
        let leader = self.leader().await?;
        let before = compares(leader, &[]).await?;
        eventually("two more compares", 2 * SOON, async || {
            Ok((compares(leader, &[]).await? >= before + 2).then_some(()))
        })
        .await?;
        settled(leader).await?;
        self.record();
        Ok(())
    }

    /// Keeps the lists of the next compare, for later.
    fn record(&self) {
        for proxy in &self.proxies {
            for resource in WATCHED {
                proxy.record(resource);
            }
        }
    }

    /// Has a fresh operator look: neither it nor the leader has anything to write.
    pub async fn judge(&self) -> Result<()> {
        let before = Snapshot::of(&self.world).await?;
        let mark = self.world.plane.audit().mark()?;
        let fresh = Operator::start(
            &self.judge,
            &["--log-level", "info", "--platform", self.choices.platform],
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
