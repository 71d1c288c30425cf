//! A cluster, a proxy in front of its API server, and an operator behind that; and the check by a fresh operator.

use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use node_insights::api::pool::SummaryType;
use node_insights::api::types::ConditionStatus;
use node_insights::api::{NodeProgressInsight, PoolProgressInsightStatus};
use node_insights_harness::openshift::{Cluster, Pool};
use node_insights_harness::{FaultProxy, eventually};
use serde_json::json;

use crate::snapshot::Snapshot;
use crate::support::{Operator, SOON, World, condition};

/// Sets the seed, to repeat a run.
const SEED: &str = "NODE_INSIGHTS_SEED";

/// The initial release of simulated clusters.
pub const OLD: &str = "4.19.14";
/// The release that they are updated to.
pub const NEW: &str = "4.20.3";

/// Compares everything every few seconds.
pub const OFTEN: [&str; 2] = ["--sync-interval", "2s"];

/// The seed of this run; printed, so that a failure shows how to repeat it.
pub fn seed() -> Result<u64> {
    let seed = match std::env::var(SEED) {
        Ok(text) => text.parse().with_context(|| format!("{SEED}={text}"))?,
        Err(_) => fastrand::u64(..),
    };
    eprintln!("{SEED}={seed} repeats this");
    Ok(seed)
}

/// One control-plane node, three workers, and one node of another pool.
pub fn small() -> Result<Cluster> {
    Cluster::builder(OLD)
        .pool(Pool::new("master", 1))
        .pool(Pool::new("worker", 3))
        .pool(Pool::new("infra", 1))
        .build()
}

/// A cluster and an operator that reaches its API server through a proxy.
pub struct Scene {
    pub world: World,
    pub proxy: FaultProxy,
    operator: Option<Operator>,
    kubeconfig: PathBuf,
    args: Vec<&'static str>,
}

impl Scene {
    /// A simulated OpenShift cluster whose insights are written.
    pub async fn openshift(cluster: &Cluster, args: &[&'static str]) -> Result<Self> {
        let world = World::openshift(cluster).await?;
        let scene = Self::of(world, args).await?;
        scene.settled().await?;
        Ok(scene)
    }

    /// With the cluster as it is, and a running operator.
    pub async fn of(world: World, args: &[&'static str]) -> Result<Self> {
        let mut scene = Self::idle(world, args).await?;
        scene.start().await?;
        Ok(scene)
    }

    /// Without a running operator.
    pub async fn idle(world: World, args: &[&'static str]) -> Result<Self> {
        let proxy = FaultProxy::start(&world.plane, seed()?).await?;
        let direct = world
            .plane
            .service_account_kubeconfig("node-insights", "node-insights")
            .await?;
        Ok(Self {
            kubeconfig: proxy.kubeconfig(&direct)?,
            world,
            proxy,
            operator: None,
            args: args.to_vec(),
        })
    }

    /// The operator under test.
    pub fn operator(&self) -> Result<&Operator> {
        self.operator.as_ref().context("no operator is running")
    }

    /// Starts the operator under test again.
    pub async fn start(&mut self) -> Result<()> {
        ensure!(self.operator.is_none(), "an operator is already running");
        let dir = self.world.plane.dir();
        self.operator = Some(Operator::start(&self.kubeconfig, &self.args, dir).await?);
        Ok(())
    }

    /// Stops it by SIGTERM, as Kubernetes does.
    pub async fn stop(&mut self) -> Result<()> {
        let operator = self.operator.take().context("no operator is running")?;
        let exit = operator.stop().await?;
        ensure!(exit.success(), "the operator ended with {exit}");
        Ok(())
    }

    /// Kills it, like a power failure.
    pub async fn kill(&mut self) -> Result<()> {
        let operator = self.operator.take().context("no operator is running")?;
        operator.kill().await?;
        Ok(())
    }

    /// Waits until the operator is ready, has completed a compare, and has nothing left to write.
    pub async fn settled(&self) -> Result<()> {
        settled(self.operator()?).await
    }

    /// Waits for two more relists and compares: by then, changes that no watch reported are known.
    pub async fn compared_again(&self) -> Result<()> {
        let operator = self.operator()?;
        let before = compares(operator, &[]).await?;
        eventually("two more compares", SOON, async || {
            Ok((compares(operator, &[]).await? >= before + 2).then_some(()))
        })
        .await?;
        settled(operator).await
    }

    /// Ends all faults and the operator under test, and asserts that a fresh operator without the proxy, with nothing
    /// but the state of the cluster, finds every insight as it would have written it. Then the one under test is
    /// started again.
    pub async fn a_fresh_operator_writes_nothing(&mut self) -> Result<()> {
        self.proxy.heal();
        self.stop().await?;
        let before = Snapshot::of(&self.world).await?;
        let mark = self.world.plane.audit().mark()?;
        let fresh = self.world.operator(&[]).await?;
        settled(&fresh).await?;
        let exit = fresh.stop().await?;
        ensure!(exit.success(), "the fresh operator ended with {exit}");
        let written = self.world.operator_writes(mark)?;
        if !written.is_empty() {
            let after = Snapshot::of(&self.world).await?;
            bail!(
                "a fresh operator wrote {} times:\n{}",
                written.len(),
                before.difference(&after)
            );
        }
        before.is_the_same(&Snapshot::of(&self.world).await?)?;
        self.start().await?;
        self.settled().await
    }

    /// Waits until the insights of a node and of its pool show whether the node is available.
    pub async fn reported_as_available(&self, node: &str, pool: &str, is: bool) -> Result<()> {
        let wanted = if is {
            ConditionStatus::True
        } else {
            ConditionStatus::False
        };
        let of_node = self.world.node_becomes(node, "available or not", |status| {
            condition(&status.conditions, "Available").status == wanted
        });
        of_node.await?;
        // Counted again each time: the insights of other members may still be pending.
        eventually("the pool has the same count", SOON, async || {
            let members = self.world.node_insights().await?;
            let members = members
                .values()
                .filter_map(|insight| insight.status.as_ref());
            let available = members
                .filter(|status| status.pool_ref.as_ref().is_some_and(|of| of.name == pool))
                .filter(|status| {
                    condition(&status.conditions, "Available").status == ConditionStatus::True
                })
                .count();
            let status = self.world.pool_insight(pool).await?;
            let status = status.and_then(|insight| insight.status);
            Ok(status
                .filter(|status| counts(status, available))
                .map(|_| ()))
        })
        .await
    }

    /// Waits until the insight of a pool has this many available nodes.
    pub async fn pool_has_available(&self, pool: &str, count: usize) -> Result<()> {
        let what = format!("{count} available nodes");
        let has_count = |status: &PoolProgressInsightStatus| counts(status, count);
        self.world
            .pool_becomes(pool, &what, has_count)
            .await
            .map(|_| ())
    }

    /// Fails when the operator is not alive, or does not answer.
    pub async fn is_alive(&self) -> Result<()> {
        let (livez, _) = self.operator()?.get("/livez").await?;
        let (metrics, _) = self.operator()?.get("/metrics").await?;
        ensure!(
            (livez, metrics) == (200, 200),
            "/livez {livez}, /metrics {metrics}"
        );
        Ok(())
    }
}

fn counts(status: &PoolProgressInsightStatus, available: usize) -> bool {
    let mut summaries = status.summaries.iter();
    summaries.any(|summary| {
        summary.type_ == SummaryType::Available
            && usize::try_from(summary.count).is_ok_and(|is| is == available)
    })
}

/// Edits the insight of a node by hand.
///
/// # Errors
/// When the API server rejects that.
pub async fn damage(client: &Client, node: &str) -> kube::Result<()> {
    let long_ago = "2026-01-01T00:00:00Z";
    let edit = json!({"status": {
        "phase": "Rebooting", "phaseStartTime": long_ago, "message": "by hand",
        "timeline": [{"phase": "Rebooting", "startTime": long_ago}],
    }});
    Api::<NodeProgressInsight>::all(client.clone())
        .patch_status(node, &PatchParams::default(), &Patch::Merge(edit))
        .await
        .map(|_| ())
}

/// Waits until an operator is ready, has completed a compare, and has nothing left to write.
pub async fn settled(operator: &Operator) -> Result<()> {
    operator.ready().await?;
    eventually("everything is compared and written", SOON, async || {
        let mut left = 0;
        for gauge in [
            "node_insights_notifications_pending",
            "node_insights_insights_out_of_sync",
        ] {
            left += operator.metric(gauge, &[]).await?;
        }
        Ok((left == 0 && compares(operator, &[]).await? > 0).then_some(()))
    })
    .await
}

/// The number of successful compares.
pub async fn compares(operator: &Operator, labels: &[&str]) -> Result<u64> {
    let mut all = vec!["result=\"success\""];
    all.extend(labels);
    operator
        .metric("node_insights_sync_attempts_total", &all)
        .await
}
