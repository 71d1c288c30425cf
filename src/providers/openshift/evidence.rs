//! What the Machine Config Operator writes on a Node.

use std::sync::Arc;

use crate::domain::node::NodeObject;
use crate::domain::text;

/// Longest annotation that is stored as a name (of a config, an image).
const NAME_LIMIT: usize = 512;
const PREFIX: &str = "machineconfiguration.openshift.io/";

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
}

/// Whether the Machine Config Operator has requested a drain that is not done. The annotations are `drain-<config>`
/// or `uncordon-<config>`, and equal once the request is served.
#[must_use]
pub fn drain_requested(desired: Option<&str>, last_applied: Option<&str>) -> bool {
    let desired = desired.unwrap_or_default();
    desired != last_applied.unwrap_or_default() && desired.split('-').next() == Some("drain")
}

/// State of the Machine Config Daemon on the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DaemonState {
    /// Nothing to do, or not begun.
    Done,
    /// Changing the node.
    Working,
    /// Restarting the machine.
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
                _ => {}
            }
        }
        facts.drain_requested = drain_requested(desired_drain, last_applied_drain);
        (facts != Self::default()).then_some(facts)
    }
}

fn name(text: &str) -> Option<Arc<str>> {
    text::word(text, NAME_LIMIT).map(Arc::from)
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
    fn junk_in_annotations_is_cut_to_size_and_an_unknown_state_is_no_state() {
        let huge = "ä\u{7}".repeat(100_000);
        let config = annotated("currentConfig", &huge).current_config.unwrap();
        assert_eq!(config.chars().count(), 512);
        assert_eq!(annotated("state", "Dancing").state, DaemonState::Other);
        assert!(!annotated("desiredDrain", &huge).drain_requested);
    }
}
