//! Tells every consumer which keys have changed.
//!
//! Consumers come at any time, each with a name, a dirty set and a channel of its own, so that a slow,
//! blocked or absent one costs neither the producer nor the others anything. Events carry keys, never
//! values: whoever reads a key looks up its newest value.

use std::hash::Hash;
use std::time::Instant;

use super::dirty::{Marked, Marker, Reader, dirty_set};
use super::store::Store;

/// The inbox of one consumer; the tag says when a key became dirty.
pub type Inbox<K> = Reader<K, Instant>;

struct Consumer<K> {
    name: &'static str,
    wants: fn(&K) -> bool,
    marker: Marker<K, Instant>,
}

impl<K: Clone + Eq + Hash> Consumer<K> {
    fn tell(&self, key: &K) -> Option<Marked> {
        (self.wants)(key).then(|| self.marker.mark(key.clone(), Instant::now()))
    }
}

/// Two consumers are never the same.
impl<K> PartialEq for Consumer<K> {
    fn eq(&self, _: &Self) -> bool {
        false
    }
}

/// Tells every consumer which keys have changed.
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
    /// Adds a consumer of the keys that it `wants`; it reads them from the inbox. One that had the
    /// name before is told nothing more.
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

    /// Tells every consumer that wants it about `key`; `told` is called with the name of each and
    /// with what became of the event.
    pub fn notify(&self, key: &K, mut told: impl FnMut(&'static str, Marked)) {
        for consumer in self.consumers.snapshot().values {
            if let Some(marked) = consumer.tell(key) {
                told(consumer.name, marked);
            }
        }
    }

    /// Whether a consumer was told about `key` and has not read it yet.
    pub fn is_pending(&self, key: &K) -> bool {
        let consumers = self.consumers.snapshot().values;
        consumers
            .iter()
            .any(|consumer| consumer.marker.contains(key))
    }

    /// Tells one consumer about `key`, if it is there and wants it.
    pub fn tell(&self, name: &'static str, key: &K) -> Option<Marked> {
        self.consumers.get(&name)?.tell(key)
    }
}

#[cfg(test)]
mod tests;
