//! What a pod would do to the drain of its node, and the drain to the pod.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::survey::{Key, Problem};
use super::{Reason, Severity};
use crate::domain::drain;
use crate::domain::drain::budget::Budget;
use crate::domain::drain::cause::{Cause, Scene};
use crate::domain::drain::method::{Method, Removal};
use crate::domain::drain::pod::{Pod, Stage};
use crate::domain::node::NodeFacts;

/// A pod that becomes ready does so within this.
const RECOVERY: SignedDuration = SignedDuration::from_mins(5);

/// The kinds of controllers whose number of pods is the size of a workload.
const REPLICATED: [&str; 3] = ["ReplicaSet", "StatefulSet", "ReplicationController"];

/// A pod on a node that may be drained.
pub(super) struct Subject<'a> {
    pub(super) pod: &'a Pod,
    /// The budgets that cover it.
    pub(super) budgets: Vec<&'a Budget>,
    pub(super) node: &'a NodeFacts,
    pub(super) method: Method,
    pub(super) now: Timestamp,
}

impl Subject<'_> {
    /// What would hold up the drain at this pod: the first cause that counts before a drain has begun.
    pub(super) fn obstacle(&self) -> Option<Problem> {
        let drainer = self.method.drainer;
        if !drainer.must_go(self.pod, self.now) {
            return None;
        }
        let scene = Scene::foreseen(drainer, self.node, self.now);
        let budgets = match self.method.removal {
            Removal::Eviction | Removal::EvictionUntilDeadline => self.budgets.as_slice(),
            Removal::Deletion => &[],
        };
        let causes = scene.causes(self.pod, Some(budgets)).into_iter();
        let mut causes = causes.filter_map(|cause| Some((self.severity(&cause)?, cause)));
        let (severity, cause) = causes.next()?;
        let mut problem = Problem {
            message: self.message(&cause),
            key: Key::of_drain(severity, cause.key),
            otherwise: None,
        };
        if problem.key.reason == Reason::Drain(drain::Reason::BudgetUnhealthy) {
            problem.otherwise = causes.next().map(|(_, cause)| self.message(&cause));
        }
        Some(problem)
    }

    /// Whether a cause would hold the drain up, and whether it ends by itself; `None` if it only counts during a drain.
    fn severity(&self, cause: &Cause) -> Option<Severity> {
        use drain::Reason as Of;
        let severity = match cause.key.reason {
            // The node itself is reported.
            Of::NodeUnreachable
            // Ends as it should.
            | Of::TerminatingInGrace
            | Of::WaitsForMigration
            | Of::WaitsForOperator
            // Reported as a loss.
            | Of::UnmanagedPod
            | Of::LocalStorage
            // Only seen during a drain.
            | Of::RetryWait
            | Of::NotDeleted
            | Of::ReturnsToNode
            | Of::EvictionDenied
            | Of::Unknown => return None,
            Of::FinalizerHolds => {
                let deletion = self.pod.deletion.as_ref()?;
                if self.now.duration_since(deletion.ends) < cause.needs {
                    return None;
                }
                Severity::Blocker
            }
            Of::TerminatingPastGrace
            | Of::DoNotDisrupt
            | Of::WaitsForCompletion
            | Of::MultipleBudgets
            | Of::BudgetSyncFailed
            | Of::BudgetUnmanagedPods
            | Of::BudgetNeverAllows
            | Of::BudgetUnhealthy => Severity::Blocker,
            Of::BudgetStale | Of::BudgetExhausted => Severity::Warning,
        };
        let ends = is_lifted(cause) || self.method.removal == Removal::EvictionUntilDeadline;
        Some(if ends { Severity::Warning } else { severity })
    }

    fn message(&self, cause: &Cause) -> String {
        if is_lifted(cause) {
            let (namespace, name) = (&cause.key.namespace, &cause.key.name);
            return format!(
                "PodDisruptionBudget {namespace}/{name} protects storage or a quorum and allows nothing now: its operator allows it when that is safe; if it does not, see the log of the operator"
            );
        }
        match self.method.removal {
            Removal::EvictionUntilDeadline => format!(
                "{}; Karpenter deletes what is left at the end of the terminationGracePeriod of its NodeClaim",
                cause.message
            ),
            Removal::Eviction | Removal::Deletion => cause.message.clone(),
        }
    }

    /// What the drain costs, or stops at: a pod that nothing creates again, and data that only the node has.
    pub(super) fn losses(&self) -> Vec<Problem> {
        let (pod, drainer) = (self.pod, self.method.drainer);
        let is_kept = !drainer.must_go(pod, self.now)
            || pod.is_of_daemon_set()
            || pod.stage == Stage::Finished
            || pod.deletion.is_some();
        if is_kept {
            return Vec::new();
        }
        let mut losses = Vec::new();
        if pod.controller.is_none() {
            let name = named(pod);
            let message = if drainer.stops_at_unmanaged() {
                format!(
                    "{name} has no controller, and the drain stops at it: delete it, or set spec.drain.force in the Plan"
                )
            } else {
                format!(
                    "{name} has no controller, so nothing creates it again: give it one, or expect to lose it"
                )
            };
            losses.push(of_pod(
                Reason::Drain(drain::Reason::UnmanagedPod),
                drainer.stops_at_unmanaged(),
                pod,
                message,
            ));
        }
        if pod.has_empty_dir {
            let name = named(pod);
            let message = if drainer.stops_at_local_data() {
                format!(
                    "{name} has data in emptyDir volumes, and the drain stops at it: allow spec.drain.deleteEmptydirData in the Plan, or move the data"
                )
            } else {
                format!(
                    "{name} has data in emptyDir volumes, which is lost: make sure that it may be, or move it to a PersistentVolume"
                )
            };
            let stops = drainer.stops_at_local_data();
            let reason = Reason::Drain(drain::Reason::LocalStorage);
            losses.push(of_pod(reason, stops, pod, message));
        }
        losses
    }
}

/// Whether an operator lifts the budget once that is safe, because it protects storage or a quorum.
fn is_lifted(cause: &Cause) -> bool {
    use drain::Reason as Of;
    let allows_nothing = matches!(
        cause.key.reason,
        Of::BudgetNeverAllows | Of::BudgetUnhealthy | Of::BudgetExhausted
    );
    allows_nothing && cause.is_consequence()
}

/// Whether the pod has not been ready for so long that it will not be by itself.
pub(super) fn is_broken(pod: &Pod, now: Timestamp) -> bool {
    let since = pod.unready_since.or(pod.created);
    let is_over = |since: Timestamp| now.duration_since(since) > RECOVERY;
    let runs = pod.stage == Stage::Running && pod.deletion.is_none();
    runs && !pod.is_ready && since.is_some_and(is_over)
}

/// The only pod of a workload is interrupted.
pub(super) fn single(pod: &Pod) -> Option<Problem> {
    let controller = pod.controller.as_ref()?;
    REPLICATED.contains(&&*controller.kind).then(|| {
        let message = format!(
            "{} has one pod, so it is interrupted: scale it up, or expect the interruption",
            named(pod)
        );
        of_pod(Reason::SingleReplica, false, pod, message)
    })
}

/// A problem of what made the pod, or of the pod.
fn of_pod(reason: Reason, stops: bool, pod: &Pod, message: String) -> Problem {
    let (kind, name) = pod.object();
    Problem {
        key: Key {
            severity: if stops {
                Severity::Blocker
            } else {
                Severity::Warning
            },
            reason,
            kind,
            namespace: Arc::clone(&pod.namespace),
            name,
        },
        message,
        otherwise: None,
    }
}

/// What made the pod, or the pod, for messages.
fn named(pod: &Pod) -> String {
    let (kind, name) = pod.object();
    format!("{kind} {}/{name}", pod.namespace)
}
