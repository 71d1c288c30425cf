//! The Flatcar update operator: it restarts nodes into an operating system that is already installed, with any
//! provider.
//!
//! Everything is written on the Node. `update_engine` downloads and installs an image by itself; then the agent on the
//! node asks for a reboot. The operator allows it, for a few nodes at a time, after checks that users configure. The
//! agent cordons and drains the node and reboots it; after further checks it is uncordoned.
//!
//! Source: flatcar/flatcar-linux-update-operator `pkg/constants/constants.go`, `pkg/operator/operator.go`,
//! `pkg/agent/agent.go`.

use super::step::Step;
use super::{Overlay, Subject, evidence};
use crate::api::types::{Phase, ProviderName, UpdateKind};
use crate::domain::cordon::Cordoner;
use crate::domain::drain::Drainer;
use crate::domain::drain::method::Method;
use crate::domain::facts::{Unavailable, View};
use crate::domain::labels::Labels;
use crate::domain::node::{Evidence, NodeFacts, NodeObject};
use crate::domain::state::{Evaluation, REBOOTED};
use crate::domain::text;

/// Prefix of all its labels and annotations.
const PREFIX: &str = "flatcar-linux-update.v1.flatcar-linux.net/";
/// Longest version or status that is stored.
const WORD_LIMIT: usize = 253;

/// The Flatcar update operator.
#[derive(Debug, Clone, Copy, Default)]
pub struct Flatcar;

/// What agent and operator write on a Node, while there is an update.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct FlatcarNode {
    stage: Stage,
    /// The version that the node runs.
    version: Option<Box<str>>,
    /// The version that it reboots into. The annotation stays after the update, so it counts only before the reboot.
    wanted: Option<Box<str>>,
    /// The agent has cordoned the node, and uncordons it; otherwise the cordon was there before, and stays.
    has_cordoned: bool,
}

/// How far the update of a node is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
enum Stage {
    /// An image is downloaded.
    Downloading,
    /// The image is verified.
    Verifying,
    /// The image is installed.
    Finalizing,
    /// The update failed; `update_engine` is reporting that.
    Failed,
    /// The node waits for the permission to reboot.
    #[default]
    Waiting,
    /// A user keeps the node from rebooting.
    Paused,
    /// Checks before the reboot are in progress.
    ChecksBefore,
    /// The node may reboot.
    Permitted,
    /// The agent drains the node and reboots it.
    Reboot,
    /// Checks after the reboot are in progress.
    ChecksAfter,
    /// The agent is about to uncordon the node.
    Uncordon,
    /// `update_engine` has another status, which this version does not know.
    Other(Box<str>),
}

impl FlatcarNode {
    /// Reads the Node; `None` when there is no update.
    fn of(node: &NodeObject) -> Option<Self> {
        let mut keys = node.annotations.iter().map(|(key, _)| key);
        if !keys.any(|key| key.starts_with(PREFIX)) {
            return None;
        }
        let annotation = |name: &str, value: &str| own(&node.annotations, name) == Some(value);
        let is_labelled = |name: &str| own(&node.labels, name) == Some("true");
        let needs_reboot = annotation("reboot-needed", "true");
        let is_permitted = annotation("reboot-ok", "true");
        let has_cordoned = annotation("agent-made-unschedulable", "true");
        let has_restarted = annotation("reboot-needed", "false")
            && annotation("reboot-in-progress", "false")
            && is_permitted;
        let stage = if needs_reboot {
            // The agent looks at the permission only: a pause that comes after it has no effect.
            if is_permitted && annotation("reboot-in-progress", "true") {
                Stage::Reboot
            } else if is_permitted {
                Stage::Permitted
            } else if annotation("reboot-paused", "true") {
                Stage::Paused
            } else if is_labelled("before-reboot") {
                Stage::ChecksBefore
            } else {
                Stage::Waiting
            }
        } else if has_restarted || is_labelled("after-reboot") {
            Stage::ChecksAfter
        } else if has_cordoned && node.unschedulable {
            Stage::Uncordon
        } else {
            Stage::of_status(own(&node.annotations, "status")?)?
        };
        let wanted = own(&node.annotations, "new-version").filter(|_| needs_reboot);
        Some(Self {
            stage,
            version: own(&node.labels, "version").and_then(word),
            wanted: wanted.and_then(word),
            has_cordoned,
        })
    }

    /// From which version to which, as far as the Node has them.
    fn versions(&self) -> String {
        match (self.version.as_deref(), self.wanted.as_deref()) {
            (Some(from), Some(to)) if from != to => format!("Flatcar {from} to {to}"),
            (Some(version), _) => format!("Flatcar {version}"),
            (None, Some(to)) => format!("Flatcar, to {to}"),
            (None, None) => "Flatcar".to_owned(),
        }
    }
}

impl Stage {
    /// The stage of an image that is not installed yet; `None` while `update_engine` does nothing, and after it asked
    /// for the reboot, which has annotations of its own.
    fn of_status(status: &str) -> Option<Self> {
        match status {
            ""
            | "UPDATE_STATUS_IDLE"
            | "UPDATE_STATUS_CHECKING_FOR_UPDATE"
            | "UPDATE_STATUS_UPDATE_AVAILABLE"
            | "UPDATE_STATUS_UPDATED_NEED_REBOOT" => None,
            "UPDATE_STATUS_DOWNLOADING" => Some(Self::Downloading),
            "UPDATE_STATUS_VERIFYING" => Some(Self::Verifying),
            "UPDATE_STATUS_FINALIZING" => Some(Self::Finalizing),
            "UPDATE_STATUS_REPORTING_ERROR_EVENT" => Some(Self::Failed),
            other => word(other).map(Self::Other),
        }
    }
}

/// The value of a label or an annotation of the operator.
fn own<'a>(all: &'a Labels, name: &str) -> Option<&'a str> {
    let mut all = all.iter();
    all.find_map(|(key, value)| (key.strip_prefix(PREFIX)? == name).then_some(value))
}

fn word(text: &str) -> Option<Box<str>> {
    text::word(text, WORD_LIMIT).map(Box::from)
}

impl Overlay for Flatcar {
    fn name(&self) -> ProviderName {
        ProviderName::new("Flatcar")
    }

    fn evidence(&self, node: &NodeObject) -> Option<Evidence> {
        evidence(FlatcarNode::of(node))
    }

    fn method(&self, _: &NodeFacts, _: &View<'_>) -> Option<Method> {
        Some(Method::of(Drainer::Flatcar))
    }

    fn refine(
        &self,
        node: &Subject<'_>,
        until_now: &Evaluation,
        _: &View<'_>,
    ) -> Result<Option<Evaluation>, Unavailable> {
        let shown = node.facts.evidence::<FlatcarNode>();
        Ok(shown.map(|shown| step(node, shown).refine(node.facts, until_now)))
    }
}

fn step(node: &Subject<'_>, shown: &FlatcarNode) -> Step {
    let (phase, reason, what) = match &shown.stage {
        Stage::Downloading => (Phase::Updating, "Downloading", "an image is downloaded"),
        Stage::Verifying => (Phase::Updating, "Verifying", "the image is verified"),
        Stage::Finalizing => (Phase::Updating, "Finalizing", "the image is installed"),
        Stage::Failed => (
            Phase::Updating,
            "UpdateFailed",
            "update_engine has failed to install an image and will try again",
        ),
        Stage::Waiting => (
            Phase::Pending,
            "RebootNeeded",
            "the image is installed, and the node waits for the permission to reboot",
        ),
        Stage::Paused => (
            Phase::Paused,
            "RebootPaused",
            "the annotation reboot-paused keeps the node from rebooting",
        ),
        Stage::ChecksBefore => (
            Phase::Updating,
            "BeforeReboot",
            "checks before the reboot are in progress",
        ),
        Stage::Permitted => (
            Phase::Updating,
            "RebootPermitted",
            "the node may reboot and is about to be drained",
        ),
        Stage::Reboot => reboot(node),
        Stage::ChecksAfter => (
            Phase::Updating,
            "AfterReboot",
            "the node has restarted, and checks after the reboot are in progress",
        ),
        Stage::Uncordon => (
            Phase::Updating,
            "Uncordoning",
            "the node has restarted and is about to be uncordoned",
        ),
        Stage::Other(status) => {
            let message = format!("update_engine has the status '{status}', which is not known");
            return Step::unknown("UnknownStatus", message);
        }
    };
    let message = format!("{}: {what}", shown.versions());
    let mut step = Step::new(phase, UpdateKind::Image, reason, message.clone());
    // Users and other tools may have cordoned the node before.
    step.is_own_cordon = Some(phase.is_in_progress() && shown.has_cordoned);
    if shown.has_cordoned {
        step = step.cordoned_by(Cordoner::updater("flatcar-linux-update-operator"));
    }
    if shown.stage == Stage::Failed {
        step = step.failed(reason, message);
    }
    step
}

/// The agent writes nothing between the start of the drain and its own start after the reboot.
fn reboot(node: &Subject<'_>) -> (Phase, &'static str, &'static str) {
    match (node.facts.is_ready(), node.has_rebooted()) {
        (true, false) => (
            Phase::Draining,
            "Draining",
            "the node is drained before it reboots",
        ),
        (true, true) => (
            Phase::Updating,
            REBOOTED,
            "the node has restarted, and its agent has not reported yet",
        ),
        // A node registers before it is ready: the restart must be remembered until then.
        (false, true) => (Phase::Rebooting, REBOOTED, "the node is not ready yet"),
        (false, false) => (
            Phase::Rebooting,
            "Rebooting",
            "the node does not report: it restarts",
        ),
    }
}

#[cfg(test)]
mod tests;
