//! Delays between retries.
//!
//! Delays double, with up to 100 % jitter, so that many clients do not retry at the same time.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};

/// The first delay.
const MIN_DELAY: Duration = Duration::from_millis(200);
/// An API server that is available again is noticed within twice this time.
const MAX_SHORT_DELAY: Duration = Duration::from_millis(2500);
/// A problem of one object rarely goes away by itself, and each attempt is a line in the log.
const MAX_LONG_DELAY: Duration = Duration::from_mins(1);

/// Delays for what everything else waits for: a watch, or an API server that accepts no writes.
#[must_use]
pub fn short() -> ExponentialBackoff {
    delays(MAX_SHORT_DELAY)
}

/// Delays for one write among many.
#[must_use]
pub fn long() -> ExponentialBackoff {
    delays(MAX_LONG_DELAY)
}

/// Waits for the next delay.
pub async fn wait(delays: &mut ExponentialBackoff) {
    // The sequence is infinite.
    tokio::time::sleep(delays.next().unwrap_or(MAX_LONG_DELAY)).await;
}

fn delays(most: Duration) -> ExponentialBackoff {
    ExponentialBuilder::new()
        .with_min_delay(MIN_DELAY)
        .with_max_delay(most)
        .with_jitter()
        .without_max_times()
        .build()
}
