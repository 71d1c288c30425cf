//! Watches one kind, for ever.
//!
//! Each kind has a task and a backoff of its own: one that fails holds up no other. What is seen is
//! handed to a sink at once, in order; the sink never waits.

use std::collections::HashSet;
use std::fmt::Debug;

use futures::{Stream, StreamExt};
use kube::ResourceExt;
use kube::runtime::watcher::{self, Event};

use super::backoff;
use super::diagnosis::{Attempt, Diagnosis, Problem, diagnose};

/// After how many seconds the API server ends a watch, and a fresh one begins. With the client's read
/// timeout it bounds how long a dead connection goes unnoticed.
pub const TIMEOUT: u32 = 60;
/// Objects a page of a list: 100 whole Nodes are up to 2 MB of JSON, which is read in one piece.
const PAGE_SIZE: u32 = 100;
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

/// Hands everything that a watch sees to `sink`; returns never. `start` begins a watch anew, with a
/// fresh list: so a failure is known to be over when a list is complete, and what was lost meanwhile
/// is found.
pub async fn follow<K, S>(start: impl Fn() -> S, attempt: Attempt, mut sink: impl FnMut(Seen<K>))
where
    K: ResourceExt + Debug,
    S: Stream<Item = watcher::Result<Event<K>>>,
{
    let mut delays = backoff::short();
    loop {
        let mut events = std::pin::pin!(start());
        let mut names = HashSet::new();
        while let Some(event) = events.next().await {
            // Not Init, which comes before the API server was even asked.
            if matches!(
                event,
                Ok(Event::InitDone | Event::Apply(_) | Event::Delete(_))
            ) {
                delays = backoff::short();
            }
            match event {
                Ok(Event::Init) => names.clear(),
                Ok(Event::InitApply(object)) => {
                    names.insert(object.name_any());
                    sink(Seen::Applied(object));
                }
                Ok(Event::InitDone) => sink(Seen::Listed(std::mem::take(&mut names))),
                Ok(Event::Apply(object)) => sink(Seen::Applied(object)),
                Ok(Event::Delete(object)) => sink(Seen::Deleted(object)),
                // The connection broke in the middle: the watch goes on where it was. If it cannot,
                // that is another error.
                Err(watcher::Error::WatchFailed(error)) => {
                    tracing::debug!(resource = attempt.resource, %error, "Resuming the watch");
                    backoff::wait(&mut delays).await;
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
        backoff::wait(&mut delays).await;
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
