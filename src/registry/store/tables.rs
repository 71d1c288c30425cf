//! The data under a store's lock: values, index and generation, always consistent.

use std::borrow::Borrow;
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::sync::Arc;

use super::Counter;

/// A table for at most this many keys, some kilobytes, is never shrunk.
const SMALL: usize = 64;

/// A table with room for this many times its keys is shrunk. Growth doubles, so a store whose size
/// oscillates does not reallocate again and again.
const ROOMY: usize = 8;

pub(super) struct Tables<K, V, I> {
    pub(super) values: HashMap<K, Arc<V>>,
    pub(super) index: HashMap<I, BTreeMap<K, Arc<V>>>,
    pub(super) generation: u64,
    index_of: fn(&V) -> Option<I>,
    counter: Counter,
}

impl<K, V, I> Tables<K, V, I>
where
    K: Clone + Eq + Hash + Ord,
    I: Eq + Hash,
{
    pub(super) fn new(index_of: fn(&V) -> Option<I>, counter: Counter) -> Self {
        Self {
            values: HashMap::new(),
            index: HashMap::new(),
            generation: 0,
            index_of,
            counter,
        }
    }

    /// Returns the values of one index; never empty.
    pub(super) fn group(&self, index: &I) -> Option<&BTreeMap<K, Arc<V>>> {
        self.index.get(index)
    }

    /// Stores a value, which counts as a change, and returns the previous one.
    pub(super) fn put(&mut self, key: K, value: Arc<V>) -> Option<Arc<V>> {
        let entered = (self.index_of)(&value);
        let slot = self.values.entry(key);
        // Reuse the table's key: a known key is not stored twice.
        let key = slot.key().clone();
        let before = match slot {
            Entry::Occupied(mut slot) => Some(slot.insert(Arc::clone(&value))),
            Entry::Vacant(slot) => {
                slot.insert(Arc::clone(&value));
                None
            }
        };
        let left = before.as_deref().and_then(self.index_of);
        if left != entered
            && let Some(left) = left
        {
            self.unlink(&left, &key);
        }
        if let Some(entered) = entered {
            self.index.entry(entered).or_default().insert(key, value);
        }
        self.changed();
        before
    }

    /// Removes a key and its value. The caller counts the change.
    pub(super) fn take<Q>(&mut self, key: &Q) -> Option<(K, Arc<V>)>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        let (key, value) = self.values.remove_entry(key)?;
        if let Some(left) = (self.index_of)(&value) {
            self.unlink(&left, &key);
        }
        Some((key, value))
    }

    /// Counts the changes made as one.
    pub(super) fn changed(&mut self) {
        self.generation += 1;
        self.counter.set(self.values.len());
        if self.values.capacity() > SMALL.max(ROOMY * self.values.len()) {
            self.values.shrink_to(2 * self.values.len());
        }
    }

    fn unlink(&mut self, index: &I, key: &K) {
        if let Some(group) = self.index.get_mut(index) {
            group.remove(key);
            if group.is_empty() {
                self.index.remove(index);
            }
        }
    }
}
