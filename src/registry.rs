//! What keeps and hands on: a store, the backends behind it, a set of dirty keys, a fan-out, locks,
//! long-running operations, who of several leads, and when everything is compared. Generic: nothing here knows Kubernetes or what
//! a node is, logs, or starts a task.

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

/// Tells the time; the time of what is shown, never of what is waited for.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// The longest message that is kept of an operation or a sync: room for the text of an error, and far
/// from what one object or one answer can hold.
const MESSAGE_LIMIT: usize = 1024;

/// The first `limit` characters.
fn capped(text: &str, limit: usize) -> String {
    text.chars().take(limit).collect()
}
