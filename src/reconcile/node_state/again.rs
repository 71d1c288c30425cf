//! Nodes to evaluate at a set time: their state changes with time alone, or what changed about them may wait.

use std::sync::Arc;

use jiff::Timestamp;

use crate::domain::state::NodeState;
use crate::registry::store::Store;
use crate::telemetry::cause::Cause;

/// The nodes to evaluate again, the earliest first, and what changed about them, if anything did.
pub(super) struct Again(Store<(Timestamp, Arc<str>), Option<Cause>, ()>);

impl Default for Again {
    fn default() -> Self {
        Self(Store::indexed(|_| Some(())))
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
            self.0.get_or_insert(after, None);
        }
    }

    /// Something about the node changed that may wait for a second: what else changes until then does not cost an
    /// evaluation of its own.
    pub(super) fn soon(&self, name: Arc<str>, cause: &Cause, now: Timestamp) {
        let second = Timestamp::from_second(now.as_second().saturating_add(1));
        self.0
            .upsert((second.unwrap_or(now), name), Some(cause.clone()));
    }

    /// When the next node is due.
    pub(super) fn next(&self) -> Option<Timestamp> {
        self.0.first_of(&()).map(|(at, _)| at)
    }

    /// Removes and returns the nodes that are due, with what changed.
    pub(super) fn due(&self, now: Timestamp) -> Vec<(Arc<str>, Option<Cause>)> {
        let mut due = Vec::new();
        while let Some(next) = self.0.first_of(&()).filter(|(at, _)| *at <= now) {
            let cause = self.0.remove(&next);
            due.push((next.1, cause.and_then(|cause| (*cause).clone())));
        }
        due
    }
}
