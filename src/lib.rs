//! node-insights: for every node and pool of a cluster, is it being updated, how far is it, from what
//! to what, since when, and what holds it up.
//!
//! `ARCHITECTURE.md` has the picture. Who may use whom, from the outside in: `app` wires everything,
//! `reconcile` runs it, `kubernetes` is the only one that talks to an API server, `domain` judges,
//! `registry` keeps, `telemetry` and `http` show. `cli` talks to an operator that runs.

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
