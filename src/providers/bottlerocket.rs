//! The Bottlerocket update operator: it updates the operating system of labelled nodes in place, with any provider.
//!
//! Each node has a `BottlerocketShadow`. The controller writes into its spec which state the node has to reach next;
//! the agent on the node acts, and then reports that state in the status. First the image is downloaded and installed,
//! then the node is cordoned, drained and restarted, then it is uncordoned. After a failed step the controller starts
//! over, later with each failure. The versions are those of the operating system: Kubernetes stays as it is.
//!
//! Source: bottlerocket-os/bottlerocket-update-operator `controller/src/statemachine.rs`, `agent/src/agentclient.rs`,
//! `models/src/node/crd/v2.rs`.

use jiff::{SignedDuration, Timestamp};

use self::kinds::{NODE, Shadow, State, Status};
use super::step::Step;
use super::{Overlay, Subject};
use crate::api::types::{Phase, ProviderName, UpdateKind};
use crate::domain::cordon::Cordoner;
use crate::domain::fact::Kind;
use crate::domain::facts::{Unavailable, View};
use crate::domain::state::{Evaluation, REBOOTED};
use crate::domain::version::Version;

pub mod kinds;

/// The label of the nodes that the operator updates: the version of the interface of its agent.
const LABEL: (&str, &str) = ("bottlerocket.aws/updater-interface-version", "2.0.0");
/// After n failed attempts the controller waits for 2^n minutes, but no longer than this.
const LONGEST_WAIT: SignedDuration = SignedDuration::from_hours(24);

/// The Bottlerocket update operator.
#[derive(Debug, Clone, Copy, Default)]
pub struct Bottlerocket;

impl Overlay for Bottlerocket {
    fn name(&self) -> ProviderName {
        ProviderName::new("Bottlerocket")
    }

    fn kinds(&self) -> Vec<Kind> {
        vec![Kind::of::<Shadow>()]
    }

    fn refine(
        &self,
        node: &Subject<'_>,
        until_now: &Evaluation,
        view: &View<'_>,
    ) -> Result<Option<Evaluation>, Unavailable> {
        let (label, version) = LABEL;
        if node.facts.labels.get(label) != Some(version) || !view.serves::<Shadow>() {
            return Ok(None);
        }
        let shadows = view.find::<Shadow>(NODE, &node.facts.name)?;
        Ok(match shadows.as_slice() {
            // The agent has not started on the node, or the operator is not installed.
            [] => None,
            [shadow] => evaluate(node, shadow, until_now),
            [first, second, ..] => {
                let message = format!(
                    "Several BottlerocketShadows belong to the node: {} and {}",
                    first.name, second.name
                );
                let step = Step::unknown("SeveralShadows", message);
                Some(step.refine(node.facts, until_now))
            }
        })
    }
}

/// The evaluation of a node with this shadow; `None` if its operating system is up to date.
fn evaluate(node: &Subject<'_>, shadow: &Shadow, until_now: &Evaluation) -> Option<Evaluation> {
    let Some(status) = &shadow.status else {
        let message = "The agent of the Bottlerocket update operator has not reported yet";
        let step = Step::unknown("NoStatus", message);
        return Some(step.refine(node.facts, until_now));
    };
    let update = Update {
        node,
        shadow,
        status,
    };
    let mut step = update.step()?;
    let is_in_progress = step.phase.is_in_progress();
    // Only this step and what follows a failure may have cordoned the node: before and after, it takes pods.
    let may_cordon =
        shadow.wanted == State::RebootedIntoUpdate || status.state == State::ErrorReset;
    step.is_own_cordon = Some(is_in_progress && may_cordon);
    if is_in_progress && may_cordon {
        step = step.cordoned_by(Cordoner::updater("bottlerocket-update-operator"));
    }
    let mut evaluation = step.refine(node.facts, until_now);
    if is_in_progress {
        evaluation.updating.since = shadow.since;
    }
    Some(evaluation)
}

/// The update of a node whose agent reports.
struct Update<'a> {
    node: &'a Subject<'a>,
    shadow: &'a Shadow,
    status: &'a Status,
}

impl Update<'_> {
    fn step(&self) -> Option<Step> {
        use State::{
            ErrorReset, Idle, MonitoringUpdate, Other, RebootedIntoUpdate, StagedAndPerformedUpdate,
        };
        let versions = [&self.status.version, self.wanted_version()];
        if let Some(odd) = versions.into_iter().find(|text| !is_version(text)) {
            let message = format!(
                "The BottlerocketShadow of the node has the version '{odd}', which cannot be read"
            );
            return Some(Step::unknown("VersionUnreadable", message));
        }
        Some(match (&self.shadow.wanted, &self.status.state) {
            (Other(state), _) | (_, Other(state)) => unexpected(state),
            // The controller never asks for a failure.
            (ErrorReset, _) => unexpected("ErrorReset"),
            (_, ErrorReset) => self.failed(),
            (Idle, Idle) if self.status.version == self.status.target => return None,
            (Idle, Idle) => self.waiting(),
            (StagedAndPerformedUpdate, StagedAndPerformedUpdate) => {
                let what = "the image is installed, and the node is about to be drained";
                self.image(Phase::Updating, "Installed", what)
            }
            (StagedAndPerformedUpdate, Idle | RebootedIntoUpdate | MonitoringUpdate) => {
                let what = "the image is downloaded and installed";
                self.image(Phase::Updating, "Installing", what)
            }
            (RebootedIntoUpdate, Idle | StagedAndPerformedUpdate | MonitoringUpdate) => {
                self.restarting()
            }
            (RebootedIntoUpdate, RebootedIntoUpdate)
            | (
                MonitoringUpdate,
                Idle | StagedAndPerformedUpdate | RebootedIntoUpdate | MonitoringUpdate,
            )
            | (Idle, StagedAndPerformedUpdate | RebootedIntoUpdate | MonitoringUpdate) => {
                let what = "the update is being completed";
                self.image(Phase::Updating, "Completing", what)
            }
        })
    }

    /// While the node is idle, the agent reports which version it would update to; then the controller sets it.
    fn wanted_version(&self) -> &str {
        let reported = &self.status.target;
        if self.shadow.wanted == State::Idle {
            return reported;
        }
        self.shadow.wanted_version.as_deref().unwrap_or(reported)
    }

    /// A step of the update of the image, with its versions and the failed attempts.
    fn image(&self, phase: Phase, reason: &'static str, what: &str) -> Step {
        let (from, to) = (&*self.status.version, self.wanted_version());
        let versions = if from == to {
            format!("Bottlerocket {from}")
        } else {
            format!("Bottlerocket {from} to {to}")
        };
        let failures = match self.status.failures {
            0 => String::new(),
            1 => "; 1 attempt has failed".to_owned(),
            many => format!("; {many} attempts have failed"),
        };
        let message = format!("{versions}: {what}{failures}");
        Step::new(phase, UpdateKind::Image, reason, message)
    }

    fn waiting(&self) -> Step {
        match self.next_attempt() {
            Some(time) => {
                let what = format!("the next attempt is not made before {time}");
                let step = self.image(Phase::Pending, "Retrying", &what);
                step.again_at(Some(time))
            }
            None => self.image(Phase::Pending, "Pending", "the node waits for its turn"),
        }
    }

    /// When the controller tries again after a failure; `None` when that time has passed.
    fn next_attempt(&self) -> Option<Timestamp> {
        let failed_at = self.status.failed_at.filter(|_| self.status.failures > 0)?;
        let minutes = 2_i64.checked_pow(self.status.failures);
        let minutes = minutes.unwrap_or(i64::MAX).min(LONGEST_WAIT.as_mins());
        let next = failed_at
            .checked_add(SignedDuration::from_mins(minutes))
            .ok()?;
        (next > self.node.now).then_some(next)
    }

    /// The drain belongs to the same state as the restart, so the Node has to show how far the agent is.
    fn restarting(&self) -> Step {
        let has_rebooted = self.has_rebooted();
        if !self.node.facts.is_ready() {
            // A node registers before it is ready: the restart must be remembered until then.
            let reason = if has_rebooted { REBOOTED } else { "Rebooting" };
            self.image(
                Phase::Rebooting,
                reason,
                "the node does not report: it restarts",
            )
        } else if *self.status.version == *self.wanted_version() {
            let what = "the node has restarted and is about to be uncordoned";
            self.image(Phase::Updating, REBOOTED, what)
        } else if has_rebooted {
            let what = "the node has restarted, and its agent has not reported the version yet";
            self.image(Phase::Rebooting, REBOOTED, what)
        } else {
            self.image(
                Phase::Draining,
                "Draining",
                "the node is drained before it restarts",
            )
        }
    }

    /// Without an earlier boot ID, a node that became ready after this state was requested has restarted.
    fn has_rebooted(&self) -> bool {
        let has_history = self.node.past.is_some_and(|past| past.boot_id.is_some());
        let ready = self.node.facts.conditions.ready.as_ref();
        let ready_since = ready.and_then(|ready| ready.since);
        // Times of conditions are whole seconds.
        let is_later = ready_since
            .zip(self.shadow.since)
            .is_some_and(|(ready, asked)| ready.as_second() > asked.as_second());
        self.node.has_rebooted() || (!has_history && is_later)
    }

    fn failed(&self) -> Step {
        let what = "a step has failed, and the agent resets the node for another attempt";
        let step = self.image(Phase::Updating, "ErrorReset", what);
        let message = step.message.clone();
        step.failed("UpdateFailed", message)
    }
}

fn is_version(text: &str) -> bool {
    Version::parse(text).is_some()
}

fn unexpected(state: &str) -> Step {
    let message = format!(
        "The BottlerocketShadow of the node has the state '{state}', which is not expected"
    );
    Step::unknown("UnexpectedState", message)
}

#[cfg(test)]
mod tests;
