//! What was known of a node before: by the last evaluation, by its insight, and by what the backend kept.

use std::sync::Arc;

use super::{BATCH, Centre};
use crate::domain::state::History;
use crate::reconcile::states::Evaluated;
use crate::registry::backend::BackendError;
use crate::telemetry::cause::{Cause, Trigger};

/// What was known of a node.
pub(super) struct Known {
    pub(super) before: Option<Arc<Evaluated>>,
    pub(super) past: Option<History>,
}

impl Centre {
    /// Takes the times over from whoever wrote the insights until now: what they said of a node since it was
    /// first evaluated counts, as after a start. From then on this process is the one who writes.
    ///
    /// # Errors
    /// When the backend fails.
    pub async fn take_over(&self) -> Result<(), BackendError> {
        let Some(insights) = &self.history else {
            return Ok(());
        };
        let cause = Cause::new(Trigger::Leadership, "");
        for (count, name) in insights.names_with_history().into_iter().enumerate() {
            let _lock = self.locks.lock(Arc::clone(&name)).await;
            if let Some(before) = self.states.node(&name)?
                && let Some(past) = self.said_history(&name, &before.state.uid)
                // Else this process knows better since when.
                && past.phase == before.state.phase
            {
                self.reconcile_with(&name, &cause, |_| {
                    Ok(Known {
                        before: Some(before),
                        past: Some(past),
                    })
                })?;
            }
            if count % BATCH == 0 {
                tokio::task::yield_now().await;
            }
        }
        insights.drop_history();
        Ok(())
    }

    /// What was known of the node before: by the last evaluation, else by its insight and by what the
    /// backend kept. A node that was created anew has no past.
    pub(super) fn gather(&self, name: &Arc<str>) -> Result<Known, BackendError> {
        let before = self.states.node(name)?;
        let past = match (self.inventory.uid(name), &before) {
            (None, _) => None,
            (Some(uid), Some(before)) => {
                (before.state.uid == uid).then(|| History::from(&*before.state))
            }
            (Some(uid), None) => self.kept_history(name, &uid)?,
        };
        Ok(Known { before, past })
    }

    /// What is known from before the start.
    fn kept_history(
        &self,
        name: &Arc<str>,
        uid: &Arc<str>,
    ) -> Result<Option<History>, BackendError> {
        let kept = self.states.kept_timeline(name, uid)?;
        Ok(match self.said_history(name, uid) {
            Some(said) => Some(said.with_earlier(&kept)),
            None => History::from_timeline(&kept),
        })
    }

    /// What the insight said that another process wrote.
    fn said_history(&self, name: &Arc<str>, uid: &Arc<str>) -> Option<History> {
        let insights = self.history.as_ref()?;
        let base = insights.base(name)?;
        let status = insights.take_history(name)?;
        (base.owner_uid.as_ref() == Some(uid)).then(|| History::from_status(&status))
    }
}
