//! The Helm chart: what it renders, that a real API server accepts it, and that an installed release works.
//! Tests run with both Helm 3 and Helm 4 where they could differ.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failed expectation is the result of a test"
)]
#![allow(unreachable_pub, reason = "modules of one test program")]

mod accepted;
mod flags;
mod helm;
mod manifests;
mod operator;
mod protection;
mod release;
mod render;
mod roles;
mod values;

/// The operator in a cluster, shared with the integration tests.
#[allow(dead_code, reason = "the integration tests use all of it")]
#[path = "../integration/support.rs"]
mod support;
