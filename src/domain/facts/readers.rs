//! The readers of each place.
//!
//! A place is anything that can be read; a reader is evaluated again when one of its places changes. Both are
//! numbers, so that 100,000 nodes with six places each take a few megabytes.

use std::mem::replace;
use std::sync::Arc;

use crate::domain::shared::Recent;

/// Something that can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place(u32);

/// A reader of places, such as a node's evaluation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reader(u32);

impl Reader {
    /// Its number. Numbers are dense, and reused after a reader is removed.
    #[must_use]
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// The readers of each place.
#[derive(Debug, Default)]
pub(super) struct Readers {
    /// The sorted readers of each place.
    places: Table<Vec<Reader>>,
    /// The sorted places of each reader's last evaluation.
    reads: Table<Arc<[Place]>>,
    recent: Recent<[Place], 16>,
}

impl Readers {
    /// Adds a place without readers.
    pub(super) fn add_place(&mut self) -> Place {
        Place(self.places.add(Vec::new()))
    }

    /// Removes a place without readers.
    pub(super) fn remove_place(&mut self, place: Place) {
        self.places.remove(place.0);
    }

    /// Adds a reader without reads.
    pub(super) fn add_reader(&mut self) -> Reader {
        let nothing = self.shared(&[]);
        Reader(self.reads.add(nothing))
    }

    /// Removes a reader; returns the places that have no readers any more.
    pub(super) fn remove_reader(&mut self, reader: Reader) -> Vec<Place> {
        let left = self.record(reader, Vec::new());
        self.reads.remove(reader.0);
        left
    }

    /// Replaces the reads of a reader (in any order); returns the places that have no readers any more.
    pub(super) fn record(&mut self, reader: Reader, mut read: Vec<Place>) -> Vec<Place> {
        read.sort_unstable();
        read.dedup();
        if self
            .reads
            .get(reader.0)
            .is_none_or(|before| **before == *read)
        {
            return Vec::new();
        }
        let read = self.shared(&read);
        let Some(before) = self.reads.get_mut(reader.0) else {
            return Vec::new();
        };
        let before = replace(before, Arc::clone(&read));
        let mut left = Vec::new();
        for place in read.iter().filter(|place| !is_in(&before, **place)) {
            if let Some(readers) = self.places.get_mut(place.0)
                && let Err(at) = readers.binary_search(&reader)
            {
                reserve(readers);
                readers.insert(at, reader);
            }
        }
        for place in before.iter().filter(|place| !is_in(&read, **place)) {
            if let Some(readers) = self.places.get_mut(place.0)
                && let Ok(at) = readers.binary_search(&reader)
            {
                readers.remove(at);
                if readers.is_empty() {
                    left.push(*place);
                }
            }
        }
        left
    }

    /// The list, in the allocation of an equal recent one.
    fn shared(&mut self, places: &[Place]) -> Arc<[Place]> {
        let is_same = |known: &[Place]| known == places;
        self.recent.share(is_same, || places.into())
    }

    /// The sorted readers of the place.
    pub(super) fn of(&self, place: Place) -> &[Reader] {
        self.places.get(place.0).map_or(&[], Vec::as_slice)
    }

    /// Number of places and of readers.
    #[cfg(test)]
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.places.count(), self.reads.count())
    }
}

/// Makes room for one more value. The lists are as long as the cluster has nodes, so they grow by an eighth, not to the
/// double.
pub fn reserve<T>(list: &mut Vec<T>) {
    if list.len() == list.capacity() {
        list.reserve_exact(list.len() / 8 + 4);
    }
}

fn is_in(places: &[Place], place: Place) -> bool {
    places.binary_search(&place).is_ok()
}

/// Values by number; the numbers of removed values are reused.
#[derive(Debug)]
struct Table<T> {
    values: Vec<Option<T>>,
    free: Vec<u32>,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self {
            values: Vec::new(),
            free: Vec::new(),
        }
    }
}

impl<T> Table<T> {
    fn add(&mut self, value: T) -> u32 {
        if let Some(number) = self.free.pop()
            && let Some(slot) = self.values.get_mut(number as usize)
        {
            *slot = Some(value);
            return number;
        }
        reserve(&mut self.values);
        self.values.push(Some(value));
        u32::try_from(self.values.len() - 1).unwrap_or(u32::MAX)
    }

    fn remove(&mut self, number: u32) {
        if self.get_mut(number).is_some() {
            self.values[number as usize] = None;
            self.free.push(number);
        }
    }

    fn get(&self, number: u32) -> Option<&T> {
        self.values.get(number as usize)?.as_ref()
    }

    fn get_mut(&mut self, number: u32) -> Option<&mut T> {
        self.values.get_mut(number as usize)?.as_mut()
    }

    #[cfg(test)]
    fn count(&self) -> usize {
        self.values.len() - self.free.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_has_the_readers_whose_last_evaluation_read_it() {
        let mut readers = Readers::default();
        let (a, b) = (readers.add_place(), readers.add_place());
        let (one, two) = (readers.add_reader(), readers.add_reader());
        assert_eq!(readers.record(two, vec![b, a, b]), []);
        assert_eq!(readers.record(one, vec![a]), []);
        assert_eq!(readers.of(a), [one, two]);
        assert_eq!(readers.of(b), [two]);
        assert_eq!(readers.record(two, vec![a]), [b]);
        assert_eq!(readers.of(b), []);
        assert_eq!(readers.remove_reader(one), []);
        assert_eq!(readers.remove_reader(two), [a]);
        assert_eq!(readers.of(a), []);
    }

    #[test]
    fn removed_places_and_readers_leave_nothing_behind_and_their_numbers_are_reused() {
        let mut readers = Readers::default();
        for _ in 0..3 {
            let place = readers.add_place();
            let reader = readers.add_reader();
            readers.record(reader, vec![place]);
            assert_eq!(readers.counts(), (1, 1));
            for left in readers.remove_reader(reader) {
                readers.remove_place(left);
            }
            assert_eq!(readers.counts(), (0, 0));
        }
        assert_eq!(readers.places.values.len(), 1);
    }
}
