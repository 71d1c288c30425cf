//! Who cordoned a node.
//!
//! Marks of tools decide first, then the field manager of `spec.unschedulable`. kubectl is its own field manager, so a
//! user, a script and a tool that runs kubectl look alike. The first one who cordons a node remains the field manager:
//! a tool that cordons it again changes nothing.
//!
//! Sources: the drain code of each tool; kubernetes/kubectl `pkg/drain/cordon.go`; the field managers of
//! kubernetes/apiserver `pkg/endpoints/handlers/create.go`.

use std::borrow::Cow;

use jiff::Timestamp;

use super::node::NodeObject;
use super::text;
use crate::api::types::CordonerKind;

/// Longest name of a field manager that the API server stores.
const MANAGER_LIMIT: usize = 128;
const UNSCHEDULABLE_TAINT: &str = "node.kubernetes.io/unschedulable";
const DESIRED_DRAIN: &str = "machineconfiguration.openshift.io/desiredDrain";
const AKS_REASON: &str = "kubernetes.azure.com/azure-cluster-autoscaler-scale-down-disabled-reason";
const FLATCAR: &str = "flatcar-linux-update.v1.flatcar-linux.net/agent-made-unschedulable";
const TERMINATION_HANDLER: &str = "aws-node-termination-handler/";

/// The node is cordoned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cordon {
    /// Since when, if known.
    pub since: Option<Timestamp>,
    /// Who cordoned it.
    pub by: Cordoner,
}

/// Who cordons a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cordoner {
    /// What it is.
    pub kind: CordonerKind,
    /// Its name; empty when it is not known.
    pub name: Cow<'static, str>,
}

/// Who cordoned a node, and whether the cordon belongs to its update.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CordonedBy {
    /// Who cordoned it.
    pub by: Cordoner,
    /// Since when, if known.
    pub since: Option<Timestamp>,
    /// The cordon is no part of the update.
    pub is_foreign: bool,
}

impl Cordoner {
    /// Nothing is known.
    pub const UNKNOWN: Self = Self::new(CordonerKind::Unknown, "");

    /// A cordoner of this name.
    #[must_use]
    pub const fn new(kind: CordonerKind, name: &'static str) -> Self {
        Self {
            kind,
            name: Cow::Borrowed(name),
        }
    }

    /// A tool that updates nodes.
    #[must_use]
    pub const fn updater(name: &'static str) -> Self {
        Self::new(CordonerKind::Updater, name)
    }
}

impl Cordon {
    /// The cordon of a Node, if there is one.
    #[must_use]
    pub fn of(node: &NodeObject) -> Option<Self> {
        if !node.unschedulable {
            return None;
        }
        let taint = node.taints.find(UNSCHEDULABLE_TAINT);
        let since = taint.and_then(|[_, _, _, since]| since.parse().ok());
        Some(Self {
            since: since.or_else(|| node.cordon_time.parse().ok()),
            by: by_mark(node).unwrap_or_else(|| by_manager(&node.cordon_manager)),
        })
    }
}

/// Who cordoned the node, by what tools write on it.
fn by_mark(node: &NodeObject) -> Option<Cordoner> {
    use CordonerKind::{Autoscaler, Controller};
    let annotation = |key: &str| node.annotations.get(key);
    let has_taint = |key: &str| node.taints.find(key).is_some();
    let is_terminated = || {
        let taints = node.taints.iter().map(|[key, ..]| key);
        let labels = node.labels.iter().map(|(key, _)| key);
        taints
            .chain(labels)
            .any(|key| key.starts_with(TERMINATION_HANDLER))
    };
    if annotation(DESIRED_DRAIN).is_some_and(|drain| drain.starts_with("drain-")) {
        Some(Cordoner::updater("machine-config-operator"))
    } else if has_taint("karpenter.sh/disrupted") {
        Some(Cordoner::updater("karpenter"))
    } else if has_taint("ToBeDeletedByClusterAutoscaler") {
        Some(Cordoner::new(Autoscaler, "cluster-autoscaler"))
    } else if annotation("talos.dev/cordoned") == Some("true") {
        Some(Cordoner::updater("talos"))
    } else if annotation(FLATCAR) == Some("true") {
        Some(Cordoner::updater("flatcar-linux-update-operator"))
    } else if has_taint("medik8s.io/drain") {
        Some(Cordoner::new(Controller, "node-maintenance-operator"))
    } else if annotation(AKS_REASON) == Some("upgrade") {
        Some(Cordoner::updater("aks"))
    } else if is_terminated() {
        Some(Cordoner::new(Controller, "aws-node-termination-handler"))
    } else {
        None
    }
}

/// Who cordoned the node, by the field manager of `spec.unschedulable`.
fn by_manager(manager: &str) -> Cordoner {
    let kind = match manager {
        // A client without a user agent.
        "" | "unknown" => return Cordoner::UNKNOWN,
        "oc" | "Headlamp" | "Mozilla" => CordonerKind::Person,
        name if name == "kubectl" || name.starts_with("kubectl-") => CordonerKind::Person,
        "machine-config-controller" | "kured" | "kops" | "Talos" | "talosctl" => {
            CordonerKind::Updater
        }
        "cluster-autoscaler" => CordonerKind::Autoscaler,
        _ => CordonerKind::Controller,
    };
    let name = text::word(manager, MANAGER_LIMIT).map(|name| name.into_owned().into());
    name.map_or(Cordoner::UNKNOWN, |name| Cordoner { kind, name })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::labels::Labels;
    use crate::domain::rows::Rows;

    fn cordoned(change: impl FnOnce(&mut NodeObject)) -> Cordon {
        let mut node = NodeObject {
            unschedulable: true,
            ..NodeObject::default()
        };
        change(&mut node);
        Cordon::of(&node).unwrap()
    }

    fn by(change: impl FnOnce(&mut NodeObject)) -> (CordonerKind, String) {
        let by = cordoned(change).by;
        (by.kind, by.name.into_owned())
    }

    #[test]
    fn a_node_that_takes_pods_is_not_cordoned() {
        assert_eq!(Cordon::of(&NodeObject::default()), None);
    }

    #[test]
    fn the_field_manager_of_the_cordon_is_who_cordoned_the_node() {
        for (manager, kind) in [
            ("kubectl", CordonerKind::Person),
            ("kubectl-edit", CordonerKind::Person),
            ("oc", CordonerKind::Person),
            ("Mozilla", CordonerKind::Person),
            ("kured", CordonerKind::Updater),
            ("machine-config-controller", CordonerKind::Updater),
            ("cluster-autoscaler", CordonerKind::Autoscaler),
            ("manager", CordonerKind::Controller),
            ("my-operator", CordonerKind::Controller),
        ] {
            let found = by(|node| node.cordon_manager = manager.into());
            assert_eq!(found, (kind, manager.to_owned()));
        }
        for manager in ["", "unknown", "\u{7}"] {
            let found = by(|node| node.cordon_manager = manager.into());
            assert_eq!(found, (CordonerKind::Unknown, String::new()), "{manager:?}");
        }
    }

    #[test]
    fn a_mark_of_a_tool_decides_before_the_field_manager() {
        let with_taint = |key: &'static str| {
            by(|node| {
                node.cordon_manager = "kubectl".into();
                node.taints = Rows::new([[key, "", "NoSchedule", ""]]);
            })
        };
        let with_annotation = |key: &'static str, value: &'static str| {
            by(|node| {
                node.cordon_manager = "kubectl".into();
                node.annotations = Labels::new([(key, value)]);
            })
        };
        let (updater, controller) = (CordonerKind::Updater, CordonerKind::Controller);
        for (found, expected) in [
            (
                with_taint("ToBeDeletedByClusterAutoscaler"),
                (CordonerKind::Autoscaler, "cluster-autoscaler"),
            ),
            (with_taint("karpenter.sh/disrupted"), (updater, "karpenter")),
            (
                with_taint("medik8s.io/drain"),
                (controller, "node-maintenance-operator"),
            ),
            (
                with_taint("aws-node-termination-handler/spot-itn"),
                (controller, "aws-node-termination-handler"),
            ),
            (
                with_annotation(DESIRED_DRAIN, "drain-rendered-worker-1"),
                (updater, "machine-config-operator"),
            ),
            (
                with_annotation("talos.dev/cordoned", "true"),
                (updater, "talos"),
            ),
            (with_annotation(AKS_REASON, "upgrade"), (updater, "aks")),
            (
                with_annotation(FLATCAR, "true"),
                (updater, "flatcar-linux-update-operator"),
            ),
            (
                with_annotation(FLATCAR, "false"),
                (CordonerKind::Person, "kubectl"),
            ),
            (
                with_annotation(DESIRED_DRAIN, "uncordon-rendered-worker-1"),
                (CordonerKind::Person, "kubectl"),
            ),
        ] {
            assert_eq!(found, (expected.0, expected.1.to_owned()));
        }
    }

    #[test]
    fn the_time_is_that_of_the_taint_else_that_of_the_field() {
        let field = |node: &mut NodeObject| node.cordon_time = "2026-11-01T10:00:00Z".into();
        let since = cordoned(field).since.unwrap();
        assert_eq!(since.to_string(), "2026-11-01T10:00:00Z");
        let both = cordoned(|node| {
            field(node);
            let taint = [
                UNSCHEDULABLE_TAINT,
                "",
                "NoSchedule",
                "2026-11-01T09:00:00Z",
            ];
            node.taints = Rows::new([taint]);
        });
        assert_eq!(both.since.unwrap().to_string(), "2026-11-01T09:00:00Z");
    }
}
