//! Plans of the system-upgrade-controller, which update nodes of any provider; mostly those of k3s and RKE2.
//!
//! A Plan selects nodes by their labels. The controller updates as many at once as the Plan allows: it creates a Job
//! for a node, which may cordon and drain it before it runs the update. When the Job is complete the controller
//! uncordons the node and writes the hash of the Plan into a label of it. A node without that hash is outdated.
//!
//! The pods of a Job are not read: while a Plan drains its nodes, a cordoned node that does not run the new version
//! yet counts as being drained.
//!
//! Sources: rancher/system-upgrade-controller `pkg/upgrade/plan/plan.go`, `pkg/upgrade/job/job.go`,
//! `pkg/upgrade/handle_upgrade.go`, `pkg/upgrade/handle_batch.go`.

use std::sync::Arc;

use self::kinds::{
    DrainFlags, Failure, Hold, JobState, NO_LABEL, NODE, PLAN_PREFIX, Plan, PlanJob, Preparation,
    REQUIRES,
};
use super::distributions::{K3sNode, Rke2Node};
use super::step::Step;
use super::{Overlay, Subject};
use crate::api::types::{DesiredVersionSource, Phase, ProviderName, UpdateKind};
use crate::domain::cordon::Cordoner;
use crate::domain::drain::Drainer;
use crate::domain::drain::method::{Method, Removal};
use crate::domain::fact::Kind;
use crate::domain::facts::{Unavailable, View};
use crate::domain::node::NodeFacts;
use crate::domain::state::{Desired, Evaluation};
use crate::domain::version;

pub mod kinds;

const NAME: &str = "system-upgrade-controller";
/// The controller selects nodes by this label, and names them by its value.
const HOSTNAME: &str = "kubernetes.io/hostname";
/// A node with this value in the label of a Plan has opted out of it.
const DISABLED: &str = "disabled";

/// Plans of the system-upgrade-controller.
#[derive(Debug, Clone, Copy, Default)]
pub struct Plans;

impl Overlay for Plans {
    fn name(&self) -> ProviderName {
        ProviderName::new(NAME)
    }

    fn kinds(&self) -> Vec<Kind> {
        vec![Kind::of::<Plan>(), Kind::of::<PlanJob>()]
    }

    fn refine(
        &self,
        node: &Subject<'_>,
        until_now: &Evaluation,
        view: &View<'_>,
    ) -> Result<Option<Evaluation>, Unavailable> {
        let facts = node.facts;
        let Some(hostname) = facts.labels.get(HOSTNAME) else {
            return Ok(None);
        };
        if !view.serves::<Plan>() {
            return Ok(None);
        }
        let plans = match outstanding(facts, view) {
            Ok(plans) => plans,
            Err(_) if !may_be_concerned(facts) => return Ok(None),
            Err(error) => return Err(error),
        };
        if plans.is_empty() {
            return Ok(None);
        }
        let (jobs, missing) = jobs(facts, view);
        let context = Context {
            node,
            until_now,
            hostname,
            jobs,
        };
        let mut turns: Vec<Turn<'_>> = plans.iter().map(|plan| context.turn(plan)).collect();
        turns.sort_by_key(Turn::rank);
        let failure = turns.iter().find_map(|turn| turn.step.failure.clone());
        let Some(Turn { plan, mut step, .. }) = turns.into_iter().next() else {
            return Ok(None);
        };
        // What acts on the node is no Plan.
        if until_now.phase.is_in_progress() && !step.phase.is_in_progress() {
            return Ok(None);
        }
        step.failure = failure;
        if step.phase != Phase::Unknown {
            step.missing.extend(missing);
        }
        let version = plan.kubelet_version.as_ref();
        let desired = version.filter(|_| step.phase != Phase::Unknown);
        let refined = step.refine(facts, until_now);
        Ok(Some(Evaluation {
            desired: desired.map_or(refined.desired, |version| {
                Some(Desired {
                    version: Arc::clone(version),
                    source: DesiredVersionSource::Provider,
                })
            }),
            ..refined
        }))
    }

    fn method(&self, node: &NodeFacts, view: &View<'_>) -> Option<Method> {
        match outstanding(node, view) {
            Ok(plans) if !plans.is_empty() => method_of(&plans),
            Ok(_) | Err(_) => Some(Method::of(Drainer::Kubectl)),
        }
    }
}

/// How the pods of a node are moved away that these Plans update; `None` if none of them drains it.
fn method_of(plans: &[&Plan]) -> Option<Method> {
    let mut drains = plans.iter().filter_map(|plan| match plan.preparation {
        Preparation::Drain(flags) => Some(flags),
        Preparation::None | Preparation::Cordon => None,
    });
    let first = drains.next()?;
    // Each Plan drains the node on its own, so the node is held up by the strictest.
    let flags = drains.fold(first, |all, each| DrainFlags {
        forces: all.forces && each.forces,
        deletes_local_storage: all.deletes_local_storage && each.deletes_local_storage,
        evicts: all.evicts || each.evicts,
    });
    Some(Method {
        drainer: Drainer::SystemUpgrade {
            is_forced: flags.forces,
            loses_local_data: flags.deletes_local_storage,
        },
        removal: if flags.evicts {
            Removal::Eviction
        } else {
            Removal::Deletion
        },
    })
}

/// Whether the Node shows that Plans may update it.
fn may_be_concerned(node: &NodeFacts) -> bool {
    node.evidence::<K3sNode>().is_some()
        || node.evidence::<Rke2Node>().is_some()
        || node
            .labels
            .iter()
            .any(|(key, _)| key.starts_with(PLAN_PREFIX))
}

/// The Plans that select the node and are not applied to it yet, sorted by name.
fn outstanding<'a>(node: &NodeFacts, view: &View<'a>) -> Result<Vec<&'a Plan>, Unavailable> {
    let finder = view.finder::<Plan>(REQUIRES)?;
    let mut plans = Vec::new();
    for label in node.labels.iter().map(|(label, _)| label).chain([NO_LABEL]) {
        finder.find(label, &mut plans);
    }
    plans.retain(|plan| is_outstanding(plan, node));
    plans.sort_by(|a, b| a.key.cmp(&b.key));
    Ok(plans)
}

fn is_outstanding(plan: &Plan, node: &NodeFacts) -> bool {
    let selector = plan.selector.as_ref();
    if !selector.is_some_and(|selector| selector.matches(&node.labels)) {
        return false;
    }
    match node.labels.get(&plan.label) {
        Some(DISABLED) => false,
        // Until the Plan is valid, its hash says nothing.
        _ if plan.problem.is_some() => true,
        // No controller has read the Plan.
        _ if plan.hash.is_empty() => false,
        applied => applied != Some(&*plan.hash),
    }
}

/// The Jobs for the node; `None` if they cannot be read.
fn jobs<'a>(node: &NodeFacts, view: &View<'a>) -> (Option<Vec<&'a PlanJob>>, Option<Unavailable>) {
    if !view.serves::<PlanJob>() {
        return (None, None);
    }
    match view.find::<PlanJob>(NODE, &node.name) {
        Ok(jobs) => (Some(jobs), None),
        Err(error) => (None, Some(error)),
    }
}

/// How urgent a Plan is for a node that several Plans select.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    InProgress,
    Failed,
    Held,
    Waiting,
    Invalid,
}

/// What a Plan says about the node.
struct Turn<'a> {
    rank: Rank,
    plan: &'a Plan,
    step: Step,
}

impl Turn<'_> {
    /// Among equals, an update of the version comes first.
    fn rank(&self) -> (Rank, bool) {
        (self.rank, self.step.kind != Some(UpdateKind::Version))
    }
}

/// The inputs of the evaluation.
struct Context<'a> {
    node: &'a Subject<'a>,
    until_now: &'a Evaluation,
    hostname: &'a str,
    /// The Jobs for the node; `None` if they cannot be read.
    jobs: Option<Vec<&'a PlanJob>>,
}

impl Context<'_> {
    fn turn<'p>(&self, plan: &'p Plan) -> Turn<'p> {
        let (rank, step) = self.step(plan);
        Turn { rank, plan, step }
    }

    /// The first case that applies.
    fn step(&self, plan: &Plan) -> (Rank, Step) {
        let name = &plan.key;
        if let Some(problem) = &plan.problem {
            let message = format!("Plan {name} is invalid, so it updates no nodes: {problem}");
            return (Rank::Invalid, Step::unknown("PlanInvalid", message));
        }
        let is_applying = plan.applying.iter().any(|host| **host == *self.hostname);
        match self.job(plan) {
            Some(JobState::Active) => (Rank::InProgress, self.working(plan)),
            Some(JobState::Complete) => {
                let message = format!(
                    "The Job of Plan {name} is complete; the controller waits before it counts the node as updated"
                );
                let step = self.in_progress(plan, Phase::Updating, "PostCompleteDelay", message);
                (Rank::InProgress, step)
            }
            Some(JobState::Failed(why)) => {
                let message = format!("The Job of Plan {name} has failed: {why}");
                (Rank::Failed, self.failed(plan, message))
            }
            Some(JobState::Paused) => {
                let message = format!("The Job of Plan {name} is about to start");
                (Rank::Waiting, self.waiting(plan, "JobPaused", message))
            }
            None => match &plan.failure {
                Some(failure) if self.concerns(failure, is_applying) => {
                    let message = format!("Plan {name}: {}", failure.message);
                    (Rank::Failed, self.failed(plan, message))
                }
                Some(_) | None if is_applying => (Rank::InProgress, self.applying(plan)),
                Some(_) | None => self.idle(plan),
            },
        }
    }

    /// The state of the Job that applies the Plan to the node.
    fn job(&self, plan: &Plan) -> Option<&JobState> {
        let mut jobs = self.jobs.iter().flatten();
        let job = jobs.find(|job| *job.plan == *plan.key && job.hash == plan.hash)?;
        Some(&job.state)
    }

    /// Whether the failed Job that the Plan reports is the one of this node.
    fn concerns(&self, failure: &Failure, is_applying: bool) -> bool {
        match &failure.node {
            Some(node) => **node == *self.node.facts.name,
            None => is_applying,
        }
    }

    /// The Plan does nothing to the node now.
    fn idle(&self, plan: &Plan) -> (Rank, Step) {
        let name = &plan.key;
        let held = plan.hold.map(|hold| match hold {
            Hold::Window => {
                let message = format!("Plan {name} waits for its time window");
                ("OutsideWindow", message)
            }
            Hold::Concurrency => {
                let message = format!("Plan {name} has a concurrency of 0, so it updates no nodes");
                ("ConcurrencyZero", message)
            }
        });
        if let Some((reason, message)) = held {
            let step = Step::new(Phase::Paused, self.kind(plan), reason, message);
            return (Rank::Held, step);
        }
        let mut message = format!(
            "The node waits for its turn in Plan {name}, which updates it to {}",
            target(plan)
        );
        if let Some(failure) = &plan.failure {
            message.push_str("; another node holds it up: ");
            message.push_str(&failure.message);
        }
        (Rank::Waiting, self.waiting(plan, "Pending", message))
    }

    fn waiting(&self, plan: &Plan, reason: &'static str, message: String) -> Step {
        Step::new(Phase::Pending, self.kind(plan), reason, message)
    }

    /// The Plan names the node, and there is no Job that says more.
    fn applying(&self, plan: &Plan) -> Step {
        if self.jobs.is_none() {
            return self.working(plan);
        }
        let message = format!("Plan {} updates the node to {}", plan.key, target(plan));
        self.in_progress(plan, Phase::Updating, "Applying", message)
    }

    /// The Job drains and updates the node.
    fn working(&self, plan: &Plan) -> Step {
        let (name, target) = (&plan.key, target(plan));
        let facts = self.node.facts;
        let inferred = self.until_now.is_inferred.then_some(self.until_now.phase);
        // k3s and RKE2 restart their service, and not the machine.
        let reboots = plan.kubelet_version.is_none() && inferred == Some(Phase::Rebooting);
        let is_before_update = matches!(plan.preparation, Preparation::Drain(_))
            && facts.cordoned.is_some()
            && facts.is_ready()
            && !self.is_at_target(plan)
            && inferred != Some(Phase::Updating);
        let (phase, reason, message) = if reboots {
            let message = format!("Plan {name} reboots the node on its way to {target}");
            (Phase::Rebooting, "Rebooting", message)
        } else if is_before_update {
            let message = format!("Plan {name} drains the node before it updates it to {target}");
            (Phase::Draining, "Draining", message)
        } else {
            let message = format!("Plan {name} updates the node to {target}");
            (Phase::Updating, "Updating", message)
        };
        self.in_progress(plan, phase, reason, message)
    }

    fn failed(&self, plan: &Plan, message: String) -> Step {
        const REASON: &str = "JobFailed";
        self.in_progress(plan, Phase::Updating, REASON, message.clone())
            .failed(REASON, message)
    }

    fn in_progress(
        &self,
        plan: &Plan,
        phase: Phase,
        reason: &'static str,
        message: String,
    ) -> Step {
        let began_as_version = self.node.kind_so_far() == Some(UpdateKind::Version);
        // The kubelet has the new version before the update is over.
        let kind = if began_as_version && plan.kubelet_version.is_some() {
            UpdateKind::Version
        } else {
            self.kind(plan)
        };
        let step = Step::new(phase, kind, reason, message);
        match plan.preparation {
            Preparation::None => step,
            Preparation::Cordon | Preparation::Drain(_) => {
                step.cordoned_by(Cordoner::updater(NAME))
            }
        }
    }

    /// What the Plan changes. Another hash at the same version is another configuration; a Plan for anything else
    /// than the kubelet names an image.
    fn kind(&self, plan: &Plan) -> UpdateKind {
        if plan.kubelet_version.is_none() {
            UpdateKind::Image
        } else if self.is_at_target(plan) {
            UpdateKind::Configuration
        } else {
            UpdateKind::Version
        }
    }

    /// Whether the kubelet has the version of the Plan.
    fn is_at_target(&self, plan: &Plan) -> bool {
        let own = self.node.facts.kubelet_version.as_deref();
        let versions = own.zip(plan.kubelet_version.as_deref());
        versions.is_some_and(|(own, wanted)| version::meets(own, wanted))
    }
}

/// What the Plan updates nodes to, for messages.
fn target(plan: &Plan) -> &str {
    let version = plan.kubelet_version.as_deref().unwrap_or(&plan.version);
    if version.is_empty() {
        "its latest version"
    } else {
        version
    }
}

#[cfg(test)]
mod tests;
