//! Opens the state backend that the configuration names.

use std::sync::Arc;

use anyhow::Context;

use super::config::StateBackendChoice;
use crate::reconcile::states::{Backends, pool_of};
use crate::registry::backend::Opened;
use crate::registry::backend::file::Database;
use crate::registry::backend::memory::MemoryBackend;
use crate::telemetry::metrics::Metrics;

/// Opens the backends.
pub(super) fn open(choice: &StateBackendChoice, metrics: &Metrics) -> anyhow::Result<Backends> {
    let backends = match choice {
        StateBackendChoice::Memory => Backends {
            kind: "memory",
            nodes: Arc::new(MemoryBackend::new(pool_of)),
            pools: Arc::new(MemoryBackend::new(|_| None)),
        },
        StateBackendChoice::File(path) => {
            let database = Database::new(path);
            Backends {
                kind: "file",
                nodes: Arc::new(database.table("nodes", pool_of)),
                pools: Arc::new(database.table("pools", |_| None)),
            }
        }
    };
    let why = || format!("Cannot open the state backend '{}'", backends.kind);
    for opened in [
        backends.nodes.init().with_context(why)?,
        backends.pools.init().with_context(why)?,
    ] {
        report(backends.kind, &opened, metrics);
    }
    Ok(backends)
}

fn report(kind: &'static str, opened: &Opened, metrics: &Metrics) {
    if let Some(quarantined) = &opened.quarantined {
        metrics.backend_quarantined();
        tracing::error!(
            backend = kind, path = %quarantined.path.display(), error = quarantined.why,
            "The state file was damaged: it was quarantined, and an empty one was created; only history is lost"
        );
    }
    if opened.restored > 0 {
        tracing::info!(
            backend = kind,
            restored = opened.restored,
            "Restored the persisted states"
        );
    }
}
