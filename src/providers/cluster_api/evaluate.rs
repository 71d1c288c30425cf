//! Evaluates a node: by its Machine, by the template of its MachinePool, or by the taints on the Node.

use std::borrow::Cow;
use std::sync::Arc;

use super::deletion::removal;
use super::evidence::{ClusterApiNode, OwnerKind};
use super::kinds::{Cluster, InPlace, Machine, Template, UpToDate};
use super::lookup::{self, Found, split};
use super::{RANCHER, TANZU_RELEASE};
use crate::api::types::{ConditionStatus, CordonerKind, DesiredVersionSource, Phase, UpdateKind};
use crate::domain::facts::View;
use crate::domain::interruption::Interruption;
use crate::domain::state::{Desired, Evaluation, JOINING};
use crate::domain::version::{self, Version};
use crate::providers::Subject;
use crate::providers::inferred::{self, IN_PLACE, Rules, Signs, Target};
use crate::providers::settings::Settings;
use crate::providers::step::Step;

pub(super) fn evaluate(settings: &Settings, node: &Subject<'_>, view: &View<'_>) -> Evaluation {
    let nothing = ClusterApiNode::default();
    let shown = node.facts.evidence().unwrap_or(&nothing);
    let (machine, no_machine) = match lookup::machine(shown, &node.facts.name, view) {
        Ok(Found::One(machine)) => (Some(machine), None),
        Ok(Found::None) => (None, None),
        Ok(Found::Conflict(why)) => {
            return Step::unknown("MachineConflict", why).evaluation(node.facts, None);
        }
        Err(error) => (None, Some(error)),
    };
    let of_machine = machine.map(|machine| &*machine.cluster);
    let cluster = of_machine.filter(|cluster| !cluster.is_empty());
    let cluster = cluster.unwrap_or(&shown.cluster);
    let (cluster, no_cluster) = split(lookup::cluster(cluster, view));
    // Where Machines can be read and there is none, the objects are elsewhere; most MachinePools have none.
    let may_be_here =
        machine.is_some() || no_machine.is_some() || shown.owner_kind == OwnerKind::MachinePool;
    let (template, no_template) = if may_be_here {
        split(lookup::template(shown, machine, view))
    } else {
        (None, None)
    };
    let context = Context {
        settings,
        node,
        shown,
        machine,
        template,
        cluster,
        view,
        is_rancher: node.facts.labels.contains(RANCHER),
    };
    let has_lost_its_machine = no_machine.is_none() && context.has_lost_its_machine();
    let (mut step, target) = if has_lost_its_machine {
        (context.without_machine(), None)
    } else if machine.is_none() && template.is_none() {
        context.by_taints()
    } else {
        context.by_objects()
    };
    let missing = [no_machine, no_cluster, no_template];
    step.missing.extend(missing.into_iter().flatten());
    inferred::finish(node, step, target)
}

/// The inputs of the evaluation.
pub(super) struct Context<'a> {
    settings: &'a Settings,
    pub(super) node: &'a Subject<'a>,
    shown: &'a ClusterApiNode,
    pub(super) machine: Option<&'a Machine>,
    pub(super) template: Option<&'a Template>,
    pub(super) cluster: Option<&'a Cluster>,
    view: &'a View<'a>,
    is_rancher: bool,
}

/// Whether a node is what its template wants.
enum Currency<'a> {
    Current,
    /// It is replaced, unless something holds that back.
    Outdated(&'a UpToDate),
    /// It is the Machine that is wanted, and changes.
    Changing(&'a UpToDate),
    Unclear(&'a UpToDate),
    /// Nothing reports it.
    Unreported,
}

/// What the update of an outdated node changes, and how that is known.
pub(super) struct Outdated<'a> {
    pub(super) kind: UpdateKind,
    pub(super) why: Cow<'a, str>,
}

impl<'a> Context<'a> {
    fn rules(&self) -> &'static Rules {
        if self.is_rancher {
            &IN_PLACE
        } else {
            &super::RULES
        }
    }

    fn owner(&self) -> (OwnerKind, &str) {
        lookup::owner(self.shown, self.machine)
    }

    /// Without objects, the taint of an older revision remains. Cluster API drains a tainted node once it is cordoned,
    /// and deletes the Node only after its machine is gone.
    fn by_taints(&self) -> (Step, Option<Target>) {
        let facts = self.node.facts;
        let target = self.inferred_target(None);
        let is_drained = |by: CordonerKind| {
            by != CordonerKind::Autoscaler && facts.interruption.is_none() && facts.is_ready()
        };
        let step = if self.shown.is_new {
            joining()
        } else if let Some(cordon) = &facts.cordoned
            && self.shown.is_outdated
            && is_drained(cordon.by.kind)
        {
            let change = target.as_ref().and_then(|target| target.change);
            let kind = change.unwrap_or(UpdateKind::Configuration);
            let message = "The outdated node is cordoned: Cluster API drains it";
            Step::new(Phase::Draining, kind, "Draining", message).inferred()
        } else {
            let outdated = self.shown.is_outdated.then_some(true);
            inferred::step(self.rules(), self.node, target.as_ref(), outdated)
        };
        (step, target)
    }

    fn inferred_target(&self, desired: Option<Desired>) -> Option<Target> {
        let image = self.node.facts.labels.get(TANZU_RELEASE);
        let signs = Signs {
            desired,
            image: image.map(Cow::Borrowed),
            ..Signs::default()
        };
        inferred::target(self.settings, self.rules(), self.node, signs, self.view)
    }

    /// The Cluster is here, and the Machine that the node names is not.
    fn has_lost_its_machine(&self) -> bool {
        let has_one = !self.shown.machine.is_empty() && self.owner().0 != OwnerKind::MachinePool;
        has_one && self.machine.is_none() && self.cluster.is_some() && self.view.serves::<Machine>()
    }

    fn without_machine(&self) -> Step {
        if self.node.facts.deleting {
            let message = "The Node is being deleted, and its Machine is gone";
            return Step::new(Phase::Completed, None, "BeingDeleted", message);
        }
        let ClusterApiNode {
            namespace, machine, ..
        } = self.shown;
        let message = format!("Machine {namespace}/{machine} of the node does not exist");
        Step::unknown("NoMachine", message)
    }

    fn by_objects(&self) -> (Step, Option<Target>) {
        let currency = self.currency();
        let target = self.target(&currency);
        if let Some(step) = self.contradiction(&currency) {
            return (step, target);
        }
        if let Some(outdated) = self.outdated(&currency, target.as_ref()) {
            return (self.update(&currency, &outdated, target.as_ref()), target);
        }
        if let Some(machine) = self.machine.filter(|machine| machine.deletion.is_some()) {
            return (removal(machine, None), target);
        }
        if self.shown.is_new {
            return (joining(), target);
        }
        if let Some(step) = self.unnoticed().or_else(|| self.scheduled()) {
            return (step, target);
        }
        if let Some((step, desired)) = self.topology() {
            let change = step.kind;
            let since = None;
            return (
                step,
                Some(Target {
                    desired,
                    change,
                    since,
                }),
            );
        }
        let step = inferred::step(self.rules(), self.node, target.as_ref(), Some(false));
        (step, target)
    }

    /// What the condition `UpToDate` says. For MachinePools it says nothing, and for Rancher only that the template of
    /// the machine has not changed.
    fn currency(&self) -> Currency<'a> {
        let reported = self.machine.and_then(|machine| machine.up_to_date.as_ref());
        let is_pool = self.owner().0 == OwnerKind::MachinePool;
        let Some(condition) = reported.filter(|_| !is_pool) else {
            return Currency::Unreported;
        };
        match condition.status {
            ConditionStatus::Unknown => Currency::Unclear(condition),
            ConditionStatus::True if self.is_rancher => Currency::Unreported,
            ConditionStatus::True => Currency::Current,
            ConditionStatus::False if &*condition.reason != "Updating" => {
                Currency::Outdated(condition)
            }
            // Versions are compared as texts for this reason: a kubelet with another suffix, and a Machine without a
            // version, never match.
            ConditionStatus::False if !self.is_changing() && self.is_rancher => {
                Currency::Unreported
            }
            ConditionStatus::False if !self.is_changing() => Currency::Current,
            ConditionStatus::False => Currency::Changing(condition),
        }
    }

    /// Whether the node is updated in place, or its kubelet is not the one of its Machine yet.
    fn is_changing(&self) -> bool {
        let Some(machine) = self.machine else {
            return false;
        };
        let is_other = |version: &Arc<str>| !self.runs(version);
        machine.in_place.is_some() || machine.version.as_ref().is_some_and(is_other)
    }

    /// Whether the node runs this version.
    pub(super) fn runs(&self, version: &str) -> bool {
        let own = self.node.facts.kubelet_version.as_deref();
        own.is_some_and(|own| version::meets(own, version))
    }

    fn target(&self, currency: &Currency<'_>) -> Option<Target> {
        let desired = self.desired(currency);
        let change = match currency {
            Currency::Unreported => return self.inferred_target(desired),
            Currency::Current | Currency::Unclear(_) => None,
            Currency::Changing(_) => Some(UpdateKind::Version),
            Currency::Outdated(condition) => condition.kind,
        };
        Some(Target {
            desired: desired?,
            change,
            since: None,
        })
    }

    /// The version of the template, else that of the Machine: an old Machine has the old version.
    fn desired(&self, currency: &Currency<'_>) -> Option<Desired> {
        let of_template = self.template.and_then(|template| template.version.as_ref());
        let of_machine = self.machine.and_then(|machine| machine.version.as_ref());
        let is_wanted = |version: &&Arc<str>| match currency {
            Currency::Current | Currency::Changing(_) | Currency::Unclear(_) => true,
            Currency::Outdated(_) => false,
            Currency::Unreported => !self.is_replaced() || !self.runs(version),
        };
        let version = of_template.or_else(|| of_machine.filter(is_wanted))?;
        Some(Desired {
            version: Arc::clone(version),
            source: DesiredVersionSource::Provider,
        })
    }

    /// Whether an owner replaces Machines that differ from its template, rather than only counting them.
    fn is_replaced(&self) -> bool {
        let is_deployed = self
            .machine
            .is_some_and(|machine| machine.deployment.is_some());
        match self.owner().0 {
            OwnerKind::KubeadmControlPlane | OwnerKind::ControlPlane | OwnerKind::MachinePool => {
                true
            }
            OwnerKind::None | OwnerKind::MachineSet | OwnerKind::Other => is_deployed,
        }
    }

    fn contradiction(&self, currency: &Currency<'_>) -> Option<Step> {
        if let Currency::Unclear(UpToDate { message, .. }) = currency {
            let message = format!("Whether the Machine is up to date is unknown: {message}");
            return Some(Step::unknown("UpToDateUnknown", message));
        }
        let wanted = self.desired(currency)?.version;
        if !matches!(currency, Currency::Unreported) || Version::parse(&wanted).is_some() {
            return None;
        }
        let message = format!("The version that the node is updated to cannot be read: {wanted}");
        Some(Step::unknown("VersionUnknown", message))
    }

    fn outdated(&self, currency: &Currency<'a>, target: Option<&Target>) -> Option<Outdated<'a>> {
        let in_place = self.machine.and_then(|machine| machine.in_place.as_ref());
        let version = target.map(|target| &target.desired.version);
        let by_version = || match version {
            Some(version) if !self.runs(version) => UpdateKind::Version,
            Some(_) | None => UpdateKind::Configuration,
        };
        match currency {
            Currency::Outdated(condition) => Some(Outdated {
                kind: condition.kind.unwrap_or_else(by_version),
                why: Cow::Borrowed(&*condition.message),
            }),
            Currency::Changing(condition) => Some(Outdated {
                kind: by_version(),
                why: Cow::Borrowed(&*condition.message),
            }),
            Currency::Unreported => {
                let change = target.and_then(|target| target.change);
                let is_known = in_place.is_some() || self.shown.is_outdated;
                let change = change.or_else(|| is_known.then_some(UpdateKind::Configuration));
                change.map(|kind| Outdated {
                    kind,
                    why: match version {
                        Some(version) if kind == UpdateKind::Version => {
                            format!("version {version} required").into()
                        }
                        Some(_) | None => "".into(),
                    },
                })
            }
            Currency::Current | Currency::Unclear(_) => in_place.map(|_| Outdated {
                kind: by_version(),
                why: "".into(),
            }),
        }
    }

    /// The step of an outdated node.
    fn update(
        &self,
        currency: &Currency<'_>,
        outdated: &Outdated<'_>,
        target: Option<&Target>,
    ) -> Step {
        let kind = outdated.kind;
        if let Some(step) = self.pause(kind) {
            return step;
        }
        if let Some(machine) = self.machine
            && let Some(deletion) = &machine.deletion
        {
            let interruption = self.node.facts.interruption;
            let is_scaled_down = interruption == Some(Interruption::ClusterAutoscaler);
            return if is_scaled_down || matches!(currency, Currency::Changing(_)) {
                removal(machine, Some(kind))
            } else {
                deletion.step(kind)
            };
        }
        if self.shown.is_new {
            return joining();
        }
        let Some(machine) = self.machine else {
            return self.inferred_update(target);
        };
        match &machine.in_place {
            Some(InPlace::Failed(message)) => {
                let what = "The update of the node in place failed";
                return Step::new(Phase::Updating, kind, "InPlaceUpdateFailed", what)
                    .failed("InPlaceUpdateFailed", with_detail(what, message));
            }
            Some(InPlace::Running(message)) => {
                let message = with_detail("The node is updated in place", message);
                return Step::new(Phase::Updating, kind, "InPlaceUpdating", message);
            }
            None => {}
        }
        match currency {
            Currency::Changing(condition) => {
                let what = "The node changes to what its Machine wants";
                let message = with_detail(what, &condition.message);
                Step::new(Phase::Updating, kind, "Updating", message)
            }
            Currency::Unreported if self.is_rancher || self.is_opaque() => {
                self.inferred_update(target)
            }
            Currency::Unreported
            | Currency::Outdated(_)
            | Currency::Current
            | Currency::Unclear(_) => self.waiting(machine, outdated),
        }
    }

    /// Whether the Machine says nothing about the update of its node.
    fn is_opaque(&self) -> bool {
        !self.is_replaced()
            || matches!(
                self.owner().0,
                OwnerKind::MachinePool | OwnerKind::ControlPlane
            )
    }

    fn inferred_update(&self, target: Option<&Target>) -> Step {
        let outdated = self.shown.is_outdated.then_some(true);
        inferred::step(self.rules(), self.node, target, outdated)
    }
}

fn joining() -> Step {
    Step::unknown(JOINING, "The node is joining: it is not initialized yet")
}

fn with_detail(what: &str, detail: &str) -> String {
    if detail.is_empty() {
        what.to_owned()
    } else {
        format!("{what}: {detail}")
    }
}
