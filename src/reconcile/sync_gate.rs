//! Opens once everything that has to be known is known.
//!
//! Nothing is evaluated, written or deleted before: half a cluster looks like one whose other half
//! was deleted.

use std::collections::BTreeSet;

use tokio::sync::watch;

/// What is not known yet. Opens once and stays open.
pub struct SyncGate {
    missing: watch::Sender<BTreeSet<&'static str>>,
}

impl SyncGate {
    /// A gate that waits for all of `names`.
    #[must_use]
    pub fn new(names: impl IntoIterator<Item = &'static str>) -> Self {
        Self {
            missing: watch::Sender::new(names.into_iter().collect()),
        }
    }

    /// The gate waits for `name` as well.
    pub fn expect(&self, name: &'static str) {
        self.missing
            .send_if_modified(|missing| missing.insert(name));
    }

    /// `name` is known now.
    pub fn arrived(&self, name: &str) {
        self.missing
            .send_if_modified(|missing| missing.remove(name));
    }

    /// Waits until `name` is known.
    pub async fn has_arrived(&self, name: &str) {
        let mut missing = self.missing.subscribe();
        // The sender is `self`, so the channel cannot close meanwhile.
        let _ = missing.wait_for(|missing| !missing.contains(name)).await;
    }

    /// Waits until everything is known.
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
    async fn the_gate_opens_for_everybody_when_the_last_part_arrives() {
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
