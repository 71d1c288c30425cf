//! The data model of evaluations: facts in, states out.
//!
//! ```text
//!  objects ─► facts ──► a provider evaluates ──► NodeState ──► status of the node's insight
//!             (edge)        (providers)              └───────► status of the pool's insight
//! ```
//!
//! Pure: no client, no runtime, no clock and no logging; `now` is an argument. Everything here is
//! total: hostile input yields `Unknown` with a reason, never a panic.

pub mod availability;
pub mod blocked_drains;
pub mod cordon;
pub mod drain;
pub mod erased;
pub mod eta;
pub mod fact;
pub mod facts;
#[cfg(test)]
pub(crate) mod fixtures;
pub mod interruption;
pub mod labels;
pub mod milestones;
pub mod node;
pub mod node_status;
pub mod outlook;
pub mod policy;
pub mod pool;
pub mod pool_generations;
pub mod pool_name;
pub mod pool_status;
pub mod preflight;
pub mod rollout;
pub mod rows;
pub mod shared;
pub mod skew;
pub mod stalled;
pub mod state;
pub mod text;
pub mod version;
