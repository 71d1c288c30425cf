//! What is remembered of a rollout: failures, the slowest node, and the last rollouts.

use super::*;
use crate::api::node::TimelineEntry;
use crate::api::pool::SlowestNode;
use crate::domain::rollout::record::recorded;

fn rollout() -> Rollout {
    Rollout {
        start_time: at(0),
        nodes: 3,
        ..Rollout::default()
    }
}

/// A node that was in each phase from that second on.
fn through(name: &str, phases: &[(Phase, i64)]) -> NodeState {
    let (phase, start) = phases[phases.len() - 1];
    let entries = phases.iter();
    NodeState {
        name: name.into(),
        phase_start: at(start),
        timeline: entries
            .map(|(phase, start)| TimelineEntry::entered(*phase, at(*start)))
            .collect(),
        ..node(phase)
    }
}

fn failed(name: &str, since: i64) -> NodeState {
    let mut node = NodeState {
        name: name.into(),
        ..node(Phase::Updating)
    };
    node.degraded.status = ConditionStatus::True;
    node.degraded.since = at(since);
    node
}

#[test]
fn the_slowest_node_is_named_with_the_phase_in_which_it_was_for_longest() {
    let fast = through(
        "fast",
        &[
            (Phase::Pending, 0),
            (Phase::Draining, 10),
            (Phase::Completed, 100),
        ],
    );
    let slow = through(
        "slow",
        &[
            (Phase::Pending, 0),
            (Phase::Draining, 100),
            (Phase::Updating, 700),
            (Phase::Rebooting, 800),
            (Phase::Completed, 1_000),
        ],
    );
    // Its update ended before this rollout.
    let before = through(
        "before",
        &[(Phase::Draining, -9_000), (Phase::Completed, -10)],
    );
    // It takes longer, and is not done yet.
    let open = through("open", &[(Phase::Draining, 0), (Phase::Updating, 5_000)]);
    let slowest = SlowestNode {
        name: "slow".into(),
        duration_seconds: 900,
        phase: Phase::Draining,
    };
    let record = recorded(rollout(), &view([fast.clone(), slow, before, open]));
    assert_eq!(record.slowest_node.as_ref(), Some(&slowest));
    // A process that was killed before it wrote the node's insight is followed by one that sees the end later.
    let seen_later = through("slow", &[(Phase::Draining, 100), (Phase::Completed, 1_010)]);
    let again = recorded(record.clone(), &view([fast.clone(), seen_later]));
    assert_eq!(again.slowest_node.as_ref(), Some(&slowest));
    // It is remembered when its node is gone.
    let later = recorded(record, &view([fast]));
    assert_eq!(later.slowest_node, Some(slowest));
}

#[test]
fn a_node_that_was_replaced_can_be_the_slowest() {
    let gone = through("gone", &[(Phase::Pending, 0), (Phase::Draining, 60)]);
    let update = duration(&gone, at(360)).unwrap();
    let mut pool = view([]);
    pool.replaced = Some(update);
    let slowest = recorded(rollout(), &pool).slowest_node.unwrap();
    assert_eq!((&*slowest.name, slowest.duration_seconds), ("gone", 300));
    assert_eq!(slowest.phase, Phase::Draining);
    let later = Rollout {
        start_time: at(400),
        ..rollout()
    };
    assert_eq!(recorded(later, &pool).slowest_node, None);
}

#[test]
fn each_failure_counts_once_also_of_nodes_that_recover() {
    let first = recorded(rollout(), &view([failed("a", 10), failed("b", 10)]));
    assert_eq!((first.failures, first.last_failure_time), (2, Some(at(10))));
    // One has recovered, the other stays.
    let same = recorded(first, &view([failed("b", 10)]));
    assert_eq!(same.failures, 2);
    let again = recorded(same, &view([failed("a", 90), failed("b", 10)]));
    assert_eq!(again.failures, 3);
    let old = recorded(rollout(), &view([failed("a", -5)]));
    assert_eq!((old.failures, old.last_failure_time), (0, None));
}

#[test]
fn the_last_five_rollouts_are_remembered_newest_first() {
    let mut pool = Pool::new(false, 1);
    pool.status();
    for _ in 0..7 {
        pool.source = DesiredVersionSource::Provider;
        pool.enter("old-0", Phase::Pending);
        pool.status();
        pool.enter("old-0", Phase::Completed);
        pool.status();
    }
    let last = pool.status().last_rollouts;
    assert_eq!(last.len(), 5);
    let ends: Vec<_> = last.iter().map(|rollout| rollout.end_time).collect();
    assert!(ends.is_sorted_by(|a, b| a > b), "{ends:?}");
}
