//! promtool checks when each alert fires, and that it does not fire just before.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use tempfile::TempDir;

use crate::prometheus::program;
use crate::rules::Rules;
use crate::support::project;

/// The name of the rules file in the tests.
const RULES: &str = "rules.yaml";

fn tests() -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(project().join("tests/alerts/promtool"))? {
        files.push(entry?.path());
    }
    files.sort();
    Ok(files)
}

/// The minutes at which an alert is checked.
#[derive(Debug, Default)]
struct Minutes {
    silent: Vec<u64>,
    fires: Vec<u64>,
}

/// Runs promtool; returns its output.
fn promtool(folder: &Path, args: &[&str]) -> Result<String> {
    let output = Command::new(program("promtool"))
        .args(args)
        .current_dir(folder)
        .output()
        .context("running promtool")?;
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    if !output.status.success() {
        bail!("promtool {} failed: {text}", args.join(" "));
    }
    Ok(text)
}

/// A folder with the rules and their tests; returns the names of the tests.
fn folder(rules: &Rules) -> Result<(TempDir, Vec<String>)> {
    let folder = TempDir::new()?;
    rules.write(&folder.path().join(RULES))?;
    let mut names = Vec::new();
    for file in tests()? {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        fs::copy(&file, folder.path().join(&name))?;
        names.push(name);
    }
    Ok((folder, names))
}

fn run(rules: &Rules) -> Result<String> {
    let (folder, names) = folder(rules)?;
    let mut args = vec!["test", "rules"];
    args.extend(names.iter().map(String::as_str));
    promtool(folder.path(), &args)
}

#[test]
fn promtool_accepts_the_rules() -> Result<()> {
    let rules = Rules::rendered(&[])?;
    let (folder, _) = folder(&rules)?;
    // Including lint findings that Prometheus accepts, such as duplicate rules.
    let output = promtool(
        folder.path(),
        &["check", "rules", "--lint=all", "--lint-fatal", RULES],
    )?;
    let count = format!("{} rules found", rules.alerts()?.len());
    assert!(output.contains(&count), "{output}");
    Ok(())
}

#[test]
fn each_alert_fires_when_it_should_and_not_before() -> Result<()> {
    run(&Rules::rendered(&[])?).map(|_| ())
}

#[test]
fn an_alert_that_fires_late_fails_the_tests() -> Result<()> {
    let alerts = Rules::rendered(&[])?.alerts()?;
    let late: Vec<String> = alerts
        .iter()
        .map(|alert| format!("prometheusRule.alerts.{}.for=72h", alert.name))
        .collect();
    let error = run(&Rules::rendered(&["--set", &late.join(",")])?).unwrap_err();
    let error = error.to_string();
    for alert in alerts {
        assert!(error.contains(&alert.name), "{}: {error}", alert.name);
    }
    Ok(())
}

#[test]
fn each_alert_is_tested_a_minute_before_it_fires_and_when_it_does() -> Result<()> {
    // By alert, for each group of tests.
    let mut checks: BTreeMap<String, Vec<Minutes>> = BTreeMap::new();
    for file in tests()? {
        let text = fs::read_to_string(&file)?;
        let file: Value = serde_saphyr::from_str(&text)?;
        for group in file["tests"].as_array().context("no tests")? {
            let mut of_group: BTreeMap<String, Minutes> = BTreeMap::new();
            for check in group["alert_rule_test"].as_array().context("no checks")? {
                let name = check["alertname"].as_str().context("no name")?;
                let time = check["eval_time"].as_str().context("no time")?;
                let minute = time.strip_suffix('m').context("not in minutes")?.parse()?;
                let expected = check["exp_alerts"].as_array().context("no list")?;
                let Minutes { silent, fires } = of_group.entry(name.to_owned()).or_default();
                if expected.is_empty() {
                    silent.push(minute);
                } else {
                    fires.push(minute);
                }
            }
            for (name, minutes) in of_group {
                checks.entry(name).or_default().push(minutes);
            }
        }
    }
    for alert in Rules::rendered(&[])?.alerts()? {
        let groups = checks.remove(&alert.name).unwrap_or_default();
        assert!(!groups.is_empty(), "no test of {}", alert.name);
        for Minutes { silent, fires } in groups {
            let first = fires.iter().min().context("it never fires")?;
            assert!(silent.contains(&(first - 1)), "{}", alert.name);
        }
    }
    assert!(checks.is_empty(), "no such alert: {checks:?}");
    Ok(())
}
