//! Builds the sync coordinator: the compare, where its status is persisted, and how its outcome is reported.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use std::{env, fs};

use super::config::SyncStatusPlace;
use super::sync_status_file::SyncStatusFile;
use super::wiring::{Queue, Surroundings};
use crate::kubernetes::client::Connection;
use crate::kubernetes::relist::Relist;
use crate::kubernetes::sync_status::SyncStatusConfigMap;
use crate::reconcile::compare::{FullCompare, Insights};
use crate::reconcile::node_state::NodeStateController;
use crate::registry::Clock;
use crate::registry::sync::{
    Observe, Parts, StatusStore, StoreError, SyncCoordinator, SyncPhase, SyncReason, SyncStatus,
};
use crate::telemetry::health::Health;
use crate::telemetry::metrics::{Compared, Metrics};

/// The compare of all nodes and insights with what these queues wrote.
pub(super) fn compare(
    surroundings: &Surroundings<'_>,
    controller: &Arc<NodeStateController>,
    relist: Arc<Relist>,
    insights: Vec<Arc<dyn Insights>>,
    queues: &[Queue],
) -> Arc<FullCompare> {
    Arc::new(FullCompare::new(
        Arc::clone(controller),
        relist,
        insights,
        queues.iter().map(|(_, status)| status.clone()).collect(),
        Arc::clone(surroundings.metrics),
        surroundings.config.sync_interval,
    ))
}

/// The coordinator of this compare.
pub(super) fn coordinator(
    compare: Arc<FullCompare>,
    surroundings: &Surroundings<'_>,
    clock: &Clock,
) -> SyncCoordinator {
    let config = surroundings.config;
    let parts = Parts {
        compare,
        store: store(&config.needs.sync_status, &surroundings.connection),
        observe: Arc::new(Reporter {
            metrics: Arc::clone(surroundings.metrics),
            health: Arc::clone(surroundings.health),
        }),
        clock: Arc::clone(clock),
    };
    SyncCoordinator::new(parts, config.sync_interval)
}

/// Name under which `/readyz` shows whether the last compare was complete.
const CHECK: &str = "full compare";

/// Reports syncs in logs, metrics and `/readyz`.
struct Reporter {
    metrics: Arc<Metrics>,
    health: Arc<Health>,
}

impl Observe for Reporter {
    fn started(&self, reason: SyncReason) {
        self.metrics.sync_started();
        tracing::debug!(reason = reason.as_str(), "Comparing everything");
    }

    fn finished(&self, status: &SyncStatus, took: Duration) {
        let reason = status.reason.as_str();
        let compared = (status.phase == SyncPhase::Complete).then(|| Compared {
            nodes: small(status.nodes_compared),
            differences: small(status.differences_found),
            repaired: small(status.differences_repaired),
        });
        self.metrics
            .sync_ended(reason, took.as_secs_f64(), compared);
        let seconds = took.as_secs_f64();
        if let Some(error) = &status.message {
            if !status.is_cancelled() {
                self.health.not_ready(CHECK, error);
            }
            tracing::warn!(
                reason,
                attempts = status.attempts,
                seconds,
                error,
                "Comparing everything failed; it is retried within a minute, then with increasing delay"
            );
        } else {
            self.health.ready(CHECK);
            tracing::info!(
                reason,
                nodes = status.nodes_compared,
                differences = status.differences_found,
                repaired = status.differences_repaired,
                seconds,
                "Compared everything"
            );
        }
    }

    fn persist_failed(&self, error: &StoreError) {
        self.metrics.sync_not_persisted();
        tracing::warn!(%error, "Cannot persist the status of the compare");
    }
}

fn small(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

/// Where the status is persisted.
fn store(place: &SyncStatusPlace, connection: &Connection) -> Arc<dyn StatusStore> {
    if let Some((namespace, name)) = place.config_map() {
        let client = connection.client.clone();
        return Arc::new(SyncStatusConfigMap::new(client, &namespace, &name));
    }
    Arc::new(SyncStatusFile::new(match place {
        SyncStatusPlace::File(path) => path.clone(),
        SyncStatusPlace::Auto | SyncStatusPlace::ConfigMap { .. } => {
            default_file(&connection.server)
        }
    }))
}

/// A file per cluster in the user's state folder.
fn default_file(server: &str) -> PathBuf {
    let state = env::var_os("XDG_STATE_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(env::home_dir()?.join(".local/state")))
        .unwrap_or_else(env::temp_dir)
        .join("node-insights");
    // If that fails, saving the status reports it.
    let _ = fs::create_dir_all(&state);
    let cluster = server.replace(|c: char| !c.is_ascii_alphanumeric(), "-");
    state.join(format!("sync-status-{cluster}.json"))
}
