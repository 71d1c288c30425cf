//! The operator's command line.

use std::fs;
use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;

use node_insights::api::crd;
use node_insights::app::{
    self,
    config::{Cli, Command, CrdsConfig},
};
use node_insights::cli;
use node_insights::telemetry::logging;

fn main() -> ExitCode {
    let command = match Cli::try_parse() {
        Ok(cli) => cli.command,
        Err(error) => return usage(&error),
    };
    let result = match command {
        Command::Run(config) => run(*config).map(|()| ExitCode::SUCCESS),
        Command::Crds(config) => print_crds(&config).map(|()| ExitCode::SUCCESS),
        Command::Doctor(config) => on_one_thread(app::doctor::run(&config)).flatten(),
        Command::Preflight(config) => on_one_thread(app::preflight::run(&config)).flatten(),
        Command::Resync(config) => on_one_thread(cli::resync::run(&config))
            .and_then(|result| result.map_err(anyhow::Error::from)),
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

/// Prints the help or the version, or what is wrong with a flag.
fn usage(error: &clap::Error) -> ExitCode {
    let _ = error.print();
    let is_preflight = std::env::args_os()
        .nth(1)
        .is_some_and(|name| name == "preflight");
    if is_preflight && error.use_stderr() {
        // There 2 means that it has found something.
        return ExitCode::FAILURE;
    }
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

fn run(config: app::config::RunConfig) -> anyhow::Result<()> {
    // Dropped after the runtime, so that the last spans are exported.
    let _telemetry = logging::init(config.log_format, &config.log_level)?;
    let providers = config.providers()?;
    on_one_thread(app::run(config, providers))?
}

/// Runs a future to its end. One thread: most of the work is waiting for the API server, and each further thread costs a
/// heap.
fn on_one_thread<T>(future: impl Future<Output = T>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("Cannot start the runtime")?;
    let result = runtime.block_on(future);
    // Does not wait for a pending DNS lookup.
    runtime.shutdown_background();
    Ok(result)
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
