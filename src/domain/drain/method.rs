//! How the pods of a node are moved away when it is updated.

use super::Drainer;

/// How the pods of a node are moved away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Method {
    /// Who drains the node.
    pub drainer: Drainer,
    /// How a pod is removed.
    pub removal: Removal,
}

impl Method {
    /// An updater that evicts every pod that has to go, and waits for as long as that takes.
    #[must_use]
    pub fn of(drainer: Drainer) -> Self {
        Self {
            drainer,
            ..Self::default()
        }
    }
}

/// How a pod is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Removal {
    /// It is evicted, as often as it takes.
    #[default]
    Eviction,
    /// It is evicted, and deleted at the end of Karpenter's `terminationGracePeriod`.
    EvictionUntilDeadline,
    /// It is deleted, whatever its budgets allow.
    Deletion,
}
