//! The operator's command line.

use std::fs;
use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;

use node_insights::api::crd;
use node_insights::app::{
    self,
    config::{Cli, Command, CrdsConfig, DoctorConfig, ResyncConfig},
};
use node_insights::cli;
use node_insights::telemetry::logging;

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Run(config) => run(*config).map(|()| ExitCode::SUCCESS),
        Command::Crds(config) => print_crds(&config).map(|()| ExitCode::SUCCESS),
        Command::Doctor(config) => doctor(&config),
        Command::Resync(config) => resync(&config),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            // The alternate form has the causes in one line.
            let _ = writeln!(std::io::stderr(), "node-insights: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(config: app::config::RunConfig) -> anyhow::Result<()> {
    // Dropped after the runtime, so that the last spans are exported.
    let _telemetry = logging::init(config.log_format, &config.log_level)?;
    // One thread: most of the work is waiting for the API server, and each further thread costs a heap.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("Cannot start the runtime")?;
    let providers = config.providers()?;
    let result = runtime.block_on(app::run(config, providers));
    // Does not wait for a pending DNS lookup.
    runtime.shutdown_background();
    result
}

fn resync(config: &ResyncConfig) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("Cannot start the runtime")?;
    let result = runtime.block_on(cli::resync::run(config));
    // Does not wait for a pending DNS lookup.
    runtime.shutdown_background();
    Ok(result?)
}

fn doctor(config: &DoctorConfig) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("Cannot start the runtime")?;
    let result = runtime.block_on(app::doctor::run(config));
    runtime.shutdown_background();
    result
}

fn print_crds(config: &CrdsConfig) -> anyhow::Result<()> {
    for (file, crd) in crd::all()? {
        let yaml = format!("---\n{}", serde_saphyr::to_string(&crd)?);
        match &config.output_dir {
            Some(dir) => {
                let path = dir.join(&file);
                fs::write(&path, yaml)
                    .with_context(|| format!("Cannot write {}", path.display()))?;
            }
            None => std::io::stdout()
                .write_all(yaml.as_bytes())
                .context("Cannot write to stdout")?,
        }
    }
    Ok(())
}
