//! The store against a plain map, and its cuts under a write storm.

use std::sync::atomic::{AtomicBool, Ordering};

use proptest::prelude::*;

use super::*;

type Value = (u8, u8);

/// A store whose values are found by their first half; a first half of 0 is not indexed.
fn store() -> Store<u8, Value, u8> {
    Store::indexed(|(index, _)| Some(*index).filter(|index| *index != 0))
}

fn values(snapshot: &Snapshot<Value>) -> Vec<Value> {
    snapshot.values.iter().map(|value| **value).collect()
}

#[derive(Debug, Clone)]
enum Operation {
    Upsert(u8, Value),
    Remove(u8),
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        3 => (0..8u8, (0..4u8, 0..3u8)).prop_map(|(key, value)| Operation::Upsert(key, value)),
        1 => (0..8u8).prop_map(Operation::Remove),
    ]
}

/// Everything that can be read, compared with what the model says.
fn check(store: &Store<u8, Value, u8>, model: &BTreeMap<u8, Value>) -> Result<(), TestCaseError> {
    for key in 0..8 {
        let value = store.get(&key);
        prop_assert_eq!(value.as_deref(), model.get(&key));
    }
    let mut keys = store.keys();
    keys.sort_unstable();
    prop_assert_eq!(keys, model.keys().copied().collect::<Vec<_>>());
    prop_assert_eq!(store.count(), model.len());
    let all = store.snapshot();
    prop_assert_eq!(values(&all), model.values().copied().collect::<Vec<_>>());
    for index in 0..4u8 {
        let snapshot = store.snapshot_of(&index);
        let of_index = model.values().filter(|(i, _)| *i == index && index != 0);
        prop_assert_eq!(values(&snapshot), of_index.copied().collect::<Vec<_>>());
        prop_assert_eq!(snapshot.generation, all.generation);
    }
    Ok(())
}

proptest! {
    #[test]
    fn a_store_is_a_map_whose_generation_rises_with_every_change_and_only_then(
        operations in prop::collection::vec(operation(), 0..60),
    ) {
        let (store, mut model) = (store(), BTreeMap::new());
        check(&store, &model)?;
        for operation in operations {
            let before = store.snapshot().generation;
            let changed = match operation {
                Operation::Upsert(key, value) => {
                    let expected = match model.insert(key, value) {
                        None => Change::Inserted,
                        Some(old) if old == value => Change::Unchanged,
                        Some(old) => Change::Updated(Arc::new(old)),
                    };
                    let change = store.upsert(key, value);
                    prop_assert_eq!(&change, &expected);
                    change != Change::Unchanged
                }
                Operation::Remove(key) => {
                    let removed = store.remove(&key);
                    prop_assert_eq!(removed.as_deref().copied(), model.remove(&key));
                    removed.is_some()
                }
            };
            prop_assert_eq!(store.snapshot().generation, before + u64::from(changed));
            check(&store, &model)?;
        }
    }
}

#[test]
fn a_snapshot_keeps_what_it_saw_while_the_store_goes_on() {
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
fn a_reader_never_sees_half_of_what_belongs_together_while_others_write() {
    // Every key is written in rounds, in the order of the keys. In a consistent cut of a pool the
    // round never rises from one key to the next, and never differs by more than one.
    const KEYS: u32 = 64;
    const ROUNDS: u32 = 300;
    let store: Store<u32, (u32, u32), u32> = Store::indexed(|(pool, _)| Some(*pool));
    for key in 0..KEYS {
        store.upsert(key, (key % 2, 0));
    }
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..3)
            .map(|reader| {
                let (store, done) = (&store, &done);
                scope.spawn(move || {
                    let mut cuts: HashMap<u64, Vec<Arc<(u32, u32)>>> = HashMap::new();
                    let mut seen = 0;
                    let mut last = 0;
                    while !done.load(Ordering::Relaxed) {
                        let cut = store.snapshot_of(&(reader % 2));
                        let rounds: Vec<u32> = cut.values.iter().map(|value| value.1).collect();
                        assert_eq!(rounds.len(), 32, "nobody is missing");
                        assert!(rounds.is_sorted_by(|a, b| a >= b), "torn: {rounds:?}");
                        assert!(rounds[0] - rounds[31] <= 1, "torn: {rounds:?}");
                        assert!(cut.generation >= last, "time runs forward");
                        last = cut.generation;
                        if let Some(same) = cuts.get(&cut.generation) {
                            assert_eq!(*same, cut.values, "one generation, one answer");
                        }
                        cuts.clear();
                        cuts.insert(cut.generation, cut.values);
                        seen += 1;
                    }
                    seen
                })
            })
            .collect();
        for round in 1..=ROUNDS {
            for key in 0..KEYS {
                store.upsert(key, (key % 2, round));
            }
        }
        done.store(true, Ordering::Relaxed);
        for reader in readers {
            assert!(reader.join().unwrap() > 0);
        }
    });
    assert_eq!(
        store.snapshot().generation,
        u64::from(KEYS) * u64::from(ROUNDS + 1)
    );
}

#[test]
fn a_value_that_moves_between_two_pools_is_never_in_both_nor_in_none() {
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
