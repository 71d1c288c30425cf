//! Measures the operator against a real API server: `make measure`. Prints, and fails on no figure.
//!
//! A simulated cluster of OpenShift, the operator with the token of its service account, and a second
//! watcher that says when an insight is visible. Writes are counted from the API server's audit log,
//! memory is the kernel's.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Parser;
use futures::{StreamExt, TryStreamExt};
use kube::api::Api;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, ResourceExt};
use node_insights::api::types::Phase;
use node_insights::api::{NodeProgressInsight, NodeProgressInsightStatus};
use node_insights_harness::openshift::{Cluster, Editor, Pool, config_name};
use node_insights_harness::{ControlPlane, Process, writes};
use tokio::sync::mpsc;

const USER: &str = "system:serviceaccount:node-insights:node-insights";
const OLD: &str = "4.19.14";
const NEW: &str = "4.20.3";

/// Measures memory, writes and latency of the operator against a real API server
#[derive(Debug, Parser)]
struct Arguments {
    /// Nodes of the simulated cluster
    #[arg(long, default_value_t = 1000)]
    nodes: usize,
    /// Changes of nodes, one at a time, whose latency is measured
    #[arg(long, default_value_t = 300)]
    changes: usize,
    /// The operator's program
    #[arg(long, default_value = "target/release/node-insights")]
    operator: PathBuf,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let plane = ControlPlane::start().await?;
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    for file in ["nodeprogressinsights", "poolprogressinsights"] {
        plane
            .apply_file(root.join(format!("crds/nodeinsights.dev_{file}.yaml")))
            .await?;
    }
    plane
        .kubectl(&["apply", "-k", &root.join("config/rbac").to_string_lossy()])
        .await?;
    let client = plane.client();
    let workers = arguments.nodes.saturating_sub(3);
    let cluster = Cluster::builder(OLD)
        .pool(Pool::new("master", 3))
        .pool(Pool::new("worker", workers))
        .images_per_node(50)
        .machine_configs(100, 200_000)
        .build()?;
    println!(
        "Loading {} nodes of 50 images and 100 MachineConfigs of 200 KB …",
        arguments.nodes
    );
    cluster.load(&client).await?;

    let mark = plane.audit().mark()?;
    let started = Instant::now();
    let operator = start(&plane, &arguments).await?;
    all_seen(&client, arguments.nodes, |_| true).await?;
    println!(
        "first start: every insight written after {:.1} s",
        started.elapsed().as_secs_f64()
    );
    print_writes(&plane, mark)?;
    print_memory(&operator)?;
    stop(operator).await?;

    let mark = plane.audit().mark()?;
    let operator = start(&plane, &arguments).await?;
    // A write says that everything before it was compared.
    let editor = Editor::new(&client);
    editor.start_update(NEW).await?;
    all_seen(&client, arguments.nodes, |status| {
        status.phase == Phase::Pending
    })
    .await?;
    println!("restart, and one change of the target version:");
    print_writes(&plane, mark)?;

    measure_latency(&client, &editor, &cluster, &arguments).await?;
    print_memory(&operator)?;
    println!("CPU {:.1} s", operator.cpu_time()?.as_secs_f64());
    stop(operator).await
}

async fn start(plane: &ControlPlane, arguments: &Arguments) -> Result<Process> {
    let kubeconfig = plane
        .service_account_kubeconfig("node-insights", "node-insights")
        .await?;
    let args = [
        "run",
        "--metrics-address",
        "127.0.0.1:0",
        "--log-format",
        "json",
    ];
    let envs = [("KUBECONFIG", &*kubeconfig.to_string_lossy())];
    Process::spawn(
        "node-insights",
        &arguments.operator,
        args,
        &envs,
        plane.dir(),
    )
}

async fn stop(operator: Process) -> Result<()> {
    let started = Instant::now();
    operator.terminate()?;
    let exit = operator.wait_timeout(Duration::from_secs(20)).await?;
    println!(
        "SIGTERM to exit: {:.2} s ({exit})",
        started.elapsed().as_secs_f64()
    );
    Ok(())
}

/// Waits until so many insights have been seen as they shall be; by a watch, because listing all of
/// them again and again would be most of the API server's load.
async fn all_seen(
    client: &Client,
    nodes: usize,
    is_so: impl Fn(&NodeProgressInsightStatus) -> bool,
) -> Result<()> {
    let api: Api<NodeProgressInsight> = Api::all(client.clone());
    let mut insights = watcher(api, watcher::Config::default())
        .applied_objects()
        .boxed();
    let mut seen = HashSet::new();
    let all = async {
        while seen.len() < nodes {
            let insight = insights.try_next().await?.context("the watch ended")?;
            if insight.status.as_ref().is_some_and(&is_so) {
                seen.insert(insight.name_any());
            }
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(Duration::from_mins(5), all)
        .await
        .context("not every insight came within 5 minutes")?
}

fn print_writes(plane: &ControlPlane, mark: node_insights_harness::AuditMark) -> Result<()> {
    let entries = plane.audit().since(mark)?;
    let own: Vec<_> = entries
        .into_iter()
        .filter(|entry| entry.user == USER)
        .collect();
    let mut counts: HashMap<String, usize> = HashMap::new();
    for entry in writes(&own) {
        *counts
            .entry(format!(
                "{} {}/{}",
                entry.verb, entry.resource, entry.subresource
            ))
            .or_default() += 1;
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort();
    for (what, count) in counts {
        println!("  {count:>6} {what}");
    }
    Ok(())
}

fn print_memory(operator: &Process) -> Result<()> {
    let mib = |bytes: u64| bytes / 1024 / 1024;
    println!(
        "RSS {} MiB, peak {} MiB",
        mib(operator.rss_bytes()?),
        mib(operator.peak_rss_bytes()?)
    );
    Ok(())
}

/// From sending the PATCH of a node until a second watcher sees its insight in the new phase.
async fn measure_latency(
    client: &Client,
    editor: &Editor,
    cluster: &Cluster,
    arguments: &Arguments,
) -> Result<()> {
    let config = config_name("worker", &[NEW]);
    editor.add_config(&config, "worker", Some(NEW)).await?;
    editor.set_pool_configuration("worker", &config).await?;
    let api: Api<NodeProgressInsight> = Api::all(client.clone());
    let (sender, mut seen) = mpsc::unbounded_channel();
    let watch = tokio::spawn(async move {
        let mut events = watcher(api, watcher::Config::default())
            .applied_objects()
            .boxed();
        while let Some(insight) = events.try_next().await? {
            let phase = insight.status.as_ref().map(|status| status.phase);
            // The receiver is gone when the measurement is over.
            let _ = sender.send((insight.name_any(), phase, Instant::now()));
        }
        anyhow::Ok(())
    });
    let mut latencies = Vec::new();
    for node in cluster.nodes_of("worker").iter().take(arguments.changes) {
        let sent = Instant::now();
        editor
            .annotate(
                node,
                &[("desiredConfig", Some(&config)), ("state", Some("Working"))],
            )
            .await?;
        loop {
            let next = tokio::time::timeout(Duration::from_mins(1), seen.recv()).await;
            let Some((name, phase, at)) = next.context("no insight for a minute")? else {
                bail!("the watch ended")
            };
            if name == *node && phase == Some(Phase::Updating) {
                latencies.push(at - sent);
                break;
            }
        }
    }
    watch.abort();
    latencies.sort_unstable();
    let percentile =
        |percent: usize| latencies[(latencies.len() - 1) * percent / 100].as_secs_f64() * 1000.0;
    println!(
        "PATCH of a node sent until its insight is seen, {} times: p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms",
        latencies.len(),
        percentile(50),
        percentile(99),
        percentile(100)
    );
    Ok(())
}
