//! The file backend: what a restart restores, and how.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use self::storage::Control;
use super::backlog::Pace;
use super::*;
use crate::registry::backend::conformance::model::{Model, operation};
use crate::registry::backend::conformance::{Backend, bytes, index_of, key};

mod damage;
mod disk_full;
mod kill;
mod refusals;
mod storage;

/// Longer than any disk access takes.
const LONG: Duration = Duration::from_secs(30);

/// Poll interval for conditions without a notification.
const GLANCE: Duration = Duration::from_millis(1);

/// Short delays and timeouts.
const HURRY: Pace = Pace {
    gather: Duration::from_millis(5),
    first_retry: Duration::from_millis(5),
    last_retry: Duration::from_millis(20),
    stalled: Duration::from_millis(50),
    close: Duration::from_millis(50),
};

/// A temporary directory for a state file.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        // In memory if possible: a kill leaves the same content behind, and tests do not wait for a
        // disk.
        let memory = Path::new("/dev/shm");
        let folder = if memory.is_dir() {
            tempfile::tempdir_in(memory)
        } else {
            tempfile::tempdir()
        };
        Self {
            folder: folder.unwrap(),
        }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    /// Returns the names in the directory.
    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.folder.path()).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

fn nodes(database: &Database) -> Backend {
    Arc::new(database.table("nodes", index_of))
}

/// Opens the nodes of a file, which may exist already.
fn open(path: &Path) -> (Backend, Opened) {
    let backend = nodes(&Database::new(path));
    let opened = once_free(&backend).unwrap();
    (backend, opened)
}

/// Opens a file that may still be locked: by a writer that got little time to end, or by a process that
/// another test forked while the file was open.
fn once_free(backend: &Backend) -> Result<Opened, BackendError> {
    let begin = Instant::now();
    loop {
        match backend.init() {
            Err(BackendError::InUse { .. }) if begin.elapsed() < LONG => thread::sleep(GLANCE),
            answer => return answer,
        }
    }
}

fn restored(restored: usize) -> Opened {
    Opened {
        restored,
        quarantined: None,
    }
}

/// Registers a key with metadata.
fn put(backend: &Backend, name: &str, metadata: &str) {
    if backend.lookup(&key(name)).unwrap().is_none() {
        backend.register(&key(name), (1, 1)).unwrap();
    }
    backend
        .update_metadata(&key(name), bytes(metadata.as_bytes()))
        .unwrap();
}

/// Returns the metadata of a key, as text.
fn get(backend: &Backend, name: &str) -> Option<String> {
    let metadata = backend.metadata(&key(name)).unwrap()?;
    Some(String::from_utf8(metadata.bytes().to_vec()).unwrap())
}

/// Polls until the condition holds.
fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < LONG, "not within {LONG:?}: {what}");
        thread::sleep(GLANCE);
    }
}

#[test]
fn a_restart_restores_metadata_but_not_values() {
    let place = Place::new();
    let (backend, opened) = open(&place.path());
    assert_eq!(opened, restored(0));
    put(&backend, "a", "first");
    put(&backend, "b", "second");
    put(&backend, "a", "third");
    put(&backend, "gone", "x");
    backend.unregister(&key("gone")).unwrap();
    backend.flush(LONG).unwrap();
    drop(backend);

    let (backend, opened) = open(&place.path());
    assert_eq!(opened, restored(2));
    assert_eq!(backend.counter().count(), 0, "values are evaluated again");
    assert_eq!(get(&backend, "a").as_deref(), Some("third"));
    assert_eq!(get(&backend, "b").as_deref(), Some("second"));
    assert_eq!(get(&backend, "gone"), None);
    backend.register(&key("a"), (1, 1)).unwrap();
    assert_eq!(get(&backend, "a").as_deref(), Some("third"));
    assert_eq!(place.names(), ["state"]);
}

#[test]
fn forgetting_unregistered_keys_also_removes_them_from_the_disk() {
    let place = Place::new();
    let (backend, _) = open(&place.path());
    for name in ["a", "b", "c"] {
        put(&backend, name, "x");
    }
    drop(backend);

    let (backend, opened) = open(&place.path());
    assert_eq!(opened.restored, 3, "dropping it flushed it");
    backend.register(&key("b"), (1, 1)).unwrap();
    assert_eq!(
        backend
            .update_metadata(&key("a"), bytes(b"y"))
            .unwrap_err()
            .category(),
        "not_found"
    );
    assert_eq!(backend.forget_unregistered(), Ok(2));
    assert_eq!(get(&backend, "a"), None);
    drop(backend);

    let (backend, opened) = open(&place.path());
    assert_eq!(opened, restored(1));
    assert_eq!(get(&backend, "b").as_deref(), Some("x"));
}

#[test]
fn tables_of_one_file_are_independent() {
    let place = Place::new();
    let pools = |database: &Database| -> Backend { Arc::new(database.table("pools", index_of)) };
    {
        let database = Database::new(place.path());
        let (nodes, pools) = (nodes(&database), pools(&database));
        assert_eq!(nodes.init(), Ok(restored(0)));
        assert_eq!(pools.init(), Ok(restored(0)));
        put(&nodes, "a", "node");
        put(&pools, "a", "pool");
        put(&pools, "b", "pool");
        nodes.unregister(&key("a")).unwrap();
        nodes.flush(LONG).unwrap();
    }
    let database = Database::new(place.path());
    let (nodes, pools) = (nodes(&database), pools(&database));
    assert_eq!(pools.init(), Ok(restored(2)));
    put(&pools, "c", "pool");
    pools.flush(LONG).unwrap();
    assert_eq!(
        nodes.init(),
        Ok(restored(0)),
        "opened later from the same file"
    );
    assert_eq!(get(&pools, "a").as_deref(), Some("pool"));
    assert_eq!(get(&nodes, "a"), None);
}

#[test]
fn the_largest_keys_and_metadata_survive_a_restart() {
    let place = Place::new();
    let (backend, _) = open(&place.path());
    let (long, most) = ("k".repeat(253), "m".repeat(64 * 1024));
    put(&backend, &long, &most);
    put(&backend, "empty", "");
    put(&backend, "\u{0}\n🙈", "odd");
    drop(backend);
    let (backend, opened) = open(&place.path());
    assert_eq!(opened, restored(3));
    assert_eq!(get(&backend, &long), Some(most));
    assert_eq!(get(&backend, "empty").as_deref(), Some(""));
    assert_eq!(get(&backend, "\u{0}\n🙈").as_deref(), Some("odd"));
}

#[test]
fn metadata_is_written_within_about_a_second_without_a_flush() {
    let place = Place::new();
    let control = Control::new();
    let backend = nodes(&Database::with(control.file(place.path()), Pace::default()));
    backend.init().unwrap();
    control.forget_events();
    let begin = Instant::now();
    put(&backend, "a", "x");
    loop {
        control.next_sync(LONG);
        // The state after a kill at this moment.
        let copy = Place::new();
        fs::copy(place.path(), copy.path()).unwrap();
        if get(&open(&copy.path()).0, "a").is_some() {
            break;
        }
    }
    let elapsed = begin.elapsed();
    let gathered = Duration::from_millis(900);
    assert!(elapsed > gathered, "{elapsed:?}: nothing was gathered");
    // Takes two on an idle machine.
    assert!(elapsed < LONG / 3, "{elapsed:?}");
}

#[test]
fn unchanged_metadata_is_not_written() {
    let place = Place::new();
    let control = Control::new();
    let backend = nodes(&Database::with(control.file(place.path()), HURRY));
    backend.init().unwrap();
    put(&backend, "a", "x");
    backend.flush(LONG).unwrap();
    let before = control.operations();
    for _ in 0..10 {
        put(&backend, "a", "x");
        backend.update(&key("a"), (2, 2)).unwrap();
        backend.update(&key("a"), (1, 1)).unwrap();
        backend.flush(LONG).unwrap();
    }
    assert_eq!(control.operations(), before);
}

#[test]
fn concurrent_flushes_both_return() {
    let place = Place::new();
    let (backend, _) = open(&place.path());
    thread::scope(|scope| {
        for name in ["a", "b", "c", "d"] {
            let backend = &backend;
            scope.spawn(move || {
                for number in 0..10 {
                    put(backend, name, &number.to_string());
                    backend.flush(LONG).unwrap();
                }
            });
        }
    });
    drop(backend);
    let (backend, _) = open(&place.path());
    for name in ["a", "b", "c", "d"] {
        assert_eq!(get(&backend, name).as_deref(), Some("9"));
    }
}

proptest! {
    // Each case waits for the disk many times.
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn random_metadata_survives_restarts(
        lives in prop::collection::vec(prop::collection::vec(operation(), 0..20), 1..4),
    ) {
        let place = Place::new();
        let mut model = Model::default();
        for operations in lives {
            let (backend, opened) = open(&place.path());
            prop_assert_eq!(opened, restored(model.metadata_count()));
            model.check(&backend)?;
            for (number, operation) in operations.into_iter().enumerate() {
                model.apply(&backend, operation)?;
                if number % 7 == 0 {
                    backend.flush(LONG).unwrap();
                }
            }
            drop(backend);
            model.restart();
        }
        let (backend, opened) = open(&place.path());
        prop_assert_eq!(opened, restored(model.metadata_count()));
        model.check(&backend)?;
    }
}
