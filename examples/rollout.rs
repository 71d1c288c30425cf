//! Simulates an update in the cluster of KUBECONFIG: `cargo run --example rollout -- --to 4.21.0`.

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Parser;
use kube::Client;
use node_insights_harness::demo::{Platform, Scenario};
use node_insights_harness::kubernetes::{self, Pace};
use node_insights_harness::load::reject_live_cluster;
use node_insights_harness::openshift;

/// Simulates an update in a simulated cluster: writes the same changes as the Machine Config Operator or a
/// cloud's node pools
///
/// Works on the cluster in the API server (KUBECONFIG): one that `demo --keep` left running, or one
/// that load_cluster loaded. Rejects a server whose kubelets are alive.
#[derive(Debug, Parser)]
#[allow(
    clippy::doc_markdown,
    reason = "this text is the --help, where backticks mean nothing"
)]
struct Arguments {
    /// How nodes are updated: openshift, or kubernetes, where nodes are replaced
    #[arg(long, default_value = "openshift")]
    platform: Platform,
    /// The target version: an OpenShift release or a kubelet version
    #[arg(long, value_name = "VERSION")]
    to: String,
    /// How long it takes: 1 is about ten seconds per node
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0)]
    pace: f64,
    /// Load the cluster of the demo first, which replaces all existing nodes
    #[arg(long)]
    load: bool,
    /// A node whose update fails at first (OpenShift)
    #[arg(long, value_name = "NODE")]
    degraded: Option<String>,
}

#[tokio::main]
async fn main() -> ExitCode {
    match play(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("Error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn play(arguments: Arguments) -> Result<()> {
    let client = Client::try_default()
        .await
        .context("No API server to write to: set KUBECONFIG")?;
    reject_live_cluster(&client).await?;
    let pace = Pace::new(arguments.pace);
    if arguments.load {
        let version = client.apiserver_version().await?.git_version;
        let scenario = Scenario::new(arguments.platform, &version, pace)?;
        scenario.install(&client).await?;
        scenario.load(&client).await?;
        println!("Loaded {}", scenario.describe());
    }
    println!(
        "Updating to {}; a paused pool is updated once it is unpaused",
        arguments.to
    );
    match arguments.platform {
        Platform::OpenShift => {
            let plan = openshift::rollout::Plan {
                pace,
                degraded: arguments.degraded,
                ..openshift::rollout::Plan::to(&arguments.to)
            };
            openshift::rollout::play(&client, &plan).await?;
        }
        Platform::Kubernetes => {
            let plan = kubernetes::rollout::Plan {
                pace,
                ..kubernetes::rollout::Plan::to(&arguments.to)
            };
            kubernetes::rollout::play(&client, &plan).await?;
        }
        Platform::Karpenter
        | Platform::Eks
        | Platform::Aks
        | Platform::Gke
        | Platform::ClusterApi
        | Platform::K3s
        | Platform::HyperShift
        | Platform::Kured
        | Platform::Mixed => {
            let version = client.apiserver_version().await?.git_version;
            Scenario::new(arguments.platform, &version, pace)?
                .play(&client)
                .await?;
        }
    }
    println!("Every node is updated");
    Ok(())
}
