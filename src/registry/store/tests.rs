//! The store against a plain map, concurrent changes, and consistent snapshots under heavy writes.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock};

use super::*;

mod model;

/// Indexed by the first half; a first half of 0 is not indexed.
type Value = (u8, u8);

fn store() -> Store<u8, Value, u8> {
    Store::indexed(|(index, _)| Some(*index).filter(|index| *index != 0))
}

fn values(snapshot: &Snapshot<Value>) -> Vec<Value> {
    snapshot.values.iter().map(|value| **value).collect()
}

fn entries(entries: Entries<u8, Value>) -> Vec<(u8, Value)> {
    entries
        .into_iter()
        .map(|(key, value)| (key, *value))
        .collect()
}

#[test]
fn a_snapshot_does_not_change_with_the_store() {
    let store = store();
    store.upsert(1, (1, 1));
    let before = store.snapshot();
    store.upsert(1, (2, 2));
    store.remove(&1);
    assert_eq!(values(&before), [(1, 1)]);
}

#[test]
fn two_snapshots_of_one_generation_are_equal() {
    let store = store();
    store.upsert(1, (1, 1));
    assert_eq!(store.snapshot(), store.snapshot());
    store.upsert(1, (1, 1));
    assert_eq!(store.snapshot_of(&1), store.snapshot_of(&1));
}

#[test]
fn a_key_is_found_by_its_borrowed_form() {
    let store: Store<Arc<str>, u8> = Store::new();
    store.upsert("a".into(), 1);
    assert_eq!(store.get("a").as_deref(), Some(&1));
    assert_eq!(
        store.update("a", |value| value + 1),
        Some(Change::Updated(Arc::new(1)))
    );
    assert_eq!(store.remove("a").as_deref(), Some(&2));
    assert!(!store.contains("a"));
}

#[test]
fn a_known_key_is_not_stored_twice() {
    let store: Store<Arc<str>, Value, u8> = Store::indexed(|(index, _)| Some(*index));
    let first: Arc<str> = "a".into();
    store.upsert(Arc::clone(&first), (1, 1));
    store.upsert("a".into(), (1, 2));
    store.upsert("a".into(), (2, 2));
    assert!(Arc::ptr_eq(&first, &store.keys()[0]));
    assert!(Arc::ptr_eq(&first, &store.first_of(&2).unwrap()));
}

#[test]
fn a_store_that_was_large_shrinks() {
    let store: Store<u32, u32> = Store::new();
    let fill = || {
        for key in 0..10_000 {
            store.upsert(key, key);
        }
    };
    let room = || store.tables.read().values.capacity();
    fill();
    store.evict_where(|key, _| *key > 0);
    assert!(room() < 100, "{}", room());
    fill();
    for key in 0..10_000 {
        store.remove(&key);
    }
    assert!(room() < 100, "{}", room());
}

#[test]
fn a_counter_counts_without_the_store() {
    let counter = {
        let store = store();
        let counter = store.counter();
        store.upsert(1, (1, 1));
        store.upsert(2, (1, 1));
        assert_eq!((store.count(), counter.count()), (2, 2));
        store.evict_where(|_, _| true);
        assert_eq!((store.count(), counter.count()), (0, 0));
        store.get_or_insert(1, (1, 1));
        counter
    };
    assert_eq!(counter.count(), 1);
}

#[test]
fn an_update_runs_again_when_the_value_was_replaced_meanwhile() {
    let store = store();
    store.upsert(1, (1, 1));
    let seen = Mutex::new(Vec::new());
    let change = store.update(&1, |value| {
        let mut seen = seen.lock().unwrap();
        seen.push(*value);
        if seen.len() == 1 {
            store.upsert(1, (2, 2));
        }
        (3, value.1 + 10)
    });
    assert_eq!(change, Some(Change::Updated(Arc::new((2, 2)))));
    assert_eq!(*seen.lock().unwrap(), [(1, 1), (2, 2)]);
    assert_eq!(values(&store.snapshot_of(&3)), [(3, 12)]);
    assert_eq!((store.indices(), store.generation()), (vec![3], 3));
}

#[test]
fn an_update_does_not_restore_a_key_removed_meanwhile() {
    let store = store();
    store.upsert(1, (1, 1));
    let change = store.update(&1, |_| {
        store.remove(&1);
        (2, 2)
    });
    assert_eq!(change, None);
    assert_eq!((store.count(), store.generation()), (0, 2));
}

#[test]
fn concurrent_updates_are_not_lost() {
    const UPDATES: u32 = 10_000;
    let store: Store<u8, u32> = Store::new();
    store.upsert(0, 0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..UPDATES {
                    store.update(&0, |value| value + 1);
                }
            });
        }
    });
    assert_eq!(store.get(&0).as_deref(), Some(&(2 * UPDATES)));
    assert_eq!(store.generation(), u64::from(2 * UPDATES) + 1);
}

#[test]
fn an_eviction_reevaluates_values_replaced_meanwhile() {
    let store = store();
    for key in 0..5 {
        store.upsert(key, (1, 0));
    }
    let first = AtomicBool::new(true);
    let evicted = store.evict_where(|_, value| {
        if first.swap(false, Ordering::Relaxed) {
            store.upsert(1, (1, 1)); // also matches now
            store.upsert(2, (2, 0)); // no longer matches
            store.remove(&3);
            store.upsert(9, (1, 0)); // new
        }
        value.0 == 1
    });
    assert_eq!(
        entries(evicted),
        [(0, (1, 0)), (1, (1, 1)), (4, (1, 0))],
        "the values when removed, ordered by key"
    );
    assert_eq!(values(&store.snapshot()), [(2, 0), (1, 0)]);
    assert_eq!(values(&store.snapshot_of(&1)), [(1, 0)]);
}

#[test]
fn evicting_keys_removed_meanwhile_is_no_change() {
    let store = store();
    store.upsert(1, (1, 1));
    let evicted = store.evict_where(|key, _| store.remove(key).is_some());
    assert_eq!((evicted, store.generation()), (Vec::new(), 2));
}

#[test]
fn an_eviction_is_one_change_for_any_number_of_keys() {
    let store = store();
    for key in 0..5 {
        store.upsert(key, (1, key));
    }
    let before = store.generation();
    assert_eq!(store.evict_where(|key, _| *key > 0).len(), 4);
    assert_eq!(store.generation(), before + 1);
    assert_eq!(store.evict_where(|key, _| *key > 0), []);
    assert_eq!(store.generation(), before + 1);
}

/// A value whose traits use the store that holds it.
struct Reentrant {
    id: u32,
    when: When,
}

#[derive(PartialEq)]
enum When {
    Compared,
    Dropped,
}

static REENTRANT: OnceLock<Store<u8, Reentrant>> = OnceLock::new();

fn reentrant() -> &'static Store<u8, Reentrant> {
    REENTRANT.get_or_init(Store::new)
}

impl PartialEq for Reentrant {
    fn eq(&self, other: &Self) -> bool {
        if self.when == When::Compared {
            reentrant().get(&0);
        }
        self.id == other.id
    }
}

impl Drop for Reentrant {
    fn drop(&mut self) {
        if self.when == When::Dropped {
            reentrant().generation();
        }
    }
}

#[test]
#[cfg_attr(not(debug_assertions), ignore = "only debug builds check the order")]
#[should_panic(expected = "leaf (255) is taken while leaf (255) is held")]
fn a_comparison_that_uses_the_store_panics_instead_of_deadlocking() {
    let value = |id| Reentrant {
        id,
        when: When::Compared,
    };
    reentrant().upsert(1, value(1));
    reentrant().upsert(1, value(2));
}

#[test]
fn a_value_that_is_dropped_may_use_the_store() {
    let value = |id| Reentrant {
        id,
        when: When::Dropped,
    };
    let store = reentrant();
    store.upsert(2, value(1));
    store.upsert(2, value(1)); // drops the new value
    store.upsert(2, value(2)); // drops the old value
    store.get_or_insert(2, value(3));
    store.update(&2, |_| value(4));
    store.update(&2, |_| {
        store.upsert(2, value(5));
        value(6)
    });
    store.update(&2, |_| {
        store.remove(&2);
        value(7)
    });
    store.upsert(2, value(8));
    store.evict_where(|key, _| {
        store.upsert(2, value(9)); // drops the evaluated value
        store.upsert(2, value(10));
        *key == 2 && store.remove(&2).is_some()
    });
    assert!(!store.contains(&2));
}

#[test]
fn a_reader_never_sees_a_torn_snapshot_during_writes() {
    // Each writer writes the keys of its pool in rounds, in key order. In a consistent snapshot of a
    // pool the round never rises from one key to the next, and never differs by more than one.
    const POOL: u32 = 32;
    // About two seconds in a debug build; `examples/torn_reads.rs` reads a million in release.
    const READS: u32 = 100_000;
    let store: Store<u32, (u32, u32), u32> = Store::indexed(|(pool, _)| Some(*pool));
    for key in 0..2 * POOL {
        store.upsert(key, (key % 2, 0));
    }
    let done = AtomicBool::new(false);
    let read = |pool| {
        let mut before: Option<Snapshot<_>> = None;
        for _ in 0..READS / 2 {
            let snapshot = store.snapshot_of(&pool);
            let rounds: Vec<u32> = snapshot.values.iter().map(|value| value.1).collect();
            assert_eq!(rounds.len(), 32, "every key is present");
            assert!(rounds.is_sorted_by(|a, b| a >= b), "torn: {rounds:?}");
            assert!(rounds[0] - rounds[31] <= 1, "torn: {rounds:?}");
            if let Some(before) = before {
                assert!(
                    before.generation <= snapshot.generation,
                    "generations do not decrease"
                );
                assert!(
                    before.generation < snapshot.generation || before == snapshot,
                    "equal generations have equal content"
                );
            }
            before = Some(snapshot);
        }
    };
    let write = |pool| {
        let mut writes = 0;
        for round in 1.. {
            for key in (0..2 * POOL).filter(|key| key % 2 == pool) {
                if done.load(Ordering::Relaxed) {
                    return writes;
                }
                store.upsert(key, (pool, round));
                writes += 1;
            }
        }
        writes
    };
    let (read, write) = (&read, &write);
    let writes: u64 = std::thread::scope(|scope| {
        let writers = [0, 1].map(|pool| scope.spawn(move || write(pool)));
        let readers = [0, 1].map(|pool| scope.spawn(move || read(pool)));
        // Also after a panic, or the writers would never stop.
        let read = readers.map(std::thread::ScopedJoinHandle::join);
        done.store(true, Ordering::Relaxed);
        for read in read {
            read.unwrap();
        }
        writers.map(|writer| writer.join().unwrap()).iter().sum()
    });
    eprintln!("{READS} pool reads beside {writes} writes");
    assert!(writes > 1_000, "only {writes} concurrent writes");
    assert_eq!(store.generation(), u64::from(2 * POOL) + writes);
}

#[test]
fn a_value_that_moves_between_pools_is_always_in_exactly_one() {
    let store: Store<u8, (u32, u32), u32> = Store::indexed(|(pool, _)| Some(*pool));
    store.upsert(0, (0, 0));
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let (first, second) = (store.snapshot_of(&0), store.snapshot_of(&1));
                if first.generation == second.generation {
                    assert_eq!(first.values.len() + second.values.len(), 1);
                }
                assert_eq!(store.snapshot().values.len(), 1);
            }
        });
        for step in 0..20_000 {
            store.upsert(0, (step % 2, step));
        }
        done.store(true, Ordering::Relaxed);
        reader.join().unwrap();
    });
}
