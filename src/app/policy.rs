//! Reads the policy of the user from a file, and again when the file changes.
//!
//! A mounted ConfigMap is replaced by another file, so the file is read and compared rather than watched. While it is
//! invalid or cannot be read, the last valid policy applies: `/readyz`, the log, an Event and the metric of the check
//! report why, and nothing else stops.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::config::PoolFlags;
use super::notes::Notes;
use crate::domain::policy::Policy;
use crate::providers::settings::WELL_KNOWN_POOL_LABELS;
use crate::reconcile::node_state::NodeStateController;
use crate::telemetry::cause::{Cause, Trigger};
use crate::telemetry::health::Health;

/// Name of the check in `/readyz`.
const CHECK: &str = "policy";
/// A kubelet needs up to a minute to update a mounted ConfigMap.
const INTERVAL: Duration = Duration::from_secs(5);
/// Longest policy, in bytes: a ConfigMap cannot be longer.
const LIMIT: u64 = 1 << 20;

/// Where the policy is, and what its labels add to.
pub(super) struct PolicyFile {
    pub(super) path: PathBuf,
    pub(super) pool_labels: Vec<String>,
}

impl PolicyFile {
    /// The file that the user names, if there is one.
    pub(super) fn of(flags: &PoolFlags) -> Option<Self> {
        Some(Self {
            path: flags.policy_file.clone()?,
            pool_labels: flags.pool_label_keys.clone(),
        })
    }

    /// Reads the file.
    pub(super) fn read(&self) -> Result<Policy, String> {
        let place = self.path.display();
        let text = read(&self.path)
            .map_err(|error| format!("The policy {place} cannot be read: {error}"))?;
        Policy::parse(&text, &self.pool_labels, &WELL_KNOWN_POOL_LABELS)
            .map_err(|error| format!("The policy {place} is invalid: {error}"))
    }
}

fn read(path: &Path) -> std::io::Result<String> {
    if std::fs::metadata(path)?.len() > LIMIT {
        return Err(std::io::Error::other("it has more than 1 MiB"));
    }
    std::fs::read_to_string(path)
}

/// Applies the policy, now and after each change of the file. The first read is done when this returns.
pub(super) fn follow(
    file: PolicyFile,
    controller: Arc<NodeStateController>,
    health: Arc<Health>,
    notes: Notes,
) -> impl Future<Output = ()> {
    apply(file.read(), &controller, &health, &notes);
    async move {
        let mut ticks = tokio::time::interval(INTERVAL);
        loop {
            ticks.tick().await;
            apply(file.read(), &controller, &health, &notes);
        }
    }
}

fn apply(
    policy: Result<Policy, String>,
    controller: &NodeStateController,
    health: &Health,
    notes: &Notes,
) {
    let policy = match policy {
        Ok(policy) => Arc::new(policy),
        Err(why) => {
            let why = format!("{why}; the last valid one applies");
            if health.degraded(CHECK, why.clone()) {
                tracing::warn!(error = why, "The policy does not apply");
                notes.lacks("PolicyInvalid", &why);
            }
            return;
        }
    };
    let cause = Cause::new(Trigger::Policy, "");
    let affected = controller.observe(&cause, |inventory| inventory.set_policy(policy));
    if health.ready(CHECK) || affected > 0 {
        tracing::info!(affected, "Applied the policy");
    }
}

#[cfg(test)]
mod tests;
