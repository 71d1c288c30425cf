//! The node-state controller as the HTTP port shows it, and the operations that the port starts.

use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::wiring::Queue;
use crate::http::engine::{Engine, EngineError, Rows, Start, Work};
use crate::reconcile::inspection::{NodeView, PoolInspection};
use crate::reconcile::jobs::{self, Job, Jobs};
use crate::reconcile::node_state::NodeStateController;
use crate::registry::backend::BackendError;
use crate::registry::election::{Leadership, Standing};
use crate::registry::operations::{Begun, Operation, OperationHandle, OperationState, Operations};
use crate::registry::sync::{SyncHandle, SyncStatus};
use crate::telemetry::metrics::{Gauge, Metrics};

/// A running node-state controller, for the HTTP port.
pub(super) struct RunningEngine {
    controller: Arc<NodeStateController>,
    operations: Operations,
    sync: SyncHandle,
    queues: Vec<Queue>,
    leadership: Leadership,
    jobs: mpsc::UnboundedSender<Job>,
    metrics: Arc<Metrics>,
}

impl RunningEngine {
    pub(super) fn new(
        controller: Arc<NodeStateController>,
        operations: Operations,
        sync: SyncHandle,
        queues: Vec<Queue>,
        leadership: Leadership,
        metrics: Arc<Metrics>,
    ) -> (Self, Jobs) {
        let (sender, jobs) = Jobs::new(operations.clone());
        let engine = Self {
            controller,
            operations,
            sync,
            queues,
            leadership,
            jobs: sender,
            metrics,
        };
        (engine, jobs)
    }

    /// Registers the gauges that are computed from this node-state controller.
    pub(super) fn wire_gauges(&self, metrics: &Metrics) {
        let states = self.controller.states().node_counter();
        metrics.register_gauge(Gauge::NodeStates, move || states.count());
        let operations = self.operations.clone();
        metrics.register_gauge(Gauge::OperationsRunning, move || {
            let is_running = |operation: &Operation| operation.state == OperationState::Running;
            operations.list().into_iter().filter(is_running).count()
        });
        let controller = Arc::clone(&self.controller);
        metrics.register_oldest_phase_start(move |phase| {
            controller.oldest(phase).map(Timestamp::as_second)
        });
    }
}

impl Engine for RunningEngine {
    fn start(&self, work: Work) -> Result<Start, EngineError> {
        let controller = Arc::clone(&self.controller);
        match work {
            Work::Resync => {
                if let Standing::Standby(leader) = self.leadership.standing() {
                    return Err(EngineError::Standby { leader });
                }
                let sync = self.sync.clone();
                self.begin("resync", None, |operation| {
                    Box::pin(jobs::resync(operation, sync))
                })
            }
            Work::Reevaluate { pool } => {
                let pool = self.known_pool(&pool)?;
                let target = pool.to_string();
                self.begin("reevaluate", Some(&target), |operation| {
                    Box::pin(jobs::reevaluate(operation, controller, pool))
                })
            }
            Work::Export => self.begin("export", None, |operation| {
                Box::pin(jobs::export(operation, controller))
            }),
        }
    }

    fn states(&self, pool: Option<&str>) -> Result<Rows, EngineError> {
        let states = match pool {
            Some(pool) => self.controller.nodes_of(&self.known_pool(pool)?),
            None => self.controller.nodes(),
        };
        let states = states.map_err(not_ready)?.values.into_iter();
        Ok(Box::new(
            states.map(|evaluated| value(&NodeView::of(&evaluated))),
        ))
    }

    fn state(&self, node: &str) -> Option<Value> {
        let evaluated = self.controller.node(&node.into()).ok()??;
        Some(value(&NodeView::of(&evaluated)))
    }

    fn pools(&self) -> Rows {
        let controller = Arc::clone(&self.controller);
        let names = self.controller.pool_names().unwrap_or_default().into_iter();
        Box::new(names.filter_map(move |name| {
            let pool = PoolInspection::of(&controller, &name).ok()??;
            Some(value(&pool))
        }))
    }

    fn queues(&self) -> Rows {
        let controller = json!({"name": "node_state", "pending": self.controller.dirty()});
        let consumers = self.queues.clone().into_iter().map(|(name, status)| {
            let mut queue = value(&*status.borrow());
            queue["name"] = name.into();
            queue
        });
        Box::new(std::iter::once(controller).chain(consumers))
    }

    fn sync(&self) -> Option<SyncStatus> {
        self.sync.status()
    }
}

impl RunningEngine {
    fn known_pool(&self, name: &str) -> Result<Arc<str>, EngineError> {
        let known = self.controller.pool_names().map_err(not_ready)?;
        match known.iter().find(|known| &***known == name) {
            Some(pool) => Ok(Arc::clone(pool)),
            None => Err(EngineError::UnknownPool {
                name: name.to_owned(),
                known: known.iter().map(ToString::to_string).collect(),
            }),
        }
    }

    fn begin(
        &self,
        kind: &'static str,
        target: Option<&str>,
        job: impl FnOnce(OperationHandle) -> Job,
    ) -> Result<Start, EngineError> {
        let operation = match self.operations.begin(kind, target) {
            Begun::Started(operation) => operation,
            Begun::Running(operation) => return Ok(Start::Runs(operation)),
        };
        let id = operation.id().clone();
        let job = self.counted(kind, id.as_str().to_owned(), job(operation));
        // The handle was dropped with the job, so the operation has failed.
        let stopping = |_| EngineError::NotReady {
            why: "the operator stops".to_owned(),
        };
        self.jobs.send(job).map_err(stopping)?;
        self.operations
            .show(id.as_str())
            .map(Start::Begun)
            .map_err(|error| EngineError::NotReady {
                why: error.to_string(),
            })
    }

    /// The same job; its outcome is counted and logged.
    fn counted(&self, kind: &'static str, id: String, job: Job) -> Job {
        let (operations, metrics) = (self.operations.clone(), Arc::clone(&self.metrics));
        Box::pin(async move {
            job.await;
            let Ok(operation) = operations.show(&id) else {
                return;
            };
            metrics.operation_ended(kind, operation.state.as_str());
            tracing::info!(
                operation = id,
                state = operation.state.as_str(),
                done = operation.progress.done,
                total = operation.progress.total,
                "An operation ended"
            );
        })
    }
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn not_ready(error: BackendError) -> EngineError {
    EngineError::NotReady {
        why: error.to_string(),
    }
}

/// Views have names for keys, and numbers and texts for values: they are always JSON.
fn value<T: Serialize>(view: &T) -> Value {
    serde_json::to_value(view).unwrap_or_default()
}
