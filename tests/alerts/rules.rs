//! The rules as the chart renders them.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::Deserialize;
use serde_json::Value;

use crate::helm::{Helm, Major, objects, one};

/// An alert as Prometheus gets it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Alert {
    /// Its name.
    #[serde(rename = "alert")]
    pub name: String,
    /// The expression, which is not empty while the condition holds.
    pub expr: String,
    /// How long the condition has to hold.
    #[serde(rename = "for")]
    pub hold: String,
    /// The severity.
    pub labels: Labels,
    /// The texts for users.
    pub annotations: Annotations,
}

/// The labels that an alert adds.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Labels {
    /// `warning` or `critical`.
    pub severity: String,
}

/// The texts for users.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Annotations {
    /// One line.
    pub summary: String,
    /// What it means and how to investigate.
    pub description: String,
    /// Its section in `docs/alerts.md`.
    pub runbook_url: String,
}

/// The rules, as a Prometheus rule file.
pub struct Rules(Value);

impl Rules {
    /// As the chart renders them with these arguments for Helm.
    pub fn rendered(args: &[&str]) -> Result<Self> {
        let on = [
            "--set",
            "prometheusRule.enabled=true,prometheusRule.mode=alwaysRender",
        ];
        let args = [&on[..], args].concat();
        let rendered = objects(&Helm::offline(Major::Four)?.template(&args)?)?;
        Ok(Self(one(&rendered, "PrometheusRule", "")["spec"].clone()))
    }

    /// Every alert.
    pub fn alerts(&self) -> Result<Vec<Alert>> {
        let groups = self.0["groups"].as_array().context("no groups")?;
        let mut alerts = Vec::new();
        for group in groups {
            let rules: Vec<Alert> = serde_json::from_value(group["rules"].clone())?;
            alerts.extend(rules);
        }
        Ok(alerts)
    }

    /// Writes them to a file. JSON is YAML.
    pub fn write(&self, path: &Path) -> Result<()> {
        fs::write(path, serde_json::to_string_pretty(&self.0)?)?;
        Ok(())
    }
}

#[test]
fn every_alert_is_complete_and_configurable_on_its_own() -> Result<()> {
    let alerts = Rules::rendered(&[])?.alerts()?;
    assert!(alerts.len() > 8, "{alerts:#?}");
    for alert in &alerts {
        let name = &alert.name;
        assert!(name.starts_with("NodeInsights"), "{name}");
        assert!(
            ["warning", "critical"].contains(&&*alert.labels.severity),
            "{name}"
        );
        assert!(!alert.expr.contains('$'), "{name}: {}", alert.expr);
        // A summary is a list item, a description has full sentences.
        assert!(!alert.annotations.summary.ends_with('.'), "{name}");
        assert!(alert.annotations.description.len() > 60, "{name}");

        let of = |field: &str, value: &str| format!("prometheusRule.alerts.{name}.{field}={value}");
        let (hold, severity) = (of("for", "1m1s"), of("severity", "page"));
        let others = |changed: &[Alert]| -> Vec<Alert> {
            let mut changed = changed.to_vec();
            changed.retain(|other| other.name != *name);
            changed
        };
        let set = Rules::rendered(&["--set", &hold, "--set", &severity])?.alerts()?;
        let own = set.iter().find(|other| other.name == *name).unwrap();
        assert_eq!((&*own.hold, &*own.labels.severity), ("1m1s", "page"));
        assert_eq!(others(&set), others(&alerts), "{name}");
        let off = Rules::rendered(&["--set", &of("enabled", "false")])?.alerts()?;
        assert_eq!(off, others(&alerts), "{name}");
        // A threshold is used if the alert has one, and rejected otherwise.
        if let Ok(set) = Rules::rendered(&["--set", &of("threshold", "12345")]) {
            let set = set.alerts()?;
            let own = set.iter().find(|other| other.name == *name).unwrap();
            assert!(own.expr.contains("12345"), "{name}: {}", own.expr);
            assert_eq!(others(&set), others(&alerts), "{name}");
        }
    }
    Ok(())
}

#[test]
fn with_every_alert_off_there_is_no_rule() -> Result<()> {
    let alerts = Rules::rendered(&[])?.alerts()?;
    let off: Vec<String> = alerts
        .iter()
        .map(|alert| format!("prometheusRule.alerts.{}.enabled=false", alert.name))
        .collect();
    let on = "prometheusRule.enabled=true,prometheusRule.mode=alwaysRender";
    let rendered = Helm::offline(Major::Four)?.template(&["--set", on, "--set", &off.join(",")])?;
    let is_rule = |object: &Value| object["kind"] == "PrometheusRule";
    assert!(!objects(&rendered)?.iter().any(is_rule));
    Ok(())
}

#[test]
fn a_compare_is_late_by_the_interval_that_the_chart_sets() -> Result<()> {
    for (interval, seconds) in [
        ("10m", "600"),
        ("1h30m", "5400"),
        ("5m30s", "330"),
        ("90s", "90"),
    ] {
        let set = format!("syncInterval={interval}");
        let alerts = Rules::rendered(&["--set", &set])?.alerts()?;
        let sync = alerts
            .iter()
            .find(|alert| alert.name == "NodeInsightsSyncFailing");
        let expr = &sync.unwrap().expr;
        assert!(expr.ends_with(&format!("(2 + 0.5) * {seconds}")), "{expr}");
    }
    Ok(())
}
