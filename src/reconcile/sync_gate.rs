//! A gate that opens once all required sources have been read.
//!
//! Nothing is evaluated, written or deleted before: a half-listed cluster looks like one whose other half was
//! deleted.

use std::collections::BTreeSet;

use tokio::sync::watch;

/// The sources that have not been read yet. Opens once and stays open.
pub struct SyncGate {
    missing: watch::Sender<BTreeSet<&'static str>>,
}

impl SyncGate {
    /// Creates a gate that waits for all of `names`.
    #[must_use]
    pub fn new(names: impl IntoIterator<Item = &'static str>) -> Self {
        Self {
            missing: watch::Sender::new(names.into_iter().collect()),
        }
    }

    /// Makes the gate wait for `name` as well.
    pub fn expect(&self, name: &'static str) {
        self.missing
            .send_if_modified(|missing| missing.insert(name));
    }

    /// Reports that `name` has been read.
    pub fn arrived(&self, name: &str) {
        self.missing
            .send_if_modified(|missing| missing.remove(name));
    }

    /// Waits until `name` has been read.
    pub async fn has_arrived(&self, name: &str) {
        let mut missing = self.missing.subscribe();
        // The sender is `self`, so the channel cannot close meanwhile.
        let _ = missing.wait_for(|missing| !missing.contains(name)).await;
    }

    /// Waits until the gate is open.
    pub async fn opened(&self) {
        // The sender is `self`, so the channel cannot close meanwhile.
        let _ = self.missing.subscribe().wait_for(BTreeSet::is_empty).await;
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn the_gate_opens_when_the_last_source_arrives() {
        let gate = SyncGate::new(["nodes", "pools"]);
        gate.arrived("nodes");
        assert!(gate.has_arrived("nodes").now_or_never().is_some());
        assert!(gate.has_arrived("pools").now_or_never().is_none());
        gate.arrived("nodes");
        assert!(gate.opened().now_or_never().is_none());
        gate.expect("claims");
        gate.arrived("pools");
        assert!(gate.opened().now_or_never().is_none());
        gate.arrived("claims");
        assert!(gate.opened().now_or_never().is_some());
        assert!(gate.opened().now_or_never().is_some());
    }
}
