//! The work of a leader, and of a standby replica.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::reconcile::compare::FullCompare;
use crate::reconcile::node_state::NodeStateController;
use crate::registry::election::{Leadership, Standing};
use crate::registry::sync::{SyncHandle, SyncReason};

/// Delay before the takeover is retried after the backend failed.
const TAKE_OVER_AGAIN: Duration = Duration::from_secs(1);

/// Whether this replica writes.
pub(super) type Writes = watch::Receiver<bool>;

/// Once this replica leads and has evaluated every node, takes over the written insights, then starts to write. It
/// never stops writing again, as losing the lease ends the process.
pub(super) async fn lead(
    controller: Arc<NodeStateController>,
    leadership: Leadership,
    sync: SyncHandle,
    leads: watch::Sender<bool>,
) {
    controller.evaluated().await;
    let stood_by = leadership.standing() != Standing::Leader;
    leadership.gained().await;
    while let Err(error) = controller.take_over().await {
        tracing::error!(%error, "Cannot take over: the state backend fails; retrying");
        tokio::time::sleep(TAKE_OVER_AGAIN).await;
    }
    if stood_by {
        sync.request(SyncReason::LeadershipGained);
    }
    leads.send_replace(true);
    std::future::pending::<()>().await;
}

/// Lists everything again at this interval (± 10%) until this replica leads.
pub(super) async fn stand_by(compare: Arc<FullCompare>, interval: Duration, writes: Writes) {
    let refreshing = async {
        loop {
            tokio::time::sleep(interval.mul_f64(0.9 + 0.2 * fastrand::f64())).await;
            match compare.refresh().await {
                Ok(missed) => tracing::debug!(missed, "Listed everything again"),
                Err(error) => tracing::warn!(%error, "Listing everything again failed"),
            }
        }
    };
    tokio::select! {
        () = gained(writes) => {}
        () = refreshing => {}
    }
    std::future::pending::<()>().await;
}

/// Waits until this replica writes; forever if it never does.
pub(super) async fn gained(mut writes: Writes) {
    if writes.wait_for(|writes| *writes).await.is_err() {
        // The operator is stopping.
        std::future::pending::<()>().await;
    }
}
