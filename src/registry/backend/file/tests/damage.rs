//! Damaged files: they are quarantined unchanged and replaced by a new one, or their content is read
//! correctly.

use std::sync::LazyLock;

use super::refusals::{META, NODES, foreign};
use super::*;

/// Number of entries in a valid file.
const ENTRIES: usize = 40;

fn metadata(number: usize) -> String {
    format!("{number} ").repeat(10 * number)
}

/// The bytes of a valid file, either closed or left by a killed process.
fn valid_file(is_closed: bool) -> &'static [u8] {
    static CLOSED: LazyLock<Vec<u8>> = LazyLock::new(|| write(true));
    static KILLED: LazyLock<Vec<u8>> = LazyLock::new(|| write(false));
    if is_closed { &CLOSED } else { &KILLED }
}

fn write(is_closed: bool) -> Vec<u8> {
    let place = Place::new();
    let (backend, _) = open(&place.path());
    for number in 0..ENTRIES {
        put(&backend, &number.to_string(), "old");
    }
    backend.flush(LONG).unwrap();
    for number in 0..ENTRIES {
        put(&backend, &number.to_string(), &metadata(number));
    }
    backend.flush(LONG).unwrap();
    if is_closed {
        drop(backend);
    }
    fs::read(place.path()).unwrap()
}

/// Opens a file with this content. Returns the metadata by number, or `None` if it was quarantined.
fn evaluate(content: &[u8]) -> Option<Vec<String>> {
    let place = Place::new();
    fs::write(place.path(), content).unwrap();
    let (backend, opened) = open(&place.path());
    let found = if let Some(quarantined) = opened.quarantined {
        assert_eq!(opened.restored, 0);
        assert!(!quarantined.why.is_empty());
        assert!(
            fs::read(&quarantined.path).unwrap() == content,
            "quarantined unchanged"
        );
        assert_eq!(place.names().len(), 2);
        None
    } else {
        assert_eq!(opened.restored, ENTRIES);
        assert_eq!(place.names(), ["state"]);
        let found = (0..ENTRIES).map(|number| get(&backend, &number.to_string()).unwrap());
        Some(found.collect())
    };
    // In either case the file is valid from now on.
    put(&backend, "new", "x");
    backend.flush(LONG).unwrap();
    drop(backend);
    let (backend, opened) = open(&place.path());
    let count = found.as_ref().map_or(0, Vec::len);
    assert_eq!(opened, restored(count + 1));
    assert_eq!(get(&backend, "new").as_deref(), Some("x"));
    found
}

fn whole() -> Vec<String> {
    (0..ENTRIES).map(metadata).collect()
}

#[test]
fn a_valid_file_is_read() {
    for is_closed in [true, false] {
        assert_eq!(evaluate(valid_file(is_closed)), Some(whole()));
    }
}

#[test]
fn a_file_with_other_content_is_quarantined() {
    let zeroed = vec![0; 4096];
    for content in [
        &b"x"[..],
        b"apiVersion: v1\nkind: ConfigMap\n",
        b"redb",
        b"redb\x1A\x0A\xA9\x0D\x0A",
        &zeroed,
    ] {
        assert_eq!(evaluate(content), None, "{content:?}");
    }
}

#[test]
fn a_file_with_an_invalid_key_is_quarantined() {
    for name in ["", &"k".repeat(254)] {
        let place = Place::new();
        foreign(&place.path(), |transaction| {
            let mut meta = transaction.open_table(META).unwrap();
            meta.insert("format", 1).unwrap();
            let mut nodes = transaction.open_table(NODES).unwrap();
            nodes.insert("a", &b"x"[..]).unwrap();
            nodes.insert(name, &b"x"[..]).unwrap();
        });
        let (_, opened) = open(&place.path());
        assert_eq!(opened.restored, 0);
        let why = opened.quarantined.unwrap().why;
        assert!(why.contains("this key cannot be stored"), "{why}");
    }
}

#[test]
fn an_empty_file_counts_as_new() {
    let place = Place::new();
    fs::write(place.path(), "").unwrap();
    assert_eq!(open(&place.path()).1, restored(0));
    assert_eq!(place.names(), ["state"]);
}

#[test]
fn a_truncated_file_is_quarantined_at_any_length() {
    for is_closed in [true, false] {
        let valid_file = valid_file(is_closed);
        let (mut length, mut step) = (1, 1);
        while length < valid_file.len() {
            // The truncated part may have been empty.
            if let Some(found) = evaluate(&valid_file[..length]) {
                assert_eq!(found, whole(), "truncated at {length}");
            }
            step = (step * 3 / 2 + 1).min(100_000);
            length += step;
        }
    }
}

#[test]
fn an_older_quarantined_file_is_not_overwritten() {
    let place = Place::new();
    for number in 1..4 {
        fs::write(place.path(), format!("damage {number}")).unwrap();
        let (_, opened) = open(&place.path());
        let path = opened.quarantined.unwrap().path;
        assert_eq!(
            fs::read_to_string(path).unwrap(),
            format!("damage {number}")
        );
        assert_eq!(place.names().len(), number + 1);
    }
}

#[test]
fn a_damaged_file_is_reported_once() {
    let place = Place::new();
    fs::write(place.path(), "damage").unwrap();
    let database = Database::new(place.path());
    let (first, second) = (nodes(&database), database.table("pools", index_of));
    let quarantined = first.init().unwrap().quarantined.unwrap();
    let name = quarantined.path.file_name().unwrap().to_str().unwrap();
    let seconds = name.strip_prefix("state.damaged-").unwrap();
    seconds.parse::<u64>().unwrap();
    assert_eq!(second.init(), Ok(restored(0)));
}

#[test]
fn a_damaged_file_that_cannot_be_renamed_is_an_error_and_unchanged() {
    let place = Place::new();
    // With the longest possible name there is no room for a suffix.
    let path = place.folder.path().join("s".repeat(255));
    fs::write(&path, "damage").unwrap();
    let error = nodes(&Database::new(&path)).init().unwrap_err();
    let message = error.to_string();
    assert_eq!(error.category(), "corrupt", "{message}");
    assert!(message.contains("so move it away"), "{message}");
    assert_eq!(fs::read(&path).unwrap(), b"damage");
}

proptest! {
    // Each case opens several files.
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn flipped_bits_are_detected_or_harmless(
        is_closed in any::<bool>(),
        flips in prop::collection::vec((any::<prop::sample::Index>(), 1..=255u8), 1..4),
        near_the_start in any::<bool>(),
    ) {
        let mut content = valid_file(is_closed).to_vec();
        // Most of a small file is empty and never read.
        let used: Vec<usize> = (0..content.len())
            .filter(|offset| content[*offset] != 0 && (!near_the_start || *offset < 320))
            .collect();
        for (index, flip) in flips {
            content[used[index.index(used.len())]] ^= flip;
        }
        if let Some(found) = evaluate(&content) {
            // The last commit of a killed process may look like an interrupted one.
            let is_older = !is_closed && found.iter().all(|metadata| metadata == "old");
            prop_assert!(is_older || found == whole(), "{found:?}");
        }
    }
}
