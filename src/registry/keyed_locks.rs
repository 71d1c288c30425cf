//! A lock for each key, held across awaits: serialises what touches one key from several sides.
//!
//! Whoever waits for a key gets it in the order of asking; different keys are in nobody's way. An
//! entry is there only while somebody holds its key or waits for it, so keys that come and go leave
//! nothing behind, also when a waiter gives up.

use std::hash::Hash;
use std::sync::Arc;

use tokio::sync::{Mutex, OwnedMutexGuard};

use super::lock_order::{Held, Rank};
use super::store::{Counter, Store};

/// A lock for each key.
pub struct KeyedLocks<K: Clone + Eq + Hash + Ord> {
    entries: Store<K, Mutex<()>>,
    rank: Rank,
}

/// Its key is held by nobody else until this is dropped.
#[must_use = "the key is free once this is dropped"]
pub struct KeyGuard<'a, K: Clone + Eq + Hash + Ord> {
    entries: &'a Store<K, Mutex<()>>,
    key: K,
    /// `None` while the key is waited for.
    lock: Option<OwnedMutexGuard<()>>,
    _held: Held,
}

impl<K: Clone + Eq + Hash + Ord> KeyedLocks<K> {
    /// Locks with one rank, which is below that of a leaf: a holder has one key of a table at a time.
    #[must_use]
    pub fn new(rank: Rank) -> Self {
        Self {
            entries: Store::new(),
            rank,
        }
    }

    /// Waits until nobody else holds `key`. Dropping the future gives up the place in the line.
    pub async fn lock(&self, key: K) -> KeyGuard<'_, K> {
        let held = Held::acquire(self.rank);
        let (entry, _) = self.entries.get_or_insert(key.clone(), Mutex::new(()));
        // Before the wait, so that it cleans up after a waiter that gives up.
        let mut guard = KeyGuard {
            entries: &self.entries,
            key,
            lock: None,
            _held: held,
        };
        guard.lock = Some(entry.lock_owned().await);
        guard
    }

    /// How many keys are held or waited for.
    #[must_use]
    pub fn count(&self) -> usize {
        self.entries.count()
    }

    /// Counts the keys that are held or waited for.
    #[must_use]
    pub fn counter(&self) -> Counter {
        self.entries.counter()
    }
}

impl<K: Clone + Eq + Hash + Ord> Drop for KeyGuard<'_, K> {
    fn drop(&mut self) {
        self.lock = None;
        // Every holder and every waiter has a part of the entry; new ones get theirs under the lock
        // of the store, which is held here as well: if the store has the only one, it stays so.
        self.entries
            .remove_if(&self.key, |entry| Arc::strong_count(entry) == 1);
    }
}

#[cfg(test)]
mod tests;
