//! Rules of estimates, from observations to the published time.

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;

use super::*;
use crate::api::types::{Confidence, EstimateBasis, UpdateKind};

mod publishing;

const KIND: Option<UpdateKind> = Some(UpdateKind::Version);
const NOW: i64 = 1_800_000_000;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(NOW + second).unwrap()
}

fn prior() -> Prior {
    Prior::of("OpenShift", Machine::Virtual)
}

/// A node that has been in a stage for so many seconds.
fn running(stage: Stage, seconds: i64) -> InProgress {
    InProgress {
        stage,
        span: Span::seen(at(-seconds), at(0)),
        needs_human: false,
    }
}

fn stuck(seconds: i64) -> InProgress {
    InProgress {
        needs_human: true,
        ..running(Stage::Draining, seconds)
    }
}

fn rollout(in_progress: &[InProgress], pending: u32, parallelism: u32) -> Rollout<'_> {
    Rollout {
        pool: "uid-1",
        target: "4.21.3",
        kind: KIND,
        started: at(-600),
        has_begun: true,
        in_progress,
        pending,
        parallelism: Some(parallelism),
        free_since: None,
        held: None,
    }
}

/// A pool that has seen nodes with these durations of each stage.
fn learned(nodes: u32, [drain, update, reboot]: [i64; 3]) -> Learned {
    let mut learned = Learned::default();
    for _ in 0..nodes {
        let stages = [
            (Stage::Turn, 10),
            (Stage::Draining, drain),
            (Stage::Updating, update),
            (Stage::Rebooting, reboot),
        ];
        for (stage, seconds) in stages {
            learned.stage_ended(KIND, stage, &Span::seen(at(-seconds), at(0)));
        }
        learned.node_updated(KIND, &Stage::OF_NODE);
    }
    learned
}

fn estimate(pool: &Learned, rollout: &Rollout<'_>) -> Result<Estimate, NoEstimate> {
    let prior = prior();
    let sources = Sources {
        pool,
        others: &[],
        prior: &prior,
    };
    Estimator::new(&sources, rollout, at(0)).pool()
}

/// Minutes until the median.
fn minutes(pool: &Learned, rollout: &Rollout<'_>) -> f64 {
    let estimate = estimate(pool, rollout).unwrap();
    estimate.median.duration_since(at(0)).as_secs_f64() / 60.0
}

#[test]
fn without_observations_a_node_takes_five_to_ten_minutes() {
    let ten = minutes(&Learned::default(), &rollout(&[], 10, 1));
    assert!((50.0..130.0).contains(&ten), "{ten} min for 10 nodes");
}

#[test]
fn the_pools_own_durations_win_over_the_constants() {
    let slow = learned(10, [600, 600, 1_200]);
    let minutes = minutes(&slow, &rollout(&[], 10, 1));
    assert!(
        (380.0..470.0).contains(&minutes),
        "{minutes} min for 10 nodes of 40"
    );
}

#[test]
fn pools_of_the_same_provider_win_over_the_constants_until_this_one_is_known() {
    let slow = learned(10, [600, 600, 1_200]);
    let (none, prior) = (Learned::default(), prior());
    let sources = Sources {
        pool: &none,
        others: &[&slow],
        prior: &prior,
    };
    let rollout = rollout(&[], 10, 1);
    let estimate = Estimator::new(&sources, &rollout, at(0)).pool().unwrap();
    assert_eq!(estimate.basis, EstimateBasis::ProviderHistory);
    let minutes = estimate.median.duration_since(at(0)).as_secs_f64() / 60.0;
    assert!((320.0..500.0).contains(&minutes), "{minutes}");
}

#[test]
fn more_nodes_at_once_take_less_time() {
    let pool = learned(10, [60, 120, 120]);
    let [one, three, ten] = [1, 3, 10].map(|slots| minutes(&pool, &rollout(&[], 30, slots)));
    // Less than proportional: the end waits for the slowest.
    assert!((2.0..3.2).contains(&(one / three)), "{one} {three}");
    assert!((1.5..3.5).contains(&(three / ten)), "{three} {ten}");
}

#[test]
fn the_observed_parallelism_is_used_where_none_is_declared() {
    let mut pool = learned(10, [60, 120, 120]);
    pool.in_progress(5);
    let undeclared = Rollout {
        parallelism: None,
        ..rollout(&[], 50, 1)
    };
    let declared = minutes(&pool, &rollout(&[], 50, 5));
    assert!((minutes(&pool, &undeclared) / declared - 1.0).abs() < 0.01);
}

#[test]
fn a_stage_that_takes_long_is_never_about_to_end() {
    let pool = learned(20, [90, 120, 120]);
    let remaining = |elapsed| minutes(&pool, &rollout(&[running(Stage::Draining, elapsed)], 0, 1));
    let (usual, late, very_late) = (remaining(30), remaining(3_600), remaining(36_000));
    assert!(
        usual < late && late < very_late,
        "{usual} {late} {very_late}"
    );
}

#[test]
fn a_stage_that_still_runs_tells_how_long_the_next_one_takes() {
    let (none, prior) = (Learned::default(), prior());
    let sources = Sources {
        pool: &none,
        others: &[],
        prior: &prior,
    };
    let next_reboot = |elapsed| {
        let nodes = [running(Stage::Rebooting, elapsed)];
        let rollout = rollout(&nodes, 1, 1);
        let estimator = Estimator::new(&sources, &rollout, at(0));
        estimator.expected(Stage::Rebooting).median
    };
    let (young, old) = (next_reboot(10), next_reboot(1_200));
    assert!(old > 1.5 * young, "{young} {old}");
}

#[test]
fn a_lower_parallelism_holds_before_the_nodes_in_progress_are_done() {
    let pool = learned(10, [60, 120, 120]);
    let nodes = [running(Stage::Draining, 10); 4];
    let (four, one) = (rollout(&nodes, 12, 4), rollout(&nodes, 12, 1));
    assert!(minutes(&pool, &one) > 2.0 * minutes(&pool, &four));
}

#[test]
fn before_the_first_node_the_start_is_awaited() {
    let prior = Prior::of("EKS", Machine::Virtual);
    let none = Learned::default();
    let sources = Sources {
        pool: &none,
        others: &[],
        prior: &prior,
    };
    let minutes = |has_begun| {
        let rollout = Rollout {
            started: at(0),
            has_begun,
            ..rollout(&[], 1, 1)
        };
        let estimate = Estimator::new(&sources, &rollout, at(0)).pool().unwrap();
        estimate.median.duration_since(at(0)).as_secs_f64() / 60.0
    };
    let quiet = minutes(false) - minutes(true);
    assert!((15.0..30.0).contains(&quiet), "{quiet} min");
}

#[test]
fn after_outcomes_that_were_late_the_latest_is_later_and_the_median_is_not() {
    let mut pool = learned(10, [60, 120, 120]);
    let before = estimate(&pool, &rollout(&[], 10, 1)).unwrap();
    for _ in 0..5 {
        pool.outcome(true);
    }
    let after = estimate(&pool, &rollout(&[], 10, 1)).unwrap();
    assert_eq!(after.median, before.median);
    assert!(after.latest > before.latest);
}

#[test]
fn blocked_time_is_not_expected_of_the_next_node() {
    let mut pool = Learned::default();
    for _ in 0..10 {
        let span = Span {
            blocked: SignedDuration::from_secs(7_200),
            ..Span::seen(at(-7_260), at(0))
        };
        pool.stage_ended(KIND, Stage::Draining, &span);
    }
    let prior = prior();
    let sources = Sources {
        pool: &pool,
        others: &[],
        prior: &prior,
    };
    let rollout = rollout(&[], 1, 1);
    let drain = Estimator::new(&sources, &rollout, at(0)).expected(Stage::Draining);
    assert!(drain.median < 120.0, "{drain:?}");
}

#[test]
fn a_pool_whose_drains_are_often_blocked_takes_longer() {
    let seen = |blocked| {
        let mut pool = learned(10, [60, 120, 120]);
        for _ in 0..5 {
            let span = Span {
                blocked: SignedDuration::from_secs(blocked),
                ..Span::seen(at(-60 - blocked), at(0))
            };
            pool.stage_ended(KIND, Stage::Draining, &span);
        }
        minutes(&pool, &rollout(&[], 30, 1))
    };
    assert!(seen(3_600) > 1.5 * seen(0), "{} {}", seen(3_600), seen(0));
}

#[test]
fn a_node_that_needs_a_human_has_no_estimate_and_its_pool_leaves_it_out() {
    let pool = learned(10, [60, 120, 120]);
    let nodes = [stuck(7_200), running(Stage::Draining, 10)];
    let rollout = rollout(&nodes, 10, 2);
    let prior = prior();
    let sources = Sources {
        pool: &pool,
        others: &[],
        prior: &prior,
    };
    let estimator = Estimator::new(&sources, &rollout, at(0));
    assert_eq!(estimator.node(&nodes[0]), Err(NoEstimate::Blocked));
    assert!(estimator.node(&nodes[1]).is_ok());
    let whole = estimator.pool().unwrap();
    assert_eq!(whole.without, 1);
    assert!(whole.confidence < Confidence::High);
}

#[test]
fn a_blocked_node_holds_its_slot() {
    let pool = learned(10, [60, 120, 120]);
    let moving = running(Stage::Draining, 10);
    let two = minutes(&pool, &rollout(&[moving, moving], 20, 2));
    let one = minutes(&pool, &rollout(&[moving, stuck(600)], 20, 2));
    assert!(one > 1.6 * two, "{one} {two}");
}

#[test]
fn where_blocked_nodes_hold_every_slot_there_is_no_estimate() {
    let pool = learned(10, [60, 120, 120]);
    let nodes = [stuck(600)];
    assert_eq!(
        estimate(&pool, &rollout(&nodes, 10, 1)),
        Err(NoEstimate::Blocked)
    );
    assert_eq!(
        estimate(&pool, &rollout(&nodes, 0, 3)),
        Err(NoEstimate::Blocked)
    );
}

#[test]
fn a_rollout_that_is_held_has_the_reason_in_place_of_a_time() {
    for reason in [
        NoEstimate::Paused,
        NoEstimate::WindowClosed,
        NoEstimate::NothingAllowed,
        NoEstimate::Unknown,
    ] {
        let held = Rollout {
            held: Some(reason),
            ..rollout(&[], 10, 1)
        };
        assert_eq!(estimate(&Learned::default(), &held), Err(reason));
    }
    let none = estimate(&Learned::default(), &rollout(&[], 10, 0));
    assert_eq!(none, Err(NoEstimate::NothingAllowed));
    let done = estimate(&Learned::default(), &rollout(&[], 0, 1));
    assert_eq!(done, Err(NoEstimate::Unknown));
}

#[test]
fn the_confidence_grows_with_the_nodes_that_were_seen() {
    let confidence = |nodes| {
        let pool = learned(nodes, [60, 120, 120]);
        let estimate = estimate(&pool, &rollout(&[], 10, 1)).unwrap();
        (estimate.confidence, estimate.samples, estimate.basis)
    };
    assert_eq!(
        confidence(0),
        (Confidence::Low, 0, EstimateBasis::PlatformConstant)
    );
    assert_eq!(
        confidence(4),
        (Confidence::Medium, 4, EstimateBasis::PoolHistory)
    );
    assert_eq!(
        confidence(20),
        (Confidence::High, 20, EstimateBasis::PoolHistory)
    );
}

#[test]
fn an_older_rollout_counts_half() {
    let mut pool = learned(20, [60, 120, 120]);
    pool.rollout_ended(1);
    assert_eq!(estimate(&pool, &rollout(&[], 10, 1)).unwrap().samples, 10);
    pool.rollout_ended(1);
    assert_eq!(estimate(&pool, &rollout(&[], 10, 1)).unwrap().samples, 5);
}

#[test]
fn a_stage_that_nodes_do_not_have_is_not_expected() {
    let mut pool = Learned::default();
    for _ in 0..30 {
        pool.stage_ended(KIND, Stage::Draining, &Span::seen(at(-60), at(0)));
        pool.node_updated(KIND, &[Stage::Draining]);
    }
    let rollout = rollout(&[], 10, 1);
    let (drain, whole) = (
        minutes(&pool, &rollout),
        minutes(&Learned::default(), &rollout),
    );
    assert!(drain < 0.4 * whole, "{drain} {whole}");
}

#[test]
fn what_is_left_does_not_depend_on_when_it_is_asked_twice() {
    let pool = learned(3, [60, 120, 120]);
    let nodes = [running(Stage::Updating, 40)];
    let rollout = rollout(&nodes, 17, 2);
    assert_eq!(estimate(&pool, &rollout), estimate(&pool, &rollout));
}

fn any_stage() -> impl Strategy<Value = Stage> {
    prop::sample::select(Stage::ALL.to_vec())
}

fn any_learned() -> impl Strategy<Value = Learned> {
    let span = (any_stage(), 0_i64..200_000, 0_i64..9_000, 0_i64..9_000);
    (prop::collection::vec(span, 0..60), 0_u32..50).prop_map(|(spans, most)| {
        let mut learned = Learned::default();
        for (stage, seconds, blocked, unseen) in spans {
            let span = Span {
                seen_from: at(unseen - seconds),
                blocked: SignedDuration::from_secs(blocked),
                ..Span::seen(at(-seconds), at(0))
            };
            learned.stage_ended(KIND, stage, &span);
            learned.node_updated(KIND, &[stage]);
        }
        learned.in_progress(most);
        learned
    })
}

proptest! {
    #[test]
    fn an_estimate_is_in_the_future_and_its_latest_not_before_its_median(
        pool in any_learned(),
        nodes in prop::collection::vec((any_stage(), -100_i64..2_000_000, any::<bool>()), 0..8),
        pending in 0_u32..40,
        parallelism in prop::option::of(0_u32..10),
        free_since in prop::option::of(-90_000_i64..10),
    ) {
        let nodes: Vec<InProgress> = nodes
            .into_iter()
            .map(|(stage, seconds, needs_human)| InProgress {
                needs_human,
                ..running(stage, seconds)
            })
            .collect();
        let rollout = Rollout {
            parallelism,
            free_since: free_since.map(at),
            ..rollout(&nodes, pending, 1)
        };
        if let Ok(estimate) = estimate(&pool, &rollout) {
            prop_assert!(estimate.median > at(0), "{estimate:?}");
            prop_assert!(estimate.latest >= estimate.median, "{estimate:?}");
        }
    }
}
