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

impl InsightKey {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Node(name) | Self::Pool(name) => name,
        }
    }

    /// What it is the name of.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Node(_) => "node",
            Self::Pool(_) => "pool",
        }
    }
}
