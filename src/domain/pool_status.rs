//! Aggregates the nodes of a pool into the status of the pool's insight.
//!
//! Percentages come from counts, never counts from percentages.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use jiff::Timestamp;

use super::blocked_drains::blocked_drains;
use super::pool::{PoolFacts, PoolState};
use super::rollout::{Rollouts, Update, rollouts};
use super::skew::skew;
use super::stalled::StallReason;
use super::state::{Desired, NodeState};
use super::text;
use crate::api::pool::{
    Assessment, BlockedDrains, PoolProgressInsightStatus, Summary, SummaryType, condition,
};
use crate::api::types::{Condition, ConditionStatus, Phase, Scope};

/// How many degraded nodes a condition message names; the others are counted.
const NAMED_NODES: usize = 5;

/// A pool and a consistent snapshot of its nodes.
#[derive(Debug, Clone)]
pub struct PoolView {
    /// The pool.
    pub state: Arc<PoolState>,
    /// All nodes of the pool, from one moment.
    pub nodes: Vec<Arc<NodeState>>,
    /// Nodes that were deleted during their update and are expected to register again.
    pub awaited: usize,
    /// How many nodes have left the pool since the start of the process, other than by being updated or replaced.
    pub removed: usize,
    /// The longest update of the nodes that have just been replaced.
    pub replaced: Option<Update>,
}

impl PoolView {
    fn facts(&self) -> &PoolFacts {
        &self.state.facts
    }
}

/// Counts of a pool's nodes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Counts {
    total: usize,
    updated: usize,
    available: usize,
    progressing: usize,
    outdated: usize,
    draining: usize,
    excluded: usize,
    degraded: usize,
    pending: usize,
    /// Nodes that have not been ready yet.
    joining: usize,
}

impl Counts {
    fn of(nodes: &[Arc<NodeState>]) -> Self {
        let mut counts = Self {
            total: nodes.len(),
            ..Self::default()
        };
        for node in nodes {
            counts.updated += usize::from(node.phase == Phase::Completed);
            counts.available += usize::from(node.available.status == ConditionStatus::True);
            counts.progressing += usize::from(node.phase.is_in_progress());
            counts.outdated += usize::from(node.is_outdated());
            counts.draining += usize::from(node.phase == Phase::Draining);
            counts.excluded += usize::from(node.phase == Phase::Paused);
            counts.degraded += usize::from(node.degraded.status == ConditionStatus::True);
            counts.pending += usize::from(node.phase == Phase::Pending);
            counts.joining += usize::from(node.is_joining());
        }
        counts
    }

    /// Nodes whose update counts.
    fn counted(&self) -> usize {
        self.total - self.joining
    }

    fn summaries(&self) -> Vec<Summary> {
        [
            (SummaryType::Total, self.total),
            (SummaryType::Available, self.available),
            (SummaryType::Progressing, self.progressing),
            (SummaryType::Outdated, self.outdated),
            (SummaryType::Draining, self.draining),
            (SummaryType::Excluded, self.excluded),
            (SummaryType::Degraded, self.degraded),
        ]
        .into_iter()
        .map(|(type_, count)| Summary {
            type_,
            count: small(count),
        })
        .collect()
    }
}

fn small(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

/// The status of the pool's insight. Conditions whose status is the same as in `past` retain their times. `removed` is
/// how many nodes have left the pool since then other than by being updated or replaced.
#[must_use]
pub fn project(
    view: &PoolView,
    past: Option<&PoolProgressInsightStatus>,
    removed: usize,
    observed_generation: i64,
    now: Timestamp,
) -> PoolProgressInsightStatus {
    let counts = Counts::of(&view.nodes);
    let desired = view
        .facts()
        .desired
        .as_ref()
        .or_else(|| common_desired(&view.nodes));
    let assessment = assess(view, &counts);
    let word = |text: &str| text::word(text, 253).map(Cow::into_owned);
    let (from, to) = (
        version(view).as_deref().and_then(word),
        desired.and_then(|desired| word(&desired.version)),
    );
    let versions = (from.as_deref(), to.as_deref());
    let Rollouts { current, last } = rollouts(view, past, versions, removed, now);
    let (done, all) = match &current {
        Some(rollout) => (i64::from(rollout.done), i64::from(rollout.nodes)),
        None => (small(counts.updated).into(), small(counts.counted()).into()),
    };
    let progress = format!("{done}/{all}");
    let blocked = blocked_drains(&view.nodes);
    let conditions = conditions(view, &counts, assessment, &progress, blocked.as_ref())
        .into_iter()
        .map(|(type_, status, reason, message)| {
            let past = past.and_then(|past| {
                past.conditions
                    .iter()
                    .find(|condition| condition.type_ == type_)
            });
            let retained = past
                .filter(|past| past.status == status)
                .map(|past| past.last_transition_time);
            Condition {
                type_: type_.to_owned(),
                status,
                last_transition_time: retained.unwrap_or(now),
                reason: reason.to_owned(),
                message,
            }
        })
        .collect();
    PoolProgressInsightStatus {
        name: view.state.id.reference.name.clone(),
        pool_ref: view.state.id.reference.clone(),
        provider: view.state.provider.clone(),
        scope: scope(view),
        assessment,
        completion_percent: percent(done, all, assessment),
        progress,
        summaries: counts.summaries(),
        version: from,
        desired_version: to,
        desired_version_source: desired.map(|desired| desired.source),
        rollout: current,
        last_rollouts: last,
        estimated_completion: None,
        learned_durations: None,
        blocked_drains: blocked,
        version_skew: skew(&view.nodes, view.state.api_server.as_deref()),
        observed_generation,
        conditions,
    }
}

/// Rounded down, so that 100 means all.
fn percent(done: i64, all: i64, assessment: Assessment) -> i32 {
    match (all, assessment) {
        (0, Assessment::Completed) => 100,
        (0, _) => 0,
        (all, _) => i32::try_from(done * 100 / all).unwrap_or_default(),
    }
}

/// The first assessment that applies. A partly updated pool between two batches is Progressing, not Pending.
fn assess(view: &PoolView, counts: &Counts) -> Assessment {
    if counts.total == 0 {
        let current = match (&view.facts().configured_version, &view.facts().desired) {
            (Some(configured), Some(desired)) => *configured == desired.version,
            (None, Some(_)) => false,
            (_, None) => true,
        };
        return match (current, view.facts().paused) {
            (true, _) => Assessment::Completed,
            (false, true) => Assessment::Excluded,
            (false, false) => Assessment::Pending,
        };
    }
    if counts.counted() > 0 && counts.updated == counts.counted() && view.awaited == 0 {
        Assessment::Completed
    } else if counts.degraded > 0 {
        Assessment::Degraded
    } else if counts.outdated > 0 && (view.facts().paused || counts.excluded == counts.outdated) {
        Assessment::Excluded
    } else if counts.pending == counts.counted() || is_untouched(view, counts) {
        Assessment::Pending
    } else {
        Assessment::Progressing
    }
}

/// The only reason to update the nodes is the version of the API server, which orders nothing, and nothing is in
/// progress.
fn is_untouched(view: &PoolView, counts: &Counts) -> bool {
    let mut outdated = view.nodes.iter().filter(|node| node.is_outdated());
    counts.progressing == 0 && counts.outdated > 0 && outdated.all(|node| node.is_only_behind)
}

type ConditionDraft = (&'static str, ConditionStatus, &'static str, String);

fn conditions(
    view: &PoolView,
    counts: &Counts,
    assessment: Assessment,
    progress: &str,
    blocked: Option<&BlockedDrains>,
) -> [ConditionDraft; 5] {
    let empty = counts.total == 0;
    let (updating, reason) = match assessment {
        Assessment::Completed => (false, if empty { "NoNodes" } else { "Completed" }),
        Assessment::Pending => (false, if empty { "NoNodes" } else { "Pending" }),
        Assessment::Excluded => (counts.progressing > 0, "Paused"),
        Assessment::Progressing => (true, "Progressing"),
        Assessment::Degraded => (counts.progressing > 0, "NodesDegraded"),
    };
    let mut message = match assessment {
        Assessment::Completed if empty => {
            "The pool has no nodes, and its configuration is current".to_owned()
        }
        Assessment::Pending if empty => {
            "The pool has no nodes, and its configuration is not current yet".to_owned()
        }
        Assessment::Excluded if view.facts().paused => format!(
            "The pool is paused: {} of {} nodes stay outdated until it is resumed",
            counts.outdated, counts.total
        ),
        Assessment::Excluded => format!(
            "{} of {} nodes stay outdated: each of them is held back",
            counts.outdated, counts.total
        ),
        Assessment::Completed
        | Assessment::Pending
        | Assessment::Progressing
        | Assessment::Degraded => {
            format!(
                "{progress} nodes updated, {} in progress, {} pending",
                counts.progressing, counts.pending
            )
        }
    };
    if let Some(missing) = &view.facts().missing {
        message.push_str(" | ");
        message.push_str(&text::summary(&missing.to_string()));
    }
    if let Some(BlockedDrains {
        nodes,
        worst_node,
        worst,
    }) = blocked
    {
        let _ = write!(
            message,
            " | drains held up: {nodes}, the worst on {worst_node}: {}",
            worst.message
        );
    }
    let healthy = counts.degraded == 0;
    let unhealthy = degraded_nodes(&view.nodes, counts.degraded);
    let ready = assessment == Assessment::Completed;
    let stall = stall(&view.nodes, assessment, &unhealthy);
    let stalled = stall.is_some();
    let (stall_reason, why) = stall.unwrap_or(("AsExpected", String::new()));
    let reconciling = !ready && !stalled && assessment != Assessment::Excluded;
    [
        (
            condition::UPDATING,
            updating.into(),
            reason,
            message.clone(),
        ),
        (
            condition::HEALTHY,
            healthy.into(),
            if healthy {
                "AsExpected"
            } else {
                "NodesDegraded"
            },
            unhealthy.clone(),
        ),
        (condition::READY, ready.into(), reason, message.clone()),
        (
            condition::RECONCILING,
            reconciling.into(),
            reason,
            if reconciling { message } else { String::new() },
        ),
        (condition::STALLED, stalled.into(), stall_reason, why),
    ]
}

/// Why the update cannot continue by itself: it failed on nodes, or every node in progress has stalled.
fn stall(
    nodes: &[Arc<NodeState>],
    assessment: Assessment,
    unhealthy: &str,
) -> Option<(&'static str, String)> {
    if assessment == Assessment::Degraded {
        return Some(("NodesDegraded", unhealthy.to_owned()));
    }
    let mut active = nodes.iter().filter(|node| node.phase.is_in_progress());
    let stalled = active
        .clone()
        .filter_map(|node| Some((node, node.stall.as_ref()?)));
    let (node, first) = stalled.clone().min_by_key(|(node, stall)| {
        let is_slow = stall.reason != StallReason::DrainBlocked;
        (is_slow, stall.since, &node.name)
    })?;
    active.all(|node| node.stall.is_some()).then(|| {
        let count = stalled.count();
        let message = format!(
            "nodes stalled: {count}, first {}: {}",
            node.name, first.message
        );
        ("NodesStalled", message)
    })
}

fn degraded_nodes(nodes: &[Arc<NodeState>], degraded: usize) -> String {
    if degraded == 0 {
        return String::new();
    }
    let mut failed: Vec<&NodeState> = nodes
        .iter()
        .map(|node| &**node)
        .filter(|node| node.degraded.status == ConditionStatus::True)
        .collect();
    failed.sort_by(|a, b| a.name.cmp(&b.name));
    let named: Vec<String> = failed
        .iter()
        .take(NAMED_NODES)
        .map(|node| format!("{}: {}", node.name, text::summary(&node.degraded.message)))
        .collect();
    let more = degraded.saturating_sub(NAMED_NODES);
    let rest = if more > 0 {
        format!(" | and {more} more")
    } else {
        String::new()
    };
    format!("{degraded} degraded: {}{rest}", named.join(" | "))
}

fn scope(view: &PoolView) -> Scope {
    let all_control_plane = !view.nodes.is_empty()
        && view
            .nodes
            .iter()
            .all(|node| node.scope == Scope::ControlPlane);
    if all_control_plane {
        Scope::ControlPlane
    } else {
        view.state.id.scope
    }
}

/// The most common version of the outdated nodes, or of all nodes when none is outdated. The lexically smallest
/// version wins a tie, so that the result does not depend on the order.
fn version(view: &PoolView) -> Option<Arc<str>> {
    let most_common = |nodes: &mut dyn Iterator<Item = &Arc<NodeState>>| {
        let mut counts: BTreeMap<Arc<str>, usize> = BTreeMap::new();
        for version in nodes.filter_map(|node| node.version.clone()) {
            *counts.entry(version).or_default() += 1;
        }
        counts
            .into_iter()
            .rev()
            .max_by_key(|(_, count)| *count)
            .map(|(version, _)| version)
    };
    most_common(&mut view.nodes.iter().filter(|node| node.is_outdated()))
        .or_else(|| most_common(&mut view.nodes.iter()))
        .or_else(|| view.facts().configured_version.clone())
}

/// The most common desired version of the outdated nodes, else of all nodes.
fn common_desired(nodes: &[Arc<NodeState>]) -> Option<&Desired> {
    let most_common = |outdated: bool| {
        let mut counts: BTreeMap<&str, (usize, &Desired)> = BTreeMap::new();
        for desired in nodes
            .iter()
            .filter(|node| !outdated || node.is_outdated())
            .filter_map(|node| node.desired.as_ref())
        {
            counts.entry(&desired.version).or_insert((0, desired)).0 += 1;
        }
        counts
            .into_values()
            .rev()
            .max_by_key(|(count, _)| *count)
            .map(|(_, desired)| desired)
    };
    most_common(true).or_else(|| most_common(false))
}

#[cfg(test)]
pub(crate) mod tests;
