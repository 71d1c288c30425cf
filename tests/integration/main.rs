//! The operator's binary against a real API server: what it writes, when, and what it does when
//! something is missing. Each test has its own control plane; the operator runs with the token of a
//! service account, under the RBAC of `config/rbac`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failed expectation is the result of a test"
)]
#![allow(unreachable_pub, reason = "modules of one test program")]

mod backend;
mod cluster_api;
mod disruption;
mod drains;
mod dumps;
mod election;
mod estimates;
mod events;
mod hypershift;
mod invariants;
mod karpenter;
mod kubectl;
mod kubernetes;
mod kured;
mod lifecycle;
mod link;
mod managed;
mod many_drains;
mod memory;
mod metrics;
mod obstacles;
mod openshift;
mod operations;
mod overlays;
mod own_provider;
mod plans;
mod pods;
mod preflight;
mod requirements;
mod rollouts;
mod scale;
mod support;
mod sync;
