//! The system clock, which other modules get as an argument.

use std::sync::Arc;

use jiff::Timestamp;

use crate::registry::Clock;

/// A clock that returns the system time in whole seconds, like times in the API.
#[must_use]
pub fn system_clock() -> Clock {
    Arc::new(|| {
        let now = Timestamp::now();
        Timestamp::from_second(now.as_second()).unwrap_or(now)
    })
}
