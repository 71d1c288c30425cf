//! Loads the dump of a cluster into an API server: `cargo run --example load_cluster -- DIR`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser;
use node_insights_harness::load::{Options, load_cluster};

/// Brings the API server (KUBECONFIG, or the cluster this runs in) to the state of a cluster dump
///
/// DIR contains node.yaml, and for OpenShift cv.yaml, mcp.yaml and mc.yaml, each as printed by
/// `kubectl get -o yaml`. Objects of these kinds that are not in the dump are REMOVED, so that the server
/// ends up in exactly the state of the dump: Nodes, and ClusterVersions, MachineConfigPools and
/// MachineConfigs where the server serves them. A server whose kubelets are alive is rejected.
///
/// Where OpenShift's kinds are not served, minimal CRDs are installed. A controller manager marks
/// nodes that have no kubelet as unreachable after 40 s; load into a server without one.
#[derive(Debug, Parser)]
#[allow(
    clippy::doc_markdown,
    reason = "this text is the --help, where backticks mean nothing"
)]
struct Arguments {
    /// The folder with the dump
    dir: PathBuf,
    /// Apply the CRDs in this folder first
    #[arg(long, value_name = "DIR")]
    crds: Option<PathBuf>,
    /// Do not remove objects that are not in the dump
    #[arg(long)]
    keep_others: bool,
    /// Load even into a cluster whose kubelets are alive
    #[arg(long)]
    force: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let options = Options {
        crds: arguments.crds,
        keep_others: arguments.keep_others,
        force: arguments.force,
    };
    let loaded = async {
        let client = kube::Client::try_default()
            .await
            .context("No API server to load into: set KUBECONFIG")?;
        load_cluster(client, &arguments.dir, &options).await
    };
    match loaded.await {
        Ok(summary) => {
            println!("{summary}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("Error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
