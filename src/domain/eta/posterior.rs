//! What is believed of the duration of one stage, given a curve and a life table.

use super::bins::{BINS, distance};
use super::curve::{Cumulative, Curve};
use super::life_table::LifeTable;
use super::random::Random;

/// What the curve weighs in each bin, in stages. Over 34 bins that adds up: with 4 it resists a rollout of 12 nodes.
const STRENGTH: f64 = 1.0;
/// What is added to the exposure of a bin when curves are drawn. With the strength alone draws would be so wide that
/// the median of a pool without observations was a third too long.
const CERTAINTY: f64 = 4.0;
/// By what factor pools usually differ from the constants, and from other pools of their provider.
const FROM_CONSTANTS: f64 = 1.5;
const FROM_OTHERS: f64 = 1.3;
/// From so many stages on they are believed rather than what comes after them in the order of precedence.
pub(super) const ENOUGH: f64 = 3.0;
/// Number of the shifts that are considered: every half bin, from a thirtieth to thirty times as long.
const SHIFTS: usize = 53;
const MIDDLE: f64 = 26.0;
const PER_BIN: f64 = 2.0;

/// The distribution of curves.
#[derive(Debug, Clone)]
pub(super) struct Posterior {
    base: Curve,
    table: LifeTable,
    /// The cumulative probabilities of the shifts.
    shifts: [f64; SHIFTS],
}

impl Posterior {
    /// Given the curve that the constants make, and what was seen of other pools and of this one.
    pub(super) fn new(constants: &Curve, others: &LifeTable, own: LifeTable) -> Self {
        let from_constants = distance(FROM_CONSTANTS);
        let (base, scale) = if others.exits() > 0.0 {
            let shifts = shifts(constants, others, from_constants);
            let base = constants.shifted(shift_at(&shifts, 0.5));
            let is_enough = others.exits() >= ENOUGH;
            let from_others = distance(FROM_OTHERS);
            let scale = if is_enough {
                from_others
            } else {
                from_constants
            };
            (base.updated(others, STRENGTH), scale)
        } else {
            (constants.clone(), from_constants)
        };
        let shifts = shifts(&base, &own, scale);
        Self {
            base,
            table: own,
            shifts,
        }
    }

    /// The curve in the middle of the distribution.
    pub(super) fn most_likely(&self) -> Cumulative {
        let curve = self.base.shifted(shift_at(&self.shifts, 0.5));
        curve.updated(&self.table, STRENGTH).cumulative()
    }

    /// One of the curves, with the shift that has this cumulative probability.
    pub(super) fn drawn(&self, probability: f64, random: &mut Random) -> Cumulative {
        let shift = shift_at(&self.shifts, probability);
        let curve = self.base.shifted(shift).updated(&self.table, STRENGTH);
        curve.drawn(&self.table, CERTAINTY, random)
    }
}

/// The shifts, in bins.
fn all_shifts() -> impl Iterator<Item = f64> {
    let places = (0_u32..).map(f64::from).take(SHIFTS);
    places.map(|place| (place - MIDDLE) / PER_BIN)
}

/// The shift that has this cumulative probability.
fn shift_at(cumulative: &[f64; SHIFTS], probability: f64) -> f64 {
    let place = cumulative.partition_point(|sum| *sum < probability);
    all_shifts().nth(place).unwrap_or_default()
}

/// The cumulative probabilities of the shifts of `base`, given the table. Without observations they follow a Student
/// distribution with 3 degrees of freedom and this scale: a pool that is very different is rare, not impossible.
fn shifts(base: &Curve, table: &LifeTable, scale: f64) -> [f64; SHIFTS] {
    let mut weights = [0.0; SHIFTS];
    let mut highest = f64::NEG_INFINITY;
    let likelihood = Likelihood::of(table);
    for (weight, shift) in weights.iter_mut().zip(all_shifts()) {
        let expected = -2.0 * (shift / scale).powi(2).mul_add(1.0 / 3.0, 1.0).ln();
        *weight = expected + likelihood.log(&base.shifted(shift));
        highest = highest.max(*weight);
    }
    let mut sum = 0.0;
    for weight in &mut weights {
        sum += (*weight - highest).exp();
        *weight = sum;
    }
    weights.map(|weight| weight / sum)
}

/// The likelihood of curves, given a table. Exits are Poisson-distributed, and the hazard of a bin is known as from
/// [`STRENGTH`] stages, which makes them negative-binomial.
struct Likelihood {
    /// Exits of each bin, and the logarithm of the probability to survive it for a hazard of 1.
    bins: [(f64, f64); BINS],
}

impl Likelihood {
    fn of(table: &LifeTable) -> Self {
        let mut bins = [(0.0, 0.0); BINS];
        for (bin, (exits, exposure)) in bins.iter_mut().zip(table.bins()) {
            *bin = (exits, (STRENGTH / (STRENGTH + exposure)).ln());
        }
        Self { bins }
    }

    /// The logarithm of the likelihood of a curve, up to a constant.
    fn log(&self, curve: &Curve) -> f64 {
        let bins = curve.hazards().zip(&self.bins);
        bins.map(|(hazard, (exits, survival))| {
            let shape = STRENGTH * hazard;
            let ended = if *exits > 0.0 {
                ln_gamma(shape + exits) - ln_gamma(shape)
            } else {
                0.0
            };
            shape * survival + ended
        })
        .sum()
    }
}

/// The logarithm of the gamma function, for numbers above 0: Stirling's series, from 8 on.
fn ln_gamma(mut x: f64) -> f64 {
    let mut product = 1.0;
    while x < 8.0 {
        product *= x;
        x += 1.0;
    }
    let series = 1.0 / (12.0 * x) - 1.0 / (360.0 * x.powi(3));
    (x - 0.5) * x.ln() - x + 0.5 * std::f64::consts::TAU.ln() + series - product.ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn median(posterior: &Posterior) -> f64 {
        let mut random = Random::of(&["posterior"]);
        let shifts = random.strata(2_000).into_iter();
        let draw = |shift| posterior.drawn(shift, &mut random).draw(&mut random);
        let mut draws: Vec<f64> = shifts.map(draw).collect();
        draws.sort_by(f64::total_cmp);
        draws[1_000]
    }

    fn seen(durations: &[f64]) -> LifeTable {
        let mut table = LifeTable::default();
        for duration in durations {
            table.add_ended(0.0, *duration);
        }
        table
    }

    #[test]
    fn the_gamma_function_is_that_of_factorials() {
        for (x, factorial) in [(1.0, 1.0_f64), (2.0, 1.0), (5.0, 24.0), (11.0, 3_628_800.0)] {
            assert!((ln_gamma(x) - factorial.ln()).abs() < 1e-6, "{x}");
        }
        assert!((ln_gamma(0.5) - std::f64::consts::PI.sqrt().ln()).abs() < 1e-6);
    }

    #[test]
    fn without_observations_the_constants_are_believed() {
        let constants = Curve::log_logistic(120.0, 0.4);
        let posterior = Posterior::new(&constants, &LifeTable::default(), LifeTable::default());
        let median = median(&posterior);
        assert!((105.0..140.0).contains(&median), "{median}");
    }

    #[test]
    fn three_observations_outweigh_constants_that_are_wrong_by_a_factor_of_seven() {
        let constants = Curve::log_logistic(120.0, 0.4);
        let own = seen(&[800.0, 900.0, 850.0]);
        let median = median(&Posterior::new(&constants, &LifeTable::default(), own));
        assert!((650.0..1_100.0).contains(&median), "{median}");
    }

    #[test]
    fn a_running_stage_counts_before_it_has_ended() {
        let constants = Curve::log_logistic(120.0, 0.4);
        let mut own = LifeTable::default();
        own.add_running(0.0, 900.0);
        let longer = median(&Posterior::new(&constants, &LifeTable::default(), own));
        assert!(longer > 250.0, "{longer}");
    }

    #[test]
    fn other_pools_are_believed_until_this_one_is_known() {
        let constants = Curve::log_logistic(120.0, 0.4);
        let others = seen(&[600.0; 20]);
        let cold = median(&Posterior::new(&constants, &others, LifeTable::default()));
        assert!((500.0..720.0).contains(&cold), "{cold}");
        let warm = median(&Posterior::new(&constants, &others, seen(&[200.0; 20])));
        assert!((170.0..240.0).contains(&warm), "{warm}");
    }
}
