//! The order in which locks are taken, checked in debug builds.
//!
//! Every lock has a [`Rank`]. Whoever holds one takes only locks of a higher rank, so nobody waits in
//! a circle. A debug build, and so every test, panics with both names where that is violated, before
//! it waits: a callback that comes back to the lock under which it runs fails instead of hanging.
//!
//! Who holds a lock is a task, outside of tasks a thread, and inside of a [`strand`] that strand. The
//! books of who holds what are kept in debug builds only; a release build pays nothing.
//!
//! Deliberately absent: the ranks of the program, which are with their locks and, in their order, in
//! `ARCHITECTURE.md`; and poisoning, since a panic matters more than what it left half done.

use std::fmt;
use std::future::Future;
use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

#[cfg(debug_assertions)]
mod books;

/// A place in the order.
#[derive(Debug, Clone, Copy)]
pub struct Rank {
    order: u8,
    name: &'static str,
}

impl Rank {
    /// The last place: of every short lock under which no other is taken.
    pub const LEAF: Self = Self::new(u8::MAX, "leaf");

    /// A place; the lower `order` is taken first. `name` is what a violation is reported with.
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

/// Until it is dropped, whoever made it holds, or waits for, a lock. May be dropped anywhere.
#[derive(Debug)]
#[must_use = "the lock counts as free once this is dropped"]
pub struct Held {
    #[cfg(debug_assertions)]
    _entry: books::Entry,
}

const _: () = assert!(
    cfg!(debug_assertions) || size_of::<Held>() == 0,
    "a release build keeps no books"
);

impl Held {
    /// To be called before the lock is waited for. Panics in debug builds if a lock of this rank or a
    /// higher one is held already.
    pub fn acquire(
        #[cfg_attr(
            not(debug_assertions),
            expect(unused_variables, reason = "only debug builds look at ranks")
        )]
        rank: Rank,
    ) -> Self {
        Self {
            #[cfg(debug_assertions)]
            _entry: books::Entry::new(rank),
        }
    }
}

/// Runs `work` as a holder of its own: for work that runs beside other work of the same task, as in a
/// `FuturesUnordered`, where each piece may wait for locks without being in the way of the others.
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
    /// A free mutex.
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
    /// A free lock.
    pub const fn new(rank: Rank, value: T) -> Self {
        Self {
            rank,
            inner: RwLock::new(value),
        }
    }

    /// Waits until nobody writes.
    pub fn read(&self) -> Guard<RwLockReadGuard<'_, T>> {
        let held = Held::acquire(self.rank);
        Guard {
            inner: self.inner.read().unwrap_or_else(PoisonError::into_inner),
            _held: held,
        }
    }

    /// Waits until nobody reads or writes.
    pub fn write(&self) -> Guard<RwLockWriteGuard<'_, T>> {
        let held = Held::acquire(self.rank);
        Guard {
            inner: self.inner.write().unwrap_or_else(PoisonError::into_inner),
            _held: held,
        }
    }
}

/// What a lock protects, while it is held.
#[derive(Debug)]
#[must_use = "the lock is free once this is dropped"]
pub struct Guard<G> {
    // Fields are dropped in this order: the lock is free before the books say so.
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
