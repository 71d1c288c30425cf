//! What was found, as text for people and as JSON for programs.

use std::sync::Arc;

use serde::Serialize;

use super::cluster::{Gap, Outcome};
use crate::domain::preflight::{Finding, Report, Severity};

/// Group and version of the JSON document.
const API_VERSION: &str = "preflight.nodeinsights.dev/v1alpha1";
/// Kind of the JSON document.
const KIND: &str = "PreflightReport";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    api_version: &'static str,
    kind: &'static str,
    summary: Summary<'a>,
    findings: Vec<Entry<'a>>,
    gaps: Vec<Missing<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Summary<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pool: Option<&'a str>,
    nodes: usize,
    blocked_nodes: usize,
    blockers: usize,
    warnings: usize,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Entry<'a> {
    severity: &'static str,
    reason: &'static str,
    kind: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    namespace: &'a str,
    name: &'a str,
    node_count: usize,
    nodes: Vec<&'a str>,
    message: &'a str,
}

#[derive(Serialize)]
struct Missing<'a> {
    resource: &'a str,
    message: &'a str,
}

/// The findings as JSON.
pub(super) fn json(outcome: &Outcome, pool: Option<&str>) -> serde_json::Result<String> {
    let report = &outcome.report;
    serde_json::to_string_pretty(&Document {
        api_version: API_VERSION,
        kind: KIND,
        summary: Summary {
            pool,
            nodes: report.nodes,
            blocked_nodes: report.blocked,
            blockers: report.count(Severity::Blocker),
            warnings: report.count(Severity::Warning),
        },
        findings: report.findings.iter().map(Entry::of).collect(),
        gaps: outcome.gaps.iter().map(Missing::of).collect(),
    })
}

impl<'a> Entry<'a> {
    fn of(finding: &'a Finding) -> Self {
        Self {
            severity: finding.severity.as_str(),
            reason: finding.reason.as_str(),
            kind: &finding.kind,
            namespace: &finding.namespace,
            name: &finding.name,
            node_count: finding.count,
            nodes: finding.nodes.iter().map(Arc::as_ref).collect(),
            message: &finding.message,
        }
    }
}

impl<'a> Missing<'a> {
    fn of(gap: &'a Gap) -> Self {
        Self {
            resource: &gap.resource,
            message: &gap.message,
        }
    }
}

/// The findings as text: a summary in one line, a table with a message and the nodes of each, and what is missing.
pub(super) fn text(outcome: &Outcome, pool: Option<&str>) -> String {
    let Outcome { report, gaps } = outcome;
    let mut lines = vec![summary(report, gaps, pool)];
    if !report.findings.is_empty() {
        lines.push(String::new());
        lines.extend(table(&report.findings));
    }
    if !gaps.is_empty() {
        lines.push(String::new());
        lines.push("Not everything could be read, so more may be found:".to_owned());
        for Gap { resource, message } in gaps {
            lines.push(format!("  {resource}\n    {message}"));
        }
    }
    lines.join("\n")
}

fn summary(report: &Report, gaps: &[Gap], pool: Option<&str>) -> String {
    let of = pool.map_or(String::new(), |pool| format!(" of pool {pool}"));
    let Report { nodes, blocked, .. } = report;
    let found = if !report.findings.is_empty() {
        let blockers = counted(report.count(Severity::Blocker), "blocker");
        let warnings = counted(report.count(Severity::Warning), "warning");
        format!("{blockers}, {warnings}")
    } else if gaps.is_empty() {
        "nothing was found that would hold up a drain".to_owned()
    } else {
        "nothing was found in what could be read".to_owned()
    };
    format!("{blocked} of {nodes} nodes{of} could not be drained: {found}")
}

fn counted(count: usize, what: &str) -> String {
    let end = if count == 1 { "" } else { "s" };
    format!("{count} {what}{end}")
}

fn table(findings: &[Finding]) -> Vec<String> {
    let reasons = findings.iter().map(|finding| finding.reason.as_str().len());
    let width = reasons.chain(["REASON".len()]).max().unwrap_or_default();
    let mut lines = vec![format!("SEVERITY  NODES  {:<width$}  OBJECT", "REASON")];
    for finding in findings {
        let Finding {
            severity,
            reason,
            count,
            nodes,
            message,
            ..
        } = finding;
        let (severity, reason, object) = (severity.as_str(), reason.as_str(), finding.object());
        lines.push(format!(
            "{severity:<8}  {count:<5}  {reason:<width$}  {object}"
        ));
        lines.push(format!("    {message}"));
        let more = match count.saturating_sub(nodes.len()) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        lines.push(format!("    Nodes: {}{more}", nodes.join(", ")));
    }
    lines
}

#[cfg(test)]
mod tests;
