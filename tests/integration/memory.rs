//! How many nodes fit into how much memory: through the first start, a relist, a restart, and the takeover by another
//! replica, with each process in a cgroup with that limit.
//!
//! Not part of the tests that always run: `hack/test.sh memory` and `make soak` run it where cgroups can be created.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use futures::stream::{self, StreamExt, TryStreamExt};
use http::Request;
use kube::Client;
use node_insights::api::NodeProgressInsightStatus;
use node_insights::api::types::ConditionStatus;
use node_insights_harness::kubernetes::NodeTemplate;
use node_insights_harness::openshift::{Cluster, Pool, config_name, node};
use node_insights_harness::{Fault, FaultProxy, MemoryLimit, Rule, eventually};

use crate::support::{Operator, SOON, WATCHED, World, condition};

const MEBIBYTE: u64 = 1024 * 1024;
const VERSION: &str = "4.19.14";
const POOL: &str = "worker";
const NODE: &str = "worker-00000";
/// As many concurrent requests as the API server handles on two cores.
const IN_FLIGHT: usize = 8;
/// Reading, comparing and writing 20,000 nodes takes minutes.
const PATIENCE: Duration = Duration::from_mins(5);
/// A short lease, so that the other replica takes over soon.
const ARGS: [&str; 6] = [
    "--lease",
    "node-insights/node-insights",
    "--lease-duration",
    "5s",
    "--log-level",
    "info",
];

/// An operator in its own cgroup, which is removed after it.
struct Limited {
    operator: Operator,
    group: MemoryLimit,
}

impl Limited {
    async fn start(world: &World, kubeconfig: &Path, bytes: u64) -> Result<Self> {
        let group = MemoryLimit::new(bytes)?;
        let dir = world.plane.dir();
        let operator = Operator::start_after(&group.enter(), kubeconfig, &ARGS, dir).await?;
        Ok(Self { operator, group })
    }

    /// Awaits `work`; fails if the operator exits first, with the reason.
    async fn meanwhile<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        let exit = tokio::select! {
            done = work => return done,
            exit = self.operator.process.wait() => exit?,
        };
        bail!(
            "the operator ended with {exit}, {} processes OOM-killed",
            self.group.oom_kills()?
        )
    }

    async fn ready(&self) -> Result<()> {
        eventually("the operator is ready", PATIENCE, async || {
            match self.operator.get("/readyz").await? {
                (200, _) => Ok(Some(())),
                (_, body) => bail!("{body}"),
            }
        })
        .await
    }

    /// Waits until every kind is listed, a compare has completed, and nothing is left to write.
    async fn settled(&self) -> Result<()> {
        self.ready().await?;
        eventually("everything is compared and written", PATIENCE, async || {
            let metric = async |name, labels: &[&str]| self.operator.metric(name, labels).await;
            let left = metric("node_insights_notifications_pending", &[]).await?
                + metric("node_insights_insights_out_of_sync", &[]).await?;
            let compared = metric("node_insights_sync_attempts_total", &["success"]).await?;
            Ok((left == 0 && compared > 0).then_some(()))
        })
        .await
    }

    /// Waits until this many nodes have been written; fails when no other one is written in time.
    async fn has_written(&self, count: u64) -> Result<()> {
        let labels = ["kind=\"NodeProgressInsight\"", "outcome=\"updated\""];
        let mut written = 0;
        while written < count {
            written = eventually("one more insight is written", SOON, async || {
                let now = self
                    .operator
                    .metric("node_insights_writes_total", &labels)
                    .await?;
                Ok((now > written).then_some(now))
            })
            .await?;
        }
        Ok(())
    }

    /// Prints what it took, and fails when the limit was too low. Resident memory includes pages of the program that
    /// others read first, which are not charged to the cgroup.
    fn was_enough(&self, step: &str, began: Instant) -> Result<()> {
        let process = &self.operator.process;
        println!(
            "{step}: at most {:.1} MiB in the cgroup, {:.1} MiB resident; {:.1} s",
            mebibytes(self.group.peak_bytes()?),
            mebibytes(process.peak_rss_bytes().unwrap_or(0)),
            began.elapsed().as_secs_f64()
        );
        let exit = process.exited()?;
        ensure!(exit.is_none(), "{step}: the operator ended: {exit:?}");
        let kills = self.group.oom_kills()?;
        ensure!(kills == 0, "{step}: {kills} processes OOM-killed");
        Ok(())
    }
}

#[allow(clippy::cast_precision_loss, reason = "less memory than 2^52 bytes")]
fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / MEBIBYTE as f64
}

/// An OpenShift cluster with this many nodes of 50 images, and 100 MachineConfigs of 200 KB.
async fn cluster_of(nodes: usize) -> Result<World> {
    let cluster = Cluster::builder(VERSION)
        .pool(Pool::new("master", 0))
        .pool(Pool::new(POOL, 0))
        .machine_configs(100, 200_000)
        .build()?;
    let world = World::openshift(&cluster).await?;
    let template = NodeTemplate {
        images: 50,
        ..node("NAME", POOL, &config_name(POOL, &[VERSION]), VERSION)
    };
    // Serialized once: doing so for each of thousands takes longer than the API server takes to store them.
    let text = serde_json::to_string(&template.object()?.value)?;
    let creating = (0..nodes).map(|index| {
        let object = text.replace("NAME", &format!("{POOL}-{index:05}"));
        create_node(&world.client, object)
    });
    stream::iter(creating)
        .buffer_unordered(IN_FLIGHT)
        .try_collect::<()>()
        .await?;
    Ok(world)
}

async fn create_node(client: &Client, object: String) -> Result<()> {
    let request = Request::post("/api/v1/nodes").header("content-type", "application/json");
    client
        .request_text(request.body(object.into_bytes())?)
        .await?;
    Ok(())
}

/// Makes every watch relist: each is cut, and its resource version reported as too old.
async fn relist(proxy: &FaultProxy, operator: &Operator) -> Result<()> {
    let labels = WATCHED.map(|kind| format!("kind=\"{kind}\""));
    let mut before = Vec::new();
    for label in &labels {
        before.push(
            operator
                .metric("node_insights_watch_restarts_total", &[label])
                .await?,
        );
    }
    for kind in WATCHED {
        let too_old = Rule::new(Fault::status(410, None)).verbs(&["watch"]);
        proxy.add(too_old.resource(kind).times(1));
        proxy.cut_watches(kind);
    }
    for (label, before) in labels.iter().zip(before) {
        eventually(&format!("{label} is relisted"), SOON, async || {
            let metric = async |name| operator.metric(name, &[label]).await;
            let again = metric("node_insights_watch_restarts_total").await? > before;
            let synced = metric("node_insights_watch_synced").await? == 1;
            Ok((again && synced).then_some(()))
        })
        .await?;
    }
    Ok(())
}

/// Changes a node, and waits until its insight shows it.
async fn change_is_reported(world: &World, cordon: bool) -> Result<()> {
    world.editor.cordon(NODE, cordon).await?;
    let wanted = ConditionStatus::from(!cordon);
    let is_shown = |status: &NodeProgressInsightStatus| {
        condition(&status.conditions, "Available").status == wanted
    };
    world.node_becomes(NODE, "as its node", is_shown).await?;
    Ok(())
}

async fn fits(nodes: usize, bytes: u64) -> Result<()> {
    let began = Instant::now();
    let world = cluster_of(nodes).await?;
    println!(
        "{nodes} nodes created: {:.1} s",
        began.elapsed().as_secs_f64()
    );
    let direct = world
        .plane
        .service_account_kubeconfig("node-insights", "node-insights")
        .await?;
    let proxy = FaultProxy::start(&world.plane, 0).await?;
    let behind = proxy.kubeconfig(&direct)?;

    let began = Instant::now();
    let first = Limited::start(&world, &behind, bytes).await?;
    let count = nodes.try_into()?;
    first.meanwhile(first.has_written(count)).await?;
    first.meanwhile(first.settled()).await?;
    first.was_enough("First start", began)?;
    let began = Instant::now();
    let relisting = relist(&proxy, &first.operator);
    first.meanwhile(relisting).await?;
    change_is_reported(&world, true).await?;
    first.was_enough("Relist", began)?;
    let exit = first.operator.stop().await?;
    ensure!(exit.success(), "the operator ended with {exit}");

    let began = Instant::now();
    let again = Limited::start(&world, &direct, bytes).await?;
    again.meanwhile(again.settled()).await?;
    change_is_reported(&world, false).await?;
    again.was_enough("Restart", began)?;

    let began = Instant::now();
    let standby = Limited::start(&world, &direct, bytes).await?;
    standby.meanwhile(standby.ready()).await?;
    standby.was_enough("Standing by", began)?;
    let began = Instant::now();
    again.operator.kill().await?;
    standby.meanwhile(standby.settled()).await?;
    change_is_reported(&world, true).await?;
    standby.was_enough("Takeover", began)?;

    let insights = world.node_insights().await?;
    let written = insights.values().filter(|insight| insight.status.is_some());
    let written = written.count();
    ensure!(
        (written, insights.len()) == (nodes, nodes),
        "{} insights, {written} with a status",
        insights.len()
    );
    Ok(())
}

#[tokio::test]
#[ignore = "needs cgroups, which not every machine lets us create: hack/test.sh memory"]
async fn five_thousand_nodes_fit_into_64_mib_through_relist_restart_and_take_over() -> Result<()> {
    fits(5_000, 64 * MEBIBYTE).await
}

#[tokio::test]
#[ignore = "needs cgroups and takes minutes: make soak"]
async fn twenty_thousand_nodes_fit_into_128_mib_through_relist_restart_and_take_over() -> Result<()>
{
    fits(20_000, 128 * MEBIBYTE).await
}
