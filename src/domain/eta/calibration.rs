//! Corrects how far `latest` lies behind the median by how often it was exceeded.
//!
//! An adaptive conformal update, as in Gibbs, Candès, "Adaptive conformal inference under distribution shift", 2021
//! (arXiv 2106.00170): whatever the model gets wrong, in the long run one outcome in ten is later than `latest`.

/// The share of outcomes that may be later than `latest`.
const MISSES: f64 = 0.1;
/// The step after a miss is nine times the one after a hit, so that both balance at one miss in ten.
const STEP: f64 = 0.2;
/// Never narrower than the model says: it knows of no error that makes it too careful.
pub(super) const NARROWEST: f64 = 1.0;
/// Wider would say nothing.
pub(super) const WIDEST: f64 = 4.0;

/// The factor on the distance from the median to the 90 % quantile.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Calibration {
    factor: f64,
}

impl Default for Calibration {
    fn default() -> Self {
        Self { factor: NARROWEST }
    }
}

impl Calibration {
    /// A calibration with this factor; `None` when it is out of bounds.
    #[must_use]
    pub fn with_factor(factor: f64) -> Option<Self> {
        (NARROWEST..=WIDEST)
            .contains(&factor)
            .then_some(Self { factor })
    }

    /// The factor, from 1 to 4.
    #[must_use]
    pub const fn factor(self) -> f64 {
        self.factor
    }

    /// Takes into account whether an outcome was later than the calibrated quantile.
    pub fn record(&mut self, is_miss: bool) {
        let miss = if is_miss { 1.0 } else { 0.0 };
        self.factor = (self.factor + STEP * (miss - MISSES)).clamp(NARROWEST, WIDEST);
    }
}

/// A quantity that is not certain, in seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// Median.
    pub median: f64,
    /// The quantile of 90 %, as the model has it.
    pub high: f64,
}

impl Spread {
    /// The median and the 90 % quantile of `values`, which get sorted; 0 when there are none.
    #[must_use]
    pub fn of(values: &mut [f64]) -> Self {
        values.sort_by(f64::total_cmp);
        let value = |place: usize| values.get(place).copied().unwrap_or_default();
        Self {
            median: value(values.len() / 2),
            high: value(values.len() * 9 / 10),
        }
    }

    /// The calibrated 90 % quantile.
    #[must_use]
    pub fn latest(&self, calibration: Calibration) -> f64 {
        self.median + calibration.factor * (self.high - self.median).max(0.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_factor_stays_within_its_bounds(misses in prop::collection::vec(any::<bool>(), 0..300)) {
            let mut calibration = Calibration::default();
            for is_miss in misses {
                calibration.record(is_miss);
                prop_assert!((NARROWEST..=WIDEST).contains(&calibration.factor()));
            }
        }
    }

    #[test]
    fn in_the_long_run_one_outcome_in_ten_is_later() {
        // The model believes in a third of the true spread.
        let believed = Spread {
            median: 0.0,
            high: 30.0,
        };
        let mut calibration = Calibration::default();
        let mut misses = 0;
        for outcome in (0..5_000).map(|number| f64::from(number * 37 % 101)) {
            let is_miss = outcome > believed.latest(calibration);
            misses += i32::from(is_miss);
            calibration.record(is_miss);
        }
        assert!((400..600).contains(&misses), "{misses}");
    }
}
