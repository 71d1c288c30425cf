//! What keeps and hands on: a store, a set of dirty keys, a fan-out, locks. Generic: nothing here
//! knows Kubernetes or what a node is.

pub mod dirty;
pub mod fanout;
pub mod keyed_locks;
pub mod lock_order;
pub mod store;
