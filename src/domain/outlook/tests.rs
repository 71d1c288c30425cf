//! What is expected of nodes and pools, from the beginning of a rollout to its end.

use std::sync::Arc;

use super::*;
use crate::api::pool::Rollout as Shown;
use crate::api::types::{EstimateBasis, Scope};
use crate::domain::drain::{Blocker, Drain, Key, Reason};
use crate::domain::fixtures::{at, evaluation};
use crate::domain::pool_status::tests::{node, view};
use crate::domain::state::{Belonging, Evaluation, History};

mod writes;

/// A pool of which this was learned.
#[derive(Default)]
struct Pool(Learned);

impl Pool {
    fn ask<T>(&self, ask: impl FnOnce(&Sources<'_>) -> T) -> T {
        ask(&Sources {
            pool: &self.0,
            others: &[],
            prior: &Prior::of("OpenShift", Machine::Virtual),
        })
    }

    fn look_ahead(&self, state: NodeState, past: Option<&NodeState>, now: Timestamp) -> NodeState {
        let past = past.map(History::from);
        let past = past.filter(|past| past.phase == state.phase);
        let past = past.and_then(|past| past.outlook);
        let durations = OfNode(self, &state, now);
        let outlook = of(&state, past.as_deref(), &durations, now);
        state.expecting(outlook, now)
    }
}

struct OfNode<'a>(&'a Pool, &'a NodeState, Timestamp);

impl Durations for OfNode<'_> {
    fn expected(&self, stage: Stage) -> Expected {
        self.0
            .ask(|sources| Expected::of(stage, sources, self.1, self.2))
    }

    fn estimate(&self, node: &InProgress) -> Option<Estimate> {
        let rollout = of_node(self.1);
        self.0
            .ask(|sources| Estimator::new(sources, &rollout, self.2).node(node).ok())
    }
}

fn entered(phase: Phase, now: i64) -> NodeState {
    NodeState {
        phase_start: at(now),
        ..node(phase)
    }
}

fn median(state: &NodeState) -> Option<Timestamp> {
    let published = state.outlook.as_ref()?.published.as_ref()?;
    Some(published.estimate.median)
}

fn blocked_since(since: i64) -> Drain {
    let key = Key {
        reason: Reason::BudgetNeverAllows,
        kind: "PodDisruptionBudget".into(),
        namespace: "shop".into(),
        name: "web".into(),
    };
    Drain {
        blockers: [Blocker {
            key,
            message: "".into(),
            pods: Box::default(),
            count: 1,
            since: at(since),
            gone: None,
            is_symptom: false,
        }]
        .into(),
        ..Drain::default()
    }
}

#[test]
fn only_a_node_in_progress_has_an_estimate() {
    let pool = Pool::default();
    for phase in Phase::ALL {
        let state = pool.look_ahead(entered(phase, 0), None, at(0));
        assert_eq!(median(&state).is_some(), phase.is_in_progress(), "{phase}");
        let again = state.again_at.is_some();
        assert_eq!(again, phase.is_in_progress(), "{phase}");
    }
}

#[test]
fn an_estimate_stays_until_it_has_passed_and_the_next_lies_ahead() {
    let pool = Pool::default();
    let first = pool.look_ahead(entered(Phase::Rebooting, 0), None, at(0));
    let end = median(&first).unwrap();
    let later = pool.look_ahead(entered(Phase::Rebooting, 0), Some(&first), at(30));
    assert_eq!(later.outlook, first.outlook);
    let end = end + SignedDuration::from_mins(1);
    let passed = pool.look_ahead(entered(Phase::Rebooting, 0), Some(&later), end);
    let elapsed = end.duration_since(at(0));
    let ahead = median(&passed).unwrap().duration_since(end);
    assert!(ahead >= elapsed / 2, "{ahead:?} after {elapsed:?}");
}

#[test]
fn what_is_learned_while_a_step_lasts_does_not_change_what_was_expected_of_it() {
    let mut pool = Pool::default();
    let step = |state: &NodeState| state.outlook.as_ref().unwrap().step.unwrap();
    let first = pool.look_ahead(entered(Phase::Updating, 0), None, at(0));
    for _ in 0..9 {
        let hours = Span::seen(at(0), at(9_000));
        pool.0.stage_ended(None, Stage::Updating, &hours);
    }
    let later = pool.look_ahead(entered(Phase::Updating, 0), Some(&first), at(30));
    assert_eq!(step(&later), step(&first));
    // Another step that begins now, and the same after a start of the process, are expected to take longer.
    for past in [None, Some(&entered(Phase::Updating, 0))] {
        let other = pool.look_ahead(entered(Phase::Updating, 0), past, at(30));
        let (other, first) = (step(&other), step(&first));
        assert!(other.usual > first.usual && other.long > first.long);
        assert!(other.limit > first.limit, "{other:?}");
    }
}

#[test]
fn a_step_that_begins_has_a_new_estimate() {
    let pool = Pool::default();
    let drain = pool.look_ahead(entered(Phase::Draining, 0), None, at(0));
    let update = pool.look_ahead(entered(Phase::Updating, 20), Some(&drain), at(20));
    assert!(median(&update).unwrap() < median(&drain).unwrap());
}

#[test]
fn a_drain_that_only_a_human_can_free_has_no_estimate_until_it_is_free() {
    let pool = Pool::default();
    let drains = entered(Phase::Draining, 0);
    let before = pool.look_ahead(drains.clone(), None, at(0));
    let blocked = NodeState {
        drain: Some(Box::new(blocked_since(60))),
        ..drains.clone()
    };
    let blocked = pool.look_ahead(blocked, Some(&before), at(61));
    assert_eq!(median(&blocked), None);
    let freed = Drain {
        blocked: SignedDuration::from_secs(3_000),
        ..Drain::default()
    };
    let free = NodeState {
        drain: Some(Box::new(freed)),
        ..drains
    };
    let free = pool.look_ahead(free, Some(&blocked), at(3_061));
    let ahead = median(&free).unwrap().duration_since(at(3_061));
    // As for a drain that has lasted for a minute: the time in which it was blocked says nothing.
    assert!(ahead < SignedDuration::from_mins(15), "{ahead:?}");
    assert!((span(&free, at(3_061)).net() - 61.0).abs() < 1e-9);
}

#[test]
fn the_estimate_survives_a_restart_as_it_is() {
    let pool = Pool::default();
    let before = pool.look_ahead(entered(Phase::Updating, 0), None, at(0));
    let shown = before.outlook.as_deref().and_then(Outlook::report).unwrap();
    let restored = NodeState {
        outlook: Some(Box::new(Outlook::reported(&shown))),
        ..entered(Phase::Updating, 0)
    };
    let after = pool.look_ahead(entered(Phase::Updating, 0), Some(&restored), at(10));
    let again = after.outlook.as_deref().and_then(Outlook::report);
    assert_eq!(again, Some(shown));
    assert!(after.outlook.unwrap().step.is_some());
}

#[test]
fn a_step_that_ends_is_shown_beside_what_is_usual() {
    let pool = Pool::default();
    let before = pool.look_ahead(entered(Phase::Rebooting, 0), None, at(0));
    let usual = before.outlook.as_ref().unwrap().step.unwrap().usual;
    let entry = crate::api::node::TimelineEntry::entered(Phase::Rebooting, at(0));
    let ended = entry.ended(at(95), Some(usual));
    assert_eq!(ended.duration_seconds, Some(95));
    let usual = ended.usual_seconds.unwrap();
    assert!((60..300).contains(&usual), "{usual}");
}

fn shown(done: i32, in_progress: i32, waiting: i32) -> Shown {
    Shown {
        start_time: at(0),
        nodes: 10,
        done,
        in_progress,
        waiting,
        ..Shown::default()
    }
}

/// What a rollout with these counts at these times teaches.
fn taught(steps: &[(i64, Option<Shown>)]) -> (Learned, Course) {
    let (mut learned, mut course) = (Learned::default(), Course::default());
    for pair in steps.windows(2) {
        let [(_, before), (now, after)] = pair else {
            unreachable!()
        };
        let counts = (before.as_ref(), after.as_ref());
        course.follow(&mut learned, counts, None, at(*now));
    }
    (learned, course)
}

#[test]
fn the_wait_for_a_turn_is_from_the_end_of_a_node_to_the_beginning_of_the_next() {
    let (learned, course) = taught(&[
        (0, Some(shown(0, 0, 10))),
        (40, Some(shown(0, 2, 8))),
        (300, Some(shown(1, 1, 8))),
        (320, Some(shown(1, 2, 7))),
    ]);
    let mut expected = Learned::default();
    expected.in_progress(2);
    expected.stage_ended(None, Stage::Start, &Span::seen(at(0), at(40)));
    expected.stage_ended(None, Stage::Turn, &Span::seen(at(300), at(320)));
    assert_eq!(learned, expected);
    assert_eq!(course.free_since(), None);
}

#[test]
fn a_place_that_stays_free_is_known_with_its_time() {
    let (_, course) = taught(&[
        (0, Some(shown(0, 2, 8))),
        (300, Some(shown(1, 1, 8))),
        (400, Some(shown(1, 1, 8))),
    ]);
    assert_eq!(course.free_since(), Some(at(300)));
}

#[test]
fn a_rollout_that_ends_counts_half_from_then_on() {
    let (learned, course) = taught(&[
        (0, Some(shown(0, 0, 10))),
        (40, Some(shown(0, 3, 7))),
        (900, None),
    ]);
    let mut expected = Learned::default();
    expected.stage_ended(None, Stage::Start, &Span::seen(at(0), at(40)));
    expected.rollout_ended(3);
    assert_eq!(learned, expected);
    assert_eq!(course.free_since(), None);
}

#[test]
fn a_rollout_that_was_followed_from_its_middle_does_not_lower_what_was_seen_at_once() {
    let end = |learned: &mut Learned, course: &mut Course| {
        let last = shown(9, 1, 0);
        course.follow(learned, (Some(&last), None), None, at(900));
        learned.parallelism()
    };
    let (mut learned, _) = taught(&[(0, None), (40, Some(shown(0, 4, 6)))]);
    assert_eq!(end(&mut learned, &mut Course::default()), 4);
    let (mut learned, mut course) = taught(&[(0, None), (40, Some(shown(0, 2, 8)))]);
    learned.in_progress(4);
    assert_eq!(end(&mut learned, &mut course), 2);
}

#[test]
fn a_pool_is_estimated_from_its_nodes_and_the_constants() {
    let pool = Pool::default();
    let nodes = (0..3).map(|_| entered(Phase::Pending, 0));
    let waiting = view(nodes.chain([entered(Phase::Rebooting, 0)]));
    let rollout = shown(0, 1, 3);
    let estimate = pool.ask(|sources| of_pool(&waiting, &rollout, None, sources, at(60)));
    let estimate = estimate.unwrap();
    assert_eq!(estimate.basis, EstimateBasis::PlatformConstant);
    let ahead = estimate.median.duration_since(at(60));
    let minutes = ahead.as_mins();
    assert!((12..50).contains(&minutes), "{minutes} min");
    assert!(!is_held(&waiting));
    let mut paused = waiting;
    let mut state = crate::domain::pool::PoolState::clone(&paused.state);
    state.facts.paused = true;
    paused.state = Arc::new(state);
    assert!(is_held(&paused));
}

#[test]
fn a_step_is_slow_when_it_takes_longer_than_the_limit_that_was_learned_when_it_began() {
    let mut pool = Pool::default();
    let hour = Span::seen(at(0), at(3_600));
    for _ in 0..5 {
        pool.0.stage_ended(None, Stage::Updating, &hour);
    }
    let state = |past: Option<&NodeState>, now: i64| {
        let evaluation = Evaluation {
            kind: None,
            ..evaluation(Phase::Updating)
        };
        let belonging = Belonging {
            provider: ProviderName::new("OpenShift"),
            overlays: Box::default(),
            pool: node(Phase::Updating).pool,
            scope: Scope::WorkerPool,
        };
        let facts = crate::domain::fixtures::node("n").build();
        let history = past.map(History::from);
        let state = NodeState::new(evaluation, &facts, belonging, history.as_ref(), at(now));
        pool.look_ahead(state, past, at(now))
    };
    let first = state(None, 0);
    let limit = first.outlook.as_ref().unwrap().step.unwrap().limit.unwrap();
    assert!(limit > SignedDuration::from_mins(60), "{limit:?}");
    let soon = state(Some(&first), 3_500);
    assert_eq!(soon.stall, None);
    let slow = state(Some(&soon), limit.as_secs() + 1);
    assert!(slow.stall.is_some());
    // It is looked at by then, also if nothing happens.
    assert!(
        soon.again_at
            .is_some_and(|again| again <= at(limit.as_secs()))
    );
}
