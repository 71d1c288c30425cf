//! What runs: the node-state controller takes in what the watches see and evaluates, the two reconcilers write.
//!
//! ```text
//!  watches ──► Centre (inventory, dirty nodes) ──► evaluate, commit ──► fan-out ──► KeyedQueue ──► Applier
//!    └─────► InsightCache (what the API server holds) ───────────────────────────────────────────┘
//! ```

pub mod applier;
pub mod clock;
pub mod compare;
pub mod discovery;
pub mod events;
pub mod insight_cache;
pub mod insight_key;
pub mod inspection;
pub mod inventory;
pub mod jobs;
pub mod kept;
pub mod keyed_queue;
pub mod node_insight;
pub mod node_state;
pub mod pool_insight;
pub mod states;
pub mod steady_version;
pub mod sync_gate;
pub mod watches;
