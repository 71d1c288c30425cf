//! Updates that no updater reports, inferred from what any updater does.
//!
//! Most clusters have no "this node is being updated". An updater cordons an outdated node; the node stops reporting,
//! returns with another boot ID or kubelet and is uncordoned, or it is deleted and replaced. A node is outdated by the
//! first source that there is: an object of the provider, the user's target, the youngest node of a pool that has a
//! template, the API server. What the operator infers ends by itself: a cordoned node that does not report counts as
//! restarting only for a while, and a cordon that is older than the rollout, or that belongs to a tool that updates no
//! nodes, is no drain.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::Subject;
use super::settings::Settings;
use super::step::Step;
use crate::api::types::{DesiredVersionSource, Phase, Scope, UpdateKind};
use crate::domain::facts::View;
use crate::domain::interruption::Interruption;
use crate::domain::node::NodeFacts;
use crate::domain::pool::PoolId;
use crate::domain::pool_generations::{Generation, flavour};
use crate::domain::state::{Desired, Evaluation};
use crate::domain::version::{self, Precision, Version};

mod steps;

pub use steps::{Known, silent_until, step, step_with};

/// How long a cordoned node that does not report counts as restarting, unless its provider says more.
pub const RESTART_LIMIT: SignedDuration = SignedDuration::from_mins(30);

/// How an updater works, where the cluster does not report it.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// Which part of the API server's version says something about nodes.
    pub precision: Precision,
    /// Nodes are replaced: an outdated node that stops reporting is being terminated, and a new one joins.
    pub replaces: bool,
    /// What the cordon of an outdated node means.
    pub cordon: CordonSign,
    /// How long a cordoned node that does not report counts as restarting or being terminated.
    pub limit: SignedDuration,
}

/// What the cordon of an outdated node means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CordonSign {
    /// The node is being drained.
    Drain,
    /// The node is being drained, if another node shows that a rollout is in progress.
    DrainInRollout,
    /// The node waits for its drain: the updater cordons all outdated nodes at once.
    Turn,
    /// The same, and pods have been seen to leave: the node is being drained.
    PodsLeaving,
}

/// A kubelet and an operating system that are updated in place, by any tool.
pub const IN_PLACE: Rules = Rules {
    precision: Precision::Full,
    replaces: false,
    cordon: CordonSign::Drain,
    limit: RESTART_LIMIT,
};

/// What a provider knows about the node.
#[derive(Debug, Clone, Default)]
pub struct Signs<'a> {
    /// The desired version, where an object of the provider has it.
    pub desired: Option<Desired>,
    /// The release of Kubernetes that an object of the provider wants, where the provider chooses builds and images
    /// itself.
    pub release: Option<Arc<str>>,
    /// What identifies the machine image of the node.
    pub image: Option<Cow<'a, str>>,
}

/// The desired state of a node.
#[derive(Debug, Clone)]
pub struct Target {
    /// The desired version.
    pub desired: Desired,
    /// What the update changes; `None` if the node is up to date.
    pub change: Option<UpdateKind>,
    /// When the rollout began, as far as the cluster shows it.
    pub since: Option<Timestamp>,
}

impl Target {
    /// Whether a node of the pool, the user or the provider shows that there is a rollout. The API server's version is
    /// a limit for nodes, and no order.
    #[must_use]
    pub fn shows_rollout(&self) -> bool {
        self.desired.source != DesiredVersionSource::ApiServer
    }
}

/// What else than an update acts on the node. The end of a machine by its scaling group is an update if the node is
/// outdated and a rollout is in progress.
#[must_use]
pub fn interruption(
    node: &NodeFacts,
    is_outdated: bool,
    target: Option<&Target>,
) -> Option<Interruption> {
    let may_update = is_outdated && target.is_some_and(Target::shows_rollout);
    let interruption = node.interruption?;
    (!(may_update && interruption.may_update())).then_some(interruption)
}

/// Evaluates a node of an updater that does not report its steps.
#[must_use]
pub fn evaluate(
    settings: &Settings,
    rules: &Rules,
    node: &Subject<'_>,
    signs: Signs<'_>,
    view: &View<'_>,
) -> Evaluation {
    let target = target(settings, rules, node, signs, view);
    let step = step(rules, node, target.as_ref(), None);
    finish(node, step, target)
}

/// The evaluation of a node in a step. A node that is up to date has no desired version below its own.
#[must_use]
pub fn finish(node: &Subject<'_>, step: Step, target: Option<Target>) -> Evaluation {
    let own = node.facts.kubelet_version.as_deref();
    let is_below = |desired: &Desired| {
        let order = own.and_then(|own| version::compare(&desired.version, own));
        step.phase == Phase::Completed && order == Some(Ordering::Less)
    };
    let desired = target.map(|target| target.desired);
    let desired = desired.filter(|desired| !is_below(desired));
    step.evaluation(node.facts, desired)
}

/// The desired state of a node, from the first source that has one.
#[must_use]
pub fn target(
    settings: &Settings,
    rules: &Rules,
    node: &Subject<'_>,
    signs: Signs<'_>,
    view: &View<'_>,
) -> Option<Target> {
    let own = node.facts.kubelet_version.as_deref();
    let image = signs.image.as_deref();
    if let Some((own, release)) = own.zip(signs.release.as_ref()) {
        return Some(of_release(node, own, release, rules, image, view));
    }
    let explicit = signs.desired.or_else(|| {
        let by_policy = view.policy().target(&node.pool.name);
        let version = by_policy.or(settings.target_version.as_ref())?.clone();
        let source = DesiredVersionSource::UserTarget;
        Some(Desired { version, source })
    });
    if let Some(desired) = explicit {
        let meets = own.is_some_and(|own| version::meets(own, &desired.version));
        return Some(Target {
            change: (!meets).then_some(UpdateKind::Version),
            desired,
            since: None,
        });
    }
    let own = own?;
    let in_pool = in_pool(node, own, rules, image, view);
    if in_pool
        .as_ref()
        .is_some_and(|target| target.change.is_some())
    {
        return in_pool;
    }
    let upper = upper_bound(Some(own), view).map(|desired| {
        let is_behind = version::is_behind(own, &desired.version, precision(rules, view));
        Target {
            change: is_behind.then_some(UpdateKind::Version),
            desired,
            since: None,
        }
    });
    upper.or(in_pool)
}

/// The target where an object of the provider names the release. Within the release the youngest node of the pool shows
/// the build and the image.
fn of_release(
    node: &Subject<'_>,
    own: &str,
    release: &Arc<str>,
    rules: &Rules,
    image: Option<&str>,
    view: &View<'_>,
) -> Target {
    let is_other = |version: &str| {
        let precision = precision(rules, view);
        version::is_behind(version, release, precision)
            || version::is_ahead(version, release, precision)
    };
    let shown = in_pool(node, own, rules, image, view);
    let shown = shown.filter(|shown| !is_other(&shown.desired.version));
    let change = if is_other(own) {
        Some(UpdateKind::Version)
    } else {
        shown.as_ref().and_then(|shown| shown.change)
    };
    let since = shown.as_ref().and_then(|shown| shown.since);
    let version = shown.map_or_else(|| Arc::clone(release), |shown| shown.desired.version);
    Target {
        desired: Desired {
            version,
            source: DesiredVersionSource::Provider,
        },
        change,
        since,
    }
}

/// The whole pool has one template: a provider made it, or it is the control plane. Nodes that only share a role have
/// no template in common.
fn has_template(pool: &PoolId) -> bool {
    !is_role(pool) || pool.scope == Scope::ControlPlane
}

fn is_role(pool: &PoolId) -> bool {
    pool.reference.resource == "role"
}

/// The generation that the youngest node of the pool shows, if the pool has a template.
#[must_use]
pub fn generation<'a>(
    rules: &Rules,
    node: &Subject<'_>,
    view: &View<'a>,
) -> Option<&'a Generation> {
    let flavour = flavour(&node.facts.labels);
    has_template(node.pool)
        .then(|| view.generation(&node.pool.name, flavour, precision(rules, view)))
        .flatten()
}

/// The target that the youngest node of the pool shows. A node that is newer is outdated only if it leaves, and was
/// never ahead of the API server: that is a rollback.
fn in_pool(
    node: &Subject<'_>,
    own: &str,
    rules: &Rules,
    image: Option<&str>,
    view: &View<'_>,
) -> Option<Target> {
    let facts = node.facts;
    let shown = generation(rules, node, view)?;
    let is_rolled_back = || {
        let api_server = view.api_server_version();
        let precision = precision(rules, view);
        let is_ahead = api_server.is_some_and(|limit| version::is_ahead(own, limit, precision));
        (facts.deleting || facts.cordoned.is_some()) && !is_ahead
    };
    let is_other_image = || {
        let images = image.zip(shown.image.as_deref());
        images.is_some_and(|(own, shown)| own != shown)
    };
    // The youngest node of a control plane that is updated in place may be the last one that is updated.
    let has_no_order = !rules.replaces && is_role(node.pool);
    let change = match version::compare(own, &shown.version) {
        Some(Ordering::Greater) => {
            (rules.replaces && is_rolled_back()).then_some(UpdateKind::Version)
        }
        Some(Ordering::Equal) => is_other_image().then_some(UpdateKind::Image),
        // Two builds of one release; a missing build may be any.
        None if version::meets(own, &shown.version) => {
            is_other_image().then_some(UpdateKind::Image)
        }
        None if has_no_order || Version::parse(own).is_none() => None,
        Some(Ordering::Less) | None => Some(UpdateKind::Version),
    };
    Some(Target {
        desired: Desired {
            version: Arc::clone(&shown.version),
            source: DesiredVersionSource::NewestInPool,
        },
        change,
        since: shown.since,
    })
}

/// The version of the API server, if the node is not ahead of it.
#[must_use]
pub fn upper_bound(own: Option<&str>, view: &View<'_>) -> Option<Desired> {
    let api_server = view.api_server_version()?;
    let is_ahead = own.is_some_and(|own| version::is_ahead(own, api_server, Precision::Full));
    (!is_ahead).then(|| Desired {
        version: Arc::clone(api_server),
        source: DesiredVersionSource::ApiServer,
    })
}

/// A managed control plane is patched apart from its nodes, whoever updates them.
fn precision(rules: &Rules, view: &View<'_>) -> Precision {
    let managed = ["-eks-", "-gke."];
    let api_server = view.api_server_version();
    let is_managed =
        api_server.is_some_and(|version| managed.iter().any(|mark| version.contains(mark)));
    if is_managed {
        Precision::Minor
    } else {
        rules.precision
    }
}

#[cfg(test)]
mod tests;
