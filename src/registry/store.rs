//! A keyed store with consistent snapshots.
//!
//! Values are owned behind `Arc`s and never mutated. Every change raises the generation, and a reader
//! of several values sees one generation: it copies them under one read lock (`docs/adr/0002-store.md`
//! has the measured alternatives). The lock is a leaf: no other lock is taken under it.
//!
//! No closure runs and no value is dropped under the lock. Only the traits of key and index,
//! `PartialEq` of the value, and plain functions, which capture nothing, run there. If one of them
//! calls the store, a debug build panics instead of deadlocking.

use std::borrow::Borrow;
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::lock_order::{OrderedRwLock, Rank};
use tables::Tables;

mod tables;

/// The outcome of writing a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change<V> {
    /// The key was new.
    Inserted,
    /// The value replaced this different one.
    Updated(Arc<V>),
    /// The value was equal: the store and its generation are unchanged.
    Unchanged,
}

/// Values from one generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot<V> {
    /// Two snapshots of the same generation and selection are equal.
    pub generation: u64,
    /// The values, ordered by key.
    pub values: Vec<Arc<V>>,
}

/// Keys and their values.
pub type Entries<K, V> = Vec<(K, Arc<V>)>;

/// A live count of the keys of a store, without access to the store.
#[derive(Debug, Clone, Default)]
pub struct Counter(Arc<AtomicUsize>);

impl Counter {
    /// Returns the number of keys.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    fn set(&self, count: usize) {
        self.0.store(count, Ordering::Relaxed);
    }
}

/// A keyed store with a secondary index.
pub struct Store<K, V, I = ()> {
    tables: OrderedRwLock<Tables<K, V, I>>,
    counter: Counter,
}

impl<K: Clone + Eq + Hash + Ord, V> Store<K, V> {
    /// Creates an empty store without an index.
    #[must_use]
    pub fn new() -> Self {
        Self::indexed(|_| None)
    }
}

impl<K: Clone + Eq + Hash + Ord, V> Default for Store<K, V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K, V, I> Store<K, V, I>
where
    K: Clone + Eq + Hash + Ord,
    I: Clone + Eq + Hash,
{
    /// Creates an empty store whose values are indexed by `index_of`, which must be deterministic.
    #[must_use]
    pub fn indexed(index_of: fn(&V) -> Option<I>) -> Self {
        let counter = Counter::default();
        Self {
            tables: OrderedRwLock::new(Rank::LEAF, Tables::new(index_of, counter.clone())),
            counter,
        }
    }

    /// Returns the value of a key.
    pub fn get<Q>(&self, key: &Q) -> Option<Arc<V>>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        self.tables.read().values.get(key).cloned()
    }

    /// Returns whether the key exists.
    pub fn contains<Q>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        self.tables.read().values.contains_key(key)
    }

    /// Returns the value of a key, inserting `value` if there is none, and whether it was inserted.
    pub fn get_or_insert(&self, key: K, value: V) -> (Arc<V>, bool) {
        let mut tables = self.tables.write();
        if let Some(value) = tables.values.get(&key) {
            return (Arc::clone(value), false);
        }
        let value = Arc::new(value);
        tables.put(key, Arc::clone(&value));
        (value, true)
    }

    /// Removes a key and returns its value.
    pub fn remove<Q>(&self, key: &Q) -> Option<Arc<V>>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        self.remove_if(key, |_| true)
    }

    /// Removes a key if `condition` holds for its value, in one atomic step, and returns the value.
    pub fn remove_if<Q>(&self, key: &Q, condition: fn(&Arc<V>) -> bool) -> Option<Arc<V>>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        let mut tables = self.tables.write();
        tables.values.get(key).filter(|value| condition(value))?;
        let (_, value) = tables.take(key)?;
        tables.changed();
        Some(value)
    }

    /// Removes all keys for which `condition` holds, and returns their entries ordered by key.
    ///
    /// Evaluates a snapshot without the lock, so `condition` may use the store. A value replaced before
    /// its removal is evaluated again; keys added meanwhile are ignored. All removals are one change,
    /// except those of replaced values.
    pub fn evict_where(&self, condition: impl Fn(&K, &V) -> bool) -> Entries<K, V> {
        let mut evicted: Entries<K, V> = Vec::new();
        let (_, mut candidates) = self.entries();
        loop {
            candidates.retain(|(key, value)| condition(key, value));
            if candidates.is_empty() {
                evicted.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
                return evicted;
            }
            let (gone, replaced) = self.evict(&candidates);
            evicted.extend(gone);
            candidates = replaced;
        }
    }

    /// Removes the candidates whose value has not been replaced. Returns the removed entries, and the
    /// current ones of those that were replaced.
    fn evict(&self, candidates: &Entries<K, V>) -> (Entries<K, V>, Entries<K, V>) {
        let (mut gone, mut replaced) = (Vec::new(), Vec::new());
        let mut tables = self.tables.write();
        for (key, value) in candidates {
            match tables.values.get(key) {
                Some(now) if Arc::ptr_eq(now, value) => gone.extend(tables.take(key)),
                Some(now) => replaced.push((key.clone(), Arc::clone(now))),
                None => {}
            }
        }
        if !gone.is_empty() {
            tables.changed();
        }
        (gone, replaced)
    }

    /// Returns all keys, in no particular order.
    pub fn keys(&self) -> Vec<K> {
        self.tables.read().values.keys().cloned().collect()
    }

    /// Returns all keys of one index, ordered.
    pub fn keys_of(&self, index: &I) -> Vec<K> {
        let tables = self.tables.read();
        tables
            .group(index)
            .map(|group| group.keys().cloned().collect())
            .unwrap_or_default()
    }

    /// Returns the smallest key of one index.
    pub fn first_of(&self, index: &I) -> Option<K> {
        let tables = self.tables.read();
        tables.group(index)?.keys().next().cloned()
    }

    /// Returns all indices that have a value, in no particular order.
    pub fn indices(&self) -> Vec<I> {
        self.tables.read().index.keys().cloned().collect()
    }

    /// Returns all values, from one generation.
    pub fn snapshot(&self) -> Snapshot<V> {
        let (generation, entries) = self.entries();
        Snapshot {
            generation,
            values: entries.into_iter().map(|(_, value)| value).collect(),
        }
    }

    /// Returns all values of one index, from one generation.
    pub fn snapshot_of(&self, index: &I) -> Snapshot<V> {
        let tables = self.tables.read();
        Snapshot {
            generation: tables.generation,
            values: tables
                .group(index)
                .map(|group| group.values().cloned().collect())
                .unwrap_or_default(),
        }
    }

    /// Returns the number of changes so far.
    pub fn generation(&self) -> u64 {
        self.tables.read().generation
    }

    /// Returns the number of keys.
    pub fn count(&self) -> usize {
        self.counter.count()
    }

    /// Returns a counter of the keys.
    pub fn counter(&self) -> Counter {
        self.counter.clone()
    }

    /// Returns a snapshot of all entries, ordered by key. Sorts without the lock, since sorting takes
    /// much longer than copying.
    fn entries(&self) -> (u64, Entries<K, V>) {
        let tables = self.tables.read();
        let generation = tables.generation;
        let mut entries: Entries<K, V> = tables
            .values
            .iter()
            .map(|(key, value)| (key.clone(), Arc::clone(value)))
            .collect();
        drop(tables);
        entries.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        (generation, entries)
    }
}

impl<K, V, I> Store<K, V, I>
where
    K: Clone + Eq + Hash + Ord,
    V: PartialEq,
    I: Clone + Eq + Hash,
{
    /// Stores `value` under `key`, if it differs from the current value.
    pub fn upsert(&self, key: K, value: V) -> Change<V> {
        let mut tables = self.tables.write();
        if tables.values.get(&key).is_some_and(|now| **now == value) {
            return Change::Unchanged;
        }
        tables
            .put(key, Arc::new(value))
            .map_or(Change::Inserted, Change::Updated)
    }

    /// Replaces the value of a key by the result of `next`, if that differs. Returns `None` when the
    /// key does not exist. No concurrent write is lost.
    ///
    /// `next` runs without the lock and may use the store. It runs again whenever the value was
    /// replaced meanwhile.
    pub fn update<Q>(&self, key: &Q, next: impl Fn(&V) -> V) -> Option<Change<V>>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        let mut before = self.get(key)?;
        loop {
            let value = next(&before);
            if value == *before {
                return Some(Change::Unchanged);
            }
            let value = Arc::new(value);
            let mut tables = self.tables.write();
            let (key, now) = tables.values.get_key_value(key)?;
            if Arc::ptr_eq(now, &before) {
                let key = key.clone();
                return tables.put(key, value).map(Change::Updated);
            }
            let now = Arc::clone(now);
            drop(tables);
            before = now;
        }
    }
}

#[cfg(test)]
mod tests;
