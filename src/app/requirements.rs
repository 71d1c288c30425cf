//! Checks, at the start and periodically, whether the cluster has what this version needs. What is missing is
//! reported in `/readyz`, the log, an Event and a metric, with a remedy; the operator continues.

use std::sync::Arc;
use std::time::Duration;

use super::config::NeedsConfig;
use super::notes::Notes;
use crate::domain::fact::Kind;
use crate::kubernetes::requirements::{Finding, Requirements, Scope};
use crate::telemetry::health::Health;

const CRDS: Check = Check {
    name: "crds",
    reason: "DefinitionsOutdated",
};
const PERMISSIONS: Check = Check {
    name: "permissions",
    reason: "PermissionsMissing",
};
/// Requirements rarely disappear, and a check is some 30 small requests.
const WHILE_FINE: Duration = Duration::from_mins(10);
/// So that a fix is noticed soon.
const WHILE_FAILING: Duration = Duration::from_secs(5);

/// A group of requirements.
struct Check {
    /// Its name in `/readyz`.
    name: &'static str,
    /// The reason of the Event that reports its failure.
    reason: &'static str,
}

/// The requirements of this configuration.
pub(super) fn scope(config: &NeedsConfig, kinds: Vec<Kind>) -> Scope {
    Scope {
        kinds,
        lease: config.lease.object(),
        sync_status: config.sync_status.config_map(),
        events: config.enable_events,
    }
}

/// Checks forever.
pub(super) async fn follow(needs: Requirements, health: Arc<Health>, notes: Notes) {
    loop {
        let crds = needs.crds().await;
        let permissions = needs.permissions().await;
        let is_fine = report(&health, &notes, &CRDS, &crds)
            & report(&health, &notes, &PERMISSIONS, &permissions);
        let pause = if is_fine { WHILE_FINE } else { WHILE_FAILING };
        tokio::time::sleep(pause).await;
    }
}

/// Reports what is missing; returns whether nothing is. What could not be checked is not reported here: each
/// client reports an unreachable API server, and a missing permission to check is a finding of its own.
fn report(health: &Health, notes: &Notes, check: &Check, findings: &[Finding]) -> bool {
    let wrong = findings
        .iter()
        .filter(|finding| finding.outcome.is_failed());
    let wrong: Vec<String> = wrong.map(ToString::to_string).collect();
    if wrong.is_empty() {
        let is_known = findings.iter().all(|finding| finding.outcome.is_ok());
        if is_known {
            health.ready(check.name);
        }
        return is_known;
    }
    let why = wrong.join("; ");
    if health.not_ready(check.name, why.clone()) {
        tracing::warn!(check = check.name, error = why, "A requirement is not met");
        notes.lacks(check.reason, &why);
    }
    false
}
