//! MachineConfigNodes: how far the Machine Config Daemon is with the update of a node, with times.
//!
//! Each step of an update is a condition: Unknown while the step is in progress, True once it is done. The transition
//! time is that of the last write of the condition, and all steps become False when the update is complete. So the
//! step that was written last is where the node is. Writes that fail are only logged, so the annotations of the Node
//! may be ahead.
//!
//! Source: openshift/machine-config-operator `pkg/upgrademonitor/upgrade_monitor.go`, `pkg/daemon/update.go`,
//! `pkg/controller/drain/drain_controller.go`; openshift/api `machineconfiguration/v1/types_machineconfignode.go`.

use std::sync::Arc;

use jiff::Timestamp;
use serde::Deserialize;

use super::evidence::MachineConfigFacts;
use super::kinds::GROUP;
use crate::api::types::Phase;
use crate::domain::fact::{Fact, KindSpec, Need, Object, Parsed};
use crate::domain::facts::{Unavailable, View};
use crate::domain::state::REBOOTED;
use crate::domain::text;
use crate::providers::condition::RawCondition;

/// Longest name of a config that is stored, as in the API.
const NAME_LIMIT: usize = 253;

/// The MachineConfigNode of a node, which has its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MachineConfigNode {
    /// `spec.configVersion.desired`, which the controller sets before it annotates the Node.
    pub target: Option<Arc<str>>,
    /// `status.configVersion.desired`, which the daemon sets once it has accepted the update.
    pub accepted: Option<Arc<str>>,
    /// The step that was written last; `None` between two updates.
    pub step: Option<UpdateStep>,
    /// When the first of the steps was written.
    pub since: Option<Timestamp>,
    /// `NodeDegraded` is True.
    pub failure: Option<Failure>,
}

/// Why updating a node failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Since when.
    pub since: Option<Timestamp>,
    /// Why.
    pub message: Box<str>,
}

/// The steps of an update, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum UpdateStep {
    /// `UpdatePrepared`: the daemon compares the two configs.
    Preparing,
    /// `UpdateExecuted`: the update has begun.
    Executing,
    /// `Cordoned`.
    Cordoned,
    /// `Drained`, in progress.
    Draining,
    /// `Drained`.
    Drained,
    /// `ImagePulledFromRegistry`, in image mode.
    PullingImage,
    /// `AppliedFilesAndOS`, or one of both, in progress.
    Applying,
    /// `AppliedFilesAndOS`, or one of both.
    Applied,
    /// `UpdatePostActionComplete`: services are reloaded, where no reboot is needed.
    PostAction,
    /// `RebootedNode`, in progress.
    Rebooting,
    /// `RebootedNode`.
    Rebooted,
    /// `Resumed`: the daemon is back.
    Resumed,
    /// `UpdateComplete`.
    Completing,
    /// `Uncordoned`.
    Uncordoned,
}

impl UpdateStep {
    /// The step of a condition that is not False.
    fn of(type_: &str, is_done: bool) -> Option<Self> {
        Some(match (type_, is_done) {
            ("UpdatePrepared", _) => Self::Preparing,
            ("UpdateExecuted", _) => Self::Executing,
            ("Cordoned", _) => Self::Cordoned,
            ("Drained", false) => Self::Draining,
            ("Drained", true) => Self::Drained,
            ("ImagePulledFromRegistry", _) => Self::PullingImage,
            ("AppliedFilesAndOS" | "AppliedFiles" | "AppliedOSImage", false) => Self::Applying,
            ("AppliedFilesAndOS" | "AppliedFiles" | "AppliedOSImage", true) => Self::Applied,
            ("UpdatePostActionComplete", _) => Self::PostAction,
            ("RebootedNode", false) => Self::Rebooting,
            ("RebootedNode", true) => Self::Rebooted,
            ("Resumed", _) => Self::Resumed,
            ("UpdateComplete", _) => Self::Completing,
            ("Uncordoned", _) => Self::Uncordoned,
            _ => return None,
        })
    }

    /// The phase of a node in this step.
    #[must_use]
    pub const fn phase(self) -> Phase {
        match self {
            Self::Cordoned | Self::Draining => Phase::Draining,
            Self::Rebooting => Phase::Rebooting,
            Self::Preparing
            | Self::Executing
            | Self::Drained
            | Self::PullingImage
            | Self::Applying
            | Self::Applied
            | Self::PostAction
            | Self::Rebooted
            | Self::Resumed
            | Self::Completing
            | Self::Uncordoned => Phase::Updating,
        }
    }

    /// The reason of the Updating condition in this step.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Preparing => "Preparing",
            Self::Executing => "Updating",
            Self::Cordoned => "Cordoned",
            Self::Draining => "Draining",
            Self::Drained => "Drained",
            Self::PullingImage => "PullingImage",
            Self::Applying => "Applying",
            Self::Applied => "Applied",
            Self::PostAction => "PostConfigAction",
            Self::Rebooting => "Rebooting",
            Self::Rebooted => REBOOTED,
            Self::Resumed => "Resumed",
            Self::Completing => "Completing",
            Self::Uncordoned => "Uncordoned",
        }
    }

    /// What happens in this step of the update to `towards`.
    #[must_use]
    pub fn sentence(self, towards: &str) -> String {
        match self {
            Self::Preparing => format!("Preparing the update to {towards}"),
            Self::Executing => format!("Updating the node to {towards}"),
            Self::Cordoned => {
                format!("The node is cordoned and drained next for the update to {towards}")
            }
            Self::Draining => format!("Draining the node before the update to {towards}"),
            Self::Drained => format!("The node is drained for the update to {towards}"),
            Self::PullingImage => format!("Pulling the image for the update to {towards}"),
            Self::Applying => format!("Writing files and operating system of {towards}"),
            Self::Applied => format!("Files and operating system of {towards} are written"),
            Self::PostAction => {
                format!("Reloading what has changed with {towards}; no reboot is needed")
            }
            Self::Rebooting => format!("Rebooting the node into {towards}"),
            Self::Rebooted => format!("The node has rebooted into {towards}"),
            Self::Resumed => format!("The daemon checks the node after the update to {towards}"),
            Self::Completing => format!("The update to {towards} is about to be completed"),
            Self::Uncordoned => {
                format!("The node is uncordoned after the update to {towards}")
            }
        }
    }
}

impl MachineConfigNode {
    /// The MachineConfigNode of a node that is being updated, if it is about this update.
    ///
    /// # Errors
    /// When MachineConfigNodes are served and cannot be read.
    pub(super) fn find<'a>(
        node: &str,
        facts: &MachineConfigFacts,
        view: &View<'a>,
    ) -> Result<Option<&'a Self>, Unavailable> {
        if !view.serves::<Self>() {
            return Ok(None);
        }
        let found = view.get::<Self>(node)?;
        Ok(found.filter(|found| found.is_about(facts)))
    }

    /// Whether the object is about the update to the desired config of the Node; it may be behind the Node.
    fn is_about(&self, facts: &MachineConfigFacts) -> bool {
        let desired = facts.desired_config.as_ref();
        desired.is_some()
            && [&self.target, &self.accepted]
                .map(Option::as_ref)
                .contains(&desired)
    }
}

#[derive(Deserialize)]
struct ConfigNodeObject {
    #[serde(default)]
    spec: Versioned,
    #[serde(default)]
    status: Versioned,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Versioned {
    config_version: Option<ConfigVersion>,
    conditions: Option<Vec<RawCondition>>,
}

#[derive(Deserialize)]
struct ConfigVersion {
    #[serde(default)]
    desired: Option<String>,
}

impl Versioned {
    fn desired(&self) -> Option<Arc<str>> {
        let desired = self.config_version.as_ref()?.desired.as_deref()?;
        text::word(desired, NAME_LIMIT).map(Arc::from)
    }
}

impl Fact for MachineConfigNode {
    const KIND: KindSpec = KindSpec::new(GROUP, &["v1"], "MachineConfigNode", "machineconfignodes")
        .need(Need::Optional);

    fn parse(object: &Object<'_>) -> Parsed<Self> {
        let node = match object.read::<ConfigNodeObject>() {
            Ok(node) => node,
            Err(error) => return Parsed::Unreadable(error),
        };
        let conditions = node.status.conditions.as_deref().unwrap_or_default();
        let steps: Vec<(Option<Timestamp>, UpdateStep)> = conditions
            .iter()
            .filter(|condition| matches!(condition.status_text(), "True" | "Unknown"))
            .filter_map(|condition| {
                let step = UpdateStep::of(condition.type_(), condition.is_true())?;
                Some((condition.since(), step))
            })
            .collect();
        let degraded = conditions
            .iter()
            .find(|condition| condition.is("NodeDegraded", "True"));
        Parsed::Fact(Self {
            target: node.spec.desired(),
            accepted: node.status.desired(),
            step: steps.iter().max().map(|(_, step)| *step),
            since: steps.iter().filter_map(|(since, _)| *since).min(),
            failure: degraded.map(|condition| Failure {
                since: condition.since(),
                message: text::message(condition.message()).into(),
            }),
        })
    }
}
