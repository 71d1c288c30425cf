//! Nodes to evaluate again at a set time, because their state changes with time alone.

use std::sync::Arc;

use jiff::Timestamp;

use crate::domain::state::NodeState;
use crate::registry::store::Store;

/// The nodes to evaluate again, the earliest first.
pub(super) struct Again(Store<(Timestamp, Arc<str>), (), ()>);

impl Default for Again {
    fn default() -> Self {
        Self(Store::indexed(|()| Some(())))
    }
}

impl Again {
    /// Updates the schedule after a node was added, changed or deleted.
    pub(super) fn schedule(&self, before: Option<&NodeState>, after: Option<&NodeState>) {
        let at = |state: Option<&NodeState>| {
            state.and_then(|state| Some((state.again_at?, Arc::clone(&state.name))))
        };
        let (before, after) = (at(before), at(after));
        if let Some(before) = before.filter(|before| Some(before) != after.as_ref()) {
            self.0.remove(&before);
        }
        if let Some(after) = after {
            self.0.upsert(after, ());
        }
    }

    /// When the next node is due.
    pub(super) fn next(&self) -> Option<Timestamp> {
        self.0.first_of(&()).map(|(at, _)| at)
    }

    /// Removes and returns the nodes that are due.
    pub(super) fn due(&self, now: Timestamp) -> Vec<Arc<str>> {
        let mut names = Vec::new();
        while let Some(due) = self.0.first_of(&()).filter(|(at, _)| *at <= now) {
            self.0.remove(&due);
            names.push(due.1);
        }
        names
    }
}
