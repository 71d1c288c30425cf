//! The coordinator's interface for other tasks.

use std::sync::Arc;

use tokio::sync::watch;

use super::status::{SyncReason, SyncStatus};
use super::{Progress, Shared};

/// The state of syncs at one moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Report {
    /// The running sync or else the last one, also of the previous process; `None` before the first.
    pub status: Option<SyncStatus>,
    /// Progress of the running sync, once it has reported any.
    pub progress: Option<Progress>,
    /// Number and outcome of the last sync of this process that has ended.
    pub(super) ended: Option<(u64, SyncStatus)>,
}

/// Why a request has no completed sync.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SyncError {
    /// The sync failed, for this reason.
    #[error("The sync failed: {0}")]
    Failed(String),
    /// The operator stopped before a sync begun after the request was complete.
    #[error("The operator stopped before the sync was complete")]
    Stopped,
}

/// Requests syncs and shows their status. Clones share the state.
#[derive(Clone)]
pub struct SyncHandle {
    shared: Arc<Shared>,
    report: watch::Receiver<Report>,
}

impl SyncHandle {
    pub(super) fn new(shared: Arc<Shared>, report: watch::Receiver<Report>) -> Self {
        Self { shared, report }
    }

    /// Requests a sync that begins after this call. Never waits; the ticket can.
    #[allow(clippy::must_use_candidate, reason = "most callers do not wait")]
    pub fn request(&self, reason: SyncReason) -> Ticket {
        let number = self.shared.state.lock().schedule.ask(reason);
        self.shared.asked.notify_one();
        Ticket {
            number,
            reason,
            handle: self.clone(),
        }
    }

    /// Requests a sync, waits for it, and returns its final status.
    ///
    /// # Errors
    /// When it failed, and when the operator stops before it is complete.
    pub async fn sync_now(&self, reason: SyncReason) -> Result<SyncStatus, SyncError> {
        self.request(reason).finished().await
    }

    /// Returns the running sync or else the last one.
    #[must_use]
    pub fn status(&self) -> Option<SyncStatus> {
        self.report.borrow().status.clone()
    }

    /// Returns the report now and at every change; closed when the coordinator has stopped.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Report> {
        self.report.clone()
    }
}

/// A request for a sync. Dropping it changes nothing.
pub struct Ticket {
    number: u64,
    reason: SyncReason,
    handle: SyncHandle,
}

impl Ticket {
    /// Waits for a sync that began after the request, and returns its final status. Cancel-safe.
    ///
    /// # Errors
    /// When it failed, and when the operator stops before it is complete.
    pub async fn finished(&self) -> Result<SyncStatus, SyncError> {
        let mut report = self.handle.report.clone();
        let report = report
            .wait_for(|report| matches!(report.ended, Some((number, _)) if number >= self.number))
            .await;
        match report.ok().and_then(|report| report.ended.clone()) {
            None => Err(SyncError::Stopped),
            Some((_, status)) => match status.message {
                Some(why) => Err(SyncError::Failed(why)),
                None => Ok(status),
            },
        }
    }

    /// Withdraws the request. If its sync is running, it stops within a second for all callers and has
    /// failed; the next one begins at the next tick or request. A sync begun before the request, or one
    /// not begun yet that others requested too, is not affected.
    pub fn cancel(self) {
        let mut state = self.handle.shared.state.lock();
        state.schedule.withdraw(self.reason, self.number);
        if let Some((number, cancel)) = &state.begun
            && *number == self.number
        {
            cancel.cancel();
        }
    }
}
