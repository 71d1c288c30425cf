//! Subscribers for single tests, which run concurrently with tests that have none.

use std::sync::LazyLock;

use tracing::subscriber::DefaultGuard;
use tracing::{Dispatch, Subscriber};

/// `tracing` caches the interest in a callsite for all threads. With a single subscriber, it takes the interest of
/// the first thread, which may have none. So there are two, which enable everything.
static OTHERS: LazyLock<[Dispatch; 2]> =
    LazyLock::new(|| std::array::from_fn(|_| Dispatch::new(tracing_subscriber::registry())));

/// Sets this thread's subscriber until the guard is dropped.
#[must_use]
pub(crate) fn subscribe(subscriber: impl Subscriber + Send + Sync + 'static) -> DefaultGuard {
    LazyLock::force(&OTHERS);
    tracing::subscriber::set_default(subscriber)
}
