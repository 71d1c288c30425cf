//! The text and the JSON of a report.

use serde_json::{Value, json};

use super::*;
use crate::domain::drain;
use crate::domain::preflight::Reason;

fn finding(severity: Severity, reason: Reason, count: usize) -> Finding {
    let nodes = (0..count.min(2)).map(|place| format!("blue-{place}").into());
    Finding {
        severity,
        reason,
        kind: "PodDisruptionBudget".into(),
        namespace: "shop".into(),
        name: "orders".into(),
        count,
        nodes: nodes.collect(),
        message: "it needs 1 of 1 pods: scale up".into(),
    }
}

fn outcome(findings: Vec<Finding>, gaps: Vec<Gap>) -> Outcome {
    let report = Report {
        nodes: 12,
        blocked: usize::from(!findings.is_empty()) * 3,
        findings,
    };
    Outcome { report, gaps }
}

fn found() -> Outcome {
    let never = Reason::Drain(drain::Reason::BudgetNeverAllows);
    let paused = Finding {
        kind: "Pool".into(),
        namespace: "".into(),
        name: "blue".into(),
        ..finding(Severity::Warning, Reason::PoolPaused, 1)
    };
    outcome(
        vec![finding(Severity::Blocker, never, 3), paused],
        Vec::new(),
    )
}

fn gap() -> Gap {
    Gap {
        resource: "nodepools.karpenter.sh".to_owned(),
        message: "it is forbidden".to_owned(),
    }
}

#[test]
fn the_text_has_a_summary_and_for_each_finding_its_object_message_and_nodes() {
    assert_eq!(
        text(&found(), None),
        "\
3 of 12 nodes could not be drained: 1 blocker, 1 warning

SEVERITY  NODES  REASON             OBJECT
Blocker   3      BudgetNeverAllows  PodDisruptionBudget shop/orders
    it needs 1 of 1 pods: scale up
    Nodes: blue-0, blue-1 and 1 more
Warning   1      PoolPaused         Pool blue
    it needs 1 of 1 pods: scale up
    Nodes: blue-0"
    );
}

#[test]
fn the_text_says_when_nothing_was_found() {
    assert_eq!(
        text(&outcome(Vec::new(), Vec::new()), Some("blue")),
        "0 of 12 nodes of pool blue could not be drained: nothing was found that would hold up a drain"
    );
}

#[test]
fn what_could_not_be_read_is_named_where_nothing_was_found() {
    assert_eq!(
        text(&outcome(Vec::new(), vec![gap()]), None),
        "\
0 of 12 nodes could not be drained: nothing was found in what could be read

Not everything could be read, so more may be found:
  nodepools.karpenter.sh
    it is forbidden"
    );
}

#[test]
fn the_json_has_its_version_the_counts_the_findings_and_the_gaps() {
    let mut outcome = found();
    outcome.gaps.push(gap());
    let document: Value = serde_json::from_str(&json(&outcome, Some("blue")).unwrap()).unwrap();
    assert_eq!(
        document,
        json!({
            "apiVersion": "preflight.nodeinsights.dev/v1alpha1",
            "kind": "PreflightReport",
            "summary": {"pool": "blue", "nodes": 12, "blockedNodes": 3, "blockers": 1, "warnings": 1},
            "findings": [
                {
                    "severity": "Blocker", "reason": "BudgetNeverAllows",
                    "kind": "PodDisruptionBudget", "namespace": "shop", "name": "orders",
                    "nodeCount": 3, "nodes": ["blue-0", "blue-1"],
                    "message": "it needs 1 of 1 pods: scale up",
                },
                {
                    "severity": "Warning", "reason": "PoolPaused", "kind": "Pool", "name": "blue",
                    "nodeCount": 1, "nodes": ["blue-0"],
                    "message": "it needs 1 of 1 pods: scale up",
                },
            ],
            "gaps": [{"resource": "nodepools.karpenter.sh", "message": "it is forbidden"}],
        })
    );
}
