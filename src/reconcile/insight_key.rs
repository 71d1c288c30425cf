//! What a consumer is told about.

use std::sync::Arc;

/// What a consumer is told about.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum InsightKey {
    /// A node, by name.
    Node(Arc<str>),
    /// A pool, by name of its insight.
    Pool(Arc<str>),
}
