//! What happens when this replica leads, and until then.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::reconcile::compare::FullCompare;
use crate::reconcile::node_state::Centre;
use crate::registry::election::{Leadership, Standing};
use crate::registry::sync::{SyncHandle, SyncReason};

/// A backend that fails does so for all: it is asked again after so long.
const TAKE_OVER_AGAIN: Duration = Duration::from_secs(1);

/// Whether this replica writes.
pub(super) type Writes = watch::Receiver<bool>;

/// Once this replica leads and has evaluated every node, it takes over what was written until now, and then
/// writes itself. A lease that is lost ends the process, so that never goes back.
pub(super) async fn lead(
    centre: Arc<Centre>,
    leadership: Leadership,
    sync: SyncHandle,
    leads: watch::Sender<bool>,
) {
    centre.evaluated().await;
    let stood_by = leadership.standing() != Standing::Leader;
    leadership.gained().await;
    while let Err(error) = centre.take_over().await {
        tracing::error!(%error, "Taking over is put off: the state backend fails");
        tokio::time::sleep(TAKE_OVER_AGAIN).await;
    }
    if stood_by {
        sync.request(SyncReason::LeadershipGained);
    }
    leads.send_replace(true);
    std::future::pending::<()>().await;
}

/// Until this replica leads, has it list everything again at this interval, give or take a tenth.
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

/// Waits until this replica writes; for ever if it never does.
pub(super) async fn gained(mut writes: Writes) {
    if writes.wait_for(|writes| *writes).await.is_err() {
        // It stops.
        std::future::pending::<()>().await;
    }
}
