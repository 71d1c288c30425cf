//! Worker pools of Gardener, whose machine controller manager runs outside the cluster.
//!
//! In a rolling update, the nodes of the old generation have a taint; they are cordoned, drained and deleted. In an
//! update in place, the condition `InPlaceUpdate` has the state as its reason; its status is always True. A node that
//! is removed for another reason has the condition `Terminating` as well.
//!
//! Source: gardener/machine-controller-manager `pkg/controller/deployment_util.go`,
//! `pkg/util/provider/machinecontroller/machine_util.go`.

use jiff::SignedDuration;

use super::evidence;
use super::inferred::{CordonSign, Rules};
use super::profile::{Mark, Node, Notice, Profile};
use super::step::Step;
use crate::api::types::{Phase, UpdateKind};
use crate::domain::cordon::Cordoner;
use crate::domain::node::{Evidence, NodeFacts, NodeObject};
use crate::domain::text;
use crate::domain::version::Precision;

/// Evidence of a worker pool.
pub const MARK: &str = "label worker.gardener.cloud/pool";

const POOL: &str = "worker.gardener.cloud/pool";
const OLD_TAINT: &str = "deployment.machine.sapcloud.io/prefer-no-schedule";
const FAILURE: &str = "node.machine.sapcloud.io/update-failed-reason";

/// Reasons of the condition `Terminating`.
const SCALE_DOWN: &str = "ScaleDown";
const UNHEALTHY: &str = "Unhealthy";

/// Worker pools of Gardener.
pub static GARDENER: Profile = Profile {
    evidence: marks,
    outdated,
    in_place: |node| {
        let marks = node.evidence::<GardenerNode>();
        marks.is_some_and(|marks| marks.in_place.is_some())
    },
    notice,
    step,
    ..Profile::new(
        "Gardener",
        Mark::Label(POOL, MARK),
        Rules {
            precision: Precision::Minor,
            replaces: true,
            cordon: CordonSign::DrainInRollout,
            // The drain of a machine takes at most 2 hours.
            limit: SignedDuration::from_hours(2),
        },
    )
};

/// What Gardener writes on a node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct GardenerNode {
    /// The node belongs to the old generation of a rolling update.
    pub(super) is_old: bool,
    /// The reason of the condition `Terminating`, if it is True.
    pub(super) terminating: Option<Box<str>>,
    /// The reason of the condition `InPlaceUpdate`.
    pub(super) in_place: Option<Box<str>>,
    /// Why the update in place failed.
    pub(super) failure: Option<Box<str>>,
    /// The machine is kept although it failed: the condition `Preserved` is True.
    pub(super) is_preserved: bool,
}

fn marks(node: &NodeObject) -> Option<Evidence> {
    if !node.labels.contains(POOL) {
        return None;
    }
    let condition = |name: &str| node.conditions.find(name);
    let if_true = |name: &str| condition(name).filter(|[_, status, ..]| *status == "True");
    let reason = |[_, _, reason, _, _]: [&str; 5]| Box::from(reason);
    let taint = node.taint(OLD_TAINT, "PreferNoSchedule");
    let found = GardenerNode {
        is_old: taint.is_some_and(|(value, _)| value == "True"),
        terminating: if_true("Terminating").map(reason),
        in_place: condition("InPlaceUpdate").map(reason),
        failure: node.annotations.get(FAILURE).map(Box::from),
        is_preserved: if_true("Preserved").is_some(),
    };
    evidence((found != GardenerNode::default()).then_some(found))
}

/// The success of an update in place stays on the node, so it says nothing about the next update.
fn outdated(node: &NodeFacts) -> Option<bool> {
    let marks = node.evidence::<GardenerNode>()?;
    match marks.in_place.as_deref() {
        Some("UpdateSuccessful") | None => marks.is_old.then_some(true),
        Some(_) => Some(true),
    }
}

/// Repair and scale-down terminate machines as well.
fn notice(node: &NodeFacts) -> Option<Notice> {
    let marks = node.evidence::<GardenerNode>()?;
    match marks.terminating.as_deref() {
        Some(UNHEALTHY) => Some(Notice::Acts("Gardener replaces the unhealthy node".into())),
        Some(SCALE_DOWN) if !marks.is_old => Some(Notice::Acts(
            "Gardener removes the node to scale down".into(),
        )),
        Some(_) | None if marks.is_preserved => Some(Notice::Explains(
            "Gardener preserves the machine of the node".into(),
        )),
        Some(_) | None => None,
    }
}

fn step(node: &Node<'_>) -> Option<Step> {
    let facts = node.facts();
    let marks = facts.evidence::<GardenerNode>()?;
    let kind = node.change().unwrap_or(UpdateKind::Configuration);
    let by_gardener =
        |step: Step| Some(step.cordoned_by(Cordoner::updater("machine-controller-manager")));
    match marks.terminating.as_deref() {
        None | Some(SCALE_DOWN | UNHEALTHY) => {}
        Some(reason) => {
            let message = format!("Gardener terminates the node for an unknown reason: {reason}");
            return Some(Step::unknown("TerminationUnknown", message));
        }
    }
    if matches!(notice(facts), Some(Notice::Acts(_))) {
        return None;
    }
    match marks.in_place.as_deref() {
        Some("UpdateSuccessful") if node.is_outdated => {}
        Some("UpdateSuccessful") => return Some(Step::completed()),
        Some(state) => return by_gardener(in_place(state, kind, marks.failure.as_deref())),
        None => {}
    }
    if !marks.is_old || facts.deleting || node.is_interrupted {
        return None;
    }
    let is_leaving = facts.cordoned.is_some() || marks.terminating.is_some();
    if !facts.is_ready() && is_leaving {
        let message = "The machine of the outdated node is being terminated";
        let step = Step::new(Phase::Updating, kind, "Terminating", message);
        by_gardener(node.silent(step)?)
    } else if is_leaving {
        let message = "Gardener drains the outdated node";
        by_gardener(Step::new(Phase::Draining, kind, "Draining", message))
    } else if facts.is_ready() {
        let message = "The node belongs to the old generation and waits for its turn";
        Some(Step::new(Phase::Pending, kind, "Pending", message))
    } else {
        None
    }
}

/// The step of an update in place, by the reason of the condition.
fn in_place(state: &str, kind: UpdateKind, failure: Option<&str>) -> Step {
    let (phase, reason, message) = match state {
        "CandidateForUpdate" => (
            Phase::Pending,
            "CandidateForUpdate",
            "The node waits to be selected for its update",
        ),
        "SelectedForUpdate" => (
            Phase::Draining,
            "SelectedForUpdate",
            "The node is selected for its update and is drained",
        ),
        "DrainSuccessful" => (Phase::Updating, "DrainSuccessful", "The node is drained"),
        "ReadyForUpdate" => (
            Phase::Updating,
            "ReadyForUpdate",
            "The node is being updated in place",
        ),
        "UpdateFailed" => {
            let why = failure.map_or("The update failed".into(), text::message);
            let message = "The update of the node in place failed";
            return Step::new(Phase::Updating, kind, "UpdateFailed", message)
                .failed("UpdateFailed", why.into_owned());
        }
        other => {
            let message = format!("Gardener reports an unknown state of the update: {other}");
            return Step::unknown("StateUnknown", message);
        }
    };
    Step::new(phase, kind, reason, message)
}

#[cfg(test)]
mod tests;
