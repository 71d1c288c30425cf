//! The file backend: what is there after a restart, and what it does to be so.

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

/// Longer than any disk takes.
const LONG: Duration = Duration::from_secs(30);

/// How often something is looked at of which nothing tells.
const GLANCE: Duration = Duration::from_millis(1);

/// Short times, for what waits for them.
const HURRY: Pace = Pace {
    gather: Duration::from_millis(5),
    first_retry: Duration::from_millis(5),
    last_retry: Duration::from_millis(20),
    stalled: Duration::from_millis(50),
    close: Duration::from_millis(50),
};

/// A place for a state file; goes away with it.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        // In memory where that can be had: a kill leaves the same behind, and nobody waits for the disk.
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

    /// The names in the folder.
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

/// The nodes of a file that is there or not, opened.
fn open(path: &Path) -> (Backend, Opened) {
    let backend = nodes(&Database::new(path));
    let opened = once_free(&backend).unwrap();
    (backend, opened)
}

/// Opens a file, for which it may have to wait: until a writer has ended that was given little time,
/// or a process begins that another test forked while the file was open.
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
        set_aside: None,
    }
}

/// Registers a key, and gives it metadata.
fn keep(backend: &Backend, name: &str, metadata: &str) {
    if backend.lookup(&key(name)).unwrap().is_none() {
        backend.register(&key(name), (1, 1)).unwrap();
    }
    backend
        .update_metadata(&key(name), bytes(metadata.as_bytes()))
        .unwrap();
}

/// What metadata a key has, which is text.
fn kept(backend: &Backend, name: &str) -> Option<String> {
    let metadata = backend.metadata(&key(name)).unwrap()?;
    Some(String::from_utf8(metadata.bytes().to_vec()).unwrap())
}

/// Looks until it is so; for what nothing tells.
fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < LONG, "not so after {LONG:?}: {what}");
        thread::sleep(GLANCE);
    }
}

#[test]
fn metadata_is_there_again_and_values_are_not() {
    let place = Place::new();
    let (backend, opened) = open(&place.path());
    assert_eq!(opened, restored(0));
    keep(&backend, "a", "first");
    keep(&backend, "b", "second");
    keep(&backend, "a", "third");
    keep(&backend, "gone", "x");
    backend.unregister(&key("gone")).unwrap();
    backend.flush(LONG).unwrap();
    drop(backend);

    let (backend, opened) = open(&place.path());
    assert_eq!(opened, restored(2));
    assert_eq!(backend.counter().count(), 0, "values are evaluated anew");
    assert_eq!(kept(&backend, "a").as_deref(), Some("third"));
    assert_eq!(kept(&backend, "b").as_deref(), Some("second"));
    assert_eq!(kept(&backend, "gone"), None);
    backend.register(&key("a"), (1, 1)).unwrap();
    assert_eq!(kept(&backend, "a").as_deref(), Some("third"));
    assert_eq!(place.names(), ["state"]);
}

#[test]
fn what_is_not_registered_after_a_listing_is_forgotten_also_on_the_disk() {
    let place = Place::new();
    let (backend, _) = open(&place.path());
    for name in ["a", "b", "c"] {
        keep(&backend, name, "x");
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
    assert_eq!(kept(&backend, "a"), None);
    drop(backend);

    let (backend, opened) = open(&place.path());
    assert_eq!(opened, restored(1));
    assert_eq!(kept(&backend, "b").as_deref(), Some("x"));
}

#[test]
fn tables_of_one_file_do_not_see_each_other() {
    let place = Place::new();
    let pools = |database: &Database| -> Backend { Arc::new(database.table("pools", index_of)) };
    {
        let database = Database::new(place.path());
        let (nodes, pools) = (nodes(&database), pools(&database));
        assert_eq!(nodes.init(), Ok(restored(0)));
        assert_eq!(pools.init(), Ok(restored(0)));
        keep(&nodes, "a", "node");
        keep(&pools, "a", "pool");
        keep(&pools, "b", "pool");
        nodes.unregister(&key("a")).unwrap();
        nodes.flush(LONG).unwrap();
    }
    let database = Database::new(place.path());
    let (nodes, pools) = (nodes(&database), pools(&database));
    assert_eq!(pools.init(), Ok(restored(2)));
    keep(&pools, "c", "pool");
    pools.flush(LONG).unwrap();
    assert_eq!(
        nodes.init(),
        Ok(restored(0)),
        "opened later, from the same file"
    );
    assert_eq!(kept(&pools, "a").as_deref(), Some("pool"));
    assert_eq!(kept(&nodes, "a"), None);
}

#[test]
fn the_largest_of_everything_is_there_again() {
    let place = Place::new();
    let (backend, _) = open(&place.path());
    let (long, most) = ("k".repeat(253), "m".repeat(64 * 1024));
    keep(&backend, &long, &most);
    keep(&backend, "empty", "");
    keep(&backend, "\u{0}\n🙈", "odd");
    drop(backend);
    let (backend, opened) = open(&place.path());
    assert_eq!(opened, restored(3));
    assert_eq!(kept(&backend, &long), Some(most));
    assert_eq!(kept(&backend, "empty").as_deref(), Some(""));
    assert_eq!(kept(&backend, "\u{0}\n🙈").as_deref(), Some("odd"));
}

#[test]
fn metadata_gets_to_the_disk_after_a_second_without_being_asked_for() {
    let place = Place::new();
    let control = Control::new();
    let backend = nodes(&Database::with(control.file(place.path()), Pace::default()));
    backend.init().unwrap();
    control.forget_events();
    let begin = Instant::now();
    keep(&backend, "a", "x");
    loop {
        control.next_sync(LONG);
        // As a kill just now would leave it.
        let copy = Place::new();
        fs::copy(place.path(), copy.path()).unwrap();
        if kept(&open(&copy.path()).0, "a").is_some() {
            break;
        }
    }
    let elapsed = begin.elapsed();
    let gathered = Duration::from_millis(900);
    assert!(elapsed > gathered, "{elapsed:?}: nothing was gathered");
    // Two on a machine with nothing else to do.
    assert!(elapsed < LONG / 3, "{elapsed:?}");
}

#[test]
fn what_is_equal_is_not_written() {
    let place = Place::new();
    let control = Control::new();
    let backend = nodes(&Database::with(control.file(place.path()), HURRY));
    backend.init().unwrap();
    keep(&backend, "a", "x");
    backend.flush(LONG).unwrap();
    let before = control.operations();
    for _ in 0..10 {
        keep(&backend, "a", "x");
        backend.update(&key("a"), (2, 2)).unwrap();
        backend.update(&key("a"), (1, 1)).unwrap();
        backend.flush(LONG).unwrap();
    }
    assert_eq!(control.operations(), before);
}

#[test]
fn two_who_flush_at_once_both_come_back() {
    let place = Place::new();
    let (backend, _) = open(&place.path());
    thread::scope(|scope| {
        for name in ["a", "b", "c", "d"] {
            let backend = &backend;
            scope.spawn(move || {
                for number in 0..10 {
                    keep(backend, name, &number.to_string());
                    backend.flush(LONG).unwrap();
                }
            });
        }
    });
    drop(backend);
    let (backend, _) = open(&place.path());
    for name in ["a", "b", "c", "d"] {
        assert_eq!(kept(&backend, name).as_deref(), Some("9"));
    }
}

proptest! {
    // Each case waits for the disk many times.
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn after_a_restart_the_metadata_is_as_it_was(
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
