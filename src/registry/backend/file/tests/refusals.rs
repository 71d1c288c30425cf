//! Problems that only the user can fix: the error contains the remedy, and no file is touched.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;

use redb::{MultimapTableDefinition, ReadableDatabase as _, TableDefinition};

use super::*;

pub(super) const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
pub(super) const NODES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("nodes");

/// Returns the error of opening a file at this path.
fn open_error(path: &Path) -> BackendError {
    let backend = nodes(&Database::new(path));
    let error = backend.init().unwrap_err();
    assert_eq!(
        backend.lookup(&key("a")).unwrap_err().category(),
        "unavailable",
        "it is not open"
    );
    error
}

/// Creates a database as another version or program would.
pub(super) fn foreign(path: &Path, write: impl FnOnce(&redb::WriteTransaction)) {
    let database = redb::Database::create(path).unwrap();
    let transaction = database.begin_write().unwrap();
    write(&transaction);
    transaction.commit().unwrap();
}

#[test]
fn an_unknown_format_is_rejected_and_the_file_unchanged() {
    for (format, remedy) in [(0, "format 0"), (2, "format 2"), (u64::MAX, "format 184")] {
        let place = Place::new();
        foreign(&place.path(), |transaction| {
            let mut meta = transaction.open_table(META).unwrap();
            meta.insert("format", format).unwrap();
            let mut nodes = transaction.open_table(NODES).unwrap();
            nodes.insert("a", &b"theirs"[..]).unwrap();
        });
        let error = open_error(&place.path());
        assert_eq!(error.category(), "unknown_format");
        let message = error.to_string();
        for part in [remedy, "this version reads format 1", "remove or rename"] {
            assert!(message.contains(part), "{message}");
        }
        assert_eq!(place.names(), ["state"]);
        let database = redb::Database::open(place.path()).unwrap();
        let nodes = database.begin_read().unwrap().open_table(NODES).unwrap();
        let row = redb::ReadableTable::get(&nodes, "a").unwrap().unwrap();
        assert_eq!(row.value(), b"theirs");
    }
}

#[test]
fn a_database_of_another_program_is_rejected() {
    type Write = fn(&redb::WriteTransaction);
    let writes: [Write; 4] = [
        |transaction| drop(transaction.open_table(NODES).unwrap()),
        |transaction| drop(transaction.open_table(META).unwrap()),
        |transaction| {
            let table = MultimapTableDefinition::<&str, u64>::new("other");
            drop(transaction.open_multimap_table(table).unwrap());
        },
        |transaction| {
            let mut meta = transaction.open_table(META).unwrap();
            meta.insert("format", 1).unwrap();
            let nodes = TableDefinition::<u64, u64>::new("nodes");
            drop(transaction.open_table(nodes).unwrap());
        },
    ];
    for write in writes {
        let place = Place::new();
        foreign(&place.path(), write);
        let message = open_error(&place.path()).to_string();
        assert!(message.contains("tables of another program"), "{message}");
        assert_eq!(place.names(), ["state"]);
    }
}

#[test]
fn an_older_database_format_is_rejected_and_the_file_unchanged() {
    let place = Place::new();
    put(&open(&place.path()).0, "a", "x");
    let mut content = fs::read(place.path()).unwrap();
    // The version fields of the two headers.
    for offset in [64, 192] {
        assert_eq!(content[offset], 3);
        content[offset] = 2;
    }
    fs::write(place.path(), &content).unwrap();
    let error = open_error(&place.path());
    assert_eq!(error.category(), "unknown_format");
    assert!(
        error.to_string().contains("a database of file format 2"),
        "{error}"
    );
    assert_eq!(place.names(), ["state"]);
    assert!(fs::read(place.path()).unwrap() == content);
}

#[test]
fn a_path_that_cannot_be_a_file_is_rejected_with_a_remedy() {
    let place = Place::new();
    let folder = place.folder.path();
    let file = folder.join("file");
    fs::write(&file, "text").unwrap();
    for (path, remedy) in [
        (folder.to_owned(), "give the path of a file"),
        (folder.join("none/state"), "create its directory first"),
        (
            file.join("state"),
            "give a path whose parents are directories",
        ),
        ("/dev/null".into(), "give the path of a file"),
    ] {
        let error = open_error(&path);
        assert_eq!(error.category(), "inaccessible", "{error}");
        let message = error.to_string();
        assert!(message.ends_with(&format!(": {remedy}")), "{message}");
        assert!(message.starts_with(&*path.to_string_lossy()), "{message}");
    }
    assert_eq!(place.names(), ["file"]);
    assert_eq!(fs::read(&file).unwrap(), b"text");
}

#[test]
fn a_file_without_permission_is_rejected_with_a_remedy() {
    let place = Place::new();
    let (backend, _) = open(&place.path());
    put(&backend, "a", "x");
    drop(backend);
    fs::set_permissions(place.path(), Permissions::from_mode(0o400)).unwrap();
    // Root may do everything except create a file in sysfs.
    let is_root = fs::OpenOptions::new()
        .write(true)
        .open(place.path())
        .is_ok();
    let path = if is_root {
        PathBuf::from("/sys/state")
    } else {
        place.path()
    };
    let error = open_error(&path);
    if is_root && !error.to_string().contains("ermission denied") {
        eprintln!("SKIPPED: root may write everywhere here: {error}");
        return;
    }
    assert_eq!(error.category(), "inaccessible", "{error}");
    assert!(
        error
            .to_string()
            .ends_with(": let the user that this runs as read and write it and its directory"),
        "{error}"
    );
    fs::set_permissions(place.path(), Permissions::from_mode(0o600)).unwrap();
    assert_eq!(open(&place.path()).1, restored(1), "nothing was lost");
    assert_eq!(place.names(), ["state"]);
}

#[test]
fn an_open_file_is_rejected_also_in_the_same_process() {
    let place = Place::new();
    let (backend, _) = open(&place.path());
    put(&backend, "a", "x");
    let error = open_error(&place.path());
    assert_eq!(error.category(), "in_use");
    drop(backend);
    assert_eq!(open(&place.path()).1, restored(1));
    assert_eq!(place.names(), ["state"]);
}
