//! What others ask the coordinator by, from any task.

use std::sync::Arc;

use tokio::sync::watch;

use super::status::{SyncReason, SyncStatus};
use super::{Progress, Shared};

/// What there is to say about syncs at one moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Report {
    /// The sync that runs or else the last one, also if that was in the last process; nothing before
    /// there was any.
    pub status: Option<SyncStatus>,
    /// How far the one that runs is, once it has said so.
    pub progress: Option<Progress>,
    /// The number of the last one of this process that has ended, and how it did.
    pub(super) ended: Option<(u64, SyncStatus)>,
}

/// Why there is no sync to show for a request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SyncError {
    /// The sync failed; the text says why.
    #[error("The sync failed: {0}")]
    Failed(String),
    /// The operator stopped before a sync that began after the request was complete.
    #[error("The operator stopped before the sync was complete")]
    Stopped,
}

/// Asks for syncs and shows how they are. Clones are the same.
#[derive(Clone)]
pub struct SyncHandle {
    shared: Arc<Shared>,
    report: watch::Receiver<Report>,
}

impl SyncHandle {
    pub(super) fn new(shared: Arc<Shared>, report: watch::Receiver<Report>) -> Self {
        Self { shared, report }
    }

    /// Asks for a sync that begins after this. Never waits; the ticket is for who wants to.
    #[allow(clippy::must_use_candidate, reason = "most do not wait")]
    pub fn request(&self, reason: SyncReason) -> Ticket {
        let number = self.shared.state.lock().schedule.ask(reason);
        self.shared.asked.notify_one();
        Ticket {
            number,
            reason,
            handle: self.clone(),
        }
    }

    /// Asks for a sync and waits for it; the status as it ended.
    ///
    /// # Errors
    /// When it failed, and when the operator stops before it is complete.
    pub async fn sync_now(&self, reason: SyncReason) -> Result<SyncStatus, SyncError> {
        self.request(reason).finished().await
    }

    /// The sync that runs or else the last one.
    #[must_use]
    pub fn status(&self) -> Option<SyncStatus> {
        self.report.borrow().status.clone()
    }

    /// The report now and at every change; closed when the coordinator has stopped.
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
    /// Waits for a sync that began after the request; the status as it ended. Dropping the future
    /// changes nothing.
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

    /// Takes the request back. If its sync runs, that stops within a second, for everybody, and has
    /// failed; the next one comes at the next tick or request. One that began before the request, and
    /// one that others asked for too and that has not begun, are left alone.
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
