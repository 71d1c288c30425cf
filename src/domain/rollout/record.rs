//! What a rollout is remembered for: its failures, and the node that took longest.

use jiff::{SignedDuration, Timestamp};

use crate::api::pool::{Rollout, SlowestNode};
use crate::api::types::{ConditionStatus, Phase};
use crate::domain::pool_status::PoolView;
use crate::domain::state::NodeState;

/// The rollout with what the nodes of the pool add to its record.
pub(super) fn recorded(rollout: Rollout, view: &PoolView) -> Rollout {
    let counted = rollout.last_failure_time.unwrap_or(rollout.start_time);
    let degraded = view.nodes.iter().map(|node| &node.degraded);
    let new: Vec<Timestamp> = degraded
        .filter(|degraded| degraded.status == ConditionStatus::True)
        .map(|degraded| degraded.since)
        .filter(|since| *since > counted)
        .collect();
    let nodes = view.nodes.iter();
    let done = nodes.filter(|node| node.phase == Phase::Completed);
    let gone = view.replaced.iter().cloned();
    // After a kill, a node may seem to have been updated later than the insight of its pool already says.
    let is_known = |node: &SlowestNode| {
        let known = rollout.slowest_node.as_ref();
        known.is_some_and(|known| known.name == node.name)
    };
    let slowest = done
        .filter(|node| node.phase_start > rollout.start_time)
        .filter_map(|node| duration(node, node.phase_start))
        .chain(gone.filter(|gone| gone.end > rollout.start_time))
        .map(|update| update.node)
        .filter(|node| !is_known(node))
        .chain(rollout.slowest_node.clone())
        .max_by(|a, b| {
            let by_name = || b.name.cmp(&a.name);
            a.duration_seconds
                .cmp(&b.duration_seconds)
                .then_with(by_name)
        });
    Rollout {
        failures: rollout.failures + i32::try_from(new.len()).unwrap_or(i32::MAX),
        last_failure_time: new.into_iter().max().or(rollout.last_failure_time),
        slowest_node: slowest,
        ..rollout
    }
}

/// The update of a node that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Update {
    /// The node, how long it took, and in which phase it was for longest.
    pub node: SlowestNode,
    /// When it ended.
    pub end: Timestamp,
}

/// The last update of a node, which ended at `end`; `None` when none was observed.
#[must_use]
pub fn duration(node: &NodeState, end: Timestamp) -> Option<Update> {
    let entries = node.timeline.iter().rev();
    let mut until = end;
    let mut longest: Option<(SignedDuration, Phase)> = None;
    let mut start = None;
    for entry in entries.skip_while(|entry| entry.phase == Phase::Completed) {
        if !entry.phase.is_in_progress() {
            break;
        }
        let lasted = until.duration_since(entry.start_time);
        if longest.is_none_or(|(most, _)| lasted > most) {
            longest = Some((lasted, entry.phase));
        }
        until = entry.start_time;
        start = Some(until);
    }
    let seconds = end.duration_since(start?).as_secs().max(0);
    Some(Update {
        node: SlowestNode {
            name: node.name.to_string(),
            duration_seconds: i32::try_from(seconds).unwrap_or(i32::MAX),
            phase: longest?.1,
        },
        end,
    })
}
