//! The full compare: finds and repairs what watches and queues have missed.
//!
//! Phases: list afresh, forget who is gone, evaluate everybody again, check that the insights in the
//! API server are what the states say. Repairs by telling the consumers; writes nothing itself, and
//! waits for the queues so that what is on its way does not count as missed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::insight_key::InsightKey;
use super::keyed_queue::QueueStatus;
use super::node_state::Centre;
use crate::kubernetes::relist::Relist;
use crate::registry::backend::BackendError;
use crate::registry::sync::{BoxFuture, Compare, CompareError, Compared, SyncProgress, SyncReason};
use crate::telemetry::cause::{Cause, Trigger};
use crate::telemetry::metrics::{EvaluationResult, Metrics};

/// Nodes in a row before other tasks get their turn: about 100 µs.
const BATCH: usize = 100;
/// How often is looked whether an insight is as it ought to be by now.
const LOOK: Duration = Duration::from_millis(500);
/// Longer than the second for which a pool rests between two writes: what differs for so long, with
/// nothing in the queues, is missed.
const SETTLED_AFTER: u32 = 4;
/// How often is looked whether a repair worked: 10 s.
const REPAIRED_AFTER: u32 = 20;
/// How long queues may be busy before they are compared nevertheless: a cluster that changes all the
/// time is never quite still.
const BUSY_AT_MOST: Duration = Duration::from_mins(2);

/// One kind of insights, as the compare sees it.
pub trait Insights: Send + Sync {
    /// Keys of everything that has an insight, or ought to have one.
    ///
    /// # Errors
    /// When the backend fails.
    fn keys(&self) -> Result<Vec<InsightKey>, BackendError>;

    /// What an insight ought to be, as a number that is the same for the same, if the API server holds
    /// something else.
    ///
    /// # Errors
    /// When the backend fails.
    fn difference(&self, key: &InsightKey) -> Result<Option<u64>, BackendError>;
}

/// The full compare.
pub struct FullCompare {
    centre: Arc<Centre>,
    relist: Arc<Relist>,
    insights: Vec<Arc<dyn Insights>>,
    queues: Vec<watch::Receiver<QueueStatus>>,
    metrics: Arc<Metrics>,
}

/// Insights that are not what they ought to be, and what that is.
type Differences = BTreeMap<InsightKey, u64>;

impl FullCompare {
    /// Compares what the centre knows, what fresh lists say and what the insights hold.
    #[must_use]
    pub fn new(
        centre: Arc<Centre>,
        relist: Arc<Relist>,
        insights: Vec<Arc<dyn Insights>>,
        queues: Vec<watch::Receiver<QueueStatus>>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            centre,
            relist,
            insights,
            queues,
            metrics,
        }
    }

    async fn run(
        &self,
        reason: SyncReason,
        progress: SyncProgress<'_>,
    ) -> Result<Compared, CompareError> {
        let cause = Cause::new(Trigger::Sync, "");
        let mut found = self.list(reason).await?;
        found += self.centre.reap(&cause)?;
        let nodes = self.evaluate(reason, &cause, progress).await?;
        found += nodes.differences;
        self.drain().await;

        let mut differing = self.differing().await?;
        for _ in 0..SETTLED_AFTER {
            self.keep_differing(&mut differing).await?;
        }
        found += differing.len();
        for key in differing.keys() {
            tracing::warn!(key = ?key, "Repairing an insight that is not what it ought to be");
            self.centre.touch(key);
        }
        for _ in 0..REPAIRED_AFTER {
            self.keep_differing(&mut differing).await?;
        }
        self.metrics.out_of_sync(differing.len());
        Ok(Compared {
            nodes: count(nodes.compared),
            differences: count(found),
            repaired: count(found - differing.len()),
        })
    }

    /// After a start, and after a watch began anew, the lists are fresh.
    async fn list(&self, reason: SyncReason) -> Result<usize, CompareError> {
        match reason {
            SyncReason::Start | SyncReason::WatchRestarted => Ok(0),
            SyncReason::Interval | SyncReason::LeadershipGained | SyncReason::AskedFor => {
                let missed = self.relist.ask().await;
                missed.map_err(|diagnosis| diagnosis.to_string().into())
            }
        }
    }

    /// At the start every node was evaluated just now.
    async fn evaluate(
        &self,
        reason: SyncReason,
        cause: &Cause,
        progress: SyncProgress<'_>,
    ) -> Result<Evaluations, CompareError> {
        let nodes = self.centre.nodes()?.values;
        let mut differences = 0;
        for (index, evaluated) in nodes.iter().enumerate() {
            if reason != SyncReason::Start {
                let name = &evaluated.state.name;
                let result = self.centre.reevaluate(name, cause).await;
                differences += usize::from(result? != EvaluationResult::Unchanged);
            }
            progress.set(count(index + 1), count(nodes.len()));
            if index % BATCH == 0 {
                tokio::task::yield_now().await;
            }
        }
        Ok(Evaluations {
            compared: nodes.len(),
            differences,
        })
    }

    /// Waits until nothing is on its way, but not for ever.
    async fn drain(&self) {
        let all = async {
            for queue in &self.queues {
                // A queue that is gone is at its end, and so is the compare.
                let _ = queue.clone().wait_for(QueueStatus::is_idle).await;
            }
        };
        let _ = tokio::time::timeout(BUSY_AT_MOST, all).await;
    }

    async fn differing(&self) -> Result<Differences, CompareError> {
        let mut differing = Differences::new();
        for insights in &self.insights {
            for (index, key) in insights.keys()?.into_iter().enumerate() {
                if let Some(wanted) = insights.difference(&key)? {
                    differing.insert(key, wanted);
                }
                if index % BATCH == 0 {
                    tokio::task::yield_now().await;
                }
            }
        }
        Ok(differing)
    }

    /// Looks a while later what still differs. What ought to be something else by now is on its way.
    async fn keep_differing(&self, differing: &mut Differences) -> Result<(), CompareError> {
        if differing.is_empty() {
            return Ok(());
        }
        tokio::time::sleep(LOOK).await;
        let mut still = Differences::new();
        for insights in &self.insights {
            for (key, wanted) in &*differing {
                if insights.difference(key)? == Some(*wanted) {
                    still.insert(key.clone(), *wanted);
                }
            }
        }
        *differing = still;
        Ok(())
    }
}

impl Compare for FullCompare {
    fn compare<'a>(
        &'a self,
        reason: SyncReason,
        progress: SyncProgress<'a>,
        // Every await is a place where it can be left: each repair is whole.
        _: CancellationToken,
    ) -> BoxFuture<'a, Result<Compared, CompareError>> {
        Box::pin(self.run(reason, progress))
    }
}

struct Evaluations {
    compared: usize,
    differences: usize,
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
