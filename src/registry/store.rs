//! A keyed store with consistent cuts.
//!
//! Owns its values behind `Arc`s; nobody gets one to change. Every change raises the generation, and
//! a reader of several values always sees those of one generation: all of them under one read lock
//! (see `docs/adr/0002-store.md` for what was measured against it). No user code runs under the lock
//! but `PartialEq`, `Hash` and the index function, so nothing can re-enter it.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// What an [`Store::upsert`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change<V> {
    /// There was no such key.
    Inserted,
    /// The value differs from this one, which was there before.
    Updated(Arc<V>),
    /// An equal value was there: the store, its generation included, is as before.
    Unchanged,
}

/// Values from one generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot<V> {
    /// Two snapshots of one generation and selection are equal.
    pub generation: u64,
    /// The values, ordered by key.
    pub values: Vec<Arc<V>>,
}

/// A keyed store with a secondary index.
pub struct Store<K, V, I = ()> {
    inner: RwLock<Inner<K, V, I>>,
    index_of: fn(&V) -> Option<I>,
}

struct Inner<K, V, I> {
    values: HashMap<K, Arc<V>>,
    index: HashMap<I, BTreeMap<K, Arc<V>>>,
    generation: u64,
}

impl<K, V> Store<K, V>
where
    K: Clone + Eq + Hash + Ord,
    V: PartialEq,
{
    /// An empty store without an index.
    #[must_use]
    pub fn new() -> Self {
        Self::indexed(|_| None)
    }
}

impl<K, V> Default for Store<K, V>
where
    K: Clone + Eq + Hash + Ord,
    V: PartialEq,
{
    fn default() -> Self {
        Self::new()
    }
}

impl<K, V, I> Store<K, V, I>
where
    K: Clone + Eq + Hash + Ord,
    V: PartialEq,
    I: Clone + Eq + Hash,
{
    /// An empty store whose values are also found by what `index_of` says of them.
    #[must_use]
    pub fn indexed(index_of: fn(&V) -> Option<I>) -> Self {
        let inner = Inner {
            values: HashMap::new(),
            index: HashMap::new(),
            generation: 0,
        };
        Self {
            inner: RwLock::new(inner),
            index_of,
        }
    }

    /// The value of a key.
    pub fn get(&self, key: &K) -> Option<Arc<V>> {
        self.read().values.get(key).cloned()
    }

    /// Keeps `value` under `key`, if it differs from what is there.
    pub fn upsert(&self, key: K, value: V) -> Change<V> {
        let mut inner = self.write();
        let before = inner.values.get(&key).cloned();
        if before.as_deref() == Some(&value) {
            return Change::Unchanged;
        }
        let value = Arc::new(value);
        inner.unlink(&key, before.as_deref(), self.index_of);
        if let Some(index) = (self.index_of)(&value) {
            inner
                .index
                .entry(index)
                .or_default()
                .insert(key.clone(), Arc::clone(&value));
        }
        inner.values.insert(key, value);
        inner.generation += 1;
        before.map_or(Change::Inserted, Change::Updated)
    }

    /// Forgets a key; what it had.
    pub fn remove(&self, key: &K) -> Option<Arc<V>> {
        let mut inner = self.write();
        let before = inner.values.remove(key)?;
        inner.unlink(key, Some(&before), self.index_of);
        inner.generation += 1;
        Some(before)
    }

    /// All keys.
    pub fn keys(&self) -> Vec<K> {
        self.read().values.keys().cloned().collect()
    }

    /// All values, from one generation.
    pub fn snapshot(&self) -> Snapshot<V> {
        let inner = self.read();
        let mut entries: Vec<_> = inner.values.iter().collect();
        entries.sort_unstable_by_key(|(key, _)| *key);
        let values = entries
            .into_iter()
            .map(|(_, value)| Arc::clone(value))
            .collect();
        Snapshot {
            generation: inner.generation,
            values,
        }
    }

    /// All values of one index, from one generation.
    pub fn snapshot_of(&self, index: &I) -> Snapshot<V> {
        let inner = self.read();
        let values = inner
            .index
            .get(index)
            .map(|values| values.values().cloned().collect())
            .unwrap_or_default();
        Snapshot {
            generation: inner.generation,
            values,
        }
    }

    /// How many keys there are.
    pub fn count(&self) -> usize {
        self.read().values.len()
    }

    // A panic under the lock cannot leave the maps half changed in a way that matters more than the
    // panic itself, which ends the process.
    fn read(&self) -> RwLockReadGuard<'_, Inner<K, V, I>> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Inner<K, V, I>> {
        self.inner.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Eq + Hash + Ord, V, I: Eq + Hash> Inner<K, V, I> {
    fn unlink(&mut self, key: &K, value: Option<&V>, index_of: fn(&V) -> Option<I>) {
        let Some(index) = value.and_then(index_of) else {
            return;
        };
        if let Some(values) = self.index.get_mut(&index) {
            values.remove(key);
            if values.is_empty() {
                self.index.remove(&index);
            }
        }
    }
}

#[cfg(test)]
mod tests;
