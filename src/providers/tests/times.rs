//! Times and the timeline of a node.

use super::*;
use crate::api::node::TimelineEntry;
use crate::api::types::Phase;
use crate::domain::fixtures::NodeBuilder;
use crate::domain::state::TIMELINE_LIMIT;
use crate::providers::fixtures::{NEW, OLD, worker};

fn seen(node: NodeBuilder, past: Option<&History>, now: i64) -> NodeState {
    let (node, cluster) = (node.build(), openshift([pool("worker", NEW)]));
    next_state(&only(OpenShift::chosen()), &node, &cluster, past, at(now))
}

#[test]
fn a_condition_keeps_its_time_when_only_reason_and_message_change() {
    let first = seen(worker(OLD, NEW).cordoned_since(-50), None, 0);
    assert_eq!(first.available.since, at(-50));
    let past = History::from(&first);
    let second = seen(worker(OLD, NEW).not_ready(20), Some(&past), 30);
    assert_eq!(second.available.reason, "NotReady");
    assert_eq!(second.available.since, at(-50));
}

#[test]
fn a_changed_condition_has_the_time_that_the_cluster_reports() {
    let past = History::from(&seen(worker(NEW, NEW), None, 0));
    let state = seen(worker(NEW, NEW).not_ready(20), Some(&past), 30);
    assert_eq!(state.available.since, at(20));
}

#[test]
fn a_changed_condition_without_its_own_time_has_the_current_time() {
    let past = History::from(&seen(worker(NEW, NEW), None, 0));
    let state = seen(worker(NEW, NEW).cordoned(), Some(&past), 30);
    assert_eq!(state.available.since, at(30));
    let past = History::from(&state);
    let back = seen(worker(NEW, NEW), Some(&past), 60);
    assert_eq!(back.available.since, at(60));
}

#[test]
fn a_clock_ahead_of_ours_puts_no_transition_into_the_future() {
    let state = seen(worker(NEW, NEW).not_ready(3_600), None, 30);
    assert_eq!(state.available.since, at(30));
}

#[test]
fn the_insight_shows_each_phase_once_with_its_start_and_the_last_eight_of_them() {
    let mut state = seen(worker(OLD, OLD), None, 0);
    let moves = [
        (OLD, DaemonState::Done),
        (OLD, DaemonState::Working),
        (OLD, DaemonState::Working),
        (OLD, DaemonState::Rebooting),
        (NEW, DaemonState::Done),
    ];
    let mut now = 0;
    for _ in 0..3 {
        for (current, daemon) in moves {
            now += 10;
            let past = History::from(&state);
            state = seen(worker(current, NEW).daemon(daemon), Some(&past), now);
        }
    }
    assert_eq!(state.timeline.len(), 13, "the state stores more");
    let entries: Vec<(Phase, i64)> = project(&state)
        .timeline
        .iter()
        .map(|entry| {
            (
                entry.phase,
                entry.start_time.as_second() - at(0).as_second(),
            )
        })
        .collect();
    assert_eq!(
        entries,
        [
            (Phase::Draining, 60),
            (Phase::Updating, 70),
            (Phase::Rebooting, 90),
            (Phase::Completed, 100),
            (Phase::Draining, 110),
            (Phase::Updating, 120),
            (Phase::Rebooting, 140),
            (Phase::Completed, 150),
        ]
    );
}

#[test]
fn the_last_sixteen_phases_of_a_node_are_stored() {
    let mut state = seen(worker(OLD, OLD), None, 0);
    for round in 1..30 {
        let past = History::from(&state);
        let node = worker(OLD, if round % 2 == 0 { OLD } else { NEW });
        state = seen(node, Some(&past), 10 * round);
    }
    assert_eq!(state.timeline.len(), TIMELINE_LIMIT);
    assert_eq!(state.timeline.last().unwrap().start_time, at(290));
}

#[test]
fn stored_phases_come_before_those_of_the_insight() {
    let entry = |phase, second| TimelineEntry::entered(phase, at(second));
    let state = seen(worker(OLD, NEW), None, 100);
    let restored = History::from_status(&project(&state));
    let remembered = [
        entry(Phase::Updating, 10),
        entry(Phase::Completed, 20),
        // Newer than the insight: it was not written before the stop.
        entry(Phase::Rebooting, 200),
    ];
    let whole = restored.with_earlier(&remembered);
    assert_eq!(
        *whole.timeline,
        [
            remembered[0],
            remembered[1].ended(state.timeline[0].start_time, None),
            state.timeline[0]
        ]
    );
}

#[test]
fn a_node_without_an_insight_continues_after_its_stored_phases() {
    let state = seen(worker(OLD, NEW), None, 0);
    let past = History::from_timeline(&state.timeline).unwrap();
    let next = seen(worker(OLD, NEW), Some(&past), 60);
    assert_eq!(next.phase_start, at(0));
    assert_eq!(next.timeline, state.timeline);
    assert_eq!(History::from_timeline(&[]), None);
}

#[test]
fn a_condition_that_was_removed_by_hand_starts_with_the_phase() {
    let state = seen(worker(OLD, NEW), None, 0);
    let mut status = project(&state);
    status.conditions.clear();
    let past = History::from_status(&status);
    assert_eq!(past.degraded.since, state.phase_start);
    let next = seen(worker(OLD, NEW), Some(&past), 60);
    assert_eq!(next.degraded.since, at(60));
    assert_eq!(next.phase_start, state.phase_start);
}

#[test]
fn equal_states_stay_equal_at_any_evaluation_time() {
    let rebooting = || worker(OLD, NEW).daemon(DaemonState::Rebooting);
    let first = seen(rebooting(), None, 0);
    let past = History::from(&first);
    assert_eq!(seen(rebooting(), Some(&past), 900), first);
}
