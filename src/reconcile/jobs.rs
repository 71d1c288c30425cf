//! Long-running jobs that users request: a full resync, the re-evaluation of a pool, an export.
//!
//! One task runs all jobs, each with the handle of its operation. A cancelled job stops between two nodes, so no
//! node is left half done.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::insight_key::InsightKey;
use super::inspection::NodeView;
use super::node_state::NodeStateController;
use crate::registry::backend::BackendError;
use crate::registry::operations::{OperationHandle, OperationState, Operations};
use crate::registry::sync::{SyncHandle, SyncReason};
use crate::telemetry::cause::{Cause, Trigger};
use crate::telemetry::metrics::EvaluationResult;

/// Nodes in a row before yielding to other tasks.
const BATCH: usize = 100;

/// A job; it completes its operation.
pub type Job = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Runs jobs in one task.
pub struct Jobs {
    queue: mpsc::UnboundedReceiver<Job>,
    operations: Operations,
}

impl Jobs {
    /// Creates the runner for these operations; jobs are submitted through the returned sender.
    #[must_use]
    pub fn new(operations: Operations) -> (mpsc::UnboundedSender<Job>, Self) {
        let (sender, queue) = mpsc::unbounded_channel();
        (sender, Self { queue, operations })
    }

    /// Runs submitted jobs until `stop`, then cancels the running ones and waits for them.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut running = FuturesUnordered::new();
        loop {
            tokio::select! {
                Some(job) = self.queue.recv() => running.push(job),
                Some(()) = running.next() => {}
                () = stop.cancelled() => break,
            }
        }
        self.queue.close();
        while let Ok(job) = self.queue.try_recv() {
            running.push(job);
        }
        for operation in self.operations.list() {
            if operation.state == OperationState::Running {
                // An error means that it has ended meanwhile.
                let _ = self.operations.cancel(operation.id.as_str());
            }
        }
        while running.next().await.is_some() {}
    }
}

/// Relists and compares everything.
pub async fn resync(operation: OperationHandle, sync: SyncHandle) {
    let mut reports = sync.subscribe();
    let ticket = sync.request(SyncReason::AskedFor);
    let finished = {
        let mut finished = std::pin::pin!(ticket.finished());
        loop {
            tokio::select! {
                finished = &mut finished => break Some(finished),
                Ok(()) = reports.changed() => {
                    if let Some(progress) = reports.borrow_and_update().progress {
                        operation.progress(progress.done, progress.total);
                    }
                }
                () = operation.cancelled() => break None,
            }
        }
    };
    match finished {
        Some(Ok(status)) => {
            operation.progress(status.nodes_compared, status.nodes_compared);
            operation.count("nodes", status.nodes_compared);
            operation.count("differences", status.differences_found);
            operation.count("repaired", status.differences_repaired);
            operation.succeed("Everything was compared", None);
        }
        Some(Err(error)) => operation.fail(&error.to_string()),
        None => {
            ticket.cancel();
            operation.stopped("The resync was cancelled; what it had repaired stays so");
        }
    }
}

/// Evaluates every node of a pool again, and compares the insights of the pool and its nodes.
pub async fn reevaluate(
    operation: OperationHandle,
    controller: Arc<NodeStateController>,
    pool: Arc<str>,
) {
    match reevaluate_nodes(&operation, &controller, &pool).await {
        Ok(None) => operation.stopped("The re-evaluation was cancelled between two nodes"),
        Ok(Some(changed)) => {
            operation.count("changed", changed);
            operation.succeed("Every node of the pool was evaluated again", None);
        }
        Err(error) => operation.fail(&error.to_string()),
    }
}

/// Returns how many nodes changed; `None` when cancelled.
async fn reevaluate_nodes(
    operation: &OperationHandle,
    controller: &NodeStateController,
    pool: &Arc<str>,
) -> Result<Option<u64>, BackendError> {
    let cause = Cause::new(Trigger::Requested, "");
    let nodes = controller.nodes_of(pool)?.values;
    operation.progress(0, count(nodes.len()));
    let mut changed = 0;
    for (index, evaluated) in nodes.iter().enumerate() {
        if operation.is_cancelled() {
            return Ok(None);
        }
        let name = &evaluated.state.name;
        let result = controller.reevaluate(name, &cause)?;
        changed += u64::from(result != EvaluationResult::Unchanged);
        controller.touch(&InsightKey::Node(Arc::clone(name)));
        operation.progress(count(index + 1), count(nodes.len()));
        if index % BATCH == 0 {
            tokio::task::yield_now().await;
        }
    }
    controller.touch(&InsightKey::Pool(Arc::clone(pool)));
    Ok(Some(changed))
}

/// Exports a consistent snapshot of all states as JSON lines.
pub async fn export(operation: OperationHandle, controller: Arc<NodeStateController>) {
    let nodes = match controller.nodes() {
        Ok(nodes) => nodes.values,
        Err(error) => return operation.fail(&error.to_string()),
    };
    let mut lines = Vec::new();
    for (index, evaluated) in nodes.iter().enumerate() {
        if operation.is_cancelled() {
            return operation.stopped("The export was cancelled");
        }
        if let Err(error) = serde_json::to_writer(&mut lines, &NodeView::of(evaluated)) {
            return operation.fail(&format!("A state cannot be put into JSON: {error}"));
        }
        lines.push(b'\n');
        operation.progress(count(index + 1), count(nodes.len()));
        if index % BATCH == 0 {
            tokio::task::yield_now().await;
        }
    }
    operation.count("nodes", count(nodes.len()));
    operation.succeed("Every state is a line of the result", Some(lines.into()));
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
