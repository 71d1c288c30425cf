//! The running parts, and the order in which they stop.

use std::time::Duration;

use tokio::time::Instant;

use super::supervisor::{Ended, Stage};
use crate::reconcile::states::Backends;

/// How long the backend may take to write its pending records: some thousand small ones.
const FLUSH_DEADLINE: Duration = Duration::from_secs(2);

/// The running parts, in the order in which they stop: nothing is sent to a part that has ended.
#[derive(Default)]
pub(super) struct Parts {
    /// Stops reading from the cluster.
    pub(super) watches: Stage,
    /// Cancels the operations that clients started.
    pub(super) work: Stage,
    /// Interrupts the compare and persists its status.
    pub(super) sync: Stage,
    /// Evaluates the remaining dirty nodes.
    pub(super) controller: Stage,
    /// Write the remaining dirty insights.
    pub(super) consumers: Stage,
    /// Flushed to disk last.
    pub(super) backends: Option<Backends>,
}

impl Parts {
    /// Waits until a task ends unexpectedly.
    pub(super) async fn ended(&mut self) -> Ended {
        tokio::select! {
            ended = self.watches.ended() => ended,
            ended = self.work.ended() => ended,
            ended = self.sync.ended() => ended,
            ended = self.controller.ended() => ended,
            ended = self.consumers.ended() => ended,
        }
    }

    /// Stops everything in order; returns whether everything ended in time.
    pub(super) async fn stop(self, deadline: Instant) -> bool {
        let Self {
            watches,
            work,
            sync,
            controller,
            consumers,
            backends,
        } = self;
        let mut complete = true;
        for stage in [watches, work, sync, controller, consumers] {
            complete &= stage.stop(deadline).await;
        }
        complete & flush(backends).await
    }
}

/// Flushes on a separate thread, as it blocks on the disk.
async fn flush(backends: Option<Backends>) -> bool {
    let Some(backends) = backends else {
        return true;
    };
    let flushed = tokio::task::spawn_blocking(move || {
        // One file behind both: the second flush finds nothing left to do.
        let nodes = backends.nodes.flush(FLUSH_DEADLINE);
        nodes.and_then(|()| backends.pools.flush(FLUSH_DEADLINE))
    });
    match flushed.await {
        Ok(Ok(())) => true,
        Ok(Err(error)) => {
            tracing::warn!(%error, "Cannot persist the states for the next start");
            false
        }
        Err(error) => {
            tracing::error!(%error, "Cannot persist the states for the next start");
            false
        }
    }
}
