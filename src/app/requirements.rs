//! Whether the cluster has what this version needs, looked at at the start and from then on: what is missing
//! shows in `/readyz`, in the log, in an Event and in a metric, with what to do about it, and everything goes on.

use std::sync::Arc;
use std::time::Duration;

use super::config::NeedsConfig;
use super::notes::Notes;
use crate::domain::fact::Kind;
use crate::kubernetes::requirements::{Finding, Requirements, Scope};
use crate::telemetry::health::Health;

const DEFINITIONS: Check = Check {
    name: "crds",
    reason: "DefinitionsOutdated",
};
const PERMISSIONS: Check = Check {
    name: "permissions",
    reason: "PermissionsMissing",
};
/// What was there goes away when somebody changes it, which is rare; a look is some 30 small questions.
const WHILE_FINE: Duration = Duration::from_mins(10);
/// Somebody is mending it.
const WHILE_FAILING: Duration = Duration::from_secs(5);

/// What is looked at.
struct Check {
    /// As `/readyz` shows it.
    name: &'static str,
    /// The reason of the Event that says it is not so.
    reason: &'static str,
}

/// What this configuration needs.
pub(super) fn scope(config: &NeedsConfig, kinds: Vec<Kind>) -> Scope {
    Scope {
        kinds,
        lease: config.lease.object(),
        sync_status: config.sync_status.config_map(),
        events: config.enable_events,
    }
}

/// Looks for ever.
pub(super) async fn follow(needs: Requirements, health: Arc<Health>, notes: Notes) {
    loop {
        let definitions = needs.definitions().await;
        let permissions = needs.permissions().await;
        let is_fine = tell(&health, &notes, &DEFINITIONS, &definitions)
            & tell(&health, &notes, &PERMISSIONS, &permissions);
        let pause = if is_fine { WHILE_FINE } else { WHILE_FAILING };
        tokio::time::sleep(pause).await;
    }
}

/// Whether nothing is missing. What could not be found out is not told: an API server that is away is said by
/// whoever needs it, and a permission to look that is missing stands among the permissions.
fn tell(health: &Health, notes: &Notes, check: &Check, findings: &[Finding]) -> bool {
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
        tracing::warn!(
            check = check.name,
            error = why,
            "The cluster lacks something"
        );
        notes.lacks(check.reason, &why);
    }
    false
}
