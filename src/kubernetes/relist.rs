//! Asks every watch for a fresh list, and hears what the watches had missed.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout_at};

use super::diagnosis::{Diagnosis, Problem};
use crate::registry::lock_order::{OrderedMutex, Rank};

/// A kind whose watch fails may work again with its next attempt, at most 5 s later, and is listed then anyway.
const PATIENCE: Duration = Duration::from_secs(10);

/// How many changes a fresh list had that the watch had not told, or why there is no list.
pub type Relisted = Result<usize, Diagnosis>;

/// What came of asking for fresh lists.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Fresh {
    /// How many changes they had that the watches had not told.
    pub missed: usize,
    /// Kinds of which there is no list, and why.
    pub unlisted: BTreeMap<&'static str, Diagnosis>,
}

/// Asks for fresh lists.
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
    /// A watch of this kind that answers from now on, until it is dropped. One that is optional may be forbidden.
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

    /// Asks every listener; waits for all answers, but no longer than this.
    pub async fn ask(&self, within: Duration) -> Fresh {
        let (answer, mut answers) = mpsc::unbounded_channel();
        let asked = Instant::now();
        let mut missing = self.kinds.lock().clone();
        self.request.send_replace(Some(Request { answer, asked }));
        let mut fresh = Fresh::default();
        while !missing.is_empty() {
            // The request that is kept in the channel holds it open.
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

/// Somebody waits for a fresh list.
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
    /// There is a list, or why not.
    pub fn answer(self, relisted: Relisted) {
        let relisted = match relisted {
            Err(why) if self.is_optional && why.problem == Problem::Forbidden => Ok(0),
            relisted => relisted,
        };
        // Who asked does not wait any longer.
        let _ = self.request.answer.send((self.kind, relisted));
    }

    /// Whether that there is no list is to be said, rather than to wait for one.
    #[must_use]
    pub fn is_overdue(&self) -> bool {
        self.request.asked.elapsed() >= PATIENCE
    }
}

/// Hears that a fresh list is wanted.
pub struct Listener {
    kind: &'static str,
    is_optional: bool,
    requests: watch::Receiver<Option<Request>>,
    kinds: Arc<OrderedMutex<Vec<&'static str>>>,
}

impl Listener {
    /// Waits for a request; for ever once nobody can ask any more.
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

/// What two watches of one kind tell while one takes over from the other. Of each object the newest
/// is passed on, whoever tells it, and nothing twice.
#[derive(Default)]
pub(super) struct Overlap {
    newest: HashMap<String, Told>,
    missed: HashMap<String, u64>,
}

struct Told {
    revision: u64,
    is_there: bool,
}

impl Overlap {
    /// An object was told of; whether to pass that on. A revision that is no number is passed on.
    pub(super) fn tell(&mut self, name: &str, revision: Option<u64>, is_there: bool) -> bool {
        let revision = revision.unwrap_or(u64::MAX);
        match self.newest.get_mut(name) {
            Some(told) if told.revision >= revision && revision != u64::MAX => false,
            Some(told) => {
                *told = Told { revision, is_there };
                true
            }
            None => {
                self.newest
                    .insert(name.to_owned(), Told { revision, is_there });
                true
            }
        }
    }

    /// The fresh list has news of an object.
    pub(super) fn maybe_missed(&mut self, name: &str, revision: Option<u64>) {
        self.missed
            .insert(name.to_owned(), revision.unwrap_or_default());
    }

    /// The old watch told of an object: it had not missed what is not newer than that.
    pub(super) fn not_missed(&mut self, name: &str, revision: Option<u64>) {
        if self
            .missed
            .get(name)
            .is_some_and(|missed| *missed <= revision.unwrap_or(u64::MAX))
        {
            self.missed.remove(name);
        }
    }

    /// Names of all objects that are there, and how many changes were missed.
    pub(super) fn finish(self) -> (std::collections::HashSet<String>, usize) {
        let names = self
            .newest
            .into_iter()
            .filter(|(_, told)| told.is_there)
            .map(|(name, _)| name)
            .collect();
        (names, self.missed.len())
    }
}
