//! Asks every watch for a fresh list, and hears what the watches had missed.

use std::collections::HashMap;

use tokio::sync::{mpsc, watch};

use super::diagnosis::Diagnosis;

/// How many changes a fresh list had that the watch had not told, or why there is no list.
pub type Relisted = Result<usize, Diagnosis>;

/// Asks for fresh lists.
pub struct Relist {
    request: watch::Sender<Option<Request>>,
}

impl Default for Relist {
    fn default() -> Self {
        Self {
            request: watch::Sender::new(None),
        }
    }
}

impl Relist {
    /// A watch that answers from now on, until it is dropped.
    #[must_use]
    pub fn listener(&self) -> Listener {
        Listener(self.request.subscribe())
    }

    /// Asks every listener; waits for all answers. How many changes were missed in all.
    ///
    /// # Errors
    /// The first that says why it has no list.
    pub async fn ask(&self) -> Relisted {
        let (answer, mut answers) = mpsc::unbounded_channel();
        let listeners = self.request.receiver_count();
        self.request.send_replace(Some(Request { answer }));
        let mut missed = 0;
        for _ in 0..listeners {
            // The request that is kept in the channel holds it open.
            missed += answers.recv().await.unwrap_or(Ok(0))?;
        }
        self.request.send_replace(None);
        Ok(missed)
    }
}

/// Somebody waits for a fresh list.
#[derive(Debug, Clone)]
pub struct Request {
    answer: mpsc::UnboundedSender<Relisted>,
}

impl Request {
    /// There is a list, or why not.
    pub fn answer(self, relisted: Relisted) {
        // Who asked does not wait any longer.
        let _ = self.answer.send(relisted);
    }
}

/// Hears that a fresh list is wanted.
pub struct Listener(watch::Receiver<Option<Request>>);

impl Listener {
    /// Waits for a request; for ever once nobody can ask any more.
    pub async fn asked(&mut self) -> Request {
        loop {
            if self.0.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
            if let Some(request) = self.0.borrow_and_update().clone() {
                return request;
            }
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
