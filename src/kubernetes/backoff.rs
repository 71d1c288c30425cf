//! How long to wait between attempts.
//!
//! Delays double, and up to the same again is added at random, so that many do not come back at once.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};

/// The first delay.
const MIN_DELAY: Duration = Duration::from_millis(200);
/// Bounds how long an API server that is back goes unnoticed: twice this.
const MAX_SHORT_DELAY: Duration = Duration::from_millis(2500);
/// What is wrong with one object does not go away by itself, and each attempt is a line in the log.
const MAX_LONG_DELAY: Duration = Duration::from_mins(1);

/// Delays for what holds up everything behind it: a watch, an API server that takes no write.
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
    // They never end.
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
