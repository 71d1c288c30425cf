//! One holder a key, and nothing is left behind.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use futures::FutureExt as _;

use super::super::lock_order::strand;
use super::*;

const RANK: Rank = Rank::new(1, "key");

fn locks() -> Arc<KeyedLocks<u32>> {
    Arc::new(KeyedLocks::new(RANK))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_has_one_holder_at_a_time() {
    const TASKS: usize = 8;
    const TURNS: usize = 1_000;
    let locks = locks();
    let inside: Arc<[AtomicBool; 2]> = Arc::default();
    let turns = Arc::new(AtomicUsize::new(0));
    let tasks: Vec<_> = (0..TASKS)
        .map(|task| {
            let (locks, inside, turns) =
                (Arc::clone(&locks), Arc::clone(&inside), Arc::clone(&turns));
            tokio::spawn(async move {
                for turn in 0..TURNS {
                    let key = (task + turn) % 2;
                    let _guard = locks.lock(u32::try_from(key).unwrap()).await;
                    assert!(!inside[key].swap(true, Ordering::SeqCst), "two are inside");
                    tokio::task::yield_now().await;
                    inside[key].store(false, Ordering::SeqCst);
                    turns.fetch_add(1, Ordering::SeqCst);
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!((turns.load(Ordering::SeqCst), locks.count()), (8_000, 0));
}

#[tokio::test]
async fn different_keys_are_held_side_by_side_and_an_entry_goes_with_its_holder() {
    let locks = locks();
    let counter = locks.counter();
    let first = locks.lock(1).await;
    let other = Arc::clone(&locks);
    let both = tokio::spawn(async move {
        let _second = other.lock(2).await;
        other.count()
    });
    assert_eq!(both.await.unwrap(), 2);
    assert_eq!(counter.count(), 1);
    drop(first);
    assert_eq!(counter.count(), 0);
}

#[tokio::test]
async fn who_waits_gets_the_key_in_the_order_of_asking() {
    let locks = locks();
    let order = Arc::new(std::sync::Mutex::new(Vec::new()));
    let held = locks.lock(1).await;
    let mut waiting = tokio::task::JoinSet::new();
    for place in 0..5 {
        let (locks, order) = (Arc::clone(&locks), Arc::clone(&order));
        waiting.spawn(async move {
            let _guard = locks.lock(1).await;
            order.lock().unwrap().push(place);
        });
        tokio::task::yield_now().await;
    }
    assert_eq!(locks.count(), 1, "they wait at one entry");
    drop(held);
    waiting.join_all().await;
    assert_eq!(*order.lock().unwrap(), [0, 1, 2, 3, 4]);
    assert_eq!(locks.count(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_thousand_keys_come_and_go_and_leave_nothing() {
    const KEYS: u32 = 100_000;
    let locks = locks();
    // Two take the one half at about the same time, two the other.
    let tasks: Vec<_> = [0, KEYS / 2, 0, KEYS / 2]
        .into_iter()
        .map(|first| {
            let locks = Arc::clone(&locks);
            tokio::spawn(async move {
                let mut most = 0;
                for key in first..first + KEYS / 2 {
                    let _guard = locks.lock(key).await;
                    most = most.max(locks.count());
                }
                most
            })
        })
        .collect();
    for task in tasks {
        let most = task.await.unwrap();
        assert!(most <= 4, "{most} entries of 4 holders");
    }
    assert_eq!(locks.count(), 0);
}

#[tokio::test]
async fn a_waiter_that_gives_up_leaves_nothing() {
    let locks = locks();
    let held = locks.lock(1).await;
    // A strand, as one holder may not wait while it holds.
    let mut waiting = Box::pin(strand(locks.lock(1)));
    assert!((&mut waiting).now_or_never().is_none());
    drop(waiting);
    assert_eq!(locks.count(), 1, "the holder's");
    drop(held);
    assert_eq!(locks.count(), 0);
}

#[tokio::test]
async fn the_last_one_who_waits_leaves_nothing_when_it_gives_up_at_its_turn() {
    let locks = locks();
    let held = locks.lock(1).await;
    let mut waiting = Box::pin(strand(locks.lock(1)));
    assert!((&mut waiting).now_or_never().is_none());
    drop(held);
    assert_eq!(locks.count(), 1, "the waiter's");
    drop(waiting);
    assert_eq!(locks.count(), 0);
}

#[tokio::test]
async fn a_waiter_that_gives_up_at_its_turn_lets_the_next_one_in() {
    let locks = locks();
    let held = locks.lock(1).await;
    let [mut first, mut second] = [1, 1].map(|key| Box::pin(strand(locks.lock(key))));
    assert!((&mut first).now_or_never().is_none());
    assert!((&mut second).now_or_never().is_none());
    drop(held);
    assert!((&mut second).now_or_never().is_none(), "the first's turn");
    drop(first);
    drop(second.now_or_never().expect("its turn"));
    assert_eq!(locks.count(), 0);
}

#[tokio::test]
#[cfg_attr(not(debug_assertions), ignore = "only debug builds check the order")]
async fn a_holder_of_one_key_that_takes_another_fails() {
    let locks = locks();
    let task = tokio::spawn({
        let locks = Arc::clone(&locks);
        async move {
            let _one = locks.lock(1).await;
            let _other = locks.lock(2).await;
        }
    });
    let panic = task.await.unwrap_err().into_panic();
    let message = panic.downcast_ref::<String>().unwrap();
    assert!(
        message.contains("key (1) is taken while key (1) is held"),
        "{message}"
    );
    assert_eq!(locks.count(), 0, "the panic freed what was held");
}

#[tokio::test]
async fn strands_of_one_task_hold_keys_side_by_side() {
    let (locks, both) = (&locks(), &tokio::sync::Barrier::new(2));
    let hold = |key| {
        strand(async move {
            let _guard = locks.lock(key).await;
            both.wait().await;
        })
    };
    tokio::join!(hold(1), hold(2));
}
