//! A keyed store with consistent cuts.
//!
//! Owns its values behind `Arc`s; nobody gets one to change. Every change raises the generation, and
//! a reader of several values always sees those of one generation: all of them under one read lock
//! (`docs/adr/0002-store.md` has what was measured against it). The lock is a leaf, so nothing else is
//! taken under it.
//!
//! No closure runs under the lock, and no value is dropped there. What does run there are the traits
//! of key and index, `PartialEq` of the value and plain functions, which capture nothing; should one of
//! them come back to a store, a debug build panics instead of waiting for itself.

use std::borrow::Borrow;
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::lock_order::{OrderedRwLock, Rank};
use tables::Tables;

mod tables;

/// What became of a value that was to be kept.
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

/// Keys and their values.
pub type Entries<K, V> = Vec<(K, Arc<V>)>;

/// How many keys a store has, now and later; knows nothing else of it.
#[derive(Debug, Clone, Default)]
pub struct Counter(Arc<AtomicUsize>);

impl Counter {
    /// How many keys there are.
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
    /// An empty store without an index.
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
    /// An empty store whose values are also found by what `index_of` says of them, which is always the
    /// same of the same value.
    #[must_use]
    pub fn indexed(index_of: fn(&V) -> Option<I>) -> Self {
        let counter = Counter::default();
        Self {
            tables: OrderedRwLock::new(Rank::LEAF, Tables::new(index_of, counter.clone())),
            counter,
        }
    }

    /// The value of a key.
    pub fn get<Q>(&self, key: &Q) -> Option<Arc<V>>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        self.tables.read().values.get(key).cloned()
    }

    /// Whether there is such a key.
    pub fn contains<Q>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        self.tables.read().values.contains_key(key)
    }

    /// The value of a key, and whether it is this one, because there was none.
    pub fn get_or_insert(&self, key: K, value: V) -> (Arc<V>, bool) {
        let mut tables = self.tables.write();
        if let Some(value) = tables.values.get(&key) {
            return (Arc::clone(value), false);
        }
        let value = Arc::new(value);
        tables.put(key, Arc::clone(&value));
        (value, true)
    }

    /// Forgets a key; what it had.
    pub fn remove<Q>(&self, key: &Q) -> Option<Arc<V>>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        self.remove_if(key, |_| true)
    }

    /// Forgets a key if `condition` holds of its value, judged and done in one step; what it had.
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

    /// Forgets all keys of which `condition` holds; what they had, ordered by key.
    ///
    /// Judges a cut, without the lock: the condition may use the store. A value that was replaced
    /// before it could be removed is judged anew; a key that is new since is not looked at. What goes
    /// at once, which is all of it but for what was replaced, is one change.
    pub fn evict_where(&self, condition: impl Fn(&K, &V) -> bool) -> Entries<K, V> {
        let mut evicted: Entries<K, V> = Vec::new();
        let (_, mut judged) = self.entries();
        loop {
            judged.retain(|(key, value)| condition(key, value));
            if judged.is_empty() {
                evicted.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
                return evicted;
            }
            let (gone, replaced) = self.evict(&judged);
            evicted.extend(gone);
            judged = replaced;
        }
    }

    /// Forgets those that still have the value that was judged; what is gone, and what the others
    /// have.
    fn evict(&self, judged: &Entries<K, V>) -> (Entries<K, V>, Entries<K, V>) {
        let (mut gone, mut replaced) = (Vec::new(), Vec::new());
        let mut tables = self.tables.write();
        for (key, value) in judged {
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

    /// All keys, in no order.
    pub fn keys(&self) -> Vec<K> {
        self.tables.read().values.keys().cloned().collect()
    }

    /// All keys of one index, in their order.
    pub fn keys_of(&self, index: &I) -> Vec<K> {
        let tables = self.tables.read();
        tables
            .group(index)
            .map(|group| group.keys().cloned().collect())
            .unwrap_or_default()
    }

    /// The smallest key of one index.
    pub fn first_of(&self, index: &I) -> Option<K> {
        let tables = self.tables.read();
        tables.group(index)?.keys().next().cloned()
    }

    /// All indices of which there is a value, in no order.
    pub fn indices(&self) -> Vec<I> {
        self.tables.read().index.keys().cloned().collect()
    }

    /// All values, from one generation.
    pub fn snapshot(&self) -> Snapshot<V> {
        let (generation, entries) = self.entries();
        Snapshot {
            generation,
            values: entries.into_iter().map(|(_, value)| value).collect(),
        }
    }

    /// All values of one index, from one generation.
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

    /// How often the store has changed.
    pub fn generation(&self) -> u64 {
        self.tables.read().generation
    }

    /// How many keys there are.
    pub fn count(&self) -> usize {
        self.counter.count()
    }

    /// Counts the keys.
    pub fn counter(&self) -> Counter {
        self.counter.clone()
    }

    /// A cut of everything, ordered by key. Sorting takes much longer than copying, so it is done
    /// without the lock.
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
    /// Keeps `value` under `key`, if it differs from what is there.
    pub fn upsert(&self, key: K, value: V) -> Change<V> {
        let mut tables = self.tables.write();
        if tables.values.get(&key).is_some_and(|now| **now == value) {
            return Change::Unchanged;
        }
        tables
            .put(key, Arc::new(value))
            .map_or(Change::Inserted, Change::Updated)
    }

    /// Replaces the value of a key by what `next` makes of it, if that differs; `None`: there is no
    /// such key. Nothing that others write meanwhile is lost.
    ///
    /// `next` runs without the lock and may use the store. It runs again when the value was replaced
    /// meanwhile, so it may run more than once.
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
