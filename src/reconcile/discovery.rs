//! Polls which kinds the API server serves.
//!
//! A kind is watched once it is served, and no longer watched once it was missing [`GONE_AFTER`] times in a row: an
//! API server that has just started may not know every group yet.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::sync_gate::SyncGate;
use super::watches::check;
use crate::domain::fact::{Kind, Need};
use crate::kubernetes::backoff;
use crate::kubernetes::diagnosis::{Attempt, diagnose};
use crate::telemetry::health::Health;

/// CRDs appear minutes after the API server during the installation of a cluster, or when a provider is added.
const INTERVAL: Duration = Duration::from_secs(30);
/// Number of polls in a row without a kind before it counts as gone.
const GONE_AFTER: u32 = 3;

/// The served version of each kind, by its index in the table.
type Versions = Vec<Option<&'static str>>;

/// The served kinds, updated on changes.
#[derive(Clone)]
pub struct Served(watch::Receiver<Versions>);

impl Served {
    /// Waits until the kind is served; returns its version.
    pub async fn version(&mut self, place: usize) -> &'static str {
        loop {
            let version = self.0.borrow_and_update().get(place).copied().flatten();
            if let Some(version) = version {
                return version;
            }
            self.changed().await;
        }
    }

    /// Waits until the kind is served in another version, or not at all (`None`).
    pub async fn other_version(&mut self, place: usize, version: &str) -> Option<&'static str> {
        loop {
            let now = self.0.borrow_and_update().get(place).copied().flatten();
            if now != Some(version) {
                return now;
            }
            self.changed().await;
        }
    }

    async fn changed(&mut self) {
        if self.0.changed().await.is_err() {
            // Discovery has ended: the operator is stopping.
            std::future::pending::<()>().await;
        }
    }
}

/// Polls the served kinds.
pub struct Discovery {
    kinds: Vec<Kind>,
    versions: watch::Sender<Versions>,
    missing: Vec<u32>,
    gate: Arc<SyncGate>,
    health: Arc<Health>,
}

impl Discovery {
    /// Creates the discovery of `kinds` and its result. The gate waits for the kinds that are served at the start.
    #[must_use]
    pub fn new(kinds: &[Kind], gate: Arc<SyncGate>, health: Arc<Health>) -> (Self, Served) {
        let (versions, served) = watch::channel(vec![None; kinds.len()]);
        let discovery = Self {
            kinds: kinds.to_vec(),
            versions,
            missing: vec![0; kinds.len()],
            gate,
            health,
        };
        (discovery, Served(served))
    }

    /// Polls for ever; `ask` sends one request.
    pub async fn run<F>(mut self, ask: impl Fn() -> F)
    where
        F: Future<Output = kube::Result<Versions>>,
    {
        let attempt = Attempt {
            verbs: "get",
            resource: "the path /apis",
            group: "",
        };
        let mut delays = backoff::short();
        loop {
            match ask().await {
                Ok(found) => {
                    self.found(&found);
                    if self.health.ready(check::DISCOVERY) {
                        tracing::info!("Discovered the served kinds");
                    }
                    self.gate.arrived(check::DISCOVERY);
                    delays = backoff::short();
                    tokio::time::sleep(INTERVAL).await;
                }
                Err(error) => {
                    let diagnosis = diagnose(&error, attempt);
                    if self
                        .health
                        .not_ready(check::DISCOVERY, diagnosis.to_string())
                    {
                        tracing::warn!(error = %diagnosis, "Discovering the served kinds fails");
                    }
                    backoff::wait(&mut delays).await;
                }
            }
        }
    }

    fn found(&mut self, found: &[Option<&'static str>]) {
        let mut versions = self.versions.borrow().clone();
        for (place, (kind, version)) in self.kinds.iter().zip(found).enumerate() {
            let (missing, known) = (&mut self.missing[place], &mut versions[place]);
            if version.is_some() {
                *missing = 0;
                if known.is_none() && kind.spec.need != Need::Always {
                    // Does nothing once the gate is open.
                    self.gate.expect(kind.spec.label());
                }
                *known = *version;
            } else {
                *missing += 1;
                if *missing >= GONE_AFTER {
                    *known = None;
                }
            }
        }
        self.versions.send_if_modified(|known| {
            let is_changed = *known != versions;
            *known = versions;
            is_changed
        });
    }
}

#[cfg(test)]
mod tests;
