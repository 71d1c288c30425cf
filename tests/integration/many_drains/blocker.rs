//! What holds a drain up: its objects, and since when it does.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;
use kube::Client;
use kube::api::{DeleteParams, Patch, PatchParams};
use node_insights_harness::pods::Pods;
use serde_json::json;

use crate::disruption::{Owner, Workload};

/// The finalizer of a pod that stays after its end.
pub const FINALIZER: &str = "example.com/upload";
/// A pod is late when its grace, of one second, has been over for more than 30, in whole seconds.
const LATE: Duration = Duration::from_secs(1 + 31);

/// What holds a drain up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cause {
    NeverAllows,
    Multiple,
    UnmanagedPods,
    SyncFailed,
    Unhealthy,
    /// The replacement of the first pod is not ready.
    Exhausted,
    Finalizer,
    /// The kubelet does not end the pod, whose grace is over.
    PastGrace,
    /// The pod has an hour to end.
    InGrace,
    /// The pod tolerates the cordon, and its owner makes another one.
    Returns,
}

/// In the order of the steps: what takes long to be known comes first.
const CAUSES: [Cause; 10] = [
    Cause::PastGrace,
    Cause::NeverAllows,
    Cause::Multiple,
    Cause::UnmanagedPods,
    Cause::Finalizer,
    Cause::SyncFailed,
    Cause::Exhausted,
    Cause::Unhealthy,
    Cause::Returns,
    Cause::InGrace,
];

/// Whether nothing but a human ends what has this reason.
pub fn needs_human(reason: &str) -> bool {
    [
        "BudgetNeverAllows",
        "MultipleBudgets",
        "BudgetUnmanagedPods",
        "BudgetSyncFailed",
    ]
    .contains(&reason)
}

/// A blocker of the drain of a node.
pub struct Blocker {
    pub cause: Cause,
    pub node: String,
    pub workload: Workload,
    times: Mutex<Times>,
}

/// When it came, and when it went.
#[derive(Clone, Copy, Default)]
pub struct Times {
    /// The drain began.
    pub began: Option<Instant>,
    /// It can be known.
    pub known: Option<Instant>,
    /// It was about to be removed.
    pub freeing: Option<Instant>,
    /// It was removed.
    pub freed: Option<Instant>,
    /// The last pod of the node had gone.
    pub drained: Option<Instant>,
}

/// One blocker for each step of the rollout.
pub fn all(nodes: &[String], at_once: usize) -> Vec<Blocker> {
    let steps = nodes.chunks(at_once).zip(CAUSES).enumerate();
    steps
        .map(|(step, (nodes, cause))| {
            let node = nodes[step * 7 % nodes.len()].clone();
            Blocker {
                cause,
                workload: cause.workload(&node),
                node,
                times: Mutex::default(),
            }
        })
        .collect()
}

impl Cause {
    /// The reason that an insight shows.
    pub fn reason(self) -> &'static str {
        match self {
            Self::NeverAllows => "BudgetNeverAllows",
            Self::Multiple => "MultipleBudgets",
            Self::UnmanagedPods => "BudgetUnmanagedPods",
            Self::SyncFailed => "BudgetSyncFailed",
            Self::Unhealthy => "BudgetUnhealthy",
            Self::Exhausted => "BudgetExhausted",
            Self::Finalizer => "FinalizerHolds",
            Self::PastGrace => "TerminatingPastGrace",
            Self::InGrace => "TerminatingInGrace",
            Self::Returns => "ReturnsToNode",
        }
    }

    fn workload(self, node: &str) -> Workload {
        let one = json!({"maxUnavailable": 1});
        let with = |name, budgets| Workload {
            budgets,
            ..Workload::free(name, node)
        };
        let single = |name| Workload {
            pods: 1,
            ..Workload::free(name, node)
        };
        match self {
            Self::NeverAllows => with("rigid", vec![json!({"maxUnavailable": 0})]),
            Self::Multiple => with("twice", vec![one.clone(), one]),
            Self::UnmanagedPods => Workload {
                owner: Owner::None,
                ..with("bare", vec![one])
            },
            Self::SyncFailed => Workload {
                owner: Owner::Job,
                ..with("job", vec![one])
            },
            Self::Unhealthy => Workload {
                are_ready: false,
                ..with("crashing", vec![one])
            },
            Self::Exhausted => with("scarce", vec![one]),
            Self::Finalizer => single("upload"),
            Self::PastGrace => single("stuck"),
            Self::InGrace => Workload {
                fields: json!({"terminationGracePeriodSeconds": 3600}),
                ..single("slow")
            },
            Self::Returns => single("returning"),
        }
    }
}

impl Blocker {
    /// Creates its pods and budgets.
    pub async fn create(&self, client: &Client) -> Result<()> {
        self.workload.create(client).await?;
        let pods = Pods::new(client);
        let first = self.first();
        match self.cause {
            Cause::Finalizer => {
                let finalizers = json!({"metadata": {"finalizers": [FINALIZER]}});
                let patch = Patch::Merge(finalizers);
                pods.api()
                    .patch(&first, &PatchParams::default(), &patch)
                    .await?;
            }
            // Somebody has deleted it before the drain begins.
            Cause::PastGrace => {
                let params = DeleteParams::default().grace_period(1);
                pods.api().delete(&first, &params).await?;
                self.is_known(Instant::now() + LATE);
            }
            _ => {}
        }
        Ok(())
    }

    /// Its first pod.
    pub fn first(&self) -> String {
        format!("{}-0", self.workload.name)
    }

    /// The object that an insight names: the first budget, or the owner of the pod.
    pub fn object(&self) -> String {
        match self.budgets() {
            0 => self.workload.name.to_owned(),
            _ => self.first(),
        }
    }

    pub fn budgets(&self) -> usize {
        self.workload.budgets.len()
    }

    /// How long the drain of its node has lasted when the updater evicts the first pod.
    pub fn age(&self) -> &'static str {
        match self.cause {
            // A budget that waits for a replacement is nothing to name in the first three minutes.
            Cause::Exhausted => "4m",
            _ => "70s",
        }
    }

    /// Whether its node may have no other pods.
    pub fn is_alone_on(&self, node: &str) -> bool {
        self.cause == Cause::Exhausted && self.node == node
    }

    /// Whether it takes longer than a step until it can be known.
    pub fn is_late(&self) -> bool {
        self.cause == Cause::PastGrace
    }

    /// Whether it comes and goes with each pod, and so is shown until the drain is over.
    pub fn flickers(&self) -> bool {
        matches!(self.cause, Cause::Exhausted | Cause::Returns)
    }

    pub fn times(&self) -> Times {
        *self.lock()
    }

    pub fn is_freed(&self) -> bool {
        self.lock().freeing.is_some()
    }

    pub fn drain_began(&self, at: Instant) {
        self.lock().began.get_or_insert(at);
    }

    /// From now on, or a later time, it can be known.
    pub fn is_known(&self, at: Instant) {
        self.lock().known.get_or_insert(at);
    }

    pub fn is_being_freed(&self, at: Instant) {
        self.lock().freeing.get_or_insert(at);
    }

    pub fn is_free(&self, at: Instant) {
        self.lock().freed.get_or_insert(at);
    }

    pub fn is_drained(&self, at: Instant) {
        self.lock().drained.get_or_insert(at);
    }

    fn lock(&self) -> MutexGuard<'_, Times> {
        self.times.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
