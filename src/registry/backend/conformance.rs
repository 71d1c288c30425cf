//! The contract of all backends. A third backend is one more line in `BACKENDS`.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use super::file::Database;
use super::memory::MemoryBackend;
use super::{BackendError, MAX_KEY, MAX_METADATA, Metadata, Opened, StateBackend};
use crate::registry::store::{Change, Snapshot};

mod inputs;
pub(super) mod model;

/// Indexed by the first half; a first half of 0 is not indexed.
pub(super) type Value = (u8, u64);
pub(super) type Backend = Arc<dyn StateBackend<Value, u8>>;

/// Creates a backend that may use this empty directory.
type Make = fn(&Path) -> Backend;

pub(super) const BACKENDS: [(&str, Make); 2] = [
    ("memory", |_| Arc::new(MemoryBackend::new(index_of))),
    ("file", |folder| {
        Arc::new(Database::new(folder.join("state")).table("nodes", index_of))
    }),
];

/// Longer than any disk access takes.
const LONG: Duration = Duration::from_secs(30);

pub(super) fn index_of(value: &Value) -> Option<u8> {
    Some(value.0).filter(|index| *index != 0)
}

pub(super) fn key(name: &str) -> Arc<str> {
    Arc::from(name)
}

pub(super) fn bytes(bytes: &[u8]) -> Metadata {
    Metadata::new(bytes)
}

/// Runs a test with each backend, printing its name for failures.
fn with_each_unopened(test: impl Fn(Backend)) {
    for (name, make) in BACKENDS {
        eprintln!("backend: {name}");
        let folder = tempfile::tempdir().unwrap();
        test(make(folder.path()));
    }
}

fn with_each(test: impl Fn(Backend)) {
    with_each_unopened(|backend| {
        assert_eq!(backend.init(), Ok(Opened::default()));
        test(backend);
    });
}

/// Ends the other thread when it is dropped, also after a failed assertion.
struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn values(snapshot: &Snapshot<Value>) -> Vec<Value> {
    snapshot.values.iter().map(|value| **value).collect()
}

fn not_found(name: &str) -> BackendError {
    BackendError::NotFound { key: key(name) }
}

#[test]
fn nothing_works_before_it_is_opened_and_it_is_opened_once() {
    with_each_unopened(|backend| {
        let a = key("a");
        let errors = [
            backend.register(&a, (1, 1)).err(),
            backend.update(&a, (1, 1)).err(),
            backend.lookup(&a).err(),
            backend.unregister(&a).err(),
            backend.evict(&|_, _| true).err(),
            backend.list().err(),
            backend.list_by(&1).err(),
            backend.indices().err(),
            backend.metadata(&a).err(),
            backend.update_metadata(&a, bytes(b"x")).err(),
            backend.forget_unregistered().err(),
            backend.health_check().err(),
            backend.flush(LONG).err(),
        ];
        for error in errors {
            assert_eq!(error.unwrap().category(), "unavailable");
        }
        assert_eq!(backend.counter().count(), 0);
        assert_eq!(backend.init(), Ok(Opened::default()));
        assert_eq!(backend.lookup(&a), Ok(None), "nothing was changed before");
        assert_eq!(backend.init().unwrap_err().category(), "unavailable");
        assert_eq!(
            backend.health_check(),
            Ok(()),
            "the second `init` changed nothing"
        );
    });
}

#[test]
fn a_key_is_registered_once_before_it_can_be_updated() {
    with_each(|backend| {
        let a = key("a");
        assert_eq!(backend.update(&a, (1, 1)), Err(not_found("a")));
        assert_eq!(backend.lookup(&a), Ok(None));
        assert_eq!(backend.register(&a, (1, 1)), Ok(()));
        assert_eq!(
            backend.register(&a, (2, 2)),
            Err(BackendError::AlreadyExists { key: key("a") })
        );
        assert_eq!(backend.lookup(&a), Ok(Some(Arc::new((1, 1)))));
        assert_eq!(
            backend.update(&a, (2, 2)),
            Ok(Change::Updated(Arc::new((1, 1))))
        );
        assert_eq!(backend.lookup(&a), Ok(Some(Arc::new((2, 2)))));
        assert_eq!(backend.unregister(&a), Ok(Arc::new((2, 2))));
        assert_eq!(backend.unregister(&a), Err(not_found("a")));
        assert_eq!(backend.lookup(&a), Ok(None));
        assert_eq!(backend.register(&a, (3, 3)), Ok(()));
    });
}

#[test]
fn an_equal_value_changes_nothing() {
    with_each(|backend| {
        backend.register(&key("a"), (1, 1)).unwrap();
        let before = backend.list().unwrap();
        assert_eq!(backend.update(&key("a"), (1, 1)), Ok(Change::Unchanged));
        assert_eq!(backend.list(), Ok(before));
    });
}

#[test]
fn a_value_is_found_by_its_index_and_moves_with_it() {
    with_each(|backend| {
        for (name, value) in [("b", (1, 1)), ("a", (1, 2)), ("c", (2, 3)), ("d", (0, 4))] {
            backend.register(&key(name), value).unwrap();
        }
        let indices = || -> BTreeSet<u8> { backend.indices().unwrap().into_iter().collect() };
        let of = |index| values(&backend.list_by(&index).unwrap());
        assert_eq!(values(&backend.list().unwrap()).len(), 4);
        assert_eq!((of(1), of(2)), (vec![(1, 2), (1, 1)], vec![(2, 3)]));
        assert_eq!((of(0), of(9)), (vec![], vec![]), "neither is an index");
        assert_eq!(indices(), [1, 2].into());

        backend.update(&key("a"), (2, 2)).unwrap();
        assert_eq!((of(1), of(2)), (vec![(1, 1)], vec![(2, 2), (2, 3)]));
        backend.update(&key("b"), (0, 1)).unwrap();
        assert_eq!((of(1), indices()), (vec![], [2].into()));
        backend.unregister(&key("c")).unwrap();
        assert_eq!(of(2), [(2, 2)]);
        backend.evict(&|_, value| value.0 == 2).unwrap();
        assert_eq!((of(2), indices()), (vec![], [].into()));
    });
}

#[test]
fn evict_removes_only_matching_keys_and_their_metadata() {
    with_each(|backend| {
        for (number, name) in (0..).zip(["d", "a", "c", "b"]) {
            backend.register(&key(name), (1, number)).unwrap();
            backend
                .update_metadata(&key(name), bytes(name.as_bytes()))
                .unwrap();
        }
        let generation = backend.list().unwrap().generation;
        let gone = backend
            .evict(&|key, value| &**key == "a" || value.1 == 0)
            .unwrap();
        let gone: Vec<Value> = gone.iter().map(|value| **value).collect();
        assert_eq!(gone, [(1, 1), (1, 0)], "ordered by key");
        let left = backend.list().unwrap();
        assert_eq!(values(&left), [(1, 3), (1, 2)]);
        assert_eq!(left.generation, generation + 1, "one change");
        for (name, metadata) in [
            ("a", None),
            ("b", Some(bytes(b"b"))),
            ("c", Some(bytes(b"c"))),
            ("d", None),
        ] {
            assert_eq!(backend.metadata(&key(name)), Ok(metadata), "{name}");
        }
        assert_eq!(backend.evict(&|_, _| false), Ok(vec![]));
        assert_eq!(backend.list(), Ok(left));
    });
}

#[test]
fn every_counter_shows_the_number_of_registered_keys() {
    with_each(|backend| {
        let counter = backend.counter();
        assert_eq!(counter.count(), 0);
        for name in ["a", "b", "c"] {
            backend.register(&key(name), (1, 1)).unwrap();
        }
        assert_eq!(counter.count(), 3);
        backend.update(&key("a"), (2, 2)).unwrap();
        backend.update_metadata(&key("a"), bytes(b"x")).unwrap();
        assert_eq!(counter.count(), 3);
        backend.unregister(&key("a")).unwrap();
        assert_eq!(counter.count(), 2);
        backend.evict(&|_, _| true).unwrap();
        assert_eq!((counter.count(), backend.counter().count()), (0, 0));
    });
}

#[test]
fn a_list_is_a_consistent_snapshot_during_writes() {
    with_each(|backend| {
        let keys: Vec<Arc<str>> = (0..16).map(|n| key(&format!("{n:02}"))).collect();
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                let _done = Done(&done);
                // Keys are added and changed one by one, in order, and removed together.
                for _ in 0..200 {
                    for key in &keys {
                        backend.register(key, (1, 0)).unwrap();
                    }
                    for round in 1..4 {
                        for key in &keys {
                            backend.update(key, (1, round)).unwrap();
                        }
                    }
                    backend.evict(&|_, _| true).unwrap();
                }
            });
            while !done.load(Ordering::Relaxed) {
                for snapshot in [backend.list().unwrap(), backend.list_by(&1).unwrap()] {
                    let rounds: Vec<u64> = values(&snapshot).iter().map(|value| value.1).collect();
                    let (first, last) = (rounds.first().copied(), rounds.last().copied());
                    assert!(rounds.is_sorted_by(|a, b| a >= b), "{rounds:?}");
                    assert!(first.unwrap_or(0) <= last.unwrap_or(0) + 1, "{rounds:?}");
                    assert!(
                        rounds.len() == keys.len() || first.unwrap_or(0) == 0,
                        "some are gone and others are not: {rounds:?}"
                    );
                }
            }
        });
    });
}

#[test]
fn metadata_is_removed_with_its_key_during_concurrent_writes() {
    with_each(|backend| {
        let a = key("a");
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    while !done.load(Ordering::Relaxed) {
                        // Fails while the key is unregistered.
                        let _ = backend.update_metadata(&a, bytes(b"late"));
                    }
                });
            }
            let _done = Done(&done);
            for number in 0..10_000 {
                backend.register(&a, (1, 1)).unwrap();
                assert_eq!(backend.forget_unregistered(), Ok(0));
                if number % 2 == 0 {
                    backend.unregister(&a).unwrap();
                } else {
                    backend.evict(&|_, _| true).unwrap();
                }
                assert_eq!(backend.metadata(&a), Ok(None), "in round {number}");
            }
        });
    });
}

#[test]
fn a_healthy_backend_reports_health_and_flushes() {
    with_each(|backend| {
        backend.register(&key("a"), (1, 1)).unwrap();
        backend.update_metadata(&key("a"), bytes(b"x")).unwrap();
        assert_eq!(backend.flush(LONG), Ok(()));
        assert_eq!(backend.flush(LONG), Ok(()), "with nothing to do");
        assert_eq!(backend.health_check(), Ok(()));
    });
}
