//! Generic building blocks: a keyed store and its backends, dirty-key sets, fan-out, ranked locks,
//! long-running operations, leader election and the sync schedule. Nothing here knows Kubernetes or
//! nodes, logs, or spawns tasks.

pub mod backend;
pub mod dirty;
pub mod election;
pub mod fanout;
pub mod lock_order;
pub mod operations;
pub mod store;
pub mod sync;

use std::sync::Arc;

use jiff::Timestamp;

/// Returns the current time for timestamps. Delays and deadlines use the monotonic clock.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// Longest stored message of an operation or a sync, in characters: enough for an error text, and far
/// below the size limit of an object or a response.
const MESSAGE_LIMIT: usize = 1024;

/// Returns the first `limit` characters.
fn capped(text: &str, limit: usize) -> String {
    text.chars().take(limit).collect()
}
