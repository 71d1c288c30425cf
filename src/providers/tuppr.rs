//! tuppr: upgrades the Talos nodes of a cluster, and their Kubernetes.
//!
//! A `TalosUpgrade` or `KubernetesUpgrade` is worked off node by node. Its status names the nodes that are being upgraded,
//! that reboot and that have failed; on the Node there are a label while it is being upgraded, a taint while it is
//! outdated, and an annotation with a version of its own.
//!
//! Source: home-operations/tuppr `internal/constants/constants.go`, `api/v1alpha1/shared_types.go`.

use self::kinds::{
    KubernetesUpgrade, NODE, TalosUpgrade, Upgrade, UpgradePhase, Upgrades, is_suspended,
};
use super::distributions::TalosNode;
use super::step::Step;
use super::{Overlay, Subject, evidence};
use crate::api::types::{Phase, ProviderName, UpdateKind};
use crate::domain::cordon::Cordoner;
use crate::domain::fact::Kind;
use crate::domain::facts::{Unavailable, View};
use crate::domain::node::{Evidence, NodeObject};
use crate::domain::state::Evaluation;
use crate::domain::text;

pub mod kinds;

const NAME: &str = "tuppr";
/// The label of a node that is being upgraded.
const UPGRADING: &str = "tuppr.home-operations.com/upgrading";
/// The taint of a node that is outdated.
const OUTDATED: &str = "tuppr.home-operations.com/outdated";
/// The annotation with the version for one node.
const VERSION: &str = "tuppr.home-operations.com/version";
/// The annotation that holds upgrades back.
const SUSPEND: &str = "tuppr.home-operations.com/suspend";
/// Longest version that is stored.
const VERSION_LIMIT: usize = 253;

/// tuppr.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tuppr;

/// What tuppr writes on a Node, or users write for it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct TupprNode {
    is_upgrading: bool,
    is_outdated: bool,
    is_suspended: bool,
    /// The version for this node, where it has its own.
    version: Option<Box<str>>,
}

impl TupprNode {
    fn of(node: &NodeObject) -> Option<Self> {
        let found = Self {
            is_upgrading: node.labels.contains(UPGRADING),
            is_outdated: node.taint(OUTDATED, "PreferNoSchedule").is_some(),
            is_suspended: is_suspended(node.annotations.get(SUSPEND)),
            version: node
                .annotations
                .get(VERSION)
                .and_then(|version| text::word(version, VERSION_LIMIT))
                .map(Box::from),
        };
        (found != Self::default()).then_some(found)
    }
}

impl Overlay for Tuppr {
    fn name(&self) -> ProviderName {
        ProviderName::new(NAME)
    }

    fn kinds(&self) -> Vec<Kind> {
        vec![Kind::of::<TalosUpgrade>(), Kind::of::<KubernetesUpgrade>()]
    }

    fn evidence(&self, node: &NodeObject) -> Option<Evidence> {
        evidence(TupprNode::of(node))
    }

    fn refine(
        &self,
        node: &Subject<'_>,
        until_now: &Evaluation,
        view: &View<'_>,
    ) -> Result<Option<Evaluation>, Unavailable> {
        let facts = node.facts;
        let shown = facts.evidence::<TupprNode>();
        if shown.is_none() && facts.evidence::<TalosNode>().is_none() {
            return Ok(None);
        }
        let mut context = Context {
            node,
            until_now,
            shown: shown.cloned().unwrap_or_default(),
            view,
            missing: Vec::new(),
        };
        let step = context.step();
        let mut missing = context.missing.into_iter();
        let Some(mut step) = step else {
            // A node without marks of tuppr misses nothing.
            let error = missing.next().filter(|_| shown.is_some());
            return error.map_or(Ok(None), Err);
        };
        // What acts on the node is not tuppr.
        if until_now.phase.is_in_progress() && !step.phase.is_in_progress() {
            return Ok(None);
        }
        step.missing.extend(missing);
        Ok(Some(step.refine(facts, until_now)))
    }
}

/// The inputs of the evaluation, and what could not be read.
struct Context<'a> {
    node: &'a Subject<'a>,
    until_now: &'a Evaluation,
    shown: TupprNode,
    view: &'a View<'a>,
    missing: Vec<Unavailable>,
}

impl<'a> Context<'a> {
    /// The first case that applies: an upgrade names the node, the node shows its upgrade, it waits.
    fn step(&mut self) -> Option<Step> {
        let talos = self.naming::<TalosUpgrade>();
        let talos = talos.into_iter().map(|each| (each, UpdateKind::Image));
        let kubernetes = self.naming::<KubernetesUpgrade>();
        let kubernetes = kubernetes
            .into_iter()
            .map(|each| (each, UpdateKind::Version));
        let named = talos.chain(kubernetes);
        let steps = named.filter_map(|(upgrade, kind)| self.named(upgrade, kind));
        // What goes on comes before what has failed.
        let first = steps.min_by_key(|step| step.failure.is_some());
        first.or_else(|| self.upgrading()).or_else(|| self.idle())
    }

    /// The upgrades that name the node.
    fn naming<F: Upgrades>(&mut self) -> Vec<&'a Upgrade> {
        if !self.view.serves::<F>() {
            return Vec::new();
        }
        let found = self.view.find::<F>(NODE, &self.node.facts.name);
        self.read(found.map(Vec::into_iter))
    }

    /// All upgrades that are not completed.
    fn open<F: Upgrades>(&mut self) -> Vec<&'a Upgrade> {
        if !self.view.serves::<F>() {
            return Vec::new();
        }
        let mut found = self.read(self.view.all::<F>());
        found.retain(|upgrade| upgrade.phase != UpgradePhase::Completed);
        found
    }

    fn read<F: Upgrades>(
        &mut self,
        found: Result<impl Iterator<Item = &'a F>, Unavailable>,
    ) -> Vec<&'a Upgrade> {
        match found {
            Ok(found) => found.map(Upgrades::upgrade).collect(),
            Err(error) => {
                if !self.missing.contains(&error) {
                    self.missing.push(error);
                }
                Vec::new()
            }
        }
    }

    /// The step of a node that the upgrade names.
    fn named(&self, upgrade: &Upgrade, kind: UpdateKind) -> Option<Step> {
        let name = &upgrade.name;
        let is_it = |node: &str| *node == *self.node.facts.name;
        if let Some((_, error)) = upgrade.failed.iter().find(|(node, _)| is_it(node)) {
            let message = match &**error {
                "" => format!("{name} has failed on the node"),
                error => format!("{name} has failed on the node: {error}"),
            };
            return Some(failed(kind, message));
        }
        if let Some((_, deadline)) = upgrade.rebooting.iter().find(|(node, _)| is_it(node)) {
            let message = format!("{name} reboots the node{}", self.towards(upgrade, kind));
            let step = in_progress(Phase::Rebooting, kind, "Rebooting", message);
            return Some(match deadline {
                Some(deadline) if *deadline <= self.node.now => {
                    let message = format!("The node was to be back from its reboot by {deadline}");
                    step.failed("RebootOverdue", message)
                }
                Some(_) | None => step.again_at(*deadline),
            });
        }
        let is_current = upgrade.current.iter().any(|node| is_it(node));
        is_current.then(|| self.current(upgrade, kind)).flatten()
    }

    /// The step of a node that is being upgraded, by the phase of the upgrade.
    fn current(&self, upgrade: &Upgrade, kind: UpdateKind) -> Option<Step> {
        let name = &upgrade.name;
        let (phase, reason, what) = match &upgrade.phase {
            UpgradePhase::Pending if upgrade.is_suspended => return Some(held(upgrade, kind)),
            UpgradePhase::MaintenanceWindow => return Some(held(upgrade, kind)),
            UpgradePhase::Pending => {
                let message = format!("{name} is about to upgrade the node");
                return Some(Step::new(Phase::Pending, kind, "Pending", message));
            }
            UpgradePhase::HealthChecking => {
                let what = "checks the health of the cluster before it upgrades the node";
                (Phase::Updating, "HealthChecking", what)
            }
            UpgradePhase::PreHook => {
                let what = "runs hooks before it upgrades the node";
                (Phase::Updating, "PreHook", what)
            }
            UpgradePhase::Draining => (Phase::Draining, "Draining", "drains the node"),
            UpgradePhase::Upgrading => (Phase::Updating, "Upgrading", "upgrades the node"),
            UpgradePhase::Rebooting => (Phase::Rebooting, "Rebooting", "reboots the node"),
            UpgradePhase::PostHook => {
                let what = "runs hooks after the upgrade of the node";
                (Phase::Updating, "PostHook", what)
            }
            UpgradePhase::Completed => return None,
            UpgradePhase::Failed => {
                let message = format!("{name} has failed while it upgraded the node");
                return Some(failed(kind, message));
            }
            UpgradePhase::Other(phase) => {
                let message = format!("{name} is in the phase '{phase}', which is not known");
                return Some(Step::unknown("PhaseUnknown", message));
            }
        };
        let message = format!("{name} {what}{}", self.towards(upgrade, kind));
        Some(in_progress(phase, kind, reason, message))
    }

    /// The node has the label, and no upgrade says more.
    fn upgrading(&self) -> Option<Step> {
        let is_rebooting = self.until_now.is_inferred && self.until_now.phase == Phase::Rebooting;
        let (phase, reason, message) = if is_rebooting {
            (Phase::Rebooting, "Rebooting", "tuppr reboots the node")
        } else {
            (Phase::Updating, "Upgrading", "tuppr upgrades the node")
        };
        let kind = self.until_now.kind.unwrap_or(UpdateKind::Image);
        self.shown
            .is_upgrading
            .then(|| in_progress(phase, kind, reason, message.to_owned()))
    }

    /// Why an outdated node is not upgraded now.
    fn idle(&mut self) -> Option<Step> {
        let is_pending = self.until_now.phase == Phase::Pending;
        let waits_for = self.until_now.kind.filter(|_| is_pending);
        let is_outdated = self.shown.is_outdated;
        let mut upgrades = Vec::new();
        if is_outdated || waits_for == Some(UpdateKind::Image) {
            upgrades.extend(self.open::<TalosUpgrade>());
        }
        if waits_for == Some(UpdateKind::Version) {
            upgrades.extend(self.open::<KubernetesUpgrade>());
        }
        let kind = waits_for.or(is_outdated.then_some(UpdateKind::Image))?;
        if self.shown.is_suspended {
            let message = "An annotation of the node suspends its upgrade by tuppr";
            return Some(Step::new(Phase::Paused, kind, "Suspended", message));
        }
        if let Some(first) = upgrades.first()
            && upgrades.iter().all(|upgrade| upgrade.is_held())
        {
            return Some(held(first, kind));
        }
        is_outdated.then(|| {
            let mut message = "The node is outdated and waits for tuppr".to_owned();
            if let Some(version) = &self.shown.version {
                message = format!("{message} to upgrade it to {version}");
            }
            let mut upgrades = upgrades.iter();
            if let Some(failed) = upgrades.find(|each| each.phase == UpgradePhase::Failed) {
                message = format!("{message}; {} has failed", failed.name);
            }
            Step::new(Phase::Pending, kind, "Pending", message)
        })
    }

    /// The version of Talos, for messages; the one of the node comes first.
    fn towards(&self, upgrade: &Upgrade, kind: UpdateKind) -> String {
        let own = self.shown.version.as_deref();
        let own = own.filter(|_| kind == UpdateKind::Image);
        match own.unwrap_or(&upgrade.version) {
            "" => String::new(),
            version => format!(", to {version}"),
        }
    }
}

fn in_progress(phase: Phase, kind: UpdateKind, reason: &'static str, message: String) -> Step {
    Step::new(phase, kind, reason, message).cordoned_by(Cordoner::updater(NAME))
}

fn failed(kind: UpdateKind, message: String) -> Step {
    const REASON: &str = "UpgradeFailed";
    in_progress(Phase::Updating, kind, REASON, message.clone()).failed(REASON, message)
}

/// The step of a node whose upgrade is held back.
fn held(upgrade: &Upgrade, kind: UpdateKind) -> Step {
    let name = &upgrade.name;
    let (reason, message) = if upgrade.is_suspended {
        ("Suspended", format!("{name} is suspended"))
    } else {
        let message = format!("{name} waits for its maintenance window");
        ("MaintenanceWindow", message)
    };
    Step::new(Phase::Paused, kind, reason, message)
}

#[cfg(test)]
mod tests;
