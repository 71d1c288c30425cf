//! A set of dirty keys with one reader.
//!
//! The set is the truth, an mpsc channel of one place is the wake-up: marking never waits, a key that
//! is marked twice before it is read is read once, and nothing can be lost because nothing is queued
//! beside the set. Keys are read in the order in which they were first marked.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::sync::Arc;

use tokio::sync::mpsc;

use super::lock_order::{OrderedMutex, Rank};

/// What became of a mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Marked {
    /// The key was clean.
    New,
    /// The key was dirty already, and its tag stays as it was.
    Coalesced,
}

/// A set of dirty keys, each with the tag that it was first marked with.
#[must_use]
pub fn dirty_set<K, T>() -> (Marker<K, T>, Reader<K, T>) {
    let (wake, woken) = mpsc::channel(1);
    let keys = Keys {
        order: VecDeque::new(),
        tags: HashMap::new(),
    };
    let keys = Arc::new(OrderedMutex::new(Rank::LEAF, keys));
    (
        Marker {
            keys: Arc::clone(&keys),
            wake,
        },
        Reader { keys, woken },
    )
}

struct Keys<K, T> {
    order: VecDeque<K>,
    tags: HashMap<K, T>,
}

/// Marks keys. Never waits.
pub struct Marker<K, T> {
    keys: Arc<OrderedMutex<Keys<K, T>>>,
    wake: mpsc::Sender<()>,
}

impl<K, T> Clone for Marker<K, T> {
    fn clone(&self) -> Self {
        Self {
            keys: Arc::clone(&self.keys),
            wake: self.wake.clone(),
        }
    }
}

impl<K: Clone + Eq + Hash, T> Marker<K, T> {
    /// Marks `key`.
    pub fn mark(&self, key: K, tag: T) -> Marked {
        {
            let mut keys = self.keys.lock();
            if keys.tags.contains_key(&key) {
                return Marked::Coalesced;
            }
            keys.tags.insert(key.clone(), tag);
            keys.order.push_back(key);
        }
        // Full: a wake-up is on its way already. Closed: the reader is gone, as at the end of the
        // program, and the key stays in the set.
        let _ = self.wake.try_send(());
        Marked::New
    }
}

impl<K: Eq + Hash, T> Marker<K, T> {
    /// Whether a key is dirty.
    #[must_use]
    pub fn contains(&self, key: &K) -> bool {
        self.keys.lock().tags.contains_key(key)
    }

    /// How many keys are dirty.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.keys.lock().order.len()
    }
}

/// Reads keys; there is one reader of a set.
pub struct Reader<K, T> {
    keys: Arc<OrderedMutex<Keys<K, T>>>,
    woken: mpsc::Receiver<()>,
}

impl<K: Eq + Hash, T> Reader<K, T> {
    /// The next dirty key, which is clean from then on; waits for one. `None` when every marker is
    /// gone and no key is left. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<(K, T)> {
        loop {
            if let Some(next) = self.try_next() {
                return Some(next);
            }
            if self.woken.recv().await.is_none() {
                return self.try_next();
            }
        }
    }

    /// How many keys are dirty.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.keys.lock().order.len()
    }

    /// The next dirty key, if there is one.
    pub fn try_next(&mut self) -> Option<(K, T)> {
        let mut keys = self.keys.lock();
        let key = keys.order.pop_front()?;
        let tag = keys.tags.remove(&key)?;
        Some((key, tag))
    }
}

#[cfg(test)]
mod tests;
