//! `node-insights doctor`: checks whether the cluster has what the operator needs, with the permissions of the
//! account that runs it. To check the operator's permissions, run it with the operator's account.
//!
//! Prints the findings to stdout, as a table or as JSON; remedies follow the table. Exits with 0 when nothing is
//! missing, and with 1 when something is missing or could not be checked.

use std::io::{Write as _, stdout};
use std::process::ExitCode;

use serde_json::json;

use super::config::{DoctorConfig, Output};
use super::requirements;
use crate::kubernetes::client;
use crate::kubernetes::requirements::{Finding, Outcome, Requirements};
use crate::providers::Providers;

/// Runs the checks and prints the findings.
///
/// # Errors
/// When there is no kubeconfig and no service account, and when stdout cannot be written to.
pub async fn run(config: &DoctorConfig) -> anyhow::Result<ExitCode> {
    let client = client::connect().await?.client;
    let providers = Providers::standard(&config.needs.provider_options())?;
    let kinds = providers.kinds().to_vec();
    let scope = requirements::scope(&config.needs, kinds);
    let findings = Requirements::new(client, scope).all().await;
    let text = match config.output {
        Output::Table => table(&findings),
        Output::Json => serde_json::to_string_pretty(&json!({
            "ok": findings.iter().all(|finding| finding.outcome.is_ok()),
            "findings": findings,
        }))?,
    };
    writeln!(stdout(), "{text}")?;
    Ok(if findings.iter().all(|finding| finding.outcome.is_ok()) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// A line for each finding, followed by the remedies.
fn table(findings: &[Finding]) -> String {
    let width = findings
        .iter()
        .map(|finding| finding.check.chars().count())
        .max();
    let width = width.unwrap_or_default();
    let mut lines = vec![format!("{:<width$}  RESULT", "CHECK")];
    let mut remedies = Vec::new();
    for Finding { check, outcome } in findings {
        let (result, what) = match outcome {
            Outcome::Ok { what } => ("ok", what),
            Outcome::Failed { what, remedy } => {
                remedies.push((check, remedy));
                ("FAILED", what)
            }
            Outcome::Optional { what, remedy } => {
                remedies.push((check, remedy));
                ("MISSING", what)
            }
            Outcome::Unknown { what, remedy } => {
                remedies.push((check, remedy));
                ("UNKNOWN", what)
            }
        };
        lines.push(format!("{check:<width$}  {result:<7}  {what}"));
    }
    lines.push(match remedies.len() {
        0 => "\nNothing is missing.".to_owned(),
        number => format!(
            "\n{number} of {} checks did not pass. What to do:",
            findings.len()
        ),
    });
    for (check, remedy) in remedies {
        lines.push(format!("  {check}\n    {remedy}"));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_a_line_for_each_check_and_a_remedy_for_each_failure() {
        let finding = |check: &str, outcome| Finding {
            check: check.to_owned(),
            outcome,
        };
        let fine = finding(
            "API server",
            Outcome::Ok {
                what: "it is v1.36.3".to_owned(),
            },
        );
        let failed = finding(
            "permission: list nodes",
            Outcome::Failed {
                what: "it is not granted".to_owned(),
                remedy: "grant it".to_owned(),
            },
        );
        assert_eq!(
            table(&[fine.clone(), failed]),
            "\
CHECK                   RESULT
API server              ok       it is v1.36.3
permission: list nodes  FAILED   it is not granted

1 of 2 checks did not pass. What to do:
  permission: list nodes
    grant it"
        );
        assert!(table(&[fine]).ends_with("Nothing is missing."));
    }
}
