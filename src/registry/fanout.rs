//! Notifies every consumer of changed keys.
//!
//! Consumers can be added at any time. Each has a name, a dirty set and a channel of its own, so that a
//! slow, blocked or absent one delays neither the producer nor the others. Events carry keys, never
//! values: consumers look up the newest value.

use std::hash::Hash;
use std::sync::Arc;
use std::time::Instant;

use super::dirty::{Marked, Marker, Reader, dirty_set};
use super::lock_order::{OrderedMutex, Rank};

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

type Consumers<K> = Arc<[Arc<Consumer<K>>]>;

/// Notifies every consumer of changed keys.
pub struct Fanout<K> {
    consumers: OrderedMutex<Consumers<K>>,
}

impl<K> Default for Fanout<K> {
    fn default() -> Self {
        Self {
            consumers: OrderedMutex::new(Rank::LEAF, Arc::new([])),
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
        let mut consumers = self.consumers.lock();
        let others = consumers.iter().filter(|other| other.name != name);
        *consumers = others.cloned().chain([Arc::new(consumer)]).collect();
        inbox
    }

    /// Notifies every consumer that wants `key`, and calls `notified` with the name of each and the
    /// outcome of the event.
    pub fn notify(&self, key: &K, mut notified: impl FnMut(&'static str, Marked)) {
        for consumer in &*self.consumers() {
            if let Some(marked) = consumer.notify(key) {
                notified(consumer.name, marked);
            }
        }
    }

    /// Returns whether a consumer was notified of `key` and has not read it yet.
    pub fn is_pending(&self, key: &K) -> bool {
        let is_pending = |consumer: &Arc<Consumer<K>>| consumer.marker.contains(key);
        self.consumers().iter().any(is_pending)
    }

    /// Notifies one consumer of `key`, if it exists and wants it.
    pub fn notify_consumer(&self, name: &'static str, key: &K) -> Option<Marked> {
        let consumers = self.consumers();
        consumers.iter().find(|each| each.name == name)?.notify(key)
    }

    fn consumers(&self) -> Consumers<K> {
        Arc::clone(&self.consumers.lock())
    }
}

#[cfg(test)]
mod tests;
