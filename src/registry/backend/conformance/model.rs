//! Compares a backend with plain maps under random operations.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const NAMES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

#[derive(Debug, Clone)]
pub(in super::super) enum Operation {
    Register(usize, Value),
    Update(usize, Value),
    UpdateMetadata(usize, Vec<u8>),
    Unregister(usize),
    /// Evicts every value with this second half.
    Evict(u64),
    ForgetUnregistered,
}

pub(in super::super) fn operation() -> impl Strategy<Value = Operation> {
    use Operation::*;
    let name = || 0..NAMES.len();
    let value = || (0..4u8, 0..3u64);
    prop_oneof![
        4 => (name(), value()).prop_map(|(name, value)| Register(name, value)),
        3 => (name(), value()).prop_map(|(name, value)| Update(name, value)),
        4 => (name(), prop::collection::vec(any::<u8>(), 0..4))
            .prop_map(|(name, metadata)| UpdateMetadata(name, metadata)),
        1 => name().prop_map(Unregister),
        1 => (0..3u64).prop_map(Evict),
        1 => Just(ForgetUnregistered),
    ]
}

/// The expected values and metadata.
#[derive(Debug, Default)]
pub(in super::super) struct Model {
    values: BTreeMap<&'static str, Value>,
    metadata: BTreeMap<&'static str, Vec<u8>>,
}

impl Model {
    /// Applies an operation to both, and compares the results.
    pub(in super::super) fn apply(
        &mut self,
        backend: &Backend,
        operation: Operation,
    ) -> Result<(), TestCaseError> {
        match operation {
            Operation::Register(name, value) => {
                let name = NAMES[name];
                let expected = if self.values.contains_key(name) {
                    Err(BackendError::AlreadyExists { key: key(name) })
                } else {
                    self.values.insert(name, value);
                    Ok(())
                };
                prop_assert_eq!(backend.register(&key(name), value), expected);
            }
            Operation::Update(name, value) => {
                let name = NAMES[name];
                let expected = match self.values.get_mut(name) {
                    None => Err(not_found(name)),
                    Some(before) if *before == value => Ok(Change::Unchanged),
                    Some(before) => Ok(Change::Updated(Arc::new(std::mem::replace(before, value)))),
                };
                prop_assert_eq!(backend.update(&key(name), value), expected);
            }
            Operation::UpdateMetadata(name, metadata) => {
                let name = NAMES[name];
                let answer = backend.update_metadata(&key(name), Metadata::new(metadata.clone()));
                let expected = if self.values.contains_key(name) {
                    self.metadata.insert(name, metadata);
                    Ok(())
                } else {
                    Err(not_found(name))
                };
                prop_assert_eq!(answer, expected);
            }
            Operation::Unregister(name) => {
                let name = NAMES[name];
                let expected = self.values.remove(name).ok_or_else(|| not_found(name));
                if expected.is_ok() {
                    self.metadata.remove(name);
                }
                prop_assert_eq!(backend.unregister(&key(name)), expected.map(Arc::new));
            }
            Operation::Evict(second) => {
                let gone: Vec<_> = self
                    .values
                    .extract_if(.., |_, value| value.1 == second)
                    .collect();
                for (name, _) in &gone {
                    self.metadata.remove(name);
                }
                let expected = gone.into_iter().map(|(_, value)| Arc::new(value)).collect();
                let answer = backend.evict(&|_, value| value.1 == second);
                prop_assert_eq!(answer, Ok(expected));
            }
            Operation::ForgetUnregistered => {
                let values = &self.values;
                let gone = self
                    .metadata
                    .extract_if(.., |name, _| !values.contains_key(name))
                    .count();
                prop_assert_eq!(backend.forget_unregistered(), Ok(gone));
            }
        }
        self.check(backend)
    }

    /// Simulates a process restart: values are lost.
    pub(in super::super) fn restart(&mut self) {
        self.values.clear();
    }

    pub(in super::super) fn metadata_count(&self) -> usize {
        self.metadata.len()
    }

    /// Compares everything that can be read.
    pub(in super::super) fn check(&self, backend: &Backend) -> Result<(), TestCaseError> {
        for name in NAMES {
            let value = backend.lookup(&key(name)).unwrap();
            prop_assert_eq!(value.as_deref(), self.values.get(name));
            let metadata = backend.metadata(&key(name)).unwrap();
            prop_assert_eq!(
                metadata.as_ref().map(Metadata::bytes),
                self.metadata.get(name).map(Vec::as_slice)
            );
        }
        let all = backend.list().unwrap();
        prop_assert_eq!(
            values(&all),
            self.values.values().copied().collect::<Vec<_>>()
        );
        prop_assert_eq!(backend.counter().count(), self.values.len());
        let mut indices = BTreeSet::new();
        for index in 0..4 {
            let expected: Vec<Value> = self
                .values
                .values()
                .filter(|value| value.0 == index && index != 0)
                .copied()
                .collect();
            if !expected.is_empty() {
                indices.insert(index);
            }
            let snapshot = backend.list_by(&index).unwrap();
            prop_assert_eq!(values(&snapshot), expected);
            prop_assert_eq!(snapshot.generation, all.generation);
        }
        let answer: BTreeSet<u8> = backend.indices().unwrap().into_iter().collect();
        prop_assert_eq!(answer, indices);
        Ok(())
    }
}

proptest! {
    // Each case creates a file.
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_backend_behaves_like_two_maps(operations in prop::collection::vec(operation(), 0..60)) {
        for (name, make) in BACKENDS {
            eprintln!("backend: {name}");
            let folder = tempfile::tempdir().unwrap();
            let backend = make(folder.path());
            backend.init().unwrap();
            let mut model = Model::default();
            model.check(&backend)?;
            for operation in operations.clone() {
                model.apply(&backend, operation)?;
            }
        }
    }
}
