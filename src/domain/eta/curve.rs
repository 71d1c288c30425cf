//! How likely a stage is to end in each bin, given that it has lasted so far: a hazard curve.
//!
//! Within a bin the hazard is the same at every position, so the cumulative hazard is a polyline: easy to shift, to
//! invert and to draw from. Beyond the last border it goes on straight, which is the tail of a power law: the longer a
//! stage has lasted, the longer it is expected to go on.

use super::bins::{self, BINS, beginnings, bin_of, position, seconds};
use super::life_table::LifeTable;
use super::random::Random;

/// Of a draw only bins matter that are reached, by one stage in 400.
const REACHED: f64 = 6.0;
const SMALL: f64 = 0.01;
/// The least hazard of a bin: what was never seen to end there may still do so.
const LEAST: f64 = 1e-6;
/// The least hazard of the last bin, so that every stage ends.
const LEAST_TAIL: f64 = 0.2;

/// Most updaters give up, or call someone, by this many seconds; whatever lasts longer is expected to go on for a
/// quarter of that.
const ENDED: f64 = 3_600.0;
const HAZARD_WHEN_ENDED: f64 = 0.85;

/// The hazard of each bin.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Curve([f64; BINS]);

impl Curve {
    /// The log-logistic curve with this median in seconds. `spread` is the standard deviation of the durations'
    /// logarithm. Its tail is a power law, as that of drains is, and its hazard falls again after a while.
    #[must_use]
    pub(super) fn log_logistic(median: f64, spread: f64) -> Self {
        let shape = std::f64::consts::PI / (3.0_f64.sqrt() * spread);
        let cumulative = |position: f64| (shape * (seconds(position) / median).ln()).exp().ln_1p();
        let mut begin = 0.0;
        let ended = bins::position(ENDED);
        Self::of(beginnings().map(|position| {
            let end = cumulative(position + 1.0);
            let hazard = end - begin;
            begin = end;
            if position >= ended {
                hazard.max(HAZARD_WHEN_ENDED)
            } else {
                hazard
            }
        }))
    }

    fn of(hazards: impl Iterator<Item = f64>) -> Self {
        let mut curve = [LEAST; BINS];
        for (bin, hazard) in curve.iter_mut().zip(hazards) {
            *bin = hazard.max(LEAST);
        }
        if let Some(last) = curve.last_mut() {
            *last = last.max(LEAST_TAIL);
        }
        Self(curve)
    }

    /// The mean curve after the observations of `table`, when this one weighs `strength` stages in each bin.
    #[must_use]
    pub(super) fn updated(&self, table: &LifeTable, strength: f64) -> Self {
        Self::of(
            self.0
                .iter()
                .zip(table.bins())
                .map(|(hazard, (exits, exposure))| {
                    (strength * hazard + exits) / (strength + exposure)
                }),
        )
    }

    /// The curve of durations that are longer by this number of bins.
    #[must_use]
    pub(super) fn shifted(&self, bins: f64) -> Self {
        let cumulative = self.cumulative();
        let mut begin = cumulative.at(-bins);
        Self::of(beginnings().map(|position| {
            let end = cumulative.at(position + 1.0 - bins);
            let hazard = end - begin;
            begin = end;
            hazard
        }))
    }

    /// A curve that may as well be the true one, if this is the mean and each bin of it is known from `weight` and the
    /// exposure in `table`.
    pub(super) fn drawn(&self, table: &LifeTable, weight: f64, random: &mut Random) -> Cumulative {
        let known = table.bins().map(|(_, exposure)| exposure + weight);
        let mut sum = 0.0;
        let hazards = self.0.iter().zip(known).map(|(hazard, known)| {
            let shape = hazard * known;
            let is_reached = sum < REACHED;
            sum += hazard;
            // A draw of a small shape is nearly always 0, and costs as much as any other.
            if is_reached && shape > SMALL {
                random.gamma(shape) / known
            } else {
                *hazard
            }
        });
        Self::of(hazards).cumulative()
    }

    /// The hazard of each bin.
    pub(super) fn hazards(&self) -> impl Iterator<Item = f64> {
        self.0.iter().copied()
    }

    /// The cumulative hazard.
    #[must_use]
    pub(super) fn cumulative(&self) -> Cumulative {
        let mut sum = 0.0;
        let mut ends = [0.0; BINS];
        for (end, hazard) in ends.iter_mut().zip(&self.0) {
            sum += hazard;
            *end = sum;
        }
        Cumulative(ends)
    }
}

/// The cumulative hazard at the end of each bin.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Cumulative([f64; BINS]);

impl Cumulative {
    /// The beginning of the bin that `place` ends, the cumulative hazard there, and the hazard of the bin.
    fn bin(&self, place: usize) -> (f64, f64, f64) {
        let place = place.min(BINS - 1);
        let before = place.checked_sub(1).and_then(|before| self.0.get(before));
        let before = before.copied().unwrap_or_default();
        let end = self.0.get(place).copied().unwrap_or_default();
        let begin = u32::try_from(place).map_or(0.0, f64::from);
        (begin, before, end - before)
    }

    /// The cumulative hazard at a position.
    #[must_use]
    pub(super) fn at(&self, position: f64) -> f64 {
        if position <= 0.0 {
            return 0.0;
        }
        let (begin, before, hazard) = self.bin(bin_of(position));
        before + (position - begin) * hazard
    }

    /// The position at which the cumulative hazard is `sum`.
    fn position_of(&self, sum: f64) -> f64 {
        let place = self.0.partition_point(|end| *end < sum);
        let (begin, before, hazard) = self.bin(place);
        begin + (sum - before) / hazard
    }

    /// A duration in seconds.
    pub(super) fn draw(&self, random: &mut Random) -> f64 {
        seconds(self.position_of(random.exponential()))
    }

    /// How many more seconds a stage takes that has lasted `elapsed` seconds.
    pub(super) fn draw_remaining(&self, elapsed: f64, random: &mut Random) -> f64 {
        let so_far = self.at(position(elapsed));
        let whole = seconds(self.position_of(so_far + random.exponential()));
        (whole - elapsed).max(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quantile(curve: &Cumulative, share: f64) -> f64 {
        seconds(curve.position_of(-(1.0 - share).ln()))
    }

    fn is_about(left: f64, right: f64) -> bool {
        (left / right - 1.0).abs() < 0.05
    }

    #[test]
    fn a_log_logistic_curve_has_its_median_and_spread() {
        let curve = Curve::log_logistic(120.0, 0.35).cumulative();
        assert!(is_about(quantile(&curve, 0.5), 120.0));
        // The logistic distribution of the logarithm: its quantile .9 is log 9 scales above the median.
        let expected = 120.0 * (9.0_f64.ln() * 0.35 * 3.0_f64.sqrt() / std::f64::consts::PI).exp();
        assert!(
            is_about(quantile(&curve, 0.9), expected),
            "{}",
            quantile(&curve, 0.9)
        );
    }

    #[test]
    fn a_shift_multiplies_the_durations() {
        let curve = Curve::log_logistic(120.0, 0.35);
        let longer = curve
            .shifted(super::super::bins::distance(3.0))
            .cumulative();
        assert!(
            is_about(quantile(&longer, 0.5), 360.0),
            "{}",
            quantile(&longer, 0.5)
        );
    }

    #[test]
    fn observations_move_the_curve() {
        let curve = Curve::log_logistic(120.0, 0.35);
        let mut table = LifeTable::default();
        for _ in 0..50 {
            table.add_ended(0.0, 600.0);
        }
        let median = quantile(&curve.updated(&table, 1.0).cumulative(), 0.5);
        assert!((500.0..700.0).contains(&median), "{median}");
    }

    #[test]
    fn with_a_heavy_tail_the_remaining_time_grows_with_the_age() {
        let curve = Curve::log_logistic(90.0, 1.0).cumulative();
        let mut random = Random::of(&["tail"]);
        let mut median = |elapsed: f64| {
            let mut all: Vec<f64> = (0..1_000)
                .map(|_| curve.draw_remaining(elapsed, &mut random))
                .collect();
            all.sort_by(f64::total_cmp);
            all[500]
        };
        let [young, old, older] = [0.0, 1_200.0, 7_200.0].map(&mut median);
        assert!(young < old && old < older, "{young} {old} {older}");
    }
}
