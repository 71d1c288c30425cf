//! The axis of durations: bins that get wider by the same factor.
//!
//! A *position* is a duration measured in bins: whole numbers are the borders. The first bin ends at 5 s; each of the
//! others at 1.3 times the end of the one before, and the last one has no end. So 34 bins distinguish
//! durations from seconds to hours by 30 %, which is less than they vary.

/// Number of bins.
pub(super) const BINS: usize = 34;
/// The end of the first bin, in seconds: nothing shorter has to be distinguished.
const FIRST: f64 = 5.0;
/// The end of a bin, as a multiple of its beginning.
const RATIO: f64 = 1.3;
/// The longest duration, in seconds: 30 days. No update takes longer.
const LONGEST: f64 = 2_592_000.0;

/// The position of a duration in seconds; that of 0 for what is no duration.
#[must_use]
pub(super) fn position(seconds: f64) -> f64 {
    if seconds >= FIRST {
        1.0 + (seconds.min(LONGEST) / FIRST).ln() / RATIO.ln()
    } else {
        (seconds / FIRST).max(0.0)
    }
}

/// The duration in seconds at a position; at most 30 days.
#[must_use]
pub(super) fn seconds(position: f64) -> f64 {
    if position >= 1.0 {
        (FIRST * ((position - 1.0) * RATIO.ln()).exp()).min(LONGEST)
    } else {
        FIRST * position.max(0.0)
    }
}

/// How many bins a duration is longer that is `factor` times as long.
#[must_use]
pub(super) fn distance(factor: f64) -> f64 {
    factor.ln() / RATIO.ln()
}

/// The place of the bin that a position lies in.
#[must_use]
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a bin is a small whole number, and a cast ends at the borders of the type"
)]
pub(super) fn bin_of(position: f64) -> usize {
    (position as usize).min(BINS - 1)
}

/// The positions where the bins begin.
pub(super) fn beginnings() -> impl Iterator<Item = f64> {
    (0_u32..).map(f64::from).take(BINS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_and_its_duration_are_inverse() {
        for duration in [0.0, 2.5, 5.0, 6.5, 90.0, 3_600.0, 80_000.0] {
            let back = seconds(position(duration));
            assert!(
                (back - duration).abs() < 1e-6 * duration.max(1.0),
                "{duration}"
            );
        }
    }

    #[test]
    fn bins_end_at_five_seconds_times_powers_of_1_3() {
        assert!((position(5.0) - 1.0).abs() < 1e-9);
        assert!((position(5.0 * 1.3_f64.powi(20)) - 21.0).abs() < 1e-9);
        assert_eq!(beginnings().count(), BINS);
    }

    #[test]
    fn what_is_no_duration_is_at_the_ends() {
        assert!(position(-3.0).abs() < f64::EPSILON);
        assert!(position(f64::NAN).abs() < f64::EPSILON);
        assert!(position(f64::INFINITY) < 60.0);
        assert!(seconds(f64::INFINITY) <= LONGEST);
    }
}
