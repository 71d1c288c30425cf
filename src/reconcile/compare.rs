//! The full compare: finds and repairs what watches and queues have missed.
//!
//! Phases: list everything again, forget who is gone, evaluate everybody again, check that the insights in the
//! API server are what the states say. Repairs by telling the consumers; writes nothing itself, and
//! waits for the queues so that what is on its way does not count as missed.
//!
//! A kind that cannot be listed keeps none of this from being done with what is known of it; that it was not
//! listed, or that something differs for no known reason after it was repaired, is a failure.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::insight_key::InsightKey;
use super::keyed_queue::QueueStatus;
use super::node_state::Centre;
use crate::kubernetes::diagnosis::Diagnosis;
use crate::kubernetes::relist::{Fresh, Relist};
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
/// How long all lists together may take: 5,000 nodes take some seconds, 100,000 more than a minute.
const LISTING_AT_MOST: Duration = Duration::from_mins(2);
/// However short the interval is, 5,000 nodes are listed by then, also where the API server is busy.
const MIN_WAIT: Duration = Duration::from_secs(30);
/// So many insights are named in an error.
const NAMED: usize = 3;

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

    /// Whether it is known, and said elsewhere, that this insight cannot be written, or does not stay as written.
    fn fails(&self, key: &InsightKey) -> bool;
}

/// The full compare.
pub struct FullCompare {
    centre: Arc<Centre>,
    relist: Arc<Relist>,
    insights: Vec<Arc<dyn Insights>>,
    queues: Vec<watch::Receiver<QueueStatus>>,
    metrics: Arc<Metrics>,
    listing_at_most: Duration,
    busy_at_most: Duration,
}

/// Insights that are not what they ought to be, and what that is.
type Differences = BTreeMap<InsightKey, u64>;

impl FullCompare {
    /// Compares what the centre knows, what fresh lists say and what the insights hold, every `interval`: what
    /// does not answer holds it up for a part of that.
    #[must_use]
    pub fn new(
        centre: Arc<Centre>,
        relist: Arc<Relist>,
        insights: Vec<Arc<dyn Insights>>,
        queues: Vec<watch::Receiver<QueueStatus>>,
        metrics: Arc<Metrics>,
        interval: Duration,
    ) -> Self {
        Self {
            centre,
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
        let mut found = missed + self.centre.reap(&cause)?;
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
        check(&unlisted, &self.unexplained(&differing))?;
        Ok(Compared {
            nodes: count(nodes.compared),
            differences: count(found),
            repaired: count(found - differing.len()),
        })
    }

    /// Lists everything again and forgets who is gone: what a replica that does not write does instead, since its
    /// watches lose events as well. How much they had missed.
    ///
    /// # Errors
    /// When a kind could not be listed, or the backend fails.
    pub async fn refresh(&self) -> Result<usize, CompareError> {
        let Fresh { missed, unlisted } = self.relist.ask(self.listing_at_most).await;
        let gone = self.centre.reap(&Cause::new(Trigger::Sync, ""))?;
        check(&unlisted, &[])?;
        Ok(missed + gone)
    }

    /// At the start the lists are fresh.
    async fn list(&self, reason: SyncReason) -> Fresh {
        match reason {
            SyncReason::Start => Fresh::default(),
            SyncReason::WatchRestarted
            | SyncReason::Interval
            | SyncReason::LeadershipGained
            | SyncReason::AskedFor => self.relist.ask(self.listing_at_most).await,
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
                let result = self.centre.reevaluate(name, cause);
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
        let _ = tokio::time::timeout(self.busy_at_most, all).await;
    }

    async fn differing(&self) -> Result<Differences, CompareError> {
        let mut differing = Differences::new();
        for insights in &self.insights {
            for (index, key) in insights.keys()?.into_iter().enumerate() {
                // Where thousands wait to be written, none of them was missed.
                if let Some(wanted) = insights.difference(&key)?
                    && !self.centre.is_pending(&key)
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

impl FullCompare {
    /// What differs although nothing is known that keeps it from being written.
    fn unexplained<'a>(&self, differing: &'a Differences) -> Vec<&'a InsightKey> {
        let is_explained = |key: &InsightKey| {
            self.centre.is_pending(key) || self.insights.iter().any(|of| of.fails(key))
        };
        differing.keys().filter(|key| !is_explained(key)).collect()
    }
}

/// Says what was not compared, and what was not repaired.
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
