//! Tells every consumer which keys have changed.
//!
//! Consumers are named when the fan-out is built; each has a dirty set and a channel of its own, so
//! that a slow, blocked or absent one costs neither the producer nor the others anything. Events
//! carry keys, never values: whoever reads a key looks up its newest value.

use std::hash::Hash;
use std::time::Instant;

use super::dirty::{Marked, Marker, Reader, dirty_set};

/// The inbox of one consumer; the tag says when a key became dirty.
pub type Inbox<K> = Reader<K, Instant>;

struct Consumer<K> {
    name: &'static str,
    wants: fn(&K) -> bool,
    marker: Marker<K, Instant>,
}

/// Tells every consumer which keys have changed.
pub struct Fanout<K> {
    consumers: Vec<Consumer<K>>,
}

impl<K: Clone + Eq + Hash> Default for Fanout<K> {
    fn default() -> Self {
        Self {
            consumers: Vec::new(),
        }
    }
}

impl<K: Clone + Eq + Hash> Fanout<K> {
    /// Adds a consumer of the keys that it `wants`; it reads them from the inbox.
    pub fn add(&mut self, name: &'static str, wants: fn(&K) -> bool) -> Inbox<K> {
        let (marker, inbox) = dirty_set();
        self.consumers.push(Consumer {
            name,
            wants,
            marker,
        });
        inbox
    }

    /// Tells every consumer that wants it about `key`; `told` is called with the name of each and
    /// with what became of the event.
    pub fn notify(&self, key: &K, mut told: impl FnMut(&'static str, Marked)) {
        for consumer in self
            .consumers
            .iter()
            .filter(|consumer| (consumer.wants)(key))
        {
            told(
                consumer.name,
                consumer.marker.mark(key.clone(), Instant::now()),
            );
        }
    }
}

#[cfg(test)]
mod tests;
