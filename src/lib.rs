//! node-insights reports for every node and pool of a cluster whether it is being updated, its progress, versions
//! and start time, and what blocks it.
//!
//! See `ARCHITECTURE.md`. The layers, from the outside in: `app` wires everything, `reconcile` runs the
//! controllers, only `kubernetes` talks to the API server, `providers` and `domain` evaluate nodes, `registry`
//! stores states, `telemetry` and `http` expose them. `cli` talks to a running operator.

pub mod api;
pub mod app;
pub mod cli;
pub mod domain;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
pub mod http;
pub mod kubernetes;
pub mod providers;
pub mod reconcile;
pub mod registry;
pub mod telemetry;
