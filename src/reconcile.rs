//! The running parts: the node-state controller evaluates what the watches observe; two reconcilers write insights.
//!
//! ```text
//!  watches ──► NodeStateController (inventory, dirty nodes) ──► evaluate, commit ──► fan-out ──► KeyedQueue ──► Applier
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
pub mod keyed_queue;
pub mod node_insight;
pub mod node_state;
pub mod persisted;
pub mod pool_insight;
pub mod states;
pub mod steady_version;
pub mod sync_gate;
pub mod watches;
