//! Subscribers of single tests, which run beside others that have none.

use std::sync::LazyLock;

use tracing::subscriber::DefaultGuard;
use tracing::{Dispatch, Subscriber};

/// Whether a span or an event is wanted is asked once for all threads. Of a program's only subscriber it is
/// asked in whichever thread is first there, which may have none. These want everything, and there are two.
static OTHERS: LazyLock<[Dispatch; 2]> =
    LazyLock::new(|| std::array::from_fn(|_| Dispatch::new(tracing_subscriber::registry())));

/// This thread's subscriber, until what is returned is dropped.
#[must_use]
pub(crate) fn subscribe(subscriber: impl Subscriber + Send + Sync + 'static) -> DefaultGuard {
    LazyLock::force(&OTHERS);
    tracing::subscriber::set_default(subscriber)
}
