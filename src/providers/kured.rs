//! kured: reboots nodes that request it, one after the other, with any provider.
//!
//! The daemon that reboots its node holds a lock, an annotation of kured's DaemonSet: it drains the node, reboots it,
//! uncordons it and releases the lock. With `--annotate-nodes` the Node also has an annotation for a requested
//! reboot. The annotation "reboot in progress" is written before kured takes the lock, so it means waiting.
//!
//! Source: kubereboot/kured `pkg/daemonsetlock/daemonsetlock.go`, `cmd/kured/main.go`.

use jiff::Timestamp;

use self::kinds::{KuredDaemonSet, Lock};
use super::step::Step;
use super::{Overlay, Subject, evidence};
use crate::api::types::{ConditionStatus, Phase, ProviderName, UpdateKind};
use crate::domain::cordon::Cordoner;
use crate::domain::fact::Kind;
use crate::domain::facts::{Unavailable, View};
use crate::domain::node::{Evidence, NodeFacts, NodeObject};
use crate::domain::state::{Evaluation, Finding, REBOOTED};

pub mod kinds;

const IN_PROGRESS: &str = "weave.works/kured-reboot-in-progress";
const NEEDED: &str = "weave.works/kured-most-recent-reboot-needed";

/// kured.
#[derive(Debug, Clone, Copy, Default)]
pub struct Kured;

/// What kured writes on a Node.
#[derive(Debug, Clone, PartialEq, Eq)]
struct KuredNode {
    /// When the node last requested a reboot.
    requested: Option<Timestamp>,
}

impl KuredNode {
    fn of(node: &NodeObject) -> Option<Self> {
        let values = [IN_PROGRESS, NEEDED].map(|key| node.annotations.get(key));
        if values == [None, None] {
            return None;
        }
        let times = values.into_iter().flatten();
        let requested = times.filter_map(|text| text.parse().ok()).max();
        Some(Self { requested })
    }
}

impl Overlay for Kured {
    fn name(&self) -> ProviderName {
        ProviderName::new("kured")
    }

    fn kinds(&self) -> Vec<Kind> {
        vec![Kind::of::<KuredDaemonSet>()]
    }

    fn evidence(&self, node: &NodeObject) -> Option<Evidence> {
        evidence(KuredNode::of(node))
    }

    fn refine(
        &self,
        node: &Subject<'_>,
        until_now: &Evaluation,
        view: &View<'_>,
    ) -> Result<Option<Evaluation>, Unavailable> {
        let shown = node.facts.evidence::<KuredNode>();
        let lock = match lock_of(node, view) {
            Ok(lock) => lock,
            // A node without kured annotations misses nothing.
            Err(_) if shown.is_none() => return Ok(None),
            Err(error) => return Err(error),
        };
        if let Some(lock) = lock {
            return Ok(Some(reboot(node, lock, until_now)));
        }
        Ok(shown
            .filter(|shown| waits(shown, node.facts))
            .map(|_| waiting(until_now)))
    }
}

/// The lock of the node, unless it has expired.
fn lock_of<'a>(node: &Subject<'_>, view: &View<'a>) -> Result<Option<&'a Lock>, Unavailable> {
    if !view.serves::<KuredDaemonSet>() {
        return Ok(None);
    }
    let mut locks = view.all::<KuredDaemonSet>()?.flat_map(|set| &set.locks);
    Ok(locks.find(|lock| *lock.node == *node.facts.name && !lock.is_over(node.now)))
}

/// The evaluation of a node that holds the lock.
fn reboot(node: &Subject<'_>, lock: &Lock, until_now: &Evaluation) -> Evaluation {
    let is_back = is_back(node, lock);
    let (phase, reason, message) = if !node.facts.is_ready() {
        let message = "kured reboots the node, which does not report";
        // A node registers before it is ready: the restart must be remembered until then.
        let reason = if is_back { REBOOTED } else { "Rebooting" };
        (Phase::Rebooting, reason, message)
    } else if is_back {
        let message = if lock.was_unschedulable {
            "kured has rebooted the node, and leaves it cordoned, as it was before"
        } else {
            "kured has rebooted the node and is about to uncordon it and to release its lock"
        };
        (Phase::Updating, REBOOTED, message)
    } else {
        let message = "kured holds its lock for the node and drains it before the reboot";
        (Phase::Draining, "Draining", message)
    };
    let mut step = Step::new(phase, UpdateKind::Reboot, reason, message).again_at(lock.over_at());
    if !lock.was_unschedulable {
        step = step.cordoned_by(Cordoner::updater("kured"));
    }
    step.refine(node.facts, until_now)
}

/// Whether the node has rebooted since the lock was taken: the boot ID changed, or the node was not ready since.
fn is_back(node: &Subject<'_>, lock: &Lock) -> bool {
    let ready_since = ready_since(node.facts);
    let was_away = ready_since.zip(lock.created);
    // Times of conditions are whole seconds.
    let is_later =
        |(since, created): (Timestamp, Timestamp)| since.as_second() > created.as_second();
    node.has_rebooted() || was_away.is_some_and(is_later)
}

/// Whether the node waits for its reboot. A request before the node last became ready has been served.
fn waits(shown: &KuredNode, node: &NodeFacts) -> bool {
    match (shown.requested, ready_since(node)) {
        (Some(requested), Some(since)) => requested > since,
        (Some(_), None) => true,
        (None, _) => false,
    }
}

fn ready_since(node: &NodeFacts) -> Option<Timestamp> {
    let ready = node.conditions.ready.as_ref();
    ready
        .filter(|ready| ready.status == ConditionStatus::True)?
        .since
}

fn waiting(until_now: &Evaluation) -> Evaluation {
    let before = until_now.updating.message.clone();
    let what = "The node requests a reboot and waits for the lock of kured";
    Evaluation {
        phase: Phase::Pending,
        kind: until_now.kind.or(Some(UpdateKind::Reboot)),
        updating: Finding::updating(Phase::Pending, "RebootNeeded", before).and(what),
        ..until_now.clone()
    }
}

#[cfg(test)]
mod tests;
