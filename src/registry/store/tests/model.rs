//! Random operations on the store and on a plain map, with equal results and content.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone, Copy)]
enum Operation {
    Upsert(u8, Value),
    Update(u8, Value),
    GetOrInsert(u8, Value),
    Remove(u8),
    RemoveEven(u8),
    EvictAbove(u8),
}

fn operation() -> impl Strategy<Value = Operation> {
    let (key, value) = (|| 0..8u8, || (0..4u8, 0..3u8));
    prop_oneof![
        4 => (key(), value()).prop_map(|(key, value)| Operation::Upsert(key, value)),
        2 => (key(), value()).prop_map(|(key, value)| Operation::Update(key, value)),
        2 => (key(), value()).prop_map(|(key, value)| Operation::GetOrInsert(key, value)),
        1 => key().prop_map(Operation::Remove),
        1 => key().prop_map(Operation::RemoveEven),
        1 => (0..3u8).prop_map(Operation::EvictAbove),
    ]
}

type Model = BTreeMap<u8, Value>;

/// The result of an update: the other half stays.
fn merge(value: Value, new: Value) -> Value {
    (new.0, value.1)
}

/// Runs it on both; returns whether that was a change.
fn run(
    operation: Operation,
    store: &Store<u8, Value, u8>,
    model: &mut Model,
) -> Result<bool, TestCaseError> {
    match operation {
        Operation::Upsert(key, value) => {
            let expected = change(model.insert(key, value), value);
            let change = store.upsert(key, value);
            prop_assert_eq!(&change, &expected);
            Ok(change != Change::Unchanged)
        }
        Operation::Update(key, value) => {
            let expected = model.get_mut(&key).map(|now| {
                let before = *now;
                *now = merge(before, value);
                change(Some(before), *now)
            });
            let change = store.update(&key, |before| merge(*before, value));
            prop_assert_eq!(&change, &expected);
            Ok(change.is_some_and(|change| change != Change::Unchanged))
        }
        Operation::GetOrInsert(key, value) => {
            let is_new = !model.contains_key(&key);
            let expected = *model.entry(key).or_insert(value);
            let (got, inserted) = store.get_or_insert(key, value);
            prop_assert_eq!((*got, inserted), (expected, is_new));
            Ok(inserted)
        }
        Operation::Remove(key) => {
            let removed = store.remove(&key);
            prop_assert_eq!(removed.as_deref().copied(), model.remove(&key));
            Ok(removed.is_some())
        }
        Operation::RemoveEven(key) => {
            let expected = model
                .get(&key)
                .copied()
                .filter(|value| value.1.is_multiple_of(2));
            if expected.is_some() {
                model.remove(&key);
            }
            let removed = store.remove_if(&key, |value| value.1.is_multiple_of(2));
            prop_assert_eq!(removed.as_deref().copied(), expected);
            Ok(removed.is_some())
        }
        Operation::EvictAbove(limit) => {
            let gone = |key: &u8, value: &Value| value.1 > limit || *key == limit;
            let expected: Vec<_> = model
                .iter()
                .filter(|(key, value)| gone(key, value))
                .map(|(key, value)| (*key, *value))
                .collect();
            model.retain(|key, value| !gone(key, value));
            let evicted = entries(store.evict_where(gone));
            prop_assert_eq!(&evicted, &expected);
            Ok(!evicted.is_empty())
        }
    }
}

fn change(before: Option<Value>, after: Value) -> Change<Value> {
    match before {
        None => Change::Inserted,
        Some(before) if before == after => Change::Unchanged,
        Some(before) => Change::Updated(Arc::new(before)),
    }
}

/// Compares everything that can be read with the model.
fn check(store: &Store<u8, Value, u8>, model: &Model) -> Result<(), TestCaseError> {
    for key in 0..8 {
        let value = store.get(&key);
        prop_assert_eq!(value.as_deref(), model.get(&key));
        prop_assert_eq!(store.contains(&key), model.contains_key(&key));
    }
    let mut keys = store.keys();
    keys.sort_unstable();
    prop_assert_eq!(keys, model.keys().copied().collect::<Vec<_>>());
    prop_assert_eq!(store.count(), model.len());
    prop_assert_eq!(store.counter().count(), model.len());
    let all = store.snapshot();
    prop_assert_eq!(values(&all), model.values().copied().collect::<Vec<_>>());
    prop_assert_eq!(store.generation(), all.generation);
    for index in 0..4u8 {
        let of_index: Vec<(u8, Value)> = model
            .iter()
            .filter(|(_, (i, _))| *i == index && index != 0)
            .map(|(key, value)| (*key, *value))
            .collect();
        let keys: Vec<u8> = of_index.iter().map(|(key, _)| *key).collect();
        let snapshot = store.snapshot_of(&index);
        prop_assert_eq!(snapshot.generation, all.generation);
        prop_assert_eq!(
            values(&snapshot),
            of_index.iter().map(|(_, value)| *value).collect::<Vec<_>>()
        );
        prop_assert_eq!(store.first_of(&index), keys.first().copied());
        prop_assert_eq!(store.keys_of(&index), keys);
    }
    let mut indices = store.indices();
    indices.sort_unstable();
    let expected: BTreeSet<u8> = model.values().map(|value| value.0).collect();
    prop_assert_eq!(
        indices,
        expected.into_iter().filter(|i| *i != 0).collect::<Vec<_>>()
    );
    Ok(())
}

proptest! {
    #[test]
    fn a_store_is_a_map_whose_generation_rises_exactly_with_changes(
        operations in prop::collection::vec(operation(), 0..40),
    ) {
        let (store, mut model) = (store(), Model::new());
        check(&store, &model)?;
        for operation in operations {
            let before = store.generation();
            let changed = run(operation, &store, &mut model)?;
            prop_assert_eq!(store.generation(), before + u64::from(changed));
            check(&store, &model)?;
        }
    }
}
