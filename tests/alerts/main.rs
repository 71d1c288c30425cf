//! The chart's alerts, dashboard and configuration for kube-state-metrics: promtool checks when each alert fires,
//! and a real Prometheus, which scrapes the operator during a simulated rollout, answers every query.

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

/// Helm, shared with the tests of the chart.
#[allow(dead_code, reason = "the tests of the chart use all of it")]
#[path = "../chart/helm.rs"]
mod helm;

/// The operator in a cluster, shared with the integration tests.
#[allow(dead_code, reason = "the integration tests use all of it")]
#[path = "../integration/support.rs"]
mod support;
