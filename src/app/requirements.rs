//! Whether the cluster has what this version needs, looked at at the start and from then on: what is missing
//! shows in `/readyz`, in the log and in a metric, with what to do about it, and everything goes on.

use std::sync::Arc;
use std::time::Duration;

use super::config::RunConfig;
use crate::api::types::Provider;
use crate::kubernetes::requirements::{Finding, Requirements, Scope};
use crate::telemetry::health::Health;

/// Names under which `/readyz` shows it.
const DEFINITIONS: &str = "crds";
const PERMISSIONS: &str = "permissions";
/// What was there goes away when somebody changes it, which is rare; a look is some 30 small questions.
const WHILE_FINE: Duration = Duration::from_mins(10);
/// Somebody is mending it.
const WHILE_FAILING: Duration = Duration::from_secs(5);

/// What this configuration needs.
pub(super) fn scope(config: &RunConfig, provider: Provider) -> Scope {
    Scope {
        provider: Some(provider),
        lease: config.lease.object(),
        sync_status: config.sync_status.config_map(),
    }
}

/// Looks for ever.
pub(super) async fn follow(needs: Requirements, health: Arc<Health>) {
    loop {
        let definitions = needs.definitions().await;
        let permissions = needs.permissions().await;
        let is_fine =
            tell(&health, DEFINITIONS, &definitions) & tell(&health, PERMISSIONS, &permissions);
        let pause = if is_fine { WHILE_FINE } else { WHILE_FAILING };
        tokio::time::sleep(pause).await;
    }
}

/// Whether nothing is missing. What could not be found out is not told: an API server that is away is said by
/// whoever needs it, and a permission to look that is missing stands among the permissions.
fn tell(health: &Health, check: &'static str, findings: &[Finding]) -> bool {
    let wrong = findings
        .iter()
        .filter(|finding| finding.outcome.is_failed());
    let wrong: Vec<String> = wrong.map(ToString::to_string).collect();
    if wrong.is_empty() {
        let is_known = findings.iter().all(|finding| finding.outcome.is_ok());
        if is_known {
            health.ready(check);
        }
        return is_known;
    }
    let why = wrong.join("; ");
    if health.not_ready(check, why.clone()) {
        tracing::warn!(check, error = why, "The cluster lacks something");
    }
    false
}
