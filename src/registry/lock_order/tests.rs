//! Locks are taken in ascending order; a holder is a task, a thread or a strand.
#![cfg(debug_assertions)]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use futures::FutureExt as _;

use super::*;

const LOW: Rank = Rank::new(1, "low");
const HIGH: Rank = Rank::new(2, "high");

/// Returns the message of the violation, if there was one.
fn violation<T>(take: impl FnOnce() -> T) -> Option<String> {
    let panic = catch_unwind(AssertUnwindSafe(take)).err()?;
    Some(panic.downcast_ref::<String>().unwrap().clone())
}

#[test]
fn locks_can_be_taken_in_ascending_order_repeatedly() {
    for _ in 0..2 {
        let low = Held::acquire(LOW);
        let high = Held::acquire(HIGH);
        let leaf = Held::acquire(Rank::LEAF);
        // Dropped in any order.
        drop((low, leaf, high));
    }
}

#[test]
fn a_lock_of_a_lower_or_equal_rank_is_rejected_with_both_names() {
    let high = Held::acquire(HIGH);
    let message = violation(|| Held::acquire(LOW)).unwrap();
    assert!(
        message.contains("low (1) is taken while high (2) is held"),
        "{message}"
    );
    assert!(violation(|| Held::acquire(HIGH)).is_some());
    // The rejected lock is not held, and the other one still is.
    drop(high);
    assert_eq!(violation(|| drop(Held::acquire(LOW))), None);
}

#[test]
fn a_dropped_lock_does_not_restrict_later_ones() {
    let (low, high) = (Held::acquire(LOW), Held::acquire(HIGH));
    drop(high);
    assert_eq!(violation(|| drop(Held::acquire(HIGH))), None);
    assert!(violation(|| Held::acquire(LOW)).is_some());
    drop(low);
    assert_eq!(violation(|| drop(Held::acquire(LOW))), None);
}

#[test]
fn a_lock_of_another_thread_does_not_restrict_this_one_and_may_be_dropped_here() {
    let (hand_over, theirs) = std::sync::mpsc::channel();
    let (dropped, is_dropped) = std::sync::mpsc::channel();
    let leaf = Held::acquire(Rank::LEAF);
    let thread = std::thread::spawn(move || {
        hand_over.send(Held::acquire(LOW)).unwrap();
        is_dropped.recv().unwrap();
        violation(|| drop(Held::acquire(LOW)))
    });
    drop(theirs.recv().unwrap());
    dropped.send(()).unwrap();
    assert_eq!(thread.join().unwrap(), None, "their lock is free");
    assert!(
        violation(|| Held::acquire(LOW)).is_some(),
        "ours is still held"
    );
    drop(leaf);
}

#[tokio::test]
async fn a_task_holds_its_locks_while_others_run_on_its_thread() {
    let (held, wait) = tokio::sync::oneshot::channel();
    let (resume, resumed) = tokio::sync::oneshot::channel();
    let first = tokio::spawn(async move {
        let _high = Held::acquire(HIGH);
        held.send(()).unwrap();
        resumed.await.unwrap();
        violation(|| Held::acquire(LOW))
    });
    wait.await.unwrap();
    let second = tokio::spawn(async { violation(|| drop(Held::acquire(LOW))) });
    assert_eq!(second.await.unwrap(), None);
    resume.send(()).unwrap();
    assert!(first.await.unwrap().is_some());
}

#[tokio::test]
async fn strands_of_one_task_are_checked_independently() {
    async fn twice() -> Option<String> {
        let _low = Held::acquire(LOW);
        tokio::task::yield_now().await;
        violation(|| Held::acquire(LOW))
    }
    let (first, second) = tokio::join!(strand(twice()), strand(twice()));
    assert!(first.is_some() && second.is_some());
    assert_eq!(violation(|| drop(Held::acquire(LOW))), None);
}

#[tokio::test]
async fn a_panic_in_a_strand_does_not_affect_its_caller() {
    let _high = Held::acquire(HIGH);
    let panics = strand(async { panic!("on purpose") });
    AssertUnwindSafe(panics).catch_unwind().await.unwrap_err();
    assert!(violation(|| Held::acquire(LOW)).is_some());
}

#[test]
fn taking_a_held_lock_again_panics_instead_of_deadlocking() {
    let mutex = OrderedMutex::new(Rank::LEAF, 1);
    let lock = OrderedRwLock::new(Rank::LEAF, 1);
    {
        let mut number = mutex.lock();
        *number += 1;
        assert!(violation(|| *mutex.lock()).is_some());
        assert!(violation(|| *lock.read()).is_some());
    }
    {
        let _read = lock.read();
        assert!(violation(|| *lock.read()).is_some());
        assert!(violation(|| *lock.write()).is_some());
    }
    assert_eq!(*mutex.lock(), 2);
    assert_eq!(*lock.write(), 1);
}

#[test]
fn a_lock_whose_holder_panicked_is_free() {
    let lock = Arc::new(OrderedRwLock::new(Rank::LEAF, 1));
    let theirs = Arc::clone(&lock);
    let panicked = std::thread::spawn(move || {
        *theirs.write() = 2;
        let _writes = theirs.write();
        panic!("on purpose");
    });
    panicked.join().unwrap_err();
    assert_eq!(*lock.read(), 2);
}
