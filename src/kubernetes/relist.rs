//! Requests a fresh list from every watch, and collects the changes that the watches had missed.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout_at};

use super::diagnosis::{Diagnosis, Problem};
use crate::registry::lock_order::{OrderedMutex, Rank};

/// A failing watch may recover with its next attempt, at most 5 s later, and is listed then anyway.
const PATIENCE: Duration = Duration::from_secs(10);

/// The number of changes in a fresh list that the watch had not reported, or why there is no list.
pub type Relisted = Result<usize, Diagnosis>;

/// The result of a request for fresh lists.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Fresh {
    /// The number of changes that the watches had not reported.
    pub missed: usize,
    /// Kinds without a list, and why.
    pub unlisted: BTreeMap<&'static str, Diagnosis>,
}

/// Requests fresh lists.
pub struct Relist {
    request: watch::Sender<Option<Request>>,
    kinds: Arc<OrderedMutex<Vec<&'static str>>>,
}

impl Default for Relist {
    fn default() -> Self {
        Self {
            request: watch::Sender::new(None),
            kinds: Arc::new(OrderedMutex::new(Rank::LEAF, Vec::new())),
        }
    }
}

impl Relist {
    /// Registers a watch of this kind, which answers until it is dropped. An optional kind may be forbidden.
    #[must_use]
    pub fn listener(&self, kind: &'static str, is_optional: bool) -> Listener {
        self.kinds.lock().push(kind);
        Listener {
            kind,
            is_optional,
            requests: self.request.subscribe(),
            kinds: Arc::clone(&self.kinds),
        }
    }

    /// Asks every listener and waits for all answers, but no longer than `within`.
    pub async fn ask(&self, within: Duration) -> Fresh {
        let (answer, mut answers) = mpsc::unbounded_channel();
        let asked = Instant::now();
        let mut missing = self.kinds.lock().clone();
        self.request.send_replace(Some(Request { answer, asked }));
        let mut fresh = Fresh::default();
        while !missing.is_empty() {
            // The channel stays open: the pending request holds a sender.
            let Ok(Some((kind, relisted))) = timeout_at(asked + within, answers.recv()).await
            else {
                break;
            };
            missing.retain(|of| *of != kind);
            match relisted {
                Ok(missed) => fresh.missed += missed,
                Err(why) => {
                    fresh.unlisted.insert(kind, why);
                }
            }
        }
        self.request.send_replace(None);
        for kind in missing {
            fresh.unlisted.insert(kind, unanswered(kind, within));
        }
        fresh
    }
}

fn unanswered(kind: &str, within: Duration) -> Diagnosis {
    Diagnosis {
        problem: Problem::Unreachable,
        what: format!("Listing {kind} took longer than {} s", within.as_secs()),
        remedy: "check the load of the API server; the operator tries again".to_owned(),
    }
}

/// A request for fresh lists.
#[derive(Debug, Clone)]
pub struct Request {
    answer: mpsc::UnboundedSender<(&'static str, Relisted)>,
    asked: Instant,
}

/// A request to one kind.
#[derive(Debug)]
pub struct Wanted {
    kind: &'static str,
    is_optional: bool,
    request: Request,
}

impl Wanted {
    /// Answers with the list, or the reason for its absence.
    pub fn answer(self, relisted: Relisted) {
        let relisted = match relisted {
            Err(why) if self.is_optional && why.problem == Problem::Forbidden => Ok(0),
            relisted => relisted,
        };
        // The caller may have stopped waiting.
        let _ = self.request.answer.send((self.kind, relisted));
    }

    /// Whether to answer without a list rather than wait for one.
    #[must_use]
    pub fn is_overdue(&self) -> bool {
        self.request.asked.elapsed() >= PATIENCE
    }
}

/// Receives requests for a fresh list.
pub struct Listener {
    kind: &'static str,
    is_optional: bool,
    requests: watch::Receiver<Option<Request>>,
    kinds: Arc<OrderedMutex<Vec<&'static str>>>,
}

impl Listener {
    /// Waits for a request; forever once no request is possible any more.
    pub async fn asked(&mut self) -> Wanted {
        loop {
            if self.requests.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
            let request = self.requests.borrow_and_update().clone();
            if let Some(request) = request {
                return Wanted {
                    kind: self.kind,
                    is_optional: self.is_optional,
                    request,
                };
            }
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let mut kinds = self.kinds.lock();
        if let Some(place) = kinds.iter().position(|kind| *kind == self.kind) {
            kinds.swap_remove(place);
        }
    }
}

/// Events of two watches of one kind while one takes over from the other. The newest version of each object
/// is passed on, from either watch, and nothing twice.
#[derive(Default)]
pub(super) struct Overlap {
    newest: HashMap<String, Reported>,
    missed: HashMap<String, u64>,
}

struct Reported {
    revision: u64,
    is_there: bool,
}

impl Overlap {
    /// Returns whether to pass on a reported object. One with a non-numeric revision is always passed on.
    pub(super) fn report(&mut self, name: &str, revision: Option<u64>, is_there: bool) -> bool {
        let revision = revision.unwrap_or(u64::MAX);
        match self.newest.get_mut(name) {
            Some(reported) if reported.revision >= revision && revision != u64::MAX => false,
            Some(reported) => {
                *reported = Reported { revision, is_there };
                true
            }
            None => {
                self.newest
                    .insert(name.to_owned(), Reported { revision, is_there });
                true
            }
        }
    }

    /// The fresh list has a change of an object.
    pub(super) fn maybe_missed(&mut self, name: &str, revision: Option<u64>) {
        self.missed
            .insert(name.to_owned(), revision.unwrap_or_default());
    }

    /// The old watch reported an object: it had not missed changes up to this revision.
    pub(super) fn not_missed(&mut self, name: &str, revision: Option<u64>) {
        if self
            .missed
            .get(name)
            .is_some_and(|missed| *missed <= revision.unwrap_or(u64::MAX))
        {
            self.missed.remove(name);
        }
    }

    /// Names of all existing objects, and the number of missed changes.
    pub(super) fn finish(self) -> (std::collections::HashSet<String>, usize) {
        let names = self
            .newest
            .into_iter()
            .filter(|(_, reported)| reported.is_there)
            .map(|(name, _)| name)
            .collect();
        (names, self.missed.len())
    }
}
