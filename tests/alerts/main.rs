//! Alerts, dashboard and the configuration for kube-state-metrics that the chart brings: promtool says when
//! each alert fires, and a real Prometheus, which scrapes the operator during a simulated rollout, answers
//! every query.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failed expectation is the result of a test"
)]
#![allow(unreachable_pub, reason = "modules of one test program")]

mod dashboard;
mod kube_state_metrics;
mod prometheus;
mod promtool;
mod rules;
mod runbook;
mod scenarios;

/// Helm, as the tests of the chart have it.
#[allow(dead_code, reason = "the tests of the chart use all of it")]
#[path = "../chart/helm.rs"]
mod helm;

/// The operator in a cluster, as the integration tests have it.
#[allow(dead_code, reason = "the integration tests use all of it")]
#[path = "../integration/support.rs"]
mod support;
