//! What the Machine Config Operator writes on a Node.
//!
//! The daemon of a node asks for a drain or an uncordon by `desiredDrain`, and the controller copies the annotation to
//! `lastAppliedDrain` once that is done. `post-config-action` is `Rebooting` from just before the reboot until the
//! daemon is back, beside the state `Working`; old releases had the state `Rebooting` instead. In hosted clusters
//! nothing empties it, so it counts only while the configs differ.
//!
//! Source: openshift/machine-config-operator `pkg/daemon/constants/constants.go`,
//! `pkg/daemon/{update,daemon,drain}.go`.

use std::sync::Arc;

use crate::domain::node::NodeObject;
use crate::domain::shared::shared;
use crate::domain::text;

/// Longest annotation that is stored as a name (of a config, an image).
const NAME_LIMIT: usize = 512;
/// Prefix of every annotation of the Machine Config Operator.
pub const PREFIX: &str = "machineconfiguration.openshift.io/";

/// What the Machine Config Operator wrote on the node. An empty annotation counts as absent.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MachineConfigFacts {
    /// `currentConfig`: the rendered MachineConfig that the node runs.
    pub current_config: Option<Arc<str>>,
    /// `desiredConfig`: the desired rendered MachineConfig of the node.
    pub desired_config: Option<Arc<str>>,
    /// `currentImage`, in image mode only.
    pub current_image: Option<Arc<str>>,
    /// `desiredImage`, in image mode only.
    pub desired_image: Option<Arc<str>>,
    /// `state`.
    pub state: DaemonState,
    /// `reason`, unchanged.
    pub reason: Option<Box<str>>,
    /// A drain is requested and not done: see [`drain_requested`].
    pub drain_requested: bool,
    /// An uncordon is requested and not done.
    pub uncordon_requested: bool,
    /// The last request, done or not.
    pub last_request: Option<DrainRequest>,
    /// `post-config-action` is `Rebooting`; see [`MachineConfigFacts::is_rebooting`].
    pub reboot_announced: bool,
}

/// What the daemon asks the controller to do with the pods of its node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DrainRequest {
    /// To cordon and drain the node.
    Drain,
    /// To uncordon it.
    Uncordon,
}

impl DrainRequest {
    /// Reads `desiredDrain`: the verb before the first dash.
    fn parse(text: &str) -> Option<Self> {
        match text.split('-').next() {
            Some("drain") => Some(Self::Drain),
            Some("uncordon") => Some(Self::Uncordon),
            _ => None,
        }
    }
}

/// Whether the Machine Config Operator has requested a drain that is not done. The annotations are `drain-<config>`
/// or `uncordon-<config>`, and equal once the request is served.
#[must_use]
pub fn drain_requested(desired: Option<&str>, last_applied: Option<&str>) -> bool {
    requested(desired, last_applied) == Some(DrainRequest::Drain)
}

/// The request that is not done, if there is one.
fn requested(desired: Option<&str>, last_applied: Option<&str>) -> Option<DrainRequest> {
    let desired = desired.unwrap_or_default();
    DrainRequest::parse(desired).filter(|_| desired != last_applied.unwrap_or_default())
}

/// State of the Machine Config Daemon on the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DaemonState {
    /// Nothing to do, or not begun.
    Done,
    /// Changing the node.
    Working,
    /// Restarting the machine; only in old releases.
    Rebooting,
    /// Changing the node failed.
    Degraded,
    /// The change cannot be made on a running node.
    Unreconcilable,
    /// Absent, or an unknown state.
    #[default]
    Other,
}

impl DaemonState {
    /// Reads the `state` annotation.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        match text {
            "Done" => Self::Done,
            "Working" => Self::Working,
            "Rebooting" => Self::Rebooting,
            "Degraded" => Self::Degraded,
            "Unreconcilable" => Self::Unreconcilable,
            _ => Self::Other,
        }
    }

    /// Whether the daemon has given up.
    #[must_use]
    pub fn is_failed(self) -> bool {
        matches!(self, Self::Degraded | Self::Unreconcilable)
    }
}

impl MachineConfigFacts {
    /// Reads the annotations; `None` when there are none.
    #[must_use]
    pub fn of(node: &NodeObject) -> Option<Self> {
        let mut facts = Self::default();
        let (mut desired_drain, mut last_applied_drain) = (None, None);
        for (key, value) in node.annotations.iter() {
            match key.strip_prefix(PREFIX) {
                Some("currentConfig") => facts.current_config = name(value),
                Some("desiredConfig") => facts.desired_config = name(value),
                Some("currentImage") => facts.current_image = name(value),
                Some("desiredImage") => facts.desired_image = name(value),
                Some("state") => facts.state = DaemonState::parse(value),
                Some("reason") => {
                    let reason = text::message(value);
                    facts.reason = (!reason.is_empty()).then(|| reason.into());
                }
                Some("desiredDrain") => desired_drain = Some(value),
                Some("lastAppliedDrain") => last_applied_drain = Some(value),
                Some("post-config-action") => facts.reboot_announced = value == "Rebooting",
                _ => {}
            }
        }
        let open = requested(desired_drain, last_applied_drain);
        facts.drain_requested = open == Some(DrainRequest::Drain);
        facts.uncordon_requested = open == Some(DrainRequest::Uncordon);
        facts.last_request = desired_drain.and_then(DrainRequest::parse);
        (facts != Self::default()).then_some(facts)
    }

    /// Whether the daemon restarts the machine. Meaningful only while the node is being updated.
    #[must_use]
    pub fn is_rebooting(&self) -> bool {
        self.reboot_announced || self.state == DaemonState::Rebooting
    }

    /// Whether the desired config or image of the node differs from the current one.
    #[must_use]
    pub fn is_retargeted(&self) -> bool {
        self.current_config.is_some()
            && ((self.desired_config.is_some() && self.desired_config != self.current_config)
                || self.desired_image != self.current_image)
    }

    /// Whether the node runs an image that its pool has built, or is about to.
    #[must_use]
    pub fn is_in_image_mode(&self) -> bool {
        self.current_image.is_some() || self.desired_image.is_some()
    }
}

fn name(text: &str) -> Option<Arc<str>> {
    text::word(text, NAME_LIMIT).map(|name| shared(&name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::labels::Labels;

    #[test]
    fn a_drain_is_requested_while_a_drain_annotation_differs_from_the_last_applied_one() {
        assert!(drain_requested(
            Some("drain-rendered-worker-1"),
            Some("uncordon-rendered-worker-0")
        ));
        assert!(drain_requested(Some("drain-rendered-worker-1"), None));
        assert!(!drain_requested(
            Some("drain-rendered-worker-1"),
            Some("drain-rendered-worker-1")
        ));
        assert!(!drain_requested(
            Some("uncordon-rendered-worker-1"),
            Some("drain-rendered-worker-1")
        ));
        assert!(!drain_requested(Some("drained"), Some("x")));
        assert!(!drain_requested(None, None));
    }

    fn annotated(name: &str, value: &str) -> MachineConfigFacts {
        let key = format!("{PREFIX}{name}");
        let node = NodeObject {
            annotations: Labels::new([(&*key, value)]),
            ..NodeObject::default()
        };
        MachineConfigFacts::of(&node).unwrap_or_default()
    }

    #[test]
    fn a_node_without_annotations_has_no_evidence() {
        assert_eq!(MachineConfigFacts::of(&NodeObject::default()), None);
    }

    #[test]
    fn an_empty_annotation_counts_as_absent() {
        for value in ["", " ", "\n"] {
            assert_eq!(annotated("desiredConfig", value).desired_config, None);
            assert_eq!(annotated("reason", value).reason, None, "{value:?}");
        }
    }

    #[test]
    fn a_reason_keeps_its_lines_and_its_length() {
        let reason = "line one\nline two ".repeat(110);
        let read = annotated("reason", &reason).reason;
        assert_eq!(read.as_deref(), Some(reason.trim()));
    }

    #[test]
    fn a_request_is_open_until_the_controller_has_copied_it() {
        let read = |desired: &str, last: &str| {
            let annotations = [("desiredDrain", desired), ("lastAppliedDrain", last)];
            let keys = annotations.map(|(name, value)| (format!("{PREFIX}{name}"), value));
            let pairs: Vec<_> = keys.iter().map(|(key, value)| (&**key, *value)).collect();
            let node = NodeObject {
                annotations: Labels::new(pairs),
                ..NodeObject::default()
            };
            let facts = MachineConfigFacts::of(&node).unwrap();
            (
                facts.last_request,
                facts.drain_requested,
                facts.uncordon_requested,
            )
        };
        let (drain, uncordon) = (Some(DrainRequest::Drain), Some(DrainRequest::Uncordon));
        assert_eq!(read("drain-new", "uncordon-old"), (drain, true, false));
        assert_eq!(read("drain-new", "drain-new"), (drain, false, false));
        assert_eq!(read("uncordon-new", "drain-new"), (uncordon, false, true));
        assert_eq!(
            read("uncordon-new", "uncordon-new"),
            (uncordon, false, false)
        );
    }

    #[test]
    fn a_reboot_is_announced_by_the_post_config_action_or_by_the_state_of_old_releases() {
        assert!(annotated("post-config-action", "Rebooting").is_rebooting());
        assert!(annotated("state", "Rebooting").is_rebooting());
        assert!(!annotated("post-config-action", "").is_rebooting());
        assert!(!annotated("state", "Working").is_rebooting());
    }

    #[test]
    fn junk_in_annotations_is_cut_to_size_and_an_unknown_state_is_no_state() {
        let huge = "ä\u{7}".repeat(100_000);
        let config = annotated("currentConfig", &huge).current_config.unwrap();
        assert_eq!(config.chars().count(), 512);
        assert_eq!(annotated("state", "Dancing").state, DaemonState::Other);
        assert!(!annotated("desiredDrain", &huge).drain_requested);
    }
}
