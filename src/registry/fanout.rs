//! Notifies every consumer of changed keys.
//!
//! Consumers can be added at any time. Each has a name, a dirty set and a channel of its own, so that a
//! slow, blocked or absent one delays neither the producer nor the others. Events carry keys, never
//! values: consumers look up the newest value.

use std::hash::Hash;
use std::time::Instant;

use super::dirty::{Marked, Marker, Reader, dirty_set};
use super::store::Store;

/// One consumer's inbox; the tag is when a key became dirty.
pub type Inbox<K> = Reader<K, Instant>;

struct Consumer<K> {
    name: &'static str,
    wants: fn(&K) -> bool,
    marker: Marker<K, Instant>,
}

impl<K: Clone + Eq + Hash> Consumer<K> {
    fn notify(&self, key: &K) -> Option<Marked> {
        (self.wants)(key).then(|| self.marker.mark(key.clone(), Instant::now()))
    }
}

/// Consumers never compare equal.
impl<K> PartialEq for Consumer<K> {
    fn eq(&self, _: &Self) -> bool {
        false
    }
}

/// Notifies every consumer of changed keys.
pub struct Fanout<K> {
    consumers: Store<&'static str, Consumer<K>>,
}

impl<K: Clone + Eq + Hash> Default for Fanout<K> {
    fn default() -> Self {
        Self {
            consumers: Store::new(),
        }
    }
}

impl<K: Clone + Eq + Hash> Fanout<K> {
    /// Adds a consumer of the keys that match `wants`, and returns its inbox. An earlier consumer of
    /// the same name gets no more events.
    pub fn add(&self, name: &'static str, wants: fn(&K) -> bool) -> Inbox<K> {
        let (marker, inbox) = dirty_set();
        let consumer = Consumer {
            name,
            wants,
            marker,
        };
        self.consumers.upsert(name, consumer);
        inbox
    }

    /// Notifies every consumer that wants `key`, and calls `notified` with the name of each and the
    /// outcome of the event.
    pub fn notify(&self, key: &K, mut notified: impl FnMut(&'static str, Marked)) {
        for consumer in self.consumers.snapshot().values {
            if let Some(marked) = consumer.notify(key) {
                notified(consumer.name, marked);
            }
        }
    }

    /// Returns whether a consumer was notified of `key` and has not read it yet.
    pub fn is_pending(&self, key: &K) -> bool {
        let consumers = self.consumers.snapshot().values;
        consumers
            .iter()
            .any(|consumer| consumer.marker.contains(key))
    }

    /// Notifies one consumer of `key`, if it exists and wants it.
    pub fn notify_consumer(&self, name: &'static str, key: &K) -> Option<Marked> {
        self.consumers.get(&name)?.notify(key)
    }
}

#[cfg(test)]
mod tests;
