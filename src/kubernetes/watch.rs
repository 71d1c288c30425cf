//! Watches one kind, forever.
//!
//! Each kind has its own task and backoff, so a failing kind does not hold up the others. Everything seen goes to
//! a sink at once, in order; the sink never waits.
//!
//! Watches do lose events. When a fresh list is requested, a second watch starts with one and takes over, while
//! the first still reports events, so nothing is delayed.

use std::collections::HashSet;
use std::fmt::Debug;
use std::pin::Pin;
use std::time::Duration;

use futures::{Stream, StreamExt};
use kube::ResourceExt;
use kube::runtime::watcher::{self, Event};
use tokio::time::Instant;

use super::backoff;
use super::diagnosis::{Attempt, Diagnosis, Problem, diagnose};
use super::relist::{Listener, Overlap, Wanted};

/// Seconds after which the API server ends a watch and a new one begins. With the client's read timeout, this
/// bounds how long a dead connection goes unnoticed.
pub const TIMEOUT: u32 = 60;
/// Objects per page of a list: 100 whole Nodes are up to 2 MB of JSON, which is parsed at once.
const PAGE_SIZE: u32 = 100;
/// How long the old watch may lag behind a fresh list before a change that it has not reported counts as missed.
/// Events take milliseconds.
const GRACE: Duration = Duration::from_secs(1);

/// What a watch sees.
#[derive(Debug)]
pub enum Seen<K> {
    /// An object in a list that was requested at this time: earlier knowledge is outdated, whatever the resource
    /// versions.
    Found(K, Instant),
    /// An object that was created or changed.
    Applied(K),
    /// An object that was deleted.
    Deleted(K),
    /// A list is complete; these are the names of all objects. All others are gone.
    Listed(HashSet<String>),
    /// The watch fails and is retried.
    Failing(Diagnosis),
}

/// The configuration of all watches.
#[must_use]
pub fn config() -> watcher::Config {
    watcher::Config::default()
        .timeout(TIMEOUT)
        .page_size(PAGE_SIZE)
}

type Watch<S> = Pin<Box<S>>;

/// A watch that takes over from another one.
struct Successor<S> {
    watch: Watch<S>,
    /// When its list was requested.
    asked: Instant,
    overlap: Overlap,
    /// How long the old watch is still read; `None` until the list is complete.
    until: Option<Instant>,
    request: Wanted,
}

impl<S> Successor<S> {
    fn begin(watch: S, request: Wanted) -> Self {
        Self {
            watch: Box::pin(watch),
            asked: Instant::now(),
            overlap: Overlap::default(),
            until: None,
            request,
        }
    }

    /// Replaces the old watch, at the end of its grace period.
    fn take_over<K>(self, sink: &mut impl FnMut(Seen<K>) -> usize) -> Watch<S> {
        let (names, missed) = self.overlap.finish();
        let gone = sink(Seen::Listed(names));
        self.request.answer(Ok(missed + gone));
        self.watch
    }
}

/// The next event of the loop.
enum Next<K> {
    Event(Option<watcher::Result<Event<K>>>),
    Successor(Option<watcher::Result<Event<K>>>),
    Asked(Wanted),
    TakeOver,
}

/// Passes everything that a watch sees to `sink`, which returns how many changes that were; never returns.
/// After a failure, `start` begins a new watch with a fresh list, so a complete list ends the failure and
/// includes the changes in between.
pub async fn follow<K, S>(
    start: impl Fn() -> S,
    attempt: Attempt,
    mut listener: Listener,
    mut sink: impl FnMut(Seen<K>) -> usize,
) where
    K: ResourceExt + Debug,
    S: Stream<Item = watcher::Result<Event<K>>>,
{
    let mut delays = backoff::short();
    let mut waiting: Vec<Wanted> = Vec::new();
    loop {
        let mut watch = Box::pin(start());
        let mut asked = Instant::now();
        let mut newest = 0;
        let mut names = HashSet::new();
        let mut is_listed = false;
        let mut successor: Option<Successor<S>> = None;
        loop {
            let event = match next(&mut watch, successor.as_mut(), &mut listener).await {
                Next::Event(Some(event)) => event,
                Next::Event(None) => break,
                Next::Asked(request) if is_listed => {
                    successor = Some(Successor::begin(start(), request));
                    continue;
                }
                // The list in progress is fresh enough.
                Next::Asked(request) => {
                    waiting.push(request);
                    continue;
                }
                Next::Successor(event) => {
                    if let Some(mut of) = successor.take() {
                        match succeed(&mut of, event, attempt, &mut sink) {
                            Ok(()) => successor = Some(of),
                            Err(diagnosis) => of.request.answer(Err(diagnosis)),
                        }
                    }
                    continue;
                }
                Next::TakeOver => {
                    if let Some(of) = successor.take() {
                        watch = of.take_over(&mut sink);
                        newest = 0;
                    }
                    continue;
                }
            };
            // Not Init, which precedes the request to the API server.
            if matches!(
                event,
                Ok(Event::InitDone | Event::Apply(_) | Event::Delete(_))
            ) {
                delays = backoff::short();
            }
            if goes_back(&mut newest, &event) {
                tracing::warn!(
                    resource = attempt.resource,
                    "The watch went back in time, relisting"
                );
                break;
            }
            match event {
                Ok(Event::Init) => {
                    asked = Instant::now();
                    newest = 0;
                    names.clear();
                }
                Ok(Event::InitApply(object)) => {
                    names.insert(object.name_any());
                    sink(Seen::Found(object, asked));
                }
                Ok(Event::InitDone) => {
                    is_listed = true;
                    let missed = sink(Seen::Listed(std::mem::take(&mut names)));
                    for request in waiting.drain(..) {
                        request.answer(Ok(missed));
                    }
                }
                Ok(Event::Apply(object)) => {
                    if reported_by_old(successor.as_mut(), &object, true) {
                        sink(Seen::Applied(object));
                    }
                }
                Ok(Event::Delete(object)) => {
                    if reported_by_old(successor.as_mut(), &object, false) {
                        sink(Seen::Deleted(object));
                    }
                }
                // The connection broke, and the watch resumes. If it cannot, that is another error. After an unreadable
                // event it must not resume, or the event would be lost.
                Err(watcher::Error::WatchFailed(error)) if !is_unreadable(&error) => {
                    tracing::debug!(resource = attempt.resource, %error, "Resuming the watch");
                    backoff::wait(&mut delays).await;
                }
                Err(watcher::Error::WatchError(status)) if status.code == 410 => {
                    tracing::debug!(resource = attempt.resource, "Relisting, it is too old");
                }
                Err(error) => {
                    let why = diagnose_watch(&error, attempt);
                    answer_overdue(&mut waiting, &why);
                    sink(Seen::Failing(why));
                    break;
                }
            }
        }
        // The next list answers the request.
        waiting.extend(successor.map(|of| of.request));
        backoff::wait(&mut delays).await;
    }
}

async fn next<K, S>(
    watch: &mut Watch<S>,
    successor: Option<&mut Successor<S>>,
    listener: &mut Listener,
) -> Next<K>
where
    S: Stream<Item = watcher::Result<Event<K>>>,
{
    let Some(successor) = successor else {
        return tokio::select! {
            event = watch.next() => Next::Event(event),
            request = listener.asked() => Next::Asked(request),
        };
    };
    let until = successor.until;
    tokio::select! {
        event = watch.next() => Next::Event(event),
        event = successor.watch.next() => Next::Successor(event),
        () = tokio::time::sleep_until(until.unwrap_or_else(Instant::now)), if until.is_some() => Next::TakeOver,
    }
}

/// Whether an event is older than the one before it, as after a restore of etcd from a backup.
fn goes_back<K: ResourceExt>(newest: &mut u64, event: &watcher::Result<Event<K>>) -> bool {
    let (Ok(Event::Apply(object) | Event::Delete(object)), before) = (event, *newest) else {
        return false;
    };
    *newest = revision(object).unwrap_or(before);
    *newest < before
}

/// The event cannot be parsed: only a list has its contents.
fn is_unreadable(error: &kube::Error) -> bool {
    matches!(error, kube::Error::SerdeError(_))
}

/// Answers requests that have waited too long for a list with the reason.
fn answer_overdue(waiting: &mut Vec<Wanted>, why: &Diagnosis) {
    for request in waiting.extract_if(.., |request| request.is_overdue()) {
        request.answer(Err(why.clone()));
    }
}

/// Whether to pass on an event of the old watch.
fn reported_by_old<K: ResourceExt, S>(
    successor: Option<&mut Successor<S>>,
    object: &K,
    is_there: bool,
) -> bool {
    successor.is_none_or(|successor| {
        let (name, revision) = (object.name_any(), revision(object));
        successor.overlap.not_missed(&name, revision);
        successor.overlap.report(&name, revision, is_there)
    })
}

/// Handles an event of the successor.
fn succeed<K: ResourceExt, S>(
    successor: &mut Successor<S>,
    event: Option<watcher::Result<Event<K>>>,
    attempt: Attempt,
    sink: &mut impl FnMut(Seen<K>) -> usize,
) -> Result<(), Diagnosis> {
    let overlap = &mut successor.overlap;
    match event {
        Some(Ok(Event::Init)) => {}
        Some(Ok(Event::InitApply(object))) => {
            let (name, revision) = (object.name_any(), revision(&object));
            if overlap.report(&name, revision, true)
                && sink(Seen::Found(object, successor.asked)) > 0
            {
                overlap.maybe_missed(&name, revision);
            }
        }
        Some(Ok(Event::InitDone)) => successor.until = Some(Instant::now() + GRACE),
        Some(Ok(Event::Apply(object))) => {
            if overlap.report(&object.name_any(), revision(&object), true) {
                sink(Seen::Applied(object));
            }
        }
        Some(Ok(Event::Delete(object))) => {
            if overlap.report(&object.name_any(), revision(&object), false) {
                sink(Seen::Deleted(object));
            }
        }
        Some(Err(error)) => return Err(diagnose_watch(&error, attempt)),
        None => {
            return Err(Diagnosis {
                problem: Problem::Unreachable,
                what: format!("The fresh list of {} ended early", attempt.resource),
                remedy: "nothing: it is tried again".to_owned(),
            });
        }
    }
    Ok(())
}

/// Resource versions of one resource only increase.
fn revision<K: ResourceExt>(object: &K) -> Option<u64> {
    object.resource_version()?.parse().ok()
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

#[cfg(test)]
mod tests;
