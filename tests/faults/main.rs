//! What the operator guarantees under fault: a real API server, real RBAC, and a proxy in between that injects
//! faults. The guarantees, and the tests that check them, are in `docs/faults.md`.
//!
//! Each test has its own control plane. Randomness comes from a seed, which a failed test prints;
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

/// The operator in a cluster, shared with the integration tests.
#[allow(dead_code, reason = "the integration tests use all of it")]
#[path = "../integration/support.rs"]
mod support;
