//! Opens the state backend that the configuration names.

use std::sync::Arc;

use anyhow::Context;

use super::config::StateBackendChoice;
use crate::reconcile::states::{Backends, pool_of};
use crate::registry::backend::Opened;
use crate::registry::backend::file::Database;
use crate::registry::backend::memory::MemoryBackend;
use crate::telemetry::metrics::Metrics;

/// The backends, open.
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
    if let Some(aside) = &opened.set_aside {
        metrics.backend_set_aside();
        tracing::error!(
            backend = kind, path = %aside.path.display(), error = aside.why,
            "The state file was damaged: it was set aside, and a fresh one was begun; nothing but history is lost"
        );
    }
    if opened.restored > 0 {
        tracing::info!(
            backend = kind,
            restored = opened.restored,
            "Restored what was kept"
        );
    }
}
