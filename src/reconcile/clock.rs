//! The clock, which everything below gets as an argument.

use std::sync::Arc;

use jiff::Timestamp;

use crate::registry::Clock;

/// A clock that tells the time of this machine, in whole seconds, as times in the API have them.
#[must_use]
pub fn system_clock() -> Clock {
    Arc::new(|| {
        let now = Timestamp::now();
        Timestamp::from_second(now.as_second()).unwrap_or(now)
    })
}
