//! Why a pod does not go: the causes that apply, in the order in which they are looked at.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::budget::Budget;
use super::pod::{Controller, Deletion, DoNotDisrupt, DrainLabel, Operator, Pod, Stage};
use super::{Class, Drainer, FORGOTTEN, Key, Reason};
use crate::domain::node::NodeFacts;

/// A kubelet may take this much longer than the grace of a pod.
const LATE: SignedDuration = SignedDuration::from_secs(30);
/// A pod that has this much grace left is worth a line.
const LONG_GRACE: SignedDuration = SignedDuration::from_mins(2);
/// A rolling drain waits for budgets all the time; after this it is slow.
const SLOW: SignedDuration = SignedDuration::from_mins(3);
/// An operator moves its pod within this.
const OPERATOR: SignedDuration = SignedDuration::from_mins(20);
/// After this the Machine Config Operator tries only every five minutes.
const RARE: SignedDuration = SignedDuration::from_mins(10);
/// After this a drain without a visible cause is worth a line.
const LONG: SignedDuration = SignedDuration::from_mins(15);
/// `expectedPods` falls for a moment when pods are replaced.
const REPLACED: SignedDuration = SignedDuration::from_secs(10);
/// Pods that become ready again do so within this.
const RECOVERY: SignedDuration = SignedDuration::from_mins(5);
const MINUTE: SignedDuration = SignedDuration::from_mins(1);
const AT_ONCE: SignedDuration = SignedDuration::ZERO;

/// A cause that applies.
pub(in crate::domain) struct Cause {
    pub(in crate::domain) key: Key,
    /// How urgent it is; another one than that of the reason for a consequence.
    pub(super) class: Class,
    pub(in crate::domain) message: String,
    /// It counts once it has applied for this long.
    pub(in crate::domain) needs: SignedDuration,
    /// It does not count any more once it has applied for this long.
    pub(super) lasts: Option<SignedDuration>,
}

/// What is known about the drain.
pub(in crate::domain) struct Scene<'a> {
    pub(super) drainer: Drainer,
    pub(super) node: &'a NodeFacts,
    pub(super) start: Timestamp,
    pub(super) now: Timestamp,
    /// Pods have gone since the drain began.
    pub(super) has_moved: bool,
}

impl<'a> Scene<'a> {
    /// A drain that would begin now, as it would be once it is slow: then every cause counts.
    pub(in crate::domain) fn foreseen(
        drainer: Drainer,
        node: &'a NodeFacts,
        now: Timestamp,
    ) -> Self {
        let ago = SLOW + SignedDuration::from_secs(1);
        Self {
            drainer,
            node,
            start: now.checked_sub(ago).unwrap_or(Timestamp::MIN),
            now,
            has_moved: false,
        }
    }

    fn elapsed(&self) -> SignedDuration {
        self.now.duration_since(self.start)
    }

    /// Whether there are minutes between two attempts of a long drain.
    fn tries_rarely(&self) -> bool {
        self.drainer == Drainer::MachineConfigOperator
    }

    /// The times at which another cause may apply.
    pub(super) fn turning_points(&self) -> impl Iterator<Item = Timestamp> {
        let rare = self.tries_rarely().then_some(RARE);
        [SLOW, LONG, OPERATOR]
            .into_iter()
            .chain(rare)
            .filter_map(|after| self.start.checked_add(after).ok())
    }

    /// The times at which another cause may apply to a pod, or it need not go any more.
    pub(super) fn turning_points_of(&self, pod: &Pod) -> impl Iterator<Item = Timestamp> + use<> {
        let ends = pod.deletion.map(|deletion| deletion.ends);
        let forgotten = (self.drainer == Drainer::Karpenter).then_some(FORGOTTEN);
        let of_its_end = [-LONG_GRACE, LATE].into_iter().chain(forgotten);
        let until = match pod.do_not_disrupt {
            Some(DoNotDisrupt::Until(until)) => Some(until),
            Some(DoNotDisrupt::Always) | None => None,
        };
        of_its_end
            .filter_map(move |after| ends?.checked_add(after).ok())
            .chain(until)
    }

    /// The causes of a pod, the first that counts first; `budgets` are its own, if they can be read.
    pub(in crate::domain) fn causes(&self, pod: &Pod, budgets: Option<&[&Budget]>) -> Vec<Cause> {
        if let Some(deletion) = &pod.deletion {
            return self.ending(pod, deletion).into_iter().collect();
        }
        let mut causes: Vec<Cause> = [self.mark(pod), self.operator(pod)]
            .into_iter()
            .flatten()
            .collect();
        if pod.stage != Stage::Running {
            causes.extend(self.not_deleted(pod));
            return causes;
        }
        match budgets {
            None | Some([]) => {}
            Some([budget]) if lets_unready_go(budget, pod) => {}
            Some([budget]) => causes.extend(self.budget(budget, pod)),
            Some([first, second, ..]) => causes.push(several(pod, first, second)),
        }
        causes.extend(self.returns(pod));
        causes.extend(budgets.and_then(|own| self.denied(pod, own)));
        causes
    }

    /// The pod is being deleted.
    fn ending(&self, pod: &Pod, deletion: &Deletion) -> Option<Cause> {
        let name = named(pod);
        let overdue = self.now.duration_since(deletion.ends);
        if !self.node.is_ready() {
            return Some(unreachable(self.node));
        }
        let finalizer = pod
            .finalizer
            .as_deref()
            .filter(|_| pod.stage == Stage::Finished);
        if let Some(finalizer) = finalizer.filter(|_| deletion.is_done) {
            let message = format!(
                "{name} has ended, and the finalizer {finalizer} keeps it: look at the controller of the finalizer"
            );
            // The controller of Jobs takes its finalizer off within seconds.
            let needs = if finalizer.starts_with("batch.kubernetes.io/") {
                2 * MINUTE
            } else {
                AT_ONCE
            };
            return Some(Cause::of_pod(Reason::FinalizerHolds, pod, message).after(needs));
        }
        if overdue > LATE {
            let message = format!(
                "{name} should have ended at {:.0}: its containers or volumes hang on the node, see the log of the kubelet; delete it by force only if nothing else helps",
                deletion.ends
            );
            return Some(Cause::of_pod(Reason::TerminatingPastGrace, pod, message));
        }
        (-overdue > LONG_GRACE).then(|| {
            let message = format!("{name} may take until {:.0} to end: wait", deletion.ends);
            Cause::of_pod(Reason::TerminatingInGrace, pod, message)
        })
    }

    /// The pod has a mark of the updater that drains the node.
    fn mark(&self, pod: &Pod) -> Option<Cause> {
        let name = named(pod);
        match (self.drainer, pod.do_not_disrupt, pod.drain) {
            (Drainer::Karpenter, Some(mark), _) => {
                let until = match mark {
                    DoNotDisrupt::Always => String::new(),
                    DoNotDisrupt::Until(until) if until <= self.now => return None,
                    DoNotDisrupt::Until(until) => format!(" until {until:.0}"),
                };
                let message = format!(
                    "{name} is marked karpenter.sh/do-not-disrupt{until}: remove the annotation, or set terminationGracePeriod in the NodePool"
                );
                Some(Cause::of_pod(Reason::DoNotDisrupt, pod, message))
            }
            (Drainer::ClusterApi, _, DrainLabel::WaitCompleted) => {
                let message = format!(
                    "{name} is left to finish by the label cluster.x-k8s.io/drain=wait-completed: wait"
                );
                Some(Cause::of_pod(Reason::WaitsForCompletion, pod, message))
            }
            (drainer, ..) if drainer.stops_at_unmanaged() && pod.controller.is_none() => {
                let message = format!(
                    "{name} has no controller, so the system-upgrade-controller drains nothing: delete the pod, or set spec.drain.force in the Plan"
                );
                Some(Cause::of_pod(Reason::UnmanagedPod, pod, message))
            }
            (drainer, ..) if drainer.stops_at_local_data() && pod.has_empty_dir => {
                let message = format!(
                    "{name} has an emptyDir, so the system-upgrade-controller drains nothing: delete the pod, or allow spec.drain.deleteEmptydirData in the Plan"
                );
                Some(Cause::of_pod(Reason::LocalStorage, pod, message))
            }
            _ => None,
        }
    }

    fn operator(&self, pod: &Pod) -> Option<Cause> {
        let name = named(pod);
        let (reason, message) = match pod.operator.filter(|_| self.elapsed() < OPERATOR)? {
            Operator::KubeVirt => (
                Reason::WaitsForMigration,
                format!(
                    "The virtual machine of {name} migrates: wait, or look at its VirtualMachineInstance"
                ),
            ),
            Operator::Strimzi => (
                Reason::WaitsForOperator,
                format!(
                    "Strimzi restarts {name} elsewhere: wait, or look at the log of its operator"
                ),
            ),
            Operator::CloudNativePg => (
                Reason::WaitsForOperator,
                format!(
                    "CloudNativePG makes another instance than {name} the primary: wait, or look at its Cluster"
                ),
            ),
        };
        Some(Cause::of_pod(reason, pod, message))
    }

    /// No budget protects a pod that does not run.
    fn not_deleted(&self, pod: &Pod) -> Option<Cause> {
        let state = match pod.stage {
            Stage::Finished => "has finished",
            Stage::Pending | Stage::Running => "has not started",
        };
        (self.elapsed() > SLOW).then(|| {
            let message = format!("{} {state} and is not deleted: delete it", named(pod));
            Cause::of_pod(Reason::NotDeleted, pod, message)
        })
    }

    /// The budget of a running pod allows no eviction.
    fn budget(&self, budget: &Budget, pod: &Pod) -> Vec<Cause> {
        let Budget {
            expected,
            desired,
            current,
            allowed,
            ..
        } = *budget;
        let name = format!("PodDisruptionBudget {}/{}", budget.namespace, budget.name);
        let cause = |reason, message: String| Cause::of_budget(reason, budget, pod, message);
        if let Some(failure) = &budget.failure {
            let message = format!(
                "{name} cannot be calculated and allows nothing: {failure}; give its pods an owner with a scale, or set minAvailable to a number"
            );
            return vec![cause(Reason::BudgetSyncFailed, message)];
        }
        if !budget.is_observed {
            let message = format!(
                "kube-controller-manager has not seen the last change of {name}: check whether it runs"
            );
            return vec![cause(Reason::BudgetStale, message).after(MINUTE)];
        }
        if allowed > 0 {
            return Vec::new();
        }
        if expected == 0 {
            let message = format!(
                "{name} finds no controller of its pods and allows nothing: set minAvailable to a number"
            );
            return vec![cause(Reason::BudgetUnmanagedPods, message)];
        }
        let mut causes = Vec::new();
        if desired >= expected {
            let message = format!(
                "{name} needs {desired} of {expected} pods, so none of them can be evicted: scale up, restart the workload elsewhere, or change the budget"
            );
            let needs = if budget.is_number { REPLACED } else { AT_ONCE };
            causes.push(cause(Reason::BudgetNeverAllows, message).after(needs));
        }
        if current < desired || !pod.is_ready {
            let message = format!(
                "{name} needs {desired} ready pods and has {current}: repair the pods, or set unhealthyPodEvictionPolicy to AlwaysAllow"
            );
            let needs = if pod.is_ready { RECOVERY } else { AT_ONCE };
            causes.push(cause(Reason::BudgetUnhealthy, message).after(needs));
        }
        if self.elapsed() > SLOW {
            let message = format!(
                "{name} waits until another pod is ready: look for its pods that are pending or not ready"
            );
            causes.push(cause(Reason::BudgetExhausted, message));
        }
        causes
    }

    /// The pod came to the node after its drain had begun.
    fn returns(&self, pod: &Pod) -> Option<Cause> {
        let is_new = pod.created.is_some_and(|created| created > self.start);
        (is_new && pod.tolerates.cordon).then(|| {
            let what = match &pod.controller {
                Some(Controller { kind, name }) => {
                    format!("Pods of {kind} {}/{name}", pod.namespace)
                }
                None => format!("Pods like {}", named(pod)),
            };
            let message = format!(
                "{what} come back to the node, because they tolerate its cordon: narrow their toleration"
            );
            Cause::of_pod(Reason::ReturnsToNode, pod, message)
        })
    }

    /// Nothing visible speaks against the eviction, other pods have gone, and this one stays.
    fn denied(&self, pod: &Pod, own: &[&Budget]) -> Option<Cause> {
        let is_allowed = match own {
            [] => true,
            [budget] => {
                budget.allowed > 0 && budget.failure.is_none() && budget.is_observed
                    || lets_unready_go(budget, pod)
            }
            _ => false,
        };
        (is_allowed && self.has_moved && self.elapsed() > SLOW).then(|| {
            let message = format!(
                "The budgets allow to evict {}, and it stays: an admission webhook may deny it, see the log of what drains the node",
                named(pod)
            );
            let cause = Cause::of_pod(Reason::EvictionDenied, pod, message);
            cause.after(self.drainer.patience())
        })
    }

    /// Pods are left, and none of them has a cause.
    pub(super) fn unexplained(&self, count: usize) -> Vec<Cause> {
        let mut causes = Vec::new();
        if count == 0 {
            return causes;
        }
        if self.tries_rarely() && self.elapsed() > RARE {
            let message = "Nothing holds the drain up any more: the Machine Config Operator tries again within 5 minutes";
            let cause = Cause::of_node(Reason::RetryWait, self.node, message.to_owned());
            causes.push(Cause {
                lasts: Some(self.drainer.patience()),
                ..cause
            });
        }
        if self.elapsed() > LONG {
            let message =
                "Pods are left, and no cause is visible: see the log of what drains the node";
            causes.push(Cause::of_node(
                Reason::Unknown,
                self.node,
                message.to_owned(),
            ));
        }
        causes
    }
}

/// The kubelet of the node does not report.
pub(in crate::domain) fn unreachable(node: &NodeFacts) -> Cause {
    let since = node.unready_since();
    let since = since.map_or(String::new(), |since| format!(" since {since:.0}"));
    let message = format!(
        "The kubelet has not reported{since}, so pods cannot confirm their end: check the machine, and if it is lost set the taint node.kubernetes.io/out-of-service"
    );
    Cause::of_node(Reason::NodeUnreachable, node, message)
}

/// Whether a pod that is not ready may go although the budget allows nothing.
fn lets_unready_go(budget: &Budget, pod: &Pod) -> bool {
    let is_met = budget.current >= budget.desired && budget.desired > 0;
    !pod.is_ready && (budget.always_allows_unready || is_met)
}

fn several(pod: &Pod, first: &Budget, second: &Budget) -> Cause {
    let message = format!(
        "{} has the PodDisruptionBudgets {} and {}, so every eviction fails: make their selectors disjoint",
        named(pod),
        first.name,
        second.name
    );
    Cause::of_budget(Reason::MultipleBudgets, first, pod, message)
}

fn named(pod: &Pod) -> String {
    format!("Pod {}/{}", pod.namespace, pod.name)
}

impl Cause {
    fn new(key: Key, message: String) -> Self {
        Self {
            class: key.reason.class(),
            key,
            message,
            needs: AT_ONCE,
            lasts: None,
        }
    }

    /// A cause whose object is the node.
    fn of_node(reason: Reason, node: &NodeFacts, message: String) -> Self {
        let key = Key {
            reason,
            kind: "Node".into(),
            namespace: "".into(),
            name: Arc::clone(&node.name),
        };
        Self::new(key, message)
    }

    /// A cause whose object is the pod, or what made it.
    fn of_pod(reason: Reason, pod: &Pod, message: String) -> Self {
        let (kind, name) = pod.object();
        let key = Key {
            reason,
            kind,
            namespace: Arc::clone(&pod.namespace),
            name,
        };
        Self::new(key, message)
    }

    /// A cause whose object is a budget.
    fn of_budget(reason: Reason, budget: &Budget, pod: &Pod, message: String) -> Self {
        let key = Key {
            reason,
            kind: "PodDisruptionBudget".into(),
            namespace: Arc::clone(&budget.namespace),
            name: Arc::clone(&budget.name),
        };
        let cause = Self::new(key, message);
        if is_consequence(budget, pod) {
            Self {
                class: Class::Symptom,
                ..cause
            }
        } else {
            cause
        }
    }

    fn after(self, needs: SignedDuration) -> Self {
        Self { needs, ..self }
    }

    /// Whether its budget protects storage or a quorum, and so waits for other pods.
    pub(in crate::domain) fn is_consequence(&self) -> bool {
        self.class == Class::Symptom
    }
}

/// Whether the budget protects storage or a quorum, and so waits for other pods.
fn is_consequence(budget: &Budget, pod: &Pod) -> bool {
    let of_longhorn = pod
        .controller
        .as_ref()
        .is_some_and(|controller| &*controller.kind == "InstanceManager");
    of_longhorn || budget.name.ends_with("-guard-pdb") || budget.name.starts_with("rook-ceph-")
}
