//! How fast a simulation goes.

use std::time::Duration;

/// A factor on the nominal durations of a rollout: at 1, the speed of the demo, a node takes about ten
/// seconds; a real one takes about ten minutes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pace(f64);

impl Pace {
    /// The speed of the demo.
    pub const DEMO: Self = Self(1.0);

    /// A hundred times as fast as the demo, so that a test takes only as long as its writes.
    pub const TEST: Self = Self(0.01);

    /// `factor` times the nominal duration; NaN and negative factors count as zero.
    #[must_use]
    pub fn new(factor: f64) -> Self {
        Self(if factor.is_finite() {
            factor.max(0.0)
        } else {
            0.0
        })
    }

    /// The factor.
    #[must_use]
    pub fn factor(self) -> f64 {
        self.0
    }

    /// Waits for the duration of a step.
    pub async fn pass(self, nominal: Duration) {
        tokio::time::sleep(nominal.mul_f64(self.0)).await;
    }
}
