//! What the operator promises under fault: a real API server, real RBAC, and a proxy between the two that breaks
//! what it is told to. What is promised, and which test holds it, is in `docs/faults.md`.
//!
//! Each test has a control plane of its own. What is random comes from a seed, which a failed test prints;
//! `NODE_INSIGHTS_SEED` repeats it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failed expectation is the result of a test"
)]
#![allow(unreachable_pub, reason = "modules of one test program")]

mod compare;
mod connections;
mod events;
mod kills;
mod one_object;
mod reads;
mod scene;
mod snapshot;
mod soak;
mod stale;
mod time_travel;
mod two_writers;
mod unobserved;
mod versions;
mod writes;

/// The operator in a cluster, as the integration tests have it.
#[allow(dead_code, reason = "the integration tests use all of it")]
#[path = "../integration/support.rs"]
mod support;
