//! The step of a node whose updater reports nothing, from what the Node shows and from its history.

use std::borrow::Cow;

use jiff::{SignedDuration, Timestamp};

use super::{CordonSign, Rules, Target, interruption};
use crate::api::types::{
    ConditionStatus, CordonerKind, DesiredVersionSource, Phase, TIMELINE_LIMIT, UpdateKind,
};
use crate::domain::availability::availability;
use crate::domain::cordon::Cordon;
use crate::domain::interruption::Interruption;
use crate::domain::node::NodeFacts;
use crate::domain::state::{History, JOINING, PODS_LEAVING, REBOOTED};
use crate::domain::version::Version;
use crate::providers::Subject;
use crate::providers::step::Step;

/// A node registers and its kubelet reports that it is not ready yet within this time.
const REGISTRATION: SignedDuration = SignedDuration::from_secs(10);

/// An outdated node is noticed within this time: the version of the API server is read once a minute, and an updater
/// may cordon its first node before that.
const NOTICED: SignedDuration = SignedDuration::from_mins(5);

/// What the provider of a node knows about it, in addition to its target.
#[derive(Debug, Clone, Copy, Default)]
pub struct Known<'a> {
    /// Whether the node is outdated, if the provider marks it.
    pub outdated: Option<bool>,
    /// What acts on the node and is no update, as a sentence without its full stop; in addition to
    /// [`NodeFacts::interruption`].
    pub interruption: Option<&'a str>,
}

/// The node, its history and its target.
struct Context<'a> {
    rules: &'a Rules,
    node: &'a Subject<'a>,
    facts: &'a NodeFacts,
    target: Option<&'a Target>,
    known: Known<'a>,
    /// What the update changes; `None` if the node is up to date.
    change: Option<UpdateKind>,
    /// Until when a node that does not report is in a step; `None` once that is over.
    silent_until: Option<Timestamp>,
}

/// The first step that applies. `outdated` is what the provider says, if it says anything.
#[must_use]
pub fn step(
    rules: &Rules,
    node: &Subject<'_>,
    target: Option<&Target>,
    outdated: Option<bool>,
) -> Step {
    let known = Known {
        outdated,
        ..Known::default()
    };
    step_with(rules, node, target, known)
}

/// The first step that applies, with all that the provider knows.
#[must_use]
pub fn step_with(
    rules: &Rules,
    node: &Subject<'_>,
    target: Option<&Target>,
    known: Known<'_>,
) -> Step {
    let found = target.and_then(|target| target.change);
    let change = match known.outdated {
        Some(true) => found.or(Some(UpdateKind::Configuration)),
        Some(false) => None,
        None => found,
    };
    let context = Context {
        rules,
        node,
        facts: node.facts,
        target,
        known,
        change,
        silent_until: silent_until(rules, node),
    };
    let mut step = context.step();
    let is_outdated = change.is_some() && !step.phase.is_in_progress();
    step.is_only_behind = is_outdated && known.outdated != Some(true) && !context.shows_rollout();
    step
}

/// Until when a node that does not report counts as restarting or being terminated; `None` once that is over. Where the
/// Ready condition has no time, the time since the node has been unavailable counts.
#[must_use]
pub fn silent_until(rules: &Rules, node: &Subject<'_>) -> Option<Timestamp> {
    let unavailable = || {
        let past = node.past.map(|past| past.available);
        let past = past.filter(|past| past.status == ConditionStatus::False);
        let shown = || availability(node.facts)?.since;
        past.map(|past| past.since)
            .or_else(|| Some(shown()?.min(node.now)))
    };
    let since = node.facts.unready_since().or_else(unavailable);
    let until = since.unwrap_or(node.now).checked_add(rules.limit);
    Some(until.unwrap_or(Timestamp::MAX)).filter(|until| node.now < *until)
}

impl Context<'_> {
    fn step(&self) -> Step {
        let facts = self.facts;
        let Some(version) = &facts.kubelet_version else {
            let message =
                "The node does not report its kubelet version: it has not joined the cluster yet";
            return Step::unknown("VersionUnknown", message);
        };
        if self.is_unreadable(version) {
            let message = format!("The kubelet version {version} cannot be compared with others");
            Step::unknown("VersionUnreadable", message)
        } else if facts.deleting {
            self.deletion()
        } else if let Some(step) = self.joining() {
            step
        } else if let Some(step) = self.in_progress(version) {
            step
        } else if let Some(change) = self.change {
            self.pending(change)
        } else {
            self.completed()
        }
    }

    /// Whether nothing is known because the version cannot be read. The target of a user or a provider may be any text,
    /// and a node that its provider marks needs no version.
    fn is_unreadable(&self, version: &str) -> bool {
        let is_compared = self.target.is_none_or(|target| {
            matches!(
                target.desired.source,
                DesiredVersionSource::ApiServer | DesiredVersionSource::NewestInPool
            )
        });
        is_compared && self.known.outdated.is_none() && Version::parse(version).is_none()
    }

    /// What else than an update acts on the node, as a sentence.
    fn interruption(&self) -> Option<&str> {
        interruption(self.facts, self.change.is_some(), self.target)
            .map(Interruption::sentence)
            .or(self.known.interruption)
    }

    /// An outdated node that is deleted is being replaced, unless something else removes it.
    fn deletion(&self) -> Step {
        match self.change {
            Some(_) if self.interruption().is_none() => {
                let (phase, message) = if self.rules.replaces {
                    (Phase::Updating, "The outdated node is being terminated")
                } else {
                    (Phase::Draining, "The outdated node is being deleted")
                };
                Step::new(phase, UpdateKind::Replacement, "BeingReplaced", message)
            }
            Some(change) => Step::new(Phase::Pending, change, "BeingDeleted", self.waiting()),
            None => Step::new(Phase::Completed, None, "BeingDeleted", self.leaving()),
        }
    }

    /// A new node of a pool whose nodes are replaced is not an updated node before it is ready.
    fn joining(&self) -> Option<Step> {
        let created = self.facts.created?;
        let since = self.facts.unready_since()?;
        // Its kubelet reports that it is not ready yet; a node that stops reporting is Unknown.
        let ready = self.facts.conditions.ready.as_ref();
        let reports = ready.is_some_and(|ready| ready.status == ConditionStatus::False);
        let was_never_ready = reports && since.duration_since(created) <= REGISTRATION;
        let is_joining = self.rules.replaces && self.change.is_none() && was_never_ready;
        is_joining.then(|| Step::unknown(JOINING, "The node is joining: it is not ready yet"))
    }

    /// The step in progress, if there is one: an updater cordons the node first and uncordons or deletes it at the end.
    fn in_progress(&self, version: &str) -> Option<Step> {
        if self.interruption().is_some() {
            return None;
        }
        let facts = self.facts;
        let was_updating = self.node.so_far().is_some();
        let has_other_boot = self.node.has_other_boot();
        let touched = was_updating || has_other_boot;
        let so_far = self.node.kind_so_far();
        // A node registers before it is ready: the restart must be remembered until then.
        let is_back = self.node.has_rebooted();
        match (&facts.cordoned, facts.is_ready()) {
            (Some(cordon), false) if self.is_foreign(cordon) => None,
            // The last new node of a surge is cordoned and removed again.
            (Some(_), false) if self.rules.replaces && self.change.is_none() && !touched => None,
            (Some(_), false) => {
                let kind = self.change.or(so_far).unwrap_or(UpdateKind::Reboot);
                self.silent(kind, is_back, "The cordoned node does not report")
            }
            (Some(cordon), true) if let Some(change) = self.change => self.drain(cordon, change),
            (Some(_), true) if touched => {
                let reason = if is_back { REBOOTED } else { "Updating" };
                let message = format!("The node runs {version} and waits to be uncordoned");
                let kind = so_far.unwrap_or(UpdateKind::Reboot);
                Some(Step::new(Phase::Updating, kind, reason, message).inferred())
            }
            (None, false) if touched => {
                let kind = so_far.or(self.change).unwrap_or(UpdateKind::Reboot);
                self.silent(kind, is_back, "The node does not report")
            }
            (Some(_) | None, true) | (None, false) => None,
        }
    }

    /// A node that does not report restarts or is terminated, but not for ever.
    fn silent(&self, kind: UpdateKind, is_back: bool, what: &'static str) -> Option<Step> {
        let until = self.silent_until?;
        let step = if self.rules.replaces && self.change.is_some() {
            let message = format!("{what}: it is being terminated");
            Step::new(Phase::Updating, kind, "Terminating", message)
        } else {
            let reason = if is_back { REBOOTED } else { "Rebooting" };
            let message = format!("{what}: it restarts");
            Step::new(Phase::Rebooting, kind, reason, message)
        };
        Some(step.inferred().again_at(Some(until)))
    }

    /// The step of an outdated node that is cordoned and ready.
    fn drain(&self, cordon: &Cordon, change: UpdateKind) -> Option<Step> {
        if self.is_foreign(cordon) {
            return None;
        }
        match self.rules.cordon {
            CordonSign::DrainInRollout | CordonSign::Turn | CordonSign::PodsLeaving
                if !self.shows_rollout() =>
            {
                None
            }
            CordonSign::PodsLeaving => {
                let message = "The outdated node is cordoned, and its pods are leaving";
                Some(Step::new(Phase::Draining, change, PODS_LEAVING, message).inferred())
            }
            CordonSign::Drain | CordonSign::DrainInRollout => {
                let message = "The outdated node is cordoned: its workloads are moved away";
                Some(Step::new(Phase::Draining, change, "Draining", message).inferred())
            }
            CordonSign::Turn => {
                let message = "The outdated node is cordoned and waits for its drain";
                let mut step = Step::new(Phase::Pending, change, "Cordoned", message);
                step.is_own_cordon = Some(true);
                Some(step.inferred())
            }
        }
    }

    fn shows_rollout(&self) -> bool {
        self.target.is_some_and(Target::shows_rollout)
    }

    /// Whether the cordon is no part of the update: who cordoned the node updates no nodes, or the cordon is older
    /// than the rollout.
    fn is_foreign(&self, cordon: &Cordon) -> bool {
        if cordon.by.kind == CordonerKind::Autoscaler {
            return true;
        }
        // A node that is updated in place was created long before.
        let began = self.target.and_then(|target| target.since);
        let began = began.filter(|_| self.rules.replaces);
        let became_outdated = match self.node.past.map(before) {
            Some(Before::Updating) => return false,
            Some(Before::Current) => self.node.now.checked_sub(NOTICED).ok(),
            Some(Before::OutdatedSince(since)) => since.checked_sub(NOTICED).ok(),
            Some(Before::Unknown) | None => None,
        };
        let earliest = began.into_iter().chain(became_outdated).min();
        let times = cordon.since.zip(earliest);
        // Times of taints are whole seconds.
        self.change.is_some()
            && times.is_some_and(|(cordon, since)| cordon.as_second() + 1 < since.as_second())
    }

    fn pending(&self, change: UpdateKind) -> Step {
        let is_silent = !self.facts.is_ready();
        let reason = if is_silent { "NotReady" } else { "Pending" };
        Step::new(Phase::Pending, change, reason, self.waiting())
    }

    fn completed(&self) -> Step {
        let past = self.node.past;
        let only_rebooted = (self.node.has_other_boot() || past.is_some_and(|past| past.rebooted))
            && self
                .node
                .kind_so_far()
                .is_none_or(|kind| kind == UpdateKind::Reboot);
        let reason = if only_rebooted { REBOOTED } else { "Updated" };
        Step::new(Phase::Completed, None, reason, self.leaving())
    }

    /// Why an outdated node is not updated yet.
    fn waiting(&self) -> Cow<'static, str> {
        let facts = self.facts;
        if let Some(sentence) = self.interruption() {
            return format!("The node is outdated. {sentence}").into();
        }
        if let Some(cordon) = &facts.cordoned
            && self.is_foreign(cordon)
        {
            return match &*cordon.by.name {
                "" => "The node is outdated; it was cordoned before the update".into(),
                name => {
                    format!("The node is outdated; {name} cordoned it before the update").into()
                }
            };
        }
        match facts.unready_since() {
            Some(since) => {
                format!("The node is outdated and has not reported since {since}").into()
            }
            None => "The node is outdated and waits for its turn".into(),
        }
    }

    /// Explains what acts on the node and is no update.
    fn leaving(&self) -> Cow<'static, str> {
        match (self.interruption(), self.facts.deleting) {
            (Some(sentence), _) => format!("{sentence}; this is no update").into(),
            (None, true) => "The node is being deleted; this is no update".into(),
            (None, false) => "".into(),
        }
    }
}

/// What a node was before, as far as it was seen.
enum Before {
    /// Up to date.
    Current,
    /// Outdated since then, and up to date before.
    OutdatedSince(Timestamp),
    /// Outdated, and an update was in progress since it was up to date.
    Updating,
    /// It was outdated when it was first seen, or nothing is known.
    Unknown,
}

/// What the node was before. As many phases count as an insight shows.
fn before(past: &History) -> Before {
    let mut since = None;
    for entry in past.timeline.iter().rev().take(TIMELINE_LIMIT) {
        match entry.phase {
            Phase::Pending | Phase::Paused => since = Some(entry.start_time),
            Phase::Draining | Phase::Updating | Phase::Rebooting => return Before::Updating,
            Phase::Completed => return since.map_or(Before::Current, Before::OutdatedSince),
            Phase::Unknown => return Before::Unknown,
        }
    }
    Before::Unknown
}
