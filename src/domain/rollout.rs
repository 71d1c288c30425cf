//! The rollout of a pool: how many of the nodes that it began with are done.
//!
//! A rollout begins when a node of the pool is outdated and something orders its update: an object of the provider, the
//! user, a younger node of the pool, or an update in progress. The version of the API server alone is a limit and
//! orders nothing. It ends when no node is outdated.
//!
//! Where nodes are replaced, the rollout is of the nodes that become outdated: one that disappears after its drain is
//! done, and one that disappears untouched was removed. New nodes are none of them. Where nodes are
//! updated in place, a node that disappears was removed, whether or not that was observed. A node that joins later is
//! counted neither as done nor as one more. So progress never goes back, except for a node that is outdated
//! again, and never exceeds the number of nodes. The state is in the insight: it survives restarts and failovers.

mod record;

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;

use self::record::recorded;
pub use self::record::{Update, duration};
use super::pool_status::PoolView;
use super::state::NodeState;
use crate::api::pool::{EndedRollout, PoolProgressInsightStatus, Rollout};
use crate::api::types::{DesiredVersionSource, Phase, UpdateKind};

/// How many rollouts that ended are remembered.
const REMEMBERED: usize = 5;

/// The rollout of a pool, and its last ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rollouts {
    /// The rollout in progress, if there is one.
    pub current: Option<Rollout>,
    /// The last ones that ended, newest first.
    pub last: Vec<EndedRollout>,
}

/// Nodes of the pool by what they mean for the rollout.
struct Nodes<'a> {
    outdated: Vec<&'a NodeState>,
    in_progress: usize,
    /// It is not known whether they are outdated.
    unknown: Vec<&'a NodeState>,
    /// All, except those that are joining.
    all: usize,
}

impl<'a> Nodes<'a> {
    fn of(view: &'a PoolView) -> Self {
        let nodes = || view.nodes.iter().map(|node| &**node);
        let outdated: Vec<&NodeState> = nodes()
            .filter(|node| node.is_outdated() && node.kind != Some(UpdateKind::Reboot))
            .collect();
        Self {
            in_progress: outdated
                .iter()
                .filter(|node| node.phase.is_in_progress())
                .count(),
            outdated,
            unknown: nodes()
                .filter(|node| node.phase == Phase::Unknown && !node.is_joining())
                .collect(),
            all: nodes().filter(|node| !node.is_joining()).count(),
        }
    }

    /// Whether something orders the update of an outdated node.
    fn is_ordered(&self) -> bool {
        let mut outdated = self.outdated.iter();
        outdated.any(|node| node.phase.is_in_progress() || !node.is_only_behind)
    }
}

/// How many of the nodes a rollout began with. A node that registers again under its name has another time of creation.
fn began_with(nodes: &[&NodeState], start: Timestamp, reuses_names: bool) -> usize {
    let is_again = |node: &NodeState| reuses_names && node.phase.is_in_progress();
    let nodes = nodes.iter();
    nodes
        .filter(|node| node.created.is_none_or(|created| created <= start) || is_again(node))
        .count()
}

/// The rollouts of a pool after `past`. `from` and `to` are the versions that the pool shows; `removed` is how many nodes
/// have left it since then other than by being updated or replaced.
#[must_use]
pub fn rollouts(
    view: &PoolView,
    past: Option<&PoolProgressInsightStatus>,
    (from, to): (Option<&str>, Option<&str>),
    removed: usize,
    now: Timestamp,
) -> Rollouts {
    let nodes = Nodes::of(view);
    let last = past.map_or_else(Vec::new, |past| past.last_rollouts.clone());
    let known = past.and_then(|past| past.rollout.as_ref());
    let is_over = nodes.outdated.is_empty() && view.awaited == 0;
    match known {
        Some(known) if is_over && nodes.unknown.is_empty() => {
            let ended = ended(recorded(known.clone(), view), now);
            Rollouts {
                current: None,
                last: std::iter::once(ended)
                    .chain(last)
                    .take(REMEMBERED)
                    .collect(),
            }
        }
        // Another version is another rollout.
        Some(known) if to.is_none() || known.to_version.as_deref() == to => Rollouts {
            current: Some(recorded(advanced(known, view, &nodes, removed), view)),
            last,
        },
        _ if nodes.is_ordered() => Rollouts {
            current: Some(begun(view, &nodes, from, to, now)),
            last,
        },
        _ => Rollouts {
            current: None,
            last,
        },
    }
}

fn ended(rollout: Rollout, now: Timestamp) -> EndedRollout {
    EndedRollout {
        start_time: rollout.start_time,
        end_time: now,
        from_version: rollout.from_version,
        to_version: rollout.to_version,
        nodes: rollout.nodes,
        failures: rollout.failures,
        slowest_node: rollout.slowest_node,
    }
}

/// A rollout that begins.
fn begun(
    view: &PoolView,
    nodes: &Nodes<'_>,
    from: Option<&str>,
    to: Option<&str>,
    now: Timestamp,
) -> Rollout {
    let shows_new_nodes = nodes.outdated.iter().any(|node| {
        let source = node.desired.as_ref().map(|desired| desired.source);
        source == Some(DesiredVersionSource::NewestInPool)
    });
    // Where nodes are replaced, those that are up to date are none of the rollout.
    let total = if view.state.replaces {
        nodes.outdated.len()
    } else {
        nodes.all.max(nodes.outdated.len())
    };
    let start = if view.state.replaces && shows_new_nodes {
        // They were created by this rollout.
        let current = view.nodes.iter().filter(|node| !node.is_outdated());
        let first = current.filter_map(|node| node.created).min();
        first.unwrap_or(now).min(now)
    } else {
        now
    };
    let from = from
        .map(str::to_owned)
        .or_else(|| most_common(&nodes.outdated));
    let rollout = Rollout {
        start_time: start,
        from_version: from,
        to_version: to.map(str::to_owned),
        nodes: small(total),
        ..Rollout::default()
    };
    advanced(&rollout, view, nodes, 0)
}

/// A rollout with its counts.
fn advanced(known: &Rollout, view: &PoolView, nodes: &Nodes<'_>, removed: usize) -> Rollout {
    let of_rollout =
        |nodes: &[&NodeState]| began_with(nodes, known.start_time, view.state.reuses_names);
    let outdated = small(of_rollout(&nodes.outdated) + view.awaited);
    let remaining = outdated + small(of_rollout(&nodes.unknown));
    // A node that is updated in place stays, so one that is gone left the pool, whether or not that was observed.
    let left = if view.state.replaces {
        // Nodes become outdated one by one when a rollout begins, and one that joined late and was removed takes nothing
        // from those that are done. Only a node that keeps its name can fall back.
        let fell_back = view.state.reuses_names && outdated > known.nodes - known.done;
        let done = if fell_back { 0 } else { known.done };
        (known.nodes - small(removed)).max(outdated + done)
    } else {
        known.nodes.min(small(present(view, known.start_time)))
    };
    let total = left.max(outdated);
    let done = total - remaining;
    // A node whose state is unknown is not outdated again.
    let done = if nodes.unknown.is_empty() {
        done
    } else {
        done.max(known.done)
    };
    let is_open = !nodes.outdated.is_empty() || view.awaited > 0;
    // Nodes that joined later are still outdated.
    let done = if is_open {
        done.min(total - 1).max(0)
    } else {
        done
    };
    Rollout {
        nodes: total,
        done,
        in_progress: small(nodes.in_progress + view.awaited),
        waiting: small(nodes.outdated.len() - nodes.in_progress),
        ..known.clone()
    }
}

/// The nodes that the rollout began with and that are still there.
fn present(view: &PoolView, start: Timestamp) -> usize {
    let nodes = view.nodes.iter();
    nodes
        .filter(|node| node.created.is_none_or(|created| created <= start))
        .count()
}

/// The most common version of the nodes; the lexically smallest wins a tie.
fn most_common(nodes: &[&NodeState]) -> Option<String> {
    let mut counts: BTreeMap<&Arc<str>, usize> = BTreeMap::new();
    for version in nodes.iter().filter_map(|node| node.version.as_ref()) {
        *counts.entry(version).or_default() += 1;
    }
    let counts = counts.into_iter().rev();
    let (version, _) = counts.max_by_key(|(_, count)| *count)?;
    Some(version.to_string())
}

fn small(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests;
