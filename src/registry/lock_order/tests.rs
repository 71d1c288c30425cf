//! Locks are taken upwards; a holder is a task, a thread or a strand.
#![cfg(debug_assertions)]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use futures::FutureExt as _;

use super::*;

const LOW: Rank = Rank::new(1, "low");
const HIGH: Rank = Rank::new(2, "high");

/// What the violation says; `None`: there was none.
fn violation<T>(take: impl FnOnce() -> T) -> Option<String> {
    let panic = catch_unwind(AssertUnwindSafe(take)).err()?;
    Some(panic.downcast_ref::<String>().unwrap().clone())
}

#[test]
fn locks_are_taken_upwards_as_often_as_one_likes() {
    for _ in 0..2 {
        let low = Held::acquire(LOW);
        let high = Held::acquire(HIGH);
        let leaf = Held::acquire(Rank::LEAF);
        // In whatever order they go.
        drop((low, leaf, high));
    }
}

#[test]
fn a_lower_lock_or_one_of_the_same_rank_is_refused_with_both_names() {
    let high = Held::acquire(HIGH);
    let message = violation(|| Held::acquire(LOW)).unwrap();
    assert!(
        message.contains("low (1) is taken while high (2) is held"),
        "{message}"
    );
    assert!(violation(|| Held::acquire(HIGH)).is_some());
    // What was refused is not held, and what is held still is.
    drop(high);
    assert_eq!(violation(|| drop(Held::acquire(LOW))), None);
}

#[test]
fn a_lock_that_is_not_held_any_more_is_in_nobodys_way() {
    let (low, high) = (Held::acquire(LOW), Held::acquire(HIGH));
    drop(high);
    assert_eq!(violation(|| drop(Held::acquire(HIGH))), None);
    assert!(violation(|| Held::acquire(LOW)).is_some());
    drop(low);
    assert_eq!(violation(|| drop(Held::acquire(LOW))), None);
}

#[test]
fn what_another_thread_holds_is_in_nobodys_way_and_may_be_dropped_here() {
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
    assert_eq!(thread.join().unwrap(), None, "theirs is free");
    assert!(
        violation(|| Held::acquire(LOW)).is_some(),
        "ours is held still"
    );
    drop(leaf);
}

#[tokio::test]
async fn a_task_keeps_what_it_holds_while_others_run_on_its_thread() {
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
async fn strands_of_one_task_are_not_in_each_others_way_but_in_their_own() {
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
async fn what_is_outside_of_a_strand_stays_outside_even_if_the_strand_panics() {
    let _high = Held::acquire(HIGH);
    let panics = strand(async { panic!("on purpose") });
    AssertUnwindSafe(panics).catch_unwind().await.unwrap_err();
    assert!(violation(|| Held::acquire(LOW)).is_some());
}

#[test]
fn a_lock_that_is_taken_again_fails_instead_of_waiting_for_itself() {
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
