//! Watches one kind, for ever.
//!
//! Each kind has a task and a backoff of its own: one that fails holds up no other. What is seen is
//! handed to a sink at once, in order; the sink never waits.

use std::collections::HashSet;
use std::fmt::Debug;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use futures::{Stream, StreamExt};
use kube::ResourceExt;
use kube::runtime::watcher::{self, Event};

use super::diagnosis::{Attempt, Diagnosis, Problem, diagnose};

/// After how many seconds the API server ends a watch, and a fresh one begins. With the client's read
/// timeout it bounds how long a dead connection goes unnoticed.
pub const TIMEOUT: u32 = 60;
/// Objects a page of a list: 100 whole Nodes are up to 2 MB of JSON, which is read in one piece.
const PAGE_SIZE: u32 = 100;
/// A watch that fails is tried again after this long, then twice that, up to [`MAX_DELAY`]; up to the
/// same again is added at random, so that many do not come back at once.
const MIN_DELAY: Duration = Duration::from_millis(200);
/// Bounds how long an API server that is back goes unnoticed: twice this.
const MAX_DELAY: Duration = Duration::from_millis(2500);

/// One object that the API server refuses is tried once a minute or two: what is wrong with it does
/// not go away by itself, and each attempt is a line in the log.
const MAX_PATIENT_DELAY: Duration = Duration::from_mins(1);

/// What a watch sees.
#[derive(Debug)]
pub enum Seen<K> {
    /// An object that is new or has changed.
    Applied(K),
    /// An object that is gone.
    Deleted(K),
    /// A list is complete; these are the names of all objects. What is not among them is gone.
    Listed(HashSet<String>),
    /// The watch fails; it is tried again.
    Failing(Diagnosis),
}

/// How all kinds are watched.
#[must_use]
pub fn config() -> watcher::Config {
    watcher::Config::default()
        .timeout(TIMEOUT)
        .page_size(PAGE_SIZE)
}

/// The delays between attempts at something that holds up everything behind it.
#[must_use]
pub fn backoff() -> ExponentialBackoff {
    delays(MAX_DELAY)
}

/// The delays between attempts at one write among many: another reason than the write itself (an
/// outage, a permission) has the shorter delays of [`backoff`].
#[must_use]
pub fn patient_backoff() -> ExponentialBackoff {
    delays(MAX_PATIENT_DELAY)
}

fn delays(most: Duration) -> ExponentialBackoff {
    ExponentialBuilder::new()
        .with_min_delay(MIN_DELAY)
        .with_max_delay(most)
        .with_jitter()
        .without_max_times()
        .build()
}

/// Hands everything that a watch sees to `sink`; returns never. `start` begins a watch anew, with a
/// fresh list: so a failure is known to be over when a list is complete, and what was lost meanwhile
/// is found.
pub async fn follow<K, S>(start: impl Fn() -> S, attempt: Attempt, mut sink: impl FnMut(Seen<K>))
where
    K: ResourceExt + Debug,
    S: Stream<Item = watcher::Result<Event<K>>>,
{
    let mut delays = backoff();
    loop {
        let mut events = std::pin::pin!(start());
        let mut names = HashSet::new();
        while let Some(event) = events.next().await {
            match event {
                Ok(Event::Init) => names.clear(),
                Ok(Event::InitApply(object)) => {
                    names.insert(object.name_any());
                    sink(Seen::Applied(object));
                }
                Ok(Event::InitDone) => {
                    delays = backoff();
                    sink(Seen::Listed(std::mem::take(&mut names)));
                }
                Ok(Event::Apply(object)) => sink(Seen::Applied(object)),
                Ok(Event::Delete(object)) => sink(Seen::Deleted(object)),
                // The connection broke in the middle: the watch goes on where it was. If it cannot,
                // that is another error.
                Err(watcher::Error::WatchFailed(error)) => {
                    tracing::debug!(resource = attempt.resource, error = %error, "Resuming the watch");
                }
                Err(watcher::Error::WatchError(status)) if status.code == 410 => {
                    tracing::debug!(
                        resource = attempt.resource,
                        "Listing again, the watch is too old"
                    );
                }
                Err(error) => {
                    sink(Seen::Failing(diagnose_watch(&error, attempt)));
                    break;
                }
            }
        }
        tokio::time::sleep(delays.next().unwrap_or(MAX_DELAY)).await;
    }
}

fn diagnose_watch(error: &watcher::Error, attempt: Attempt) -> Diagnosis {
    match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => diagnose(error, attempt),
        watcher::Error::WatchError(status) => diagnose(&kube::Error::Api(status.clone()), attempt),
        watcher::Error::NoResourceVersion => Diagnosis {
            problem: Problem::Unreadable,
            what: format!(
                "The API server lists {} without a resource version",
                attempt.resource
            ),
            remedy: "report it, with the version of the API server".to_owned(),
        },
    }
}
