//! Rollouts with a known truth, like those of `make bench-eta`, but fewer: limits are learned from some of them, and
//! the rule is applied to the others.

use fastrand::Rng;

use super::limit::{Platform, learned};
use super::*;
use crate::domain::eta::{Estimator, Learned, Machine, Prior, Rollout, Sources, Span, Stage};
use crate::domain::fixtures::log_normal;

const NODES: usize = 12;
const ROLLOUTS: usize = 200;
const PROVIDER: &str = "OpenShift";
/// What was seen of a pool: nothing, or one rollout.
const SEEN: [usize; 2] = [0, NODES];
const MACHINES: [Machine; 2] = [Machine::Virtual, Machine::BareMetal];
const STEPS: [(Stage, Phase); 3] = [
    (Stage::Draining, Phase::Draining),
    (Stage::Updating, Phase::Updating),
    (Stage::Rebooting, Phase::Rebooting),
];

/// How long a step takes that does not hang, in seconds.
#[expect(clippy::cast_possible_truncation, reason = "some hours at most")]
fn duration(rng: &mut Rng, stage: Stage, machine: Machine) -> i64 {
    let seconds = match (stage, machine) {
        (Stage::Draining, _) => log_normal(rng, 90.0, 1.0),
        (Stage::Rebooting, Machine::BareMetal) => {
            // Of each ten machines one tests its memory twice.
            let times = if rng.f64() < 0.1 { 2.0 } else { 1.0 };
            times * log_normal(rng, 840.0, 0.35)
        }
        (Stage::Rebooting, Machine::Virtual) => log_normal(rng, 120.0, 0.3),
        _ => log_normal(rng, 150.0, 0.35),
    };
    seconds.ceil() as i64
}

/// The limits of the steps, in minutes, in a pool that has seen so many nodes.
fn limits(rng: &mut Rng, machine: Machine, seen: usize) -> [i64; 3] {
    let mut pool = Learned::default();
    for _ in 0..seen {
        for (stage, _) in STEPS {
            let end = at(duration(rng, stage, machine));
            pool.stage_ended(None, stage, &Span::seen(at(0), end));
        }
    }
    let prior = Prior::of(PROVIDER, machine);
    let sources = Sources {
        pool: &pool,
        others: &[],
        prior: &prior,
    };
    let rollout = Rollout {
        pool: "pool",
        target: "target",
        kind: None,
        started: at(0),
        has_begun: true,
        in_progress: &[],
        pending: 1,
        parallelism: Some(1),
        free_since: None,
        held: None,
    };
    let estimator = Estimator::new(&sources, &rollout, at(0));
    let platform = Platform {
        provider: PROVIDER,
        machine: Some(machine),
    };
    STEPS.map(|(stage, _)| {
        let expected = estimator.expected(stage);
        let limit = learned(stage, &expected, pool.calibration(), platform);
        limit.unwrap().as_mins()
    })
}

/// Whether the step is reported before it ends; its last pod leaves at the end.
fn is_reported(phase: Phase, limit: i64, duration: i64) -> bool {
    Node::with_limit(phase, limit).at(duration - 1).is_some()
}

#[test]
fn at_most_one_in_two_hundred_rollouts_in_which_nothing_hangs_has_a_false_alarm() {
    let mut rng = Rng::with_seed(1);
    let (mut rollouts, mut alarms) = (0, 0);
    for (machine, seen) in MACHINES
        .into_iter()
        .flat_map(|machine| SEEN.map(|seen| (machine, seen)))
    {
        let limits = limits(&mut rng, machine, seen);
        for _ in 0..ROLLOUTS {
            let mut is_false = false;
            for _ in 0..NODES {
                for ((stage, phase), limit) in STEPS.into_iter().zip(limits) {
                    is_false |= is_reported(phase, limit, duration(&mut rng, stage, machine));
                }
            }
            rollouts += 1;
            alarms += usize::from(is_false);
        }
    }
    assert!(alarms * 200 <= rollouts, "{alarms} of {rollouts}");
}

#[test]
fn a_node_that_hangs_is_reported_within_one_and_a_half_times_its_limit() {
    let mut rng = Rng::with_seed(2);
    for (machine, seen) in MACHINES
        .into_iter()
        .flat_map(|machine| SEEN.map(|seen| (machine, seen)))
    {
        let limits = limits(&mut rng, machine, seen);
        for ((stage, phase), limit) in STEPS.into_iter().zip(limits) {
            let moves = duration(&mut rng, stage, machine);
            let mut node = Node::with_limit(phase, limit);
            // The last progress before it hangs.
            node.evaluation.updating.reason = "LastStep";
            node.at(moves);
            let mut seconds = moves..2 * limit * MINUTE;
            let reported = seconds.find(|second| node.at(*second).is_some()).unwrap();
            assert!(reported >= limit * MINUTE, "{stage:?}: {reported}");
            assert!(
                2 * reported <= 3 * limit * MINUTE,
                "{stage:?}: {reported} of {limit} min"
            );
        }
    }
}
