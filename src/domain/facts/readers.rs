//! The readers of each place.
//!
//! A place is anything that can be read; a reader is evaluated again when one of its places changes. Both are
//! numbers, so that 100,000 nodes with six places each take a few megabytes.

use std::mem::replace;

/// Something that can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place(u32);

/// A reader of places, such as a node's evaluation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reader(u32);

/// The readers of each place.
#[derive(Debug, Default)]
pub(super) struct Readers {
    /// The sorted readers of each place.
    places: Table<Vec<Reader>>,
    /// The sorted places of each reader's last evaluation.
    readers: Table<Box<[Place]>>,
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
        Reader(self.readers.add(Box::default()))
    }

    /// Removes a reader; returns the places that have no readers any more.
    pub(super) fn remove_reader(&mut self, reader: Reader) -> Vec<Place> {
        let left = self.record(reader, Vec::new());
        self.readers.remove(reader.0);
        left
    }

    /// Replaces the reads of a reader (in any order); returns the places that have no readers any more.
    pub(super) fn record(&mut self, reader: Reader, mut read: Vec<Place>) -> Vec<Place> {
        read.sort_unstable();
        read.dedup();
        let Some(before) = self.readers.get_mut(reader.0) else {
            return Vec::new();
        };
        if **before == *read {
            return Vec::new();
        }
        let before = replace(before, read.clone().into_boxed_slice());
        let mut left = Vec::new();
        for place in read.iter().filter(|place| !is_in(&before, **place)) {
            if let Some(readers) = self.places.get_mut(place.0)
                && let Err(at) = readers.binary_search(&reader)
            {
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

    /// The sorted readers of the place.
    pub(super) fn of(&self, place: Place) -> &[Reader] {
        self.places.get(place.0).map_or(&[], Vec::as_slice)
    }

    /// Number of places and of readers.
    #[cfg(test)]
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.places.count(), self.readers.count())
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
