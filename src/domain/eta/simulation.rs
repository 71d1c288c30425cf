//! The end of a rollout, simulated: nodes take their turns until none is left.
//!
//! Of a replicate all nodes share one draw of the durations' curves. If each node had its own, errors would cancel each
//! other out, and the spread of the end would be far too small.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::model::{Durations, Model};
use super::random::Random;
use super::stage::Stage;

/// How many draws of the curves there are, and how many replicates of each: 100 in all. A draw costs as much as the
/// simulation of ten nodes.
const DRAWS: u32 = 50;
const PER_CURVES: u32 = 2;
/// With many nodes chance evens out within one replicate, so fewer are enough; this bounds the time of an estimate.
const NODES: u32 = 40_000;
const FEWEST_DRAWS: u32 = 15;

/// The state from which a rollout goes on, in seconds.
#[derive(Debug, Clone)]
pub(super) struct Situation {
    /// Stages of the nodes in progress, and for how long they have lasted.
    pub(super) running: Vec<(Stage, f64)>,
    /// Nodes that are still to begin.
    pub(super) pending: u32,
    /// How many may be in progress at once, without those that hold a slot for ever.
    pub(super) slots: usize,
    /// What comes before the next node, and for how long it has lasted.
    pub(super) before_next: (Stage, f64),
}

/// The remaining seconds of the rollout, one number for each replicate.
pub(super) fn remaining(model: &Model, situation: &Situation, random: &mut Random) -> Vec<f64> {
    let affordable = NODES / situation.pending.max(1) / PER_CURVES;
    let draws = affordable.clamp(FEWEST_DRAWS, DRAWS);
    replicates(draws, model, random, |durations, random| {
        one(durations, situation, random)
    })
}

/// The remaining seconds of one node, one number for each replicate.
pub(super) fn remaining_of_node(
    model: &Model,
    stage: Stage,
    elapsed: f64,
    random: &mut Random,
) -> Vec<f64> {
    replicates(DRAWS, model, random, |durations, random| {
        rest_of_node(durations, (stage, elapsed), random)
    })
}

fn replicates(
    draws: u32,
    model: &Model,
    random: &mut Random,
    mut replicate: impl FnMut(&Durations<'_>, &mut Random) -> f64,
) -> Vec<f64> {
    let mut ends = Vec::new();
    for durations in model.drawn(draws, random) {
        ends.extend((0..PER_CURVES).map(|_| replicate(&durations, random)));
    }
    ends
}

fn rest_of_node(durations: &Durations<'_>, running: (Stage, f64), random: &mut Random) -> f64 {
    let (stage, elapsed) = running;
    durations.remaining(stage, elapsed, random) + durations.of_node_after(stage, random)
}

fn one(durations: &Durations<'_>, situation: &Situation, random: &mut Random) -> f64 {
    let mut ends: Vec<f64> = situation
        .running
        .iter()
        .map(|running| rest_of_node(durations, *running, random))
        .collect();
    let mut last = ends.iter().copied().fold(0.0, f64::max);
    ends.sort_by(f64::total_cmp);
    // More in progress than allowed: those that end first are not replaced.
    let surplus = ends.len().saturating_sub(situation.slots);
    let free = situation.slots.saturating_sub(ends.len());
    let mut slots: BinaryHeap<Reverse<Seconds>> = ends
        .into_iter()
        .skip(surplus)
        .map(|end| Reverse(Seconds(end)))
        .collect();
    let (before_next, waited) = situation.before_next;
    let first = durations.remaining(before_next, waited, random);
    for node in 0..usize::try_from(situation.pending).unwrap_or(usize::MAX) {
        let begin = if node == 0 && free > 0 {
            first
        } else {
            let slot = if node < free {
                // The first node opens the rollout for the others.
                if before_next == Stage::Start {
                    first
                } else {
                    0.0
                }
            } else {
                let Some(Reverse(Seconds(end))) = slots.pop() else {
                    break;
                };
                end
            };
            slot + durations.remaining(Stage::Turn, 0.0, random)
        };
        let end = begin + durations.of_node(random);
        last = last.max(end);
        slots.push(Reverse(Seconds(end)));
    }
    last
}

/// Seconds in their natural order.
#[derive(Debug, Clone, Copy)]
struct Seconds(f64);

impl PartialEq for Seconds {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Seconds {}

impl PartialOrd for Seconds {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Seconds {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}
