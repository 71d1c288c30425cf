//! `node-insights preflight`: what would hold up the drain of each node if an update began now.
//!
//! It only reads, and needs no operator in the cluster. Nodes are evaluated as the operator does it, from lists in place
//! of watches. Prints the findings to stdout, as text or as JSON.

mod cluster;
mod output;

use std::io::{Write as _, stdout};
use std::process::ExitCode;

use self::cluster::Outcome;
use super::config::{Output, PreflightConfig};
use crate::domain::preflight::Severity;
use crate::kubernetes::client;
use crate::reconcile::clock::system_clock;

/// The exit code when there are only warnings, or something could not be read.
const WARNINGS: u8 = 2;
/// The exit code when a node could not be drained.
const BLOCKERS: u8 = 3;

/// Looks at the cluster and prints what was found.
///
/// # Errors
/// When the nodes, their pods or the budgets cannot be read, when there is no such pool, and when stdout cannot be
/// written to.
pub async fn run(config: &PreflightConfig) -> anyhow::Result<ExitCode> {
    let connection = client::connect().await?;
    let now = system_clock()();
    let outcome = cluster::look(&connection, config, now).await?;
    let pool = config.pool.as_deref();
    let text = match config.output {
        Output::Table => output::text(&outcome, pool),
        Output::Json => output::json(&outcome, pool)?,
    };
    writeln!(stdout(), "{text}")?;
    Ok(exit_code(&outcome).into())
}

fn exit_code(outcome: &Outcome) -> u8 {
    if outcome.report.count(Severity::Blocker) > 0 {
        BLOCKERS
    } else if outcome.report.findings.is_empty() && outcome.gaps.is_empty() {
        0
    } else {
        WARNINGS
    }
}
