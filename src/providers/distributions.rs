//! Distributions that are updated in place, recognised by what they leave on a Node: k3s, RKE2 and Talos.
//!
//! Any other provider has precedence: a machine of Cluster API may run any of them. k3s and RKE2 restart their service.
//! Talos cordons a node, drains it and restarts the machine, for an upgrade as for any other restart; a staged upgrade
//! does not drain. Newer talosctl drains from outside, so the cordon is the one of talosctl.
//!
//! Sources: k3s-io/k3s `pkg/nodeconfig/nodeconfig.go`; siderolabs/talos `pkg/machinery/constants/constants.go`,
//! `internal/app/machined/pkg/runtime/v1alpha1/v1alpha1_sequencer.go`,
//! `internal/app/machined/pkg/controllers/k8s/node_apply.go`, `cmd/talosctl/pkg/talos/nodedrain/nodedrain.go`.

use std::borrow::Cow;

use super::evidence;
use super::inferred::IN_PLACE;
use super::profile::{Mark, Node, Profile};
use super::step::Step;
use crate::api::types::{Phase, UpdateKind};
use crate::domain::cordon::Cordoner;
use crate::domain::drain::Drainer;
use crate::domain::node::{Evidence, NodeFacts, NodeObject};
use crate::domain::state::REBOOTED;
use crate::domain::version::Version;

/// k3s: restarts its service, and not the machine.
pub static K3S: Profile = Profile {
    evidence: k3s,
    ..Profile::new(
        "k3s",
        Mark::Distribution(|node| node.evidence::<K3sNode>().is_some()),
        IN_PLACE,
    )
};

/// RKE2, as k3s.
pub static RKE2: Profile = Profile {
    evidence: rke2,
    ..Profile::new(
        "RKE2",
        Mark::Distribution(|node| node.evidence::<Rke2Node>().is_some()),
        IN_PLACE,
    )
};

/// Talos: reboots into another image of the operating system.
pub static TALOS: Profile = Profile {
    evidence: talos,
    image: talos_image,
    image_change: talos_change,
    step: talos_step,
    drainer: Drainer::Talos,
    ..Profile::new(
        "Talos",
        Mark::Distribution(|node| node.evidence::<TalosNode>().is_some()),
        IN_PLACE,
    )
};

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct K3sNode;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Rke2Node;

/// What Talos shows on a node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct TalosNode {
    /// The operating system: its version, and the schematic of its extensions if there is one.
    pub(super) image: Box<str>,
    /// Talos cordoned the node itself, for an upgrade or any other restart.
    pub(super) is_cordoned: bool,
}

fn k3s(node: &NodeObject) -> Option<Evidence> {
    evidence(
        node.annotations
            .contains("k3s.io/node-args")
            .then_some(K3sNode),
    )
}

fn rke2(node: &NodeObject) -> Option<Evidence> {
    evidence(
        node.annotations
            .contains("rke2.io/node-args")
            .then_some(Rke2Node),
    )
}

fn talos(node: &NodeObject) -> Option<Evidence> {
    let schematic = node.annotations.get("extensions.talos.dev/schematic");
    let is_one = node.os_image.starts_with("Talos (");
    evidence(is_one.then(|| TalosNode {
        image: match schematic {
            Some(schematic) => format!("{} {schematic}", node.os_image).into(),
            None => node.os_image.clone(),
        },
        is_cordoned: node.annotations.get("talos.dev/cordoned") == Some("true"),
    }))
}

fn talos_image(node: &NodeFacts) -> Option<Cow<'_, str>> {
    let node = node.evidence::<TalosNode>()?;
    Some(Cow::Borrowed(&*node.image))
}

/// Nodes are updated in place, in any order, so only a newer operating system is an update: another one, or other
/// extensions, may be what the youngest node still has to get rid of.
fn talos_change(own: &str, desired: &str) -> Option<UpdateKind> {
    let version = |image: &str| {
        let version = image.strip_prefix("Talos (")?.split(')').next()?;
        Version::parse(version)
    };
    let (own, desired) = (version(own)?, version(desired)?);
    (own < desired).then_some(UpdateKind::Image)
}

/// Talos, or talosctl, drains the node and then restarts it, whatever for.
fn talos_step(node: &Node<'_>) -> Option<Step> {
    let facts = node.facts();
    let cordon = facts.cordoned.as_ref()?;
    let shown = facts.evidence::<TalosNode>()?;
    let is_own = shown.is_cordoned || ["talosctl", "Talos"].contains(&&*cordon.by.name);
    if !is_own || !facts.is_ready() || facts.deleting || node.is_interrupted {
        return None;
    }
    let kind = node.subject.kind_so_far().or(node.change());
    let kind = kind.unwrap_or(UpdateKind::Reboot);
    let step = if node.subject.so_far().is_some() && node.subject.has_rebooted() {
        let message = "The node has restarted and waits to be uncordoned";
        Step::new(Phase::Updating, kind, REBOOTED, message)
    } else {
        let message = "Talos drains the node before it restarts";
        Step::new(Phase::Draining, kind, "Draining", message)
    };
    Some(step.cordoned_by(Cordoner::updater("talos")))
}

#[cfg(test)]
mod tests;
