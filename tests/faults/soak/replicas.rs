//! A leader and a standby, each behind its own proxy, and the reference operator that checks what they wrote.

use std::path::PathBuf;

use anyhow::{Result, bail, ensure};
use node_insights_harness::{FaultProxy, eventually};

use crate::scene::{compares, settled};
use crate::snapshot::Snapshot;
use crate::support::{OPERATOR_USER, Operator, SOON, WATCHED, World};

/// The service account of the reference operator, which distinguishes its writes in the audit log.
const REFERENCE: &str = "reference";

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
    /// The provider by which nodes are evaluated.
    pub platform: &'static str,
    /// Longer than any fault lasts: the leader stays the leader unless it is killed.
    pub lease: &'static str,
}

pub struct Replicas {
    pub world: World,
    pub proxies: [FaultProxy; 2],
    pub members: [Replica; 2],
    reference: PathBuf,
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

    /// Kills it, like a power failure, and starts it again.
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

    /// Waits until it is ready, even if a watch that is not answered has to time out first.
    async fn ready(&self) -> Result<()> {
        let exit = self.operator.process.exited()?;
        ensure!(
            exit.is_none(),
            "a replica has exited: {}",
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
        let reference = world.account(REFERENCE).await?;
        let replicas = Self {
            proxies: [leading, standing_by],
            members: [leader, standby],
            reference,
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

    /// Ends all faults, and waits until the leader has completed two more compares. Requests that a fault holds up are
    /// cut, or otherwise have to time out in the replicas.
    pub async fn quiesce(&self, cuts: bool) -> Result<()> {
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

    /// Records the lists of the next compare, to be replayed later.
    fn record(&self) {
        for proxy in &self.proxies {
            for resource in WATCHED {
                proxy.record(resource);
            }
        }
    }

    /// Runs a fresh reference operator, and checks that neither it nor the leader writes anything.
    pub async fn check_by_reference(&self) -> Result<()> {
        let before = Snapshot::of(&self.world).await?;
        let mark = self.world.plane.audit().mark()?;
        let fresh = Operator::start(
            &self.reference,
            &["--log-level", "info", "--platform", self.choices.platform],
            self.world.plane.dir(),
        )
        .await?;
        settled(&fresh).await?;
        let exit = fresh.stop().await?;
        ensure!(exit.success(), "the reference operator ended with {exit}");
        let user = format!("system:serviceaccount:node-insights:{REFERENCE}");
        let written = self.world.writes_by(&[OPERATOR_USER, &user], mark)?;
        let of_insights = written
            .iter()
            .filter(|entry| entry.api_group == "nodeinsights.dev");
        let count = of_insights.count();
        let after = Snapshot::of(&self.world).await?;
        ensure!(
            count == 0,
            "{count} writes of insights at rest:\n{}",
            before.difference(&after)
        );
        Ok(())
    }
}
