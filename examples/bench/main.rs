//! Measures performance against the budgets, on a real API server: `make bench`. Prints the figures, and never
//! fails because of one.
//!
//! ```text
//!  driver ──PATCH of Nodes──► kube-apiserver, etcd ──watch──► second watcher (when is it visible?)
//!                                │    ▲                       audit log (what was written?)
//!                                ▼    │ writes                /proc (memory, CPU time)
//!                       operator: the release binary, with the token of its service account
//! ```
//!
//! | Module | Rows |
//! |---|---|
//! | [`limits`] | the API server's own limits, the baseline of the others |
//! | [`start`] | first start, memory, restart |
//! | [`rest`] | `/metrics`, CPU usage at rest |
//! | [`sweep`] | every node changes |
//! | [`latency`] | one node changes |
//! | [`shutdown`] | SIGTERM, idle and busy |
//! | [`mixed`] | memory in a cluster of several updaters: `--mixed`, instead of all others |
//! | [`drains`] | memory and costs while many nodes are drained: `--drains`, instead of all others |
//!
//! Each group starts its own operator, so a row that cannot be measured has the reason and does not affect
//! the others. Only a failed setup results in an exit code other than 0.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::{Parser, ValueEnum};

use self::bench::Bench;
use self::report::Report;

mod bench;
mod drains;
mod failover;
mod latency;
mod limits;
mod mixed;
mod observer;
mod operator;
mod pace;
mod processor;
mod report;
mod rest;
mod shutdown;
mod snapshot;
mod start;
mod sweep;
mod writes;

/// Rows that are measured together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Group {
    /// The first start, its memory, and a restart
    Start,
    /// `/metrics`, and CPU usage at rest
    Rest,
    /// Changes of every node
    Sweep,
    /// Changes of one node
    Latency,
    /// SIGTERM
    Shutdown,
    /// A second replica
    Failover,
}

impl Group {
    fn title(self) -> &'static str {
        match self {
            Self::Start => "first start",
            Self::Rest => "the operator at rest",
            Self::Sweep => "changes of every node",
            Self::Latency => "changes of one node",
            Self::Shutdown => "SIGTERM",
            Self::Failover => "a second replica",
        }
    }
}

/// Measures memory, writes, latency and CPU time of the operator against a real API server
#[derive(Debug, Parser)]
pub(crate) struct Arguments {
    /// Nodes of the simulated cluster, each with 50 images, in 4 pools
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(20..=100_000))]
    nodes: u32,
    /// Machine configurations of 200 KB in addition to those of the pools
    #[arg(long, value_name = "NUMBER", default_value_t = 100)]
    machine_configs: u32,
    /// How long CPU usage is measured while only heartbeats arrive
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    rest_seconds: u64,
    /// Changes of nodes, one at a time, whose latency is measured
    #[arg(long, value_name = "NUMBER", default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..))]
    changes: u32,
    /// Only these groups of rows, and the API server's limit; all by default
    #[arg(
        long,
        value_name = "GROUP",
        value_delimiter = ',',
        conflicts_with = "output"
    )]
    only: Vec<Group>,
    /// Measure a cluster of several updaters instead
    #[arg(long, conflicts_with = "only")]
    mixed: bool,
    /// Measure a cluster instead of which so many nodes are drained, with 100 pods each
    #[arg(long, value_name = "NUMBER", conflicts_with_all = ["only", "mixed"], value_parser = clap::value_parser!(u32).range(1..))]
    drains: Option<u32>,
    /// The operator's program
    #[arg(
        long,
        value_name = "PATH",
        default_value = "target/release/node-insights"
    )]
    operator: PathBuf,
    /// A document whose section for this number of nodes is replaced
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

impl Arguments {
    /// The section of the document that has its figures.
    fn section(&self) -> String {
        let nodes = self.nodes;
        match (self.mixed, self.drains) {
            (true, _) => format!("{nodes} nodes, mixed"),
            (false, Some(drains)) => format!("{nodes} nodes, {drains} drains"),
            (false, None) => format!("{nodes} nodes"),
        }
    }

    /// How many nodes are drained.
    fn drains(&self) -> Option<usize> {
        self.drains.and_then(|drains| usize::try_from(drains).ok())
    }
}

// Two workers: more would take CPU time from what is measured.
#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let measured = tokio::select! {
        measured = measure(&arguments) => measured,
        // Handled here, so that all processes are stopped and their folder is removed.
        _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
    };
    match measured {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn measure(arguments: &Arguments) -> Result<()> {
    if !arguments.operator.is_file() {
        bail!(
            "no {}: run `make build`, or pass the operator's program with --operator",
            arguments.operator.display()
        );
    }
    if arguments
        .drains
        .is_some_and(|drains| drains > arguments.nodes)
    {
        bail!("more nodes are drained than there are");
    }
    // Check this first, as measuring takes minutes.
    let part = arguments.section();
    if let Some(path) = &arguments.output {
        report::replace(&read(path)?, &part, "").with_context(|| path.display().to_string())?;
    }

    let mut report = Report::new();
    let mut bench = Bench::prepare(arguments).await?;
    if arguments.mixed {
        mixed::measure(&bench, &mut report).await?;
    } else if let Some(drains) = arguments.drains() {
        drains::measure(&bench, drains, &mut report).await?;
    } else {
        measure_groups(arguments, &mut bench, &mut report).await?;
    }

    let text = report.markdown(&bench.description(arguments));
    std::io::stdout().write_all(text.as_bytes())?;
    if let Some(path) = &arguments.output {
        std::fs::write(path, report::replace(&read(path)?, &part, &text)?)
            .with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}

async fn measure_groups(
    arguments: &Arguments,
    bench: &mut Bench,
    report: &mut Report,
) -> Result<()> {
    let empty = start::without_nodes(bench).await?;
    bench.load_nodes().await?;
    let limits = limits::measure(bench, report).await?;
    for group in Group::value_variants() {
        if arguments.only.is_empty() || arguments.only.contains(group) {
            let measured = match group {
                Group::Start => start::measure(bench, &limits, empty, report).await,
                Group::Rest => rest::measure(bench, arguments.rest_seconds, report).await,
                Group::Sweep => sweep::measure(bench, &limits, report).await,
                Group::Latency => latency::measure(bench, arguments.changes, report).await,
                Group::Shutdown => shutdown::measure(bench, report).await,
                Group::Failover => Box::pin(failover::measure(bench, report)).await,
            };
            report.group(group.title(), measured);
        }
    }
    Ok(())
}

fn read(path: &PathBuf) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))
}
