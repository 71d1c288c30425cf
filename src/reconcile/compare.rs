//! The full compare: finds and repairs what watches and queues have missed.
//!
//! Phases: relist everything, remove deleted nodes, evaluate every node again, check that the insights in the
//! API server match the states. Repairs by notifying the consumers and writes nothing itself. Waits for the
//! queues, so that pending writes do not count as missed.
//!
//! If a kind cannot be listed, the compare continues with its last known objects, but fails at the end. It also
//! fails if an insight still differs after the repair for no known reason.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::insight_key::InsightKey;
use super::keyed_queue::QueueStatus;
use super::node_state::NodeStateController;
use crate::kubernetes::diagnosis::Diagnosis;
use crate::kubernetes::relist::{Fresh, Relist};
use crate::registry::backend::BackendError;
use crate::registry::sync::{BoxFuture, Compare, CompareError, Compared, SyncProgress, SyncReason};
use crate::telemetry::cause::{Cause, Trigger};
use crate::telemetry::metrics::{EvaluationResult, Metrics};

/// Nodes in a row before yielding to other tasks: about 100 µs.
const BATCH: usize = 100;
/// Interval between two checks of differing insights.
const LOOK: Duration = Duration::from_millis(500);
/// Checks before a difference counts as missed: 2 s, longer than the pause of 1 s between two writes of a pool.
const SETTLED_AFTER: u32 = 4;
/// Checks before a repair counts as failed: 10 s.
const REPAIRED_AFTER: u32 = 20;
/// Maximum wait for idle queues: in a cluster that changes all the time they never become idle.
const BUSY_AT_MOST: Duration = Duration::from_mins(2);
/// Maximum duration of all lists together: 5,000 nodes take some seconds, 100,000 more than a minute.
const LISTING_AT_MOST: Duration = Duration::from_mins(2);
/// Lower limit of both, for short intervals: enough to list 5,000 nodes from a busy API server.
const MIN_WAIT: Duration = Duration::from_secs(30);
/// Maximum number of insights named in an error.
const NAMED: usize = 3;

/// One kind of insights, as the compare sees it.
pub trait Insights: Send + Sync {
    /// Keys of everything that has an insight or should have one.
    ///
    /// # Errors
    /// When the backend fails.
    fn keys(&self) -> Result<Vec<InsightKey>, BackendError>;

    /// Digest of the desired insight; `None` if the API server holds exactly that.
    ///
    /// # Errors
    /// When the backend fails.
    fn difference(&self, key: &InsightKey) -> Result<Option<u64>, BackendError>;

    /// Whether this insight is already reported as failing to be written, or as changed by other clients.
    fn fails(&self, key: &InsightKey) -> bool;
}

/// The full compare.
pub struct FullCompare {
    controller: Arc<NodeStateController>,
    relist: Arc<Relist>,
    insights: Vec<Arc<dyn Insights>>,
    queues: Vec<watch::Receiver<QueueStatus>>,
    metrics: Arc<Metrics>,
    listing_at_most: Duration,
    busy_at_most: Duration,
}

/// Differing insights with the digests of their desired statuses.
type Differences = BTreeMap<InsightKey, u64>;

impl FullCompare {
    /// Compares fresh lists, the states of the node-state controller and the insights, every `interval`. Waits
    /// for lists and queues are limited to a fraction of `interval`.
    #[must_use]
    pub fn new(
        controller: Arc<NodeStateController>,
        relist: Arc<Relist>,
        insights: Vec<Arc<dyn Insights>>,
        queues: Vec<watch::Receiver<QueueStatus>>,
        metrics: Arc<Metrics>,
        interval: Duration,
    ) -> Self {
        Self {
            controller,
            relist,
            insights,
            queues,
            metrics,
            listing_at_most: LISTING_AT_MOST.min(interval / 4).max(MIN_WAIT),
            busy_at_most: BUSY_AT_MOST.min(interval / 2).max(MIN_WAIT),
        }
    }

    async fn run(
        &self,
        reason: SyncReason,
        progress: SyncProgress<'_>,
    ) -> Result<Compared, CompareError> {
        let cause = Cause::new(Trigger::Sync, "");
        let Fresh { missed, unlisted } = self.list(reason).await;
        let mut found = missed + self.controller.reap(&cause)?;
        let nodes = self.evaluate(reason, &cause, progress).await?;
        found += nodes.differences;
        self.drain().await;

        let mut differing = self.differing().await?;
        for _ in 0..SETTLED_AFTER {
            self.retain_differing(&mut differing).await?;
        }
        found += differing.len();
        for key in differing.keys() {
            tracing::warn!(key = ?key, "Repairing an insight that differs from its desired state");
            self.controller.touch(key);
        }
        for _ in 0..REPAIRED_AFTER {
            self.retain_differing(&mut differing).await?;
        }
        self.metrics.out_of_sync(differing.len());
        check(&unlisted, &self.unexplained(&differing))?;
        Ok(Compared {
            nodes: count(nodes.compared),
            differences: count(found),
            repaired: count(found - differing.len()),
        })
    }

    /// Relists everything and removes deleted nodes; returns the number of missed changes. A standby replica does
    /// this instead of a compare, since its watches lose events as well.
    ///
    /// # Errors
    /// When a kind could not be listed, or the backend fails.
    pub async fn refresh(&self) -> Result<usize, CompareError> {
        let Fresh { missed, unlisted } = self.relist.ask(self.listing_at_most).await;
        let gone = self.controller.reap(&Cause::new(Trigger::Sync, ""))?;
        check(&unlisted, &[])?;
        Ok(missed + gone)
    }

    /// Relists everything, except at the start, when the lists are fresh.
    async fn list(&self, reason: SyncReason) -> Fresh {
        match reason {
            SyncReason::Start => Fresh::default(),
            SyncReason::WatchRestarted
            | SyncReason::Interval
            | SyncReason::LeadershipGained
            | SyncReason::AskedFor => self.relist.ask(self.listing_at_most).await,
        }
    }

    /// Evaluates every node again, except at the start, when all were just evaluated.
    async fn evaluate(
        &self,
        reason: SyncReason,
        cause: &Cause,
        progress: SyncProgress<'_>,
    ) -> Result<Evaluations, CompareError> {
        let nodes = self.controller.nodes()?.values;
        let mut differences = 0;
        for (index, evaluated) in nodes.iter().enumerate() {
            if reason != SyncReason::Start {
                let name = &evaluated.state.name;
                let result = self.controller.reevaluate(name, cause);
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

    /// Waits until all queues are idle, up to a limit.
    async fn drain(&self) {
        let all = async {
            for queue in &self.queues {
                // An error means that the queue has ended, on shutdown.
                let _ = queue.clone().wait_for(QueueStatus::is_idle).await;
            }
        };
        let _ = tokio::time::timeout(self.busy_at_most, all).await;
    }

    async fn differing(&self) -> Result<Differences, CompareError> {
        let mut differing = Differences::new();
        for insights in &self.insights {
            for (index, key) in insights.keys()?.into_iter().enumerate() {
                // A pending key was not missed.
                if let Some(wanted) = insights.difference(&key)?
                    && !self.controller.is_pending(&key)
                {
                    differing.insert(key, wanted);
                }
                if index % BATCH == 0 {
                    tokio::task::yield_now().await;
                }
            }
        }
        Ok(differing)
    }

    /// Waits, then retains what still differs. A key whose desired status has changed is dropped: its write is
    /// pending.
    async fn retain_differing(&self, differing: &mut Differences) -> Result<(), CompareError> {
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

impl FullCompare {
    /// Returns the differences that are neither pending nor known to fail.
    fn unexplained<'a>(&self, differing: &'a Differences) -> Vec<&'a InsightKey> {
        let is_explained = |key: &InsightKey| {
            self.controller.is_pending(key) || self.insights.iter().any(|of| of.fails(key))
        };
        differing.keys().filter(|key| !is_explained(key)).collect()
    }
}

/// Returns an error that names the kinds that were not listed and the insights that were not repaired.
fn check(
    unlisted: &BTreeMap<&'static str, Diagnosis>,
    unrepaired: &[&InsightKey],
) -> Result<(), CompareError> {
    let mut why: Vec<String> = unlisted
        .iter()
        .map(|(kind, why)| format!("{kind} could not be listed: {why}"))
        .collect();
    if let [first, ..] = unrepaired {
        let named: Vec<_> = unrepaired
            .iter()
            .take(NAMED)
            .map(|key| key.name())
            .collect();
        let count = unrepaired.len();
        let insights = if count == 1 {
            "insight is"
        } else {
            "insights are"
        };
        why.push(format!(
            "{count} {insights} wrong, and writing again did not help: {} {}",
            first.kind(),
            named.join(", ")
        ));
    }
    if why.is_empty() {
        return Ok(());
    }
    Err(why.join("; ").into())
}

impl Compare for FullCompare {
    fn compare<'a>(
        &'a self,
        reason: SyncReason,
        progress: SyncProgress<'a>,
        // Dropping the future at any await is safe: no repair is left incomplete.
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
