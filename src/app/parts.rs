//! The parts that run, and the order in which they stop.

use std::time::Duration;

use tokio::time::Instant;

use super::supervisor::{Ended, Stage};
use crate::reconcile::states::Backends;

/// How long the backend may take to write what it has: some thousand small records.
const FLUSH_DEADLINE: Duration = Duration::from_secs(2);

/// The parts that run, in the order in which they stop: nothing is sent to a part that has ended.
#[derive(Default)]
pub(super) struct Parts {
    /// Nothing new comes from the cluster.
    pub(super) watches: Stage,
    /// Nothing new comes from people: what runs for them is cancelled.
    pub(super) work: Stage,
    /// The compare ends where it is; its status is kept.
    pub(super) sync: Stage,
    /// What is dirty is evaluated.
    pub(super) centre: Stage,
    /// What is dirty is written.
    pub(super) consumers: Stage,
    /// What is to be kept is on the disk.
    pub(super) backends: Option<Backends>,
}

impl Parts {
    /// Waits for a task to end, which none must.
    pub(super) async fn ended(&mut self) -> Ended {
        tokio::select! {
            ended = self.watches.ended() => ended,
            ended = self.work.ended() => ended,
            ended = self.sync.ended() => ended,
            ended = self.centre.ended() => ended,
            ended = self.consumers.ended() => ended,
        }
    }

    /// Stops everything in order; whether everything was done in time.
    pub(super) async fn stop(self, deadline: Instant) -> bool {
        let Self {
            watches,
            work,
            sync,
            centre,
            consumers,
            backends,
        } = self;
        let mut complete = true;
        for stage in [watches, work, sync, centre, consumers] {
            complete &= stage.stop(deadline).await;
        }
        complete & flush(backends).await
    }
}

/// Blocks on the disk, so it has a thread of its own.
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
            tracing::warn!(%error, "Keeping the states for the next start failed");
            false
        }
        Err(error) => {
            tracing::error!(%error, "Keeping the states for the next start failed");
            false
        }
    }
}
