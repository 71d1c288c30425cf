//! Shows the operator at work on a simulated cluster: `make demo`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use node_insights_harness::demo::{self, Options, Platform};
use node_insights_harness::kubernetes::Pace;

/// Starts a control plane, a simulated cluster and the operator, and shows an update from start to finish
#[derive(Debug, Parser)]
struct Arguments {
    /// Which cluster to simulate: openshift; kubernetes, where nodes are replaced; karpenter, eks, aks, gke, cluster-api,
    /// k3s, hypershift or kured; or mixed, several of them at once
    #[arg(long, default_value = "openshift")]
    platform: Platform,
    /// Leave the control plane and the operator running afterwards, and print how to stop them
    #[arg(long)]
    keep: bool,
    /// The operator's program [default: from the same build]
    #[arg(long, value_name = "PATH")]
    operator: Option<PathBuf>,
    /// The folder with the operator's CRDs [default: the one of this project]
    #[arg(long, value_name = "DIR")]
    crds: Option<PathBuf>,
    /// How long the steps of the update take: 0.5 is half as long. What holds a drain up is named after a minute in any case
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0)]
    pace: f64,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let shown = async {
        let mut options = Options::new(arguments.platform)?;
        options.keep = arguments.keep;
        options.pace = Pace::new(arguments.pace);
        if let Some(operator) = arguments.operator {
            options.operator = operator;
        }
        if let Some(crds) = arguments.crds {
            options.crds = crds;
        }
        demo::run(&options).await
    };
    match shown.await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("Error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
