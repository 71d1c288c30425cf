//! How many writes are for an estimate alone: simulated rollouts, from the first node to the last.

use std::collections::VecDeque;

use fastrand::Rng;

use super::*;
use crate::api::types::EstimatedCompletion;
use crate::domain::fixtures::log_normal;

/// The phases of a node, with median in seconds and spread of each.
const PHASES: [(Phase, f64, f64); 3] = [
    (Phase::Draining, 90.0, 1.0),
    (Phase::Updating, 150.0, 0.35),
    (Phase::Rebooting, 120.0, 0.3),
];
/// How often a pool is looked at when nothing happens, in seconds.
const LOOK: i64 = 30;

/// A rollout, and its writes.
struct Simulation {
    rng: Rng,
    pool: Pool,
    course: Course,
    counts: Option<Shown>,
    estimate: Option<EstimatedCompletion>,
    pending: usize,
    done: i32,
    /// The nodes in progress, with the end of their phase.
    active: VecDeque<(NodeState, i64)>,
    transitions: u32,
    for_nodes: u32,
    for_pool: u32,
}

impl Simulation {
    fn enter(&mut self, place: usize, now: i64) -> (NodeState, i64) {
        let (phase, median, spread) = PHASES[place];
        let seconds = log_normal(&mut self.rng, median, spread);
        let duration = SignedDuration::try_from_secs_f64(seconds).unwrap();
        let end = now + duration.as_secs().max(1);
        let state = self.pool.look_ahead(entered(phase, now), None, at(now));
        self.transitions += 1;
        (state, end)
    }

    /// A second passes.
    fn tick(&mut self, now: i64, parallelism: usize) {
        let before = self.transitions;
        for _ in 0..self.active.len() {
            let (state, end) = self.active.pop_front().unwrap();
            let place = PHASES
                .iter()
                .position(|(phase, _, _)| *phase == state.phase);
            let place = place.unwrap();
            if now >= end {
                let ended = Stage::of(state.phase).unwrap();
                self.pool.0.stage_ended(None, ended, &span(&state, at(now)));
                self.pool.0.outcome(was_long(&state, at(now)).unwrap());
                if place + 1 < PHASES.len() {
                    let next = self.enter(place + 1, now);
                    self.active.push_back(next);
                } else {
                    self.pool.0.node_updated(None, &Stage::OF_NODE);
                    self.done += 1;
                    self.transitions += 1;
                }
                continue;
            }
            if state.again_at.is_some_and(|again| again <= at(now)) {
                let fresh = NodeState {
                    phase_start: state.phase_start,
                    ..node(state.phase)
                };
                let next = self.pool.look_ahead(fresh, Some(&state), at(now));
                self.for_nodes += u32::from(median(&next) != median(&state));
                self.active.push_back((next, end));
            } else {
                self.active.push_back((state, end));
            }
        }
        while self.active.len() < parallelism && self.pending > 0 {
            self.pending -= 1;
            let next = self.enter(0, now);
            self.active.push_back(next);
        }
        let has_changed = self.transitions > before;
        if has_changed || now % LOOK == 0 {
            self.look(now, has_changed);
        }
    }

    fn look(&mut self, now: i64, has_changed: bool) {
        let waiting = (0..self.pending).map(|_| entered(Phase::Pending, 0));
        let active = self.active.iter().map(|(state, _)| state.clone());
        let view = view(waiting.chain(active));
        let counts = (!view.nodes.is_empty()).then(|| {
            let small = |count: usize| i32::try_from(count).unwrap();
            shown(self.done, small(self.active.len()), small(self.pending))
        });
        let both = (self.counts.as_ref(), counts.as_ref());
        self.course.follow(&mut self.pool.0, both, None, at(now));
        let free = self.course.free_since();
        let before = self.estimate.clone();
        self.estimate = counts.as_ref().and_then(|counts| {
            let ask = || {
                self.pool
                    .ask(|sources| of_pool(&view, counts, free, sources, at(now)))
            };
            self.course.estimate(before.as_ref(), ask, at(now))
        });
        self.counts = counts;
        self.for_pool += u32::from(!has_changed && self.estimate != before);
    }
}

fn rollout(seed: u64, nodes: usize, parallelism: usize) -> Simulation {
    let mut simulation = Simulation {
        rng: Rng::with_seed(seed),
        pool: Pool::default(),
        course: Course::default(),
        counts: None,
        estimate: None,
        pending: nodes,
        done: 0,
        active: VecDeque::new(),
        transitions: 0,
        for_nodes: 0,
        for_pool: 0,
    };
    let mut now = 0;
    while simulation.pending > 0 || !simulation.active.is_empty() {
        simulation.tick(now, parallelism);
        now += 1;
    }
    assert_eq!(simulation.estimate, None, "the rollout is over");
    simulation
}

#[test]
fn at_most_one_write_in_five_transitions_is_for_an_estimate_alone() {
    for (nodes, parallelism, rollouts) in [(3, 1, 40), (12, 1, 10), (30, 3, 4), (60, 10, 2)] {
        let (mut transitions, mut for_nodes, mut for_pool) = (0, 0, 0);
        for seed in 0..rollouts {
            let simulation = rollout(seed, nodes, parallelism);
            transitions += simulation.transitions;
            for_nodes += simulation.for_nodes;
            for_pool += simulation.for_pool;
        }
        let share = f64::from(for_nodes + for_pool) / f64::from(transitions);
        let figures =
            format!("{nodes} nodes: {for_nodes} of nodes and {for_pool} of pools in {transitions}");
        assert!(share <= 0.2, "{figures}");
        assert!(for_nodes > 0, "{figures}");
    }
}
