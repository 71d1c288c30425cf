//! The node-maintenance-operator of medik8s: it keeps nodes free of pods during maintenance, with any provider.
//!
//! A user creates a `NodeMaintenance` that names a node. The operator labels, taints and cordons the node and evicts
//! its pods. When they are gone, its phase is `Succeeded`, and the maintenance goes on until the object is deleted:
//! then the operator uncordons the node.
//!
//! Source: medik8s/node-maintenance-operator `api/v1beta1/nodemaintenance_types.go`,
//! `internal/controller/nodemaintenance_controller.go`, `internal/controller/taint.go`.

use std::borrow::Cow;

use self::kinds::{Maintenance, MaintenancePhase, NODE};
use super::lifecycle::kind;
use super::step::Step;
use super::{Overlay, Subject, evidence};
use crate::api::types::{ConditionStatus, Phase, ProviderName};
use crate::domain::fact::Kind;
use crate::domain::facts::{Unavailable, View};
use crate::domain::node::{Evidence, NodeObject};
use crate::domain::state::{Evaluation, Finding};

pub mod kinds;

/// The taint of a node in maintenance. By it, [`Cordoner`](crate::domain::cordon::Cordoner) names the operator.
const TAINT: &str = "medik8s.io/drain";
/// The label that keeps other tools from repairing the node meanwhile; users may set it as well.
const LABEL: &str = "remediation.medik8s.io/exclude-from-remediation";

/// The node-maintenance-operator.
#[derive(Debug, Clone, Copy, Default)]
pub struct NodeMaintenance;

/// The node has the taint.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct DrainTaint;

impl DrainTaint {
    fn of(node: &NodeObject) -> Option<Self> {
        node.taint(TAINT, "NoSchedule").map(|_| Self)
    }
}

/// What the Node shows of a maintenance.
#[derive(Debug, Clone, Copy)]
struct Marks {
    is_tainted: bool,
    is_cordoned: bool,
    is_labelled: bool,
}

impl Marks {
    fn of(node: &Subject<'_>) -> Self {
        Self {
            is_tainted: node.facts.evidence::<DrainTaint>().is_some(),
            is_cordoned: node.facts.cordoned.is_some(),
            is_labelled: node.facts.labels.get(LABEL) == Some("true"),
        }
    }

    fn any(self) -> bool {
        self.is_tainted || self.is_cordoned || self.is_labelled
    }
}

/// Whether the node may be in maintenance.
///
/// A node without any mark does not read the kind: the operator labels, taints and cordons a node before it evicts
/// the first pod, so an object whose node is not marked yet is seen when the Node changes. But a maintenance that fails
/// leaves no mark. So a node that is in progress or degraded reads the kind, and once more when it no longer is.
fn may_be_in_maintenance(node: &Subject<'_>, marks: Marks, until_now: &Evaluation) -> bool {
    let was_affected = node
        .past
        .is_some_and(|past| is_affected(past.phase, past.degraded.status));
    marks.any() || was_affected || is_affected(until_now.phase, until_now.degraded.status)
}

fn is_affected(phase: Phase, degraded: ConditionStatus) -> bool {
    phase.is_in_progress() || degraded == ConditionStatus::True
}

impl Overlay for NodeMaintenance {
    fn name(&self) -> ProviderName {
        ProviderName::new("NodeMaintenance")
    }

    fn kinds(&self) -> Vec<Kind> {
        vec![Kind::of::<Maintenance>()]
    }

    fn evidence(&self, node: &NodeObject) -> Option<Evidence> {
        evidence(DrainTaint::of(node))
    }

    fn refine(
        &self,
        node: &Subject<'_>,
        until_now: &Evaluation,
        view: &View<'_>,
    ) -> Result<Option<Evaluation>, Unavailable> {
        let marks = Marks::of(node);
        if !may_be_in_maintenance(node, marks, until_now) || !view.serves::<Maintenance>() {
            return Ok(None);
        }
        let found = match view.find::<Maintenance>(NODE, &node.facts.name) {
            Ok(found) => found,
            // The taint comes before the cordon, and the label has other uses.
            Err(_) if !marks.is_tainted => return Ok(None),
            Err(error) => {
                let message = "The node-maintenance-operator keeps the node in maintenance";
                let mut step = updating(node, until_now, "InMaintenance", message);
                step.missing.push(error);
                return Ok(Some(step.refine(node.facts, until_now)));
            }
        };
        Ok(match found.as_slice() {
            [] => None,
            [maintenance] => evaluate(node, maintenance, marks, until_now),
            [first, second, ..] => {
                let message = format!(
                    "Several NodeMaintenances name the node: {} and {}",
                    first.name, second.name
                );
                let step = Step::unknown("SeveralMaintenances", message);
                Some(step.refine(node.facts, until_now))
            }
        })
    }
}

fn updating(
    node: &Subject<'_>,
    until_now: &Evaluation,
    reason: &'static str,
    message: impl Into<Cow<'static, str>>,
) -> Step {
    Step::new(Phase::Updating, kind(node, until_now), reason, message)
}

/// The evaluation of a node with this object; `None` if it is not in maintenance yet, or no longer.
fn evaluate(
    node: &Subject<'_>,
    maintenance: &Maintenance,
    marks: Marks,
    until_now: &Evaluation,
) -> Option<Evaluation> {
    let name = &maintenance.name;
    let step = if maintenance.is_ending {
        if !marks.is_tainted && !marks.is_cordoned {
            return None;
        }
        let message = "The maintenance is over, and the node is about to be uncordoned";
        updating(node, until_now, "MaintenanceEnds", message)
    } else {
        match &maintenance.phase {
            MaintenancePhase::None => return None,
            // It releases the node before it reports the failure.
            MaintenancePhase::Running | MaintenancePhase::Succeeded
                if maintenance.is_giving_up && !marks.any() =>
            {
                return Some(failed(maintenance, until_now));
            }
            // It waits for its turn: another tool works on the node.
            MaintenancePhase::Running if !marks.any() => return None,
            MaintenancePhase::Running => {
                let message = draining(maintenance);
                Step::new(Phase::Draining, kind(node, until_now), "Draining", message)
            }
            MaintenancePhase::Succeeded => {
                let why = why(maintenance);
                let message = format!(
                    "The node is drained and in maintenance{why} until the NodeMaintenance {name} is deleted"
                );
                updating(node, until_now, "InMaintenance", message)
            }
            MaintenancePhase::Failed => return Some(failed(maintenance, until_now)),
            MaintenancePhase::Other(phase) => {
                let message = format!(
                    "The NodeMaintenance {name} has the phase '{phase}', which is not known"
                );
                Step::unknown("UnknownPhase", message)
            }
        }
    };
    Some(step.refine(node.facts, until_now))
}

/// A failed maintenance has uncordoned the node: the phase of its update is what it would be without.
fn failed(maintenance: &Maintenance, until_now: &Evaluation) -> Evaluation {
    let name = &maintenance.name;
    let mut message = format!(
        "The maintenance of the node{} has failed (NodeMaintenance {name})",
        why(maintenance)
    );
    if !maintenance.last_error.is_empty() {
        message = format!("{message}: {}", maintenance.last_error);
    }
    Evaluation {
        degraded: Finding::new(true, "MaintenanceFailed", message),
        ..until_now.clone()
    }
}

/// What the user gave as reason.
fn why(maintenance: &Maintenance) -> String {
    match &*maintenance.reason {
        "" => String::new(),
        reason => format!(" ({reason})"),
    }
}

/// How far the drain is, and what it waits for.
fn draining(maintenance: &Maintenance) -> String {
    let why = why(maintenance);
    let progress = maintenance.progress;
    let mut message = format!("The node is drained for maintenance{why}: {progress}% done");
    if !maintenance.pods.is_empty() {
        let pods = maintenance.pods.join(", ");
        message = match maintenance.more_pods {
            0 => format!("{message}, waiting for {pods}"),
            more => format!("{message}, waiting for {pods} and {more} more"),
        };
    }
    if !maintenance.last_error.is_empty() {
        message = format!("{message}; last error: {}", maintenance.last_error);
    }
    message
}

#[cfg(test)]
mod tests;
