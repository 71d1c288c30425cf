//! Providers whose updater is outside the cluster: how each is recognised, and what it leaves on its nodes.
//!
//! A profile is data and a few functions; the steps are those of `inferred`, after the ones that the profile itself
//! recognises.

use std::borrow::Cow;
use std::sync::Arc;

use super::cluster_api::{self, split};
use super::inferred::{self, CordonSign, Known, Rules, Signs, Target};
use super::settings::Settings;
use super::step::Step;
use super::{Claim, Identity, Provider, Subject};
use crate::api::types::{Phase, ProviderName, UpdateKind};
use crate::domain::drain::Drainer;
use crate::domain::drain::pod;
use crate::domain::fact::Keys;
use crate::domain::facts::{Unavailable, View};
use crate::domain::node::{Evidence, NodeFacts, NodeObject};
use crate::domain::pool::{Membership, PoolId};
use crate::domain::pool_generations::flavour;
use crate::domain::state::Evaluation;

/// Index of the nodes of each generation of a pool, and of those that are cordoned.
const GENERATION: &str = "generation";
const CORDONED: &str = "generation, cordoned";
/// Index of the nodes of a pool that are updated in place.
const IN_PLACE: &str = "in place";

/// How an updater is recognised, and how it works.
#[derive(Debug)]
pub struct Profile {
    /// The name that insights show.
    pub name: &'static str,
    /// How its nodes are recognised.
    pub mark: Mark,
    /// Evidence in claims of other providers that does not conflict.
    pub coexists_with: &'static [&'static str],
    /// How it works, where it reports nothing.
    pub rules: Rules,
    /// One of its strategies cordons all outdated nodes at once. If all nodes of a generation are cordoned, they wait
    /// for their drains; otherwise the cordoned ones are being drained.
    pub may_cordon_all: bool,
    /// What it leaves on a Node, if anything.
    pub evidence: fn(&NodeObject) -> Option<Evidence>,
    /// What identifies the machine image of a node.
    pub image: for<'a> fn(&'a NodeFacts) -> Option<Cow<'a, str>>,
    /// What the update to another image changes: from the image of the node to that of the youngest node. `None` if
    /// that is no update.
    pub image_change: fn(&str, &str) -> Option<UpdateKind>,
    /// Whether it marks the node as outdated or current.
    pub outdated: fn(&NodeFacts) -> Option<bool>,
    /// Whether it updates the node in place, where it replaces other nodes.
    pub in_place: fn(&NodeFacts) -> bool,
    /// What the Node says about something that is no update.
    pub notice: fn(&NodeFacts) -> Option<Notice>,
    /// The step that it reports on the node.
    pub step: fn(&Node<'_>) -> Option<Step>,
    /// What identifies a node across its update.
    pub identity: Identity,
    /// Who drains the nodes.
    pub drainer: Drainer,
}

/// How the nodes of a provider are recognised.
#[derive(Debug, Clone, Copy)]
pub enum Mark {
    /// By a label that only this provider sets; the key, and how a conflict names it.
    Label(&'static str, &'static str),
    /// By what it leaves on a Node, where no other provider claims the node.
    Distribution(fn(&NodeFacts) -> bool),
}

/// Something on a node that is no update, as a sentence without its full stop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// It acts on the node now, so a cordon or a deletion is no part of an update.
    Acts(Cow<'static, str>),
    /// It may act later, or explains what is seen.
    Explains(Cow<'static, str>),
}

/// A node, and whether it is outdated.
pub struct Node<'a> {
    /// The node and its history.
    pub subject: &'a Subject<'a>,
    /// Its target, if there is one.
    pub target: Option<&'a Target>,
    /// Whether the node is outdated.
    pub is_outdated: bool,
    /// Whether something else than an update acts on the node.
    pub is_interrupted: bool,
    rules: &'a Rules,
}

impl Node<'_> {
    /// Facts of the Node.
    #[must_use]
    pub fn facts(&self) -> &NodeFacts {
        self.subject.facts
    }

    /// What its update changes, if the node is outdated.
    #[must_use]
    pub fn change(&self) -> Option<UpdateKind> {
        self.target.and_then(|target| target.change)
    }

    /// The step of a node that does not report, while that is recent.
    #[must_use]
    pub fn silent(&self, step: Step) -> Option<Step> {
        let until = inferred::silent_until(self.rules, self.subject)?;
        Some(step.again_at(Some(until)))
    }
}

impl Profile {
    /// A profile that knows nothing but how its nodes are recognised.
    #[must_use]
    pub const fn new(name: &'static str, mark: Mark, rules: Rules) -> Self {
        Self {
            name,
            mark,
            coexists_with: &[],
            rules,
            may_cordon_all: false,
            evidence: |_| None,
            image: |_| None,
            image_change: |_, _| Some(UpdateKind::Image),
            outdated: |_| None,
            in_place: |_| false,
            notice: |_| None,
            step: |_| None,
            identity: Identity::Uid,
            drainer: Drainer::Kubectl,
        }
    }

    /// The pool of a node, where its label names it.
    fn pool<'a>(&self, node: &'a NodeFacts) -> Option<&'a str> {
        match self.mark {
            Mark::Label(key, _) => node.labels.get(key),
            Mark::Distribution(_) => None,
        }
    }

    /// The key of a pool in [`IN_PLACE`].
    fn in_place_key(&self, pool: &str) -> String {
        [self.name, pool].join("\n")
    }

    /// The generation of a node in its pool, as a key.
    fn generation(&self, node: &NodeFacts) -> Option<String> {
        let pool = self.pool(node)?;
        let (os, arch) = flavour(&node.labels);
        let version = node.kubelet_version.as_deref().unwrap_or_default();
        let image = (self.image)(node).unwrap_or_default();
        Some([self.name, pool, os, arch, version, &image].join("\n"))
    }
}

/// The provider of a profile.
#[derive(Debug)]
pub struct Profiled {
    profile: &'static Profile,
    settings: Settings,
}

impl Profiled {
    /// The provider of this profile.
    #[must_use]
    pub fn new(profile: &'static Profile, settings: &Settings) -> Self {
        Self {
            profile,
            settings: settings.clone(),
        }
    }

    /// Its target. Another image counts only if it is an update.
    fn target(
        &self,
        node: &Subject<'_>,
        release: Option<Arc<str>>,
        view: &View<'_>,
    ) -> Option<Target> {
        let profile = self.profile;
        let image = self.image(node.facts);
        let shown = inferred::generation(&profile.rules, node, view);
        let images = image
            .as_deref()
            .zip(shown.and_then(|shown| shown.image.as_deref()));
        let change = images
            .filter(|(own, shown)| own != shown)
            .and_then(|(own, shown)| (profile.image_change)(own, shown));
        let signs = Signs {
            desired: None,
            release,
            image: image.filter(|_| change.is_some()),
        };
        let mut target = inferred::target(&self.settings, &profile.rules, node, signs, view)?;
        if target.change == Some(UpdateKind::Image) {
            target.change = change;
        }
        Some(target)
    }

    /// The rules for this node, and what could not be read for them. Where a cordon may be no drain yet, pods that leave
    /// the node show that it is one.
    fn rules(
        &self,
        node: &Subject<'_>,
        is_outdated: bool,
        target: Option<&Target>,
        view: &View<'_>,
    ) -> (Rules, Option<Unavailable>) {
        let rules = Rules {
            replaces: self.profile.rules.replaces && !(self.profile.in_place)(node.facts),
            ..self.profile.rules
        };
        let is_in_rollout = is_outdated && target.is_some_and(Target::shows_rollout);
        let is_asked = is_in_rollout && node.facts.cordoned.is_some() && node.facts.is_ready();
        if !is_asked || !self.may_wait(node.facts, view) {
            return (rules, None);
        }
        let (are_leaving, missing) = match pod::are_leaving(&node.facts.name, view) {
            Ok(are_leaving) => (are_leaving, None),
            Err(error) => (false, Some(error)),
        };
        // Between two pods the drain goes on.
        let have_left = node.past.is_some_and(|past| past.pods_leaving);
        let cordon = if are_leaving || have_left {
            CordonSign::PodsLeaving
        } else {
            CordonSign::Turn
        };
        (Rules { cordon, ..rules }, missing)
    }

    /// Whether a cordoned node may only wait for its drain: always, or if all nodes of its generation are cordoned.
    fn may_wait(&self, node: &NodeFacts, view: &View<'_>) -> bool {
        if self.profile.rules.cordon == CordonSign::Turn {
            return true;
        }
        let generation = self
            .profile
            .may_cordon_all
            .then(|| self.profile.generation(node));
        generation.flatten().is_some_and(|key| {
            let all = view.count_nodes(GENERATION, &key);
            all > 1 && view.count_nodes(CORDONED, &key) == all
        })
    }
}

impl Provider for Profiled {
    fn name(&self) -> ProviderName {
        ProviderName::new(self.profile.name)
    }

    fn evidence(&self, node: &NodeObject) -> Option<Evidence> {
        (self.profile.evidence)(node)
    }

    fn node_keys(&self, node: &NodeFacts, keys: &mut Keys) {
        if self.profile.may_cordon_all
            && let Some(generation) = self.profile.generation(node)
        {
            keys.add(GENERATION, &generation);
            if node.cordoned.is_some() {
                keys.add(CORDONED, &generation);
            }
        }
        if let Some(pool) = self.profile.pool(node)
            && (self.profile.in_place)(node)
        {
            keys.add(IN_PLACE, &self.profile.in_place_key(pool));
        }
    }

    fn claim(&self, node: &NodeFacts, _: &View<'_>) -> Claim {
        match self.profile.mark {
            Mark::Label(key, shown) if node.labels.contains(key) => Claim::Evidence(shown),
            Mark::Distribution(is_one) if is_one(node) => Claim::Otherwise,
            Mark::Label(..) | Mark::Distribution(_) => Claim::None,
        }
    }

    fn coexists_with(&self) -> &'static [&'static str] {
        self.profile.coexists_with
    }

    fn pool(&self, node: &NodeFacts, view: &View<'_>) -> Result<Membership, Unavailable> {
        let pool = match self.profile.mark {
            Mark::Label(own, _) => self.settings.pool_of_provider(&node.labels, own, view),
            Mark::Distribution(_) => self.settings.pool(&node.labels, view),
        };
        Ok(Membership::Pool(Arc::new(pool)))
    }

    fn image<'a>(&self, node: &'a NodeFacts) -> Option<Cow<'a, str>> {
        (self.profile.image)(node)
    }

    fn evaluate(&self, node: &Subject<'_>, view: &View<'_>) -> Result<Evaluation, Unavailable> {
        let profile = self.profile;
        let outdated = (profile.outdated)(node.facts);
        let (release, no_release) = split(cluster_api::release(node.facts, view));
        let target = self.target(node, release, view);
        let is_behind = target
            .as_ref()
            .is_some_and(|target| target.change.is_some());
        let is_outdated = outdated.unwrap_or(is_behind);
        let (rules, no_pods) = self.rules(node, is_outdated, target.as_ref(), view);
        let (acting, explanation) = match (profile.notice)(node.facts) {
            Some(Notice::Acts(sentence)) => (Some(sentence), None),
            Some(Notice::Explains(sentence)) => (None, Some(sentence)),
            None => (None, None),
        };
        let interruption = inferred::interruption(node.facts, is_outdated, target.as_ref());
        let known = Node {
            subject: node,
            target: target.as_ref(),
            is_outdated,
            is_interrupted: interruption.is_some() || acting.is_some(),
            rules: &rules,
        };
        let step = (profile.step)(&known).unwrap_or_else(|| {
            let known = Known {
                outdated,
                interruption: acting.as_deref(),
            };
            inferred::step_with(&rules, node, target.as_ref(), known)
        });
        let mut step = match explanation {
            Some(sentence) => explained(step, &sentence),
            None => step,
        };
        step.missing.extend(no_release.into_iter().chain(no_pods));
        Ok(inferred::finish(node, step, target))
    }

    fn replaces(&self, pool: &PoolId, view: &View<'_>) -> bool {
        let key = || self.profile.in_place_key(&pool.reference.name);
        self.profile.rules.replaces && view.count_nodes(IN_PLACE, &key()) == 0
    }

    fn drainer(&self) -> Drainer {
        self.profile.drainer
    }

    fn identity(&self) -> Identity {
        self.profile.identity
    }
}

/// The step with a sentence about something that is no update, unless an update is in progress.
fn explained(step: Step, sentence: &str) -> Step {
    let message = match (step.phase, &*step.message) {
        (Phase::Completed, "") => format!("{sentence}; this is no update"),
        (Phase::Completed | Phase::Pending | Phase::Paused, said) => format!("{said}. {sentence}"),
        (Phase::Draining | Phase::Updating | Phase::Rebooting | Phase::Unknown, _) => return step,
    };
    Step {
        message: message.into(),
        ..step
    }
}

#[cfg(test)]
pub(crate) mod fixtures;
#[cfg(test)]
mod tests;
