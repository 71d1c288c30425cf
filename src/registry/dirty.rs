//! A set of dirty keys with one reader.
//!
//! The set is authoritative, and a one-slot mpsc channel is the wake-up: marking never waits, a key
//! marked twice before it is read is read once, and nothing can be lost because nothing is queued
//! outside the set. Keys are read in the order in which they were first marked.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::sync::Arc;

use tokio::sync::mpsc;

use super::lock_order::{OrderedMutex, Rank};

/// The outcome of a mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Marked {
    /// The key was clean.
    New,
    /// The key was already dirty, and retains its first tag.
    Coalesced,
}

/// A set of dirty keys, each with its first tag.
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
        // Full: a wake-up is already pending. Closed: the reader is gone, as at shutdown, and the key
        // stays in the set.
        let _ = self.wake.try_send(());
        Marked::New
    }
}

impl<K: Eq + Hash, T> Marker<K, T> {
    /// Returns whether a key is dirty.
    #[must_use]
    pub fn contains(&self, key: &K) -> bool {
        self.keys.lock().tags.contains_key(key)
    }

    /// Returns the number of dirty keys.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.keys.lock().order.len()
    }
}

/// Reads keys; a set has one reader.
pub struct Reader<K, T> {
    keys: Arc<OrderedMutex<Keys<K, T>>>,
    woken: mpsc::Receiver<()>,
}

impl<K: Eq + Hash, T> Reader<K, T> {
    /// Waits for the next dirty key, and marks it clean. Returns `None` when every marker is dropped
    /// and no key is left. Cancel-safe.
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

    /// Returns the number of dirty keys.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.keys.lock().order.len()
    }

    /// Returns the next dirty key, if there is one.
    pub fn try_next(&mut self) -> Option<(K, T)> {
        let mut keys = self.keys.lock();
        let key = keys.order.pop_front()?;
        let tag = keys.tags.remove(&key)?;
        Some((key, tag))
    }
}

#[cfg(test)]
mod tests;
