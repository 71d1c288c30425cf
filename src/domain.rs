//! How an update is judged: facts in, states out.
//!
//! ```text
//!  objects ─► facts ─► Inventory ──► evaluate ──► NodeState ──► status of the node's insight
//!             (edge)   (who is           (pure)        └──────► status of the pool's insight
//!                       affected)
//! ```
//!
//! Pure: no client, no runtime, no clock and no logging; `now` is an argument. Everything here is
//! total: hostile input yields `Unknown` with a reason, never a panic.

pub mod cluster;
pub mod evaluate;
pub mod facts;
#[cfg(test)]
pub(crate) mod fixtures;
pub mod inventory;
pub mod labels;
pub mod node_status;
pub mod pool;
pub mod pool_status;
pub mod state;
pub mod text;
pub mod version;
