//! How fast a simulation goes.

use std::time::Duration;

/// A factor on the nominal durations of a rollout: at 1, the speed of the demo, a node takes about ten
/// seconds; a real one takes about ten minutes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pace {
    factor: f64,
    /// No step is shorter.
    least: Duration,
}

impl Pace {
    /// The speed of the demo.
    pub const DEMO: Self = Self {
        factor: 1.0,
        least: Duration::ZERO,
    };

    /// A hundred times as fast as the demo, so that a test takes only as long as its writes.
    pub const TEST: Self = Self {
        factor: 0.01,
        least: Duration::ZERO,
    };

    /// As fast as the verifier of [`crate::truth`] can follow: an insight has a second to show a step.
    pub const VERIFIED: Self = Self {
        factor: 0.3,
        least: Duration::from_millis(1250),
    };

    /// `factor` times the nominal duration; NaN and negative factors count as zero.
    #[must_use]
    pub fn new(factor: f64) -> Self {
        let factor = if factor.is_finite() {
            factor.max(0.0)
        } else {
            0.0
        };
        Self {
            factor,
            least: Duration::ZERO,
        }
    }

    /// The factor.
    #[must_use]
    pub fn factor(self) -> f64 {
        self.factor
    }

    /// Waits for the duration of a step.
    pub async fn pass(self, nominal: Duration) {
        tokio::time::sleep(nominal.mul_f64(self.factor).max(self.least)).await;
    }
}
