//! The verifier with times that the tests make up.

use serde_json::json;

use super::super::{COMPLETED, DRAINING, PENDING, Phases, UPDATING};
use super::*;

/// A verifier, and the time of its start.
fn verifier() -> (Verifier, Truth, Instant) {
    let truth = Truth::default();
    let start = Instant::now();
    (Verifier::new(&truth, start), truth, start)
}

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// A step of a node whose writes take a tenth of a second.
fn step(truth: &Truth, node: &str, phases: Phases, at: Instant) {
    truth.begin(&[node], State::In(phases), at);
    truth.settle(&[node], State::In(phases), at + ms(100));
}

fn texts(verifier: &Verifier) -> Vec<String> {
    verifier
        .violations()
        .iter()
        .map(Violation::to_string)
        .collect()
}

#[test]
fn an_insight_that_follows_within_a_second_is_right() {
    let (mut verifier, truth, start) = verifier();
    step(&truth, "a", &[PENDING], start);
    verifier.node_shows("a", PENDING, start + ms(50));
    step(&truth, "a", &[DRAINING], start + ms(3000));
    for passed in [3050, 3500, 4100] {
        verifier.look(start + ms(passed));
    }
    // While the writes are made, both are true.
    verifier.node_shows("a", DRAINING, start + ms(4100));
    verifier.look(start + ms(9000));
    assert_eq!(texts(&verifier), [""; 0]);
    assert_eq!(verifier.passed("a"), [PENDING, DRAINING]);
    assert_eq!(verifier.missed(start + ms(9000)), [""; 0]);
}

#[test]
fn a_phase_that_was_never_true_is_a_violation_at_once_and_counted_once() {
    let (mut verifier, truth, start) = verifier();
    step(&truth, "a", &[PENDING], start);
    verifier.node_shows("a", PENDING, start + ms(50));
    verifier.node_shows("a", DRAINING, start + ms(2000));
    verifier.look(start + ms(2300));
    verifier.look(start + ms(2600));
    verifier.node_shows("a", PENDING, start + ms(2700));
    verifier.look(start + ms(9000));
    assert_eq!(
        texts(&verifier),
        ["node a was written with Draining while it was Pending: wrong at 2.00s, for 600.00ms"]
    );
}

#[test]
fn a_phase_that_was_true_is_stale_after_a_second_without_any_event() {
    let (mut verifier, truth, start) = verifier();
    step(&truth, "a", &[PENDING], start);
    verifier.node_shows("a", PENDING, start + ms(50));
    step(&truth, "a", &[DRAINING, UPDATING], start + ms(2000));
    verifier.look(start + ms(3100));
    assert_eq!(texts(&verifier), [""; 0]);
    verifier.look(start + ms(3101));
    verifier.look(start + ms(4100));
    assert_eq!(
        texts(&verifier),
        [
            "node a still showed Pending while it was Draining or Updating: wrong at 2.10s, for 2.00s"
        ]
    );
    // One that is true again is no longer stale, and one that is written late is wrong as well.
    verifier.node_shows("a", UPDATING, start + ms(4200));
    verifier.node_shows("a", PENDING, start + ms(4300));
    assert_eq!(verifier.violations().len(), 2);
    assert!(matches!(verifier.violations()[1], Violation::Written(_)));
}

#[test]
fn the_insight_of_a_node_that_is_gone_may_remain_for_a_second() {
    let (mut verifier, truth, start) = verifier();
    for node in ["a", "b"] {
        step(&truth, node, &[UPDATING], start);
        verifier.node_shows(node, UPDATING, start + ms(50));
    }
    truth.begin(&["a", "b"], State::Gone, start + ms(2000));
    truth.settle(&["a", "b"], State::Gone, start + ms(2000));
    verifier.node_is_removed("a", start + ms(2900));
    verifier.look(start + ms(3500));
    assert_eq!(
        texts(&verifier),
        ["node b remained with Updating while it was gone: wrong at 2.00s, for 1.50s"]
    );
}

#[test]
fn what_no_insight_showed_is_missed_unless_it_was_short() {
    let (mut verifier, truth, start) = verifier();
    step(&truth, "a", &[PENDING], start);
    step(&truth, "a", &[DRAINING], start + ms(5000));
    step(&truth, "a", &[UPDATING], start + ms(5500));
    verifier.node_shows("a", PENDING, start + ms(100));
    verifier.node_shows("stranger", PENDING, start + ms(100));
    assert_eq!(
        verifier.missed(start + ms(8000)),
        [
            "node a never showed Updating",
            "nothing is known of node stranger"
        ]
    );
}

fn pool(progress: &str, percent: u32, started: &str) -> Value {
    json!({"progress": progress, "completionPercent": percent, "rollout": {"startTime": started}})
}

#[test]
fn progress_of_one_rollout_never_runs_backwards_and_another_one_begins_at_zero() {
    let (mut verifier, ..) = verifier();
    let mut shows = |name: &str, progress: &str, percent: u32, started: &str| {
        verifier.pool_has(name, &pool(progress, percent, started));
    };
    shows("blue", "0/4", 0, "10:00");
    shows("blue", "2/4", 50, "10:00");
    shows("blue", "2/3", 66, "10:00");
    shows("green", "0/4", 0, "10:00");
    shows("blue", "0/4", 0, "11:00");
    shows("blue", "1/4", 25, "11:00");
    verifier.pool_has("blue", &json!({"progress": "0/4"}));
    let mut shows = |name: &str, progress: &str, percent: u32, started: &str| {
        verifier.pool_has(name, &pool(progress, percent, started));
    };
    shows("blue", "0/4", 0, "12:00");
    shows("green", "3/4", 75, "10:00");
    shows("green", "2/4", 75, "10:00");
    shows("green", "3/4", 60, "10:00");
    shows("green", "3/6", 50, "10:00");
    assert_eq!(
        texts(&verifier),
        [
            "pool green: 3 done (75 %) became 2 done (75 %) in the rollout since 10:00",
            "pool green: 2 done (75 %) became 3 done (60 %) in the rollout since 10:00"
        ]
    );
}

#[test]
fn what_is_true_while_a_step_is_made_is_what_was_true_before_or_what_is_true_after() {
    let (mut verifier, truth, start) = verifier();
    step(&truth, "a", &[PENDING], start);
    verifier.node_shows("a", PENDING, start + ms(50));
    truth.begin(&["a"], State::In(&[COMPLETED]), start + ms(1000));
    // The writes take long.
    verifier.look(start + ms(4000));
    verifier.node_shows("a", COMPLETED, start + ms(4100));
    verifier.node_shows("a", PENDING, start + ms(4200));
    truth.settle(&["a"], State::In(&[COMPLETED]), start + ms(4500));
    verifier.look(start + ms(5500));
    assert_eq!(texts(&verifier), [""; 0]);
    verifier.look(start + ms(5600));
    assert_eq!(verifier.violations().len(), 1);
}
