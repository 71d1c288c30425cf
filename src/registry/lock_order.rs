//! Lock ordering, checked in debug builds.
//!
//! Every lock has a [`Rank`]. A holder takes only locks of a higher rank, so there is no deadlock. A
//! debug build, and so every test, panics with both names on a violation, before it waits: a callback
//! that takes the lock under which it runs fails instead of hanging.
//!
//! A holder is a task, outside of tasks a thread, and inside of a [`strand`] that strand. Holders are
//! tracked in debug builds only; a release build pays nothing.
//!
//! The ranks themselves are defined beside their locks and listed, in order, in `ARCHITECTURE.md`.
//! There is no poisoning, because the panic itself matters more than partly changed data.

use std::fmt;
use std::future::Future;
use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

#[cfg(debug_assertions)]
mod books;

/// A position in the order.
#[derive(Debug, Clone, Copy)]
pub struct Rank {
    order: u8,
    name: &'static str,
}

impl Rank {
    /// The last position: of every short-lived lock under which no other is taken.
    pub const LEAF: Self = Self::new(u8::MAX, "leaf");

    /// Creates a rank; the lower `order` is taken first. `name` appears in violation reports.
    #[must_use]
    pub const fn new(order: u8, name: &'static str) -> Self {
        Self { order, name }
    }
}

impl fmt::Display for Rank {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name, self.order)
    }
}

/// Until it is dropped, its creator holds a lock or waits for it. May be dropped anywhere.
#[derive(Debug)]
#[must_use = "the lock counts as free once this is dropped"]
pub struct Held {
    #[cfg(debug_assertions)]
    _entry: books::Entry,
}

const _: () = assert!(
    cfg!(debug_assertions) || size_of::<Held>() == 0,
    "a release build tracks nothing"
);

impl Held {
    /// Call this before waiting for the lock. Panics in debug builds if a lock of this rank or a higher
    /// one is held already.
    pub fn acquire(
        #[cfg_attr(
            not(debug_assertions),
            expect(unused_variables, reason = "only debug builds check ranks")
        )]
        rank: Rank,
    ) -> Self {
        Self {
            #[cfg(debug_assertions)]
            _entry: books::Entry::new(rank),
        }
    }
}

/// Runs `work` as a separate holder: for work that runs concurrently within a task, as in a
/// `FuturesUnordered`, where each piece may wait for locks independently of the others.
pub async fn strand<F: Future>(work: F) -> F::Output {
    #[cfg(debug_assertions)]
    let work = books::strand(work);
    work.await
}

/// A mutex with a rank.
#[derive(Debug)]
pub struct OrderedMutex<T> {
    rank: Rank,
    inner: Mutex<T>,
}

impl<T> OrderedMutex<T> {
    /// Creates an unlocked mutex.
    pub const fn new(rank: Rank, value: T) -> Self {
        Self {
            rank,
            inner: Mutex::new(value),
        }
    }

    /// Waits for the lock.
    pub fn lock(&self) -> Guard<MutexGuard<'_, T>> {
        let held = Held::acquire(self.rank);
        Guard {
            inner: self.inner.lock().unwrap_or_else(PoisonError::into_inner),
            _held: held,
        }
    }
}

/// A read-write lock with a rank.
#[derive(Debug)]
pub struct OrderedRwLock<T> {
    rank: Rank,
    inner: RwLock<T>,
}

impl<T> OrderedRwLock<T> {
    /// Creates an unlocked lock.
    pub const fn new(rank: Rank, value: T) -> Self {
        Self {
            rank,
            inner: RwLock::new(value),
        }
    }

    /// Waits for a read lock.
    pub fn read(&self) -> Guard<RwLockReadGuard<'_, T>> {
        let held = Held::acquire(self.rank);
        Guard {
            inner: self.inner.read().unwrap_or_else(PoisonError::into_inner),
            _held: held,
        }
    }

    /// Waits for the write lock.
    pub fn write(&self) -> Guard<RwLockWriteGuard<'_, T>> {
        let held = Held::acquire(self.rank);
        Guard {
            inner: self.inner.write().unwrap_or_else(PoisonError::into_inner),
            _held: held,
        }
    }
}

/// Guards the data of a lock while it is held.
#[derive(Debug)]
#[must_use = "the lock is free once this is dropped"]
pub struct Guard<G> {
    // Fields drop in this order: the lock is free before its tracking ends.
    inner: G,
    _held: Held,
}

impl<G: Deref> Deref for Guard<G> {
    type Target = G::Target;

    fn deref(&self) -> &Self::Target {
        &self.inner
    }
}

impl<G: DerefMut> DerefMut for Guard<G> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.inner
    }
}

#[cfg(test)]
mod tests;
