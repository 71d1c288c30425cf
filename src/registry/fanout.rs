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

/// A consumer as the fan-out knows it.
pub struct Consumer<K> {
    name: &'static str,
    wants: fn(&K) -> bool,
    marker: Marker<K, Instant>,
}

impl<K> Consumer<K> {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Marks a key for this consumer alone.
    #[must_use]
    pub fn marker(&self) -> &Marker<K, Instant> {
        &self.marker
    }
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
    /// Adds a consumer of the keys that it `wants`; it reads them from the inbox. One that is added
    /// late is to be told the current keys with [`Fanout::replay`].
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

    /// Tells the consumer `name` every one of `keys` that it wants.
    pub fn replay(&self, name: &str, keys: impl IntoIterator<Item = K>) {
        let Some(consumer) = self.consumers.iter().find(|consumer| consumer.name == name) else {
            return;
        };
        for key in keys.into_iter().filter(consumer.wants) {
            consumer.marker.mark(key, Instant::now());
        }
    }

    /// The consumers.
    #[must_use]
    pub fn consumers(&self) -> &[Consumer<K>] {
        &self.consumers
    }
}

#[cfg(test)]
mod tests;
