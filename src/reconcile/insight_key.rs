//! The keys of insights.

use std::sync::Arc;

/// Key of an insight, as consumers are notified of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum InsightKey {
    /// A node, by name.
    Node(Arc<str>),
    /// A pool, by the name of its insight.
    Pool(Arc<str>),
}

impl InsightKey {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Node(name) | Self::Pool(name) => name,
        }
    }

    /// `node` or `pool`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Node(_) => "node",
            Self::Pool(_) => "pool",
        }
    }
}
