//! The blockers of a drain: the causes of its pods, held for long enough, grouped, ranked and bounded.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use super::budget::Budget;
use super::cause::{Cause, Scene};
use super::pod::Pod;
use super::steady::steady;
use super::{Blocker, Class, Drain, Drainer, GATE, Key, READ};
use crate::domain::node::NodeFacts;
use crate::domain::text;

/// Blockers that an insight names; the others are counted.
const BLOCKERS: usize = 5;
/// Pods that a blocker names; the others are counted.
const PODS: usize = 3;

/// A cause that comes and goes is gone once it has not applied for this long.
const GONE: SignedDuration = SignedDuration::from_secs(20);

/// A drain in progress.
#[derive(Debug, Clone, Copy)]
pub struct InProgress<'a> {
    /// The node.
    pub node: &'a NodeFacts,
    /// Who drains it.
    pub drainer: Drainer,
    /// Since when.
    pub start: Timestamp,
    /// The drain as it was before.
    pub past: Option<&'a Drain>,
}

impl InProgress<'_> {
    /// When its pods are worth reading.
    #[must_use]
    pub fn read_from(&self) -> Timestamp {
        self.start.checked_add(READ).unwrap_or(Timestamp::MAX)
    }

    /// When what holds it up is worth showing.
    #[must_use]
    pub fn gate(&self) -> Timestamp {
        self.start.checked_add(GATE).unwrap_or(Timestamp::MAX)
    }
}

/// Causes with the same object.
struct Group {
    class: Class,
    since: Timestamp,
    message: String,
    pods: Vec<Box<str>>,
    count: usize,
}

/// What holds the drain up, with `pods` of the node and the `budgets` that may be theirs, if they can be read; and when to
/// look again if nothing changes.
#[must_use]
pub fn assess(
    drain: InProgress<'_>,
    pods: &[&Pod],
    budgets: Option<&[&Budget]>,
    now: Timestamp,
) -> (Drain, Option<Timestamp>) {
    let left: Vec<&Pod> = pods
        .iter()
        .copied()
        .filter(|pod| drain.drainer.must_go(pod, now))
        .collect();
    let most = drain.past.map_or(0, |past| past.most).max(left.len());
    let scene = Scene {
        drainer: drain.drainer,
        node: drain.node,
        start: drain.start,
        now,
        has_moved: left.len() < most,
    };
    let budgets = budgets.map(|budgets| {
        let mut sorted = budgets.to_vec();
        sorted.sort_by(|a, b| a.namespace.cmp(&b.namespace));
        sorted
    });
    let mut times = Times::new(drain.past, now);
    let mut groups: BTreeMap<Key, Group> = BTreeMap::new();
    for pod in &left {
        let own = budgets.as_ref().map(|budgets| covering(budgets, pod));
        let causes = scene.causes(pod, own.as_deref());
        if let Some((cause, since)) = times.first_held(causes) {
            add(&mut groups, cause, since, pod);
        }
    }
    let explained: usize = groups.values().map(|group| group.count).sum();
    if explained == 0
        && let Some((cause, since)) = times.first_held(scene.unexplained(left.len()))
    {
        let group = Group {
            class: cause.class,
            since,
            message: cause.message,
            pods: Vec::new(),
            count: left.len(),
        };
        groups.insert(cause.key, group);
    }
    let mut blockers = rank(groups);
    for blocker in drain.past.map_or(&[][..], |past| &past.blockers) {
        let is_here = blockers
            .iter()
            .any(|known| known.key.is_about(&blocker.key));
        if !is_here && blocker.key.reason.flickers() && !left.is_empty() {
            blockers.extend(times.lingering(blocker));
        }
    }
    let points_of_pods = left.iter().flat_map(|pod| scene.turning_points_of(pod));
    let again = times.again(scene.turning_points().chain(points_of_pods));
    let omitted = blockers.len().saturating_sub(BLOCKERS);
    blockers.truncate(BLOCKERS);
    let found = Drain {
        pods_left: Some(left.len()),
        blockers: blockers.into_boxed_slice(),
        omitted,
        most,
        causes: times.kept(),
        shown: Some(now),
        blocked: SignedDuration::ZERO,
    };
    let (mut shown, due) = steady(found, drain.past, now);
    shown.blocked = blocked_before(drain.past, shown.blocked_since(), now);
    (shown, again.into_iter().chain(due).min())
}

/// For how long blockers that need a human, and are gone, have held the drain up; those that are still there do so since
/// `since`.
fn blocked_before(
    past: Option<&Drain>,
    since: Option<Timestamp>,
    now: Timestamp,
) -> SignedDuration {
    let Some(past) = past else {
        return SignedDuration::ZERO;
    };
    let ended = past.blocked_since().map(|before| {
        let until = since.unwrap_or(now);
        let exact = until.duration_since(before).max(SignedDuration::ZERO);
        SignedDuration::from_secs(exact.as_secs())
    });
    past.blocked + ended.unwrap_or_default()
}

/// The budgets of a pod; all budgets are sorted by their namespaces.
fn covering<'a>(budgets: &[&'a Budget], pod: &Pod) -> Vec<&'a Budget> {
    let first = budgets.partition_point(|budget| budget.namespace < pod.namespace);
    let all = budgets.iter().skip(first).copied();
    let of_namespace = all.take_while(|budget| budget.namespace == pod.namespace);
    of_namespace.filter(|budget| budget.covers(pod)).collect()
}

fn add(groups: &mut BTreeMap<Key, Group>, cause: Cause, since: Timestamp, pod: &Pod) {
    let group = groups.entry(cause.key).or_insert_with(|| Group {
        class: cause.class,
        since,
        message: cause.message,
        pods: Vec::new(),
        count: 0,
    });
    group.count += 1;
    if group.pods.len() < PODS {
        group.pods.push(pod.name.clone());
    }
}

/// The most blocking first: what needs a human, then what has held for the longest.
fn rank(groups: BTreeMap<Key, Group>) -> Vec<Blocker> {
    let mut ranked: Vec<Blocker> = groups
        .into_iter()
        .map(|(key, group)| Blocker {
            key,
            message: text::summary(&group.message).into(),
            pods: group.pods.into_boxed_slice(),
            count: group.count,
            since: group.since,
            gone: None,
            is_symptom: group.class == Class::Symptom,
        })
        .collect();
    // Groups are sorted by their keys, which decide between equals.
    ranked.sort_by_key(Blocker::rank);
    ranked
}

/// Since when each cause applies.
struct Times<'a> {
    past: &'a [(Key, Timestamp)],
    now: Timestamp,
    held: Vec<(Key, Timestamp)>,
    /// When a cause that applies will have held for long enough.
    due: Option<Timestamp>,
}

impl<'a> Times<'a> {
    fn new(past: Option<&'a Drain>, now: Timestamp) -> Self {
        Self {
            past: past.map_or(&[], |past| &past.causes),
            now,
            held: Vec::new(),
            due: None,
        }
    }

    /// The first of these causes that has held for long enough, and since when it has.
    fn first_held(&mut self, causes: Vec<Cause>) -> Option<(Cause, Timestamp)> {
        for cause in causes {
            let since = self.since(&cause.key);
            let from = since.checked_add(cause.needs).unwrap_or(Timestamp::MAX);
            let to = cause.lasts.and_then(|lasts| since.checked_add(lasts).ok());
            if to.is_some_and(|to| to <= self.now) {
                continue;
            }
            if from <= self.now {
                self.due = self.due.into_iter().chain(to).min();
                return Some((cause, since));
            }
            self.due = Some(self.due.map_or(from, |due| due.min(from)));
        }
        None
    }

    fn since(&mut self, key: &Key) -> Timestamp {
        let find = |times: &[(Key, Timestamp)]| {
            let mut times = times.iter();
            times
                .find(|(known, _)| known == key)
                .map(|(_, since)| *since)
        };
        if let Some(since) = find(&self.held) {
            return since;
        }
        let since = find(self.past).unwrap_or(self.now);
        self.held.push((key.clone(), since));
        since
    }

    /// A blocker that does not apply now, if it has not been gone for long.
    fn lingering(&mut self, blocker: &Blocker) -> Option<Blocker> {
        let gone = blocker.gone.unwrap_or(self.now);
        let until = gone.checked_add(GONE).ok()?;
        if until <= self.now {
            return None;
        }
        self.held.push((blocker.key.clone(), blocker.since));
        self.due = Some(self.due.map_or(until, |due| due.min(until)));
        Some(Blocker {
            gone: Some(gone),
            ..blocker.clone()
        })
    }

    /// When to look again: at the next of these times, or when a cause is due.
    fn again(&self, points: impl Iterator<Item = Timestamp>) -> Option<Timestamp> {
        // A moment later, when the time is over.
        let after = |point: Timestamp| point.checked_add(SignedDuration::from_secs(1)).ok();
        let points = points.filter_map(after).filter(|point| *point > self.now);
        points.chain(self.due).min()
    }

    fn kept(self) -> Box<[(Key, Timestamp)]> {
        let mut held = self.held;
        held.sort();
        held.into_boxed_slice()
    }
}
