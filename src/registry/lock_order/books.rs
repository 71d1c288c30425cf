//! Tracks the ranks that each holder holds, in debug builds.
//!
//! One table for the process, because a lock taken on one thread may be dropped on another. A holder
//! has a row only while it holds a lock.

use std::cell::Cell;
use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};

use tokio::task;

use super::Rank;

static HELD: LazyLock<Mutex<HashMap<Holder, Vec<Rank>>>> = LazyLock::new(Mutex::default);

static STRANDS: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// The strand that is being polled on this thread.
    static STRAND: Cell<Option<u64>> = const { Cell::new(None) };
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Holder {
    Strand(u64),
    Task(task::Id),
    Thread(ThreadId),
}

impl Holder {
    fn current() -> Self {
        STRAND
            .get()
            .map(Self::Strand)
            .or_else(|| task::try_id().map(Self::Task))
            .unwrap_or_else(|| Self::Thread(thread::current().id()))
    }
}

/// One lock of one holder, tracked until it is dropped.
#[derive(Debug)]
pub(super) struct Entry {
    holder: Holder,
    order: u8,
}

impl Entry {
    pub(super) fn new(rank: Rank) -> Self {
        let holder = Holder::current();
        let mut held = held();
        let ranks = held.entry(holder).or_default();
        let above = ranks
            .iter()
            .copied()
            .find(|other| other.order >= rank.order);
        if above.is_none() {
            ranks.push(rank);
        }
        drop(held);
        assert!(
            above.is_none(),
            "lock order violated: {rank} is taken while {} is held, see Locks in ARCHITECTURE.md",
            above.unwrap_or(rank)
        );
        Self {
            holder,
            order: rank.order,
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut held = held();
        if let Some(ranks) = held.get_mut(&self.holder) {
            ranks.retain(|rank| rank.order != self.order);
            if ranks.is_empty() {
                held.remove(&self.holder);
            }
        }
    }
}

fn held() -> MutexGuard<'static, HashMap<Holder, Vec<Rank>>> {
    HELD.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) async fn strand<F: Future>(work: F) -> F::Output {
    let strand = STRANDS.fetch_add(1, Ordering::Relaxed);
    let mut work = pin!(work);
    poll_fn(|context| {
        let _outer = Outer(STRAND.replace(Some(strand)));
        work.as_mut().poll(context)
    })
    .await
}

/// Restores the strand that was polled before, if any, also after a panic.
struct Outer(Option<u64>);

impl Drop for Outer {
    fn drop(&mut self) {
        STRAND.set(self.0);
    }
}
