//! Rows of a mixed cluster: Karpenter's nodes with a NodeClaim each, and nodes of Cluster API with a Machine each.

use std::time::Duration;

use anyhow::{Context as _, Result};
use futures::future::BoxFuture;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use kube::Client;
use node_insights_harness::cluster_api::{self, ClusterApi};
use node_insights_harness::eventually;
use node_insights_harness::karpenter::{self, Karpenter};
use node_insights_harness::load::IN_FLIGHT;
use serde_json::json;

use super::bench::Bench;
use super::operator::Operator;
use super::pace::as_f64;
use super::report::{Report, Row, progress, thousands};

/// Nodes with a Machine.
const MACHINES: usize = 200;
const DEPLOYMENT: &str = "workers";
const NODE_POOL: &str = "general";
const VERSION: &str = "v1.36.3";
/// The budget for 5,000 nodes, in MiB, and for each further one, in KiB.
const BUDGET: (usize, f64, f64) = (5000, 56.0, 4.0);
const SOON: Duration = Duration::from_secs(30);

/// Loads the cluster and measures an operator in it.
///
/// # Errors
/// When the API server rejects an object, or the operator does not start or stop.
pub(crate) async fn measure(bench: &Bench, report: &mut Report) -> Result<()> {
    load(&bench.client, bench.nodes()).await?;
    let operator = bench.program.start_ready(bench.timeout()).await?;
    bench.all_reported().await?;
    let row = memory(bench, &operator).await;
    report.add("Memory (RSS) after the first start", row);
    let row = drift(bench, &operator).await;
    report.add("One NodeClaim drifts", row);
    operator.stop().await?;
    Ok(())
}

/// What the cluster has.
pub(crate) fn contents(nodes: usize) -> String {
    format!(
        "{} nodes of Karpenter with a NodeClaim each, {MACHINES} of Cluster API with a Machine each",
        thousands(nodes - MACHINES)
    )
}

async fn load(client: &Client, nodes: usize) -> Result<()> {
    progress(format_args!("loading {}", contents(nodes)));
    karpenter::install(client).await?;
    cluster_api::install(client).await?;
    let karpenter = Karpenter::new(client);
    karpenter
        .pool(NODE_POOL, &json!([{"nodes": "10%"}]))
        .await?;
    let api = ClusterApi::new(client);
    api.cluster().await?;
    api.deployment(DEPLOYMENT, VERSION, MACHINES).await?;
    let claims = (MACHINES..nodes).map(|index| claim(&karpenter, index));
    let machines = (0..MACHINES).map(|index| machine(&api, index));
    stream::iter(machines.chain(claims))
        .buffer_unordered(IN_FLIGHT)
        .try_collect()
        .await
}

fn claim(karpenter: &Karpenter, index: usize) -> BoxFuture<'static, Result<()>> {
    let karpenter = karpenter.clone();
    let machine = karpenter::Machine::new(&claim_name(index), NODE_POOL, VERSION);
    Box::pin(async move { karpenter.machine(&machine).await })
}

fn machine(api: &ClusterApi, index: usize) -> BoxFuture<'static, Result<()>> {
    let (api, name) = (api.clone(), format!("{DEPLOYMENT}-{index}"));
    let machine = cluster_api::Machine::new(&name, DEPLOYMENT, VERSION);
    Box::pin(async move { api.machine(&machine).await })
}

fn claim_name(index: usize) -> String {
    format!("{NODE_POOL}-{index}")
}

async fn memory(bench: &Bench, operator: &Operator) -> Result<Row> {
    let (settled, peak) = (operator.settled_mib().await?, operator.peak_mib()?);
    let further = as_f64(bench.nodes().saturating_sub(BUDGET.0));
    let budget = BUDGET.1 + further * BUDGET.2 / 1024.0;
    Ok(Row::with_target(
        format!("{settled:.1} MiB settled, {peak:.1} MiB peak"),
        format!("≤ {budget:.0} MiB settled"),
        settled <= budget,
    ))
}

/// How many nodes are evaluated when one NodeClaim drifts.
async fn drift(bench: &Bench, operator: &Operator) -> Result<Row> {
    let before = evaluations(operator).await?;
    let karpenter = Karpenter::new(&bench.client);
    karpenter.drift(&claim_name(MACHINES), "AMIDrift").await?;
    let after = eventually("an evaluation", SOON, async || {
        let now = evaluations(operator).await?;
        Ok((now > before).then_some(now))
    })
    .await?;
    let evaluated = after - before;
    Ok(Row::with_target(
        format!("{evaluated} nodes evaluated"),
        "1",
        evaluated == 1,
    ))
}

/// The evaluations because of a NodeClaim so far.
async fn evaluations(operator: &Operator) -> Result<u64> {
    let metrics = operator.page("/metrics").await?;
    let of_claims = |line: &&str| {
        line.starts_with("node_insights_evaluations_total{")
            && line.contains("trigger=\"node_claim\"")
    };
    let counts = metrics.lines().filter(of_claims).map(|line| {
        let count = line.rsplit(' ').next().unwrap_or_default();
        count.parse::<u64>().with_context(|| line.to_owned())
    });
    counts.sum()
}
