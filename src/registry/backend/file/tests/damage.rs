//! Files that are not what was written: they are set aside, whole, and a fresh one takes their place;
//! or what is read is right.

use std::sync::LazyLock;

use super::refusals::{META, NODES, foreign};
use super::*;

/// What a sound file holds.
const ENTRIES: usize = 40;

fn metadata(number: usize) -> String {
    format!("{number} ").repeat(10 * number)
}

/// The bytes of a sound file: one that was closed, or one whose process was killed.
fn sound(is_closed: bool) -> &'static [u8] {
    static CLOSED: LazyLock<Vec<u8>> = LazyLock::new(|| write(true));
    static KILLED: LazyLock<Vec<u8>> = LazyLock::new(|| write(false));
    if is_closed { &CLOSED } else { &KILLED }
}

fn write(is_closed: bool) -> Vec<u8> {
    let place = Place::new();
    let (backend, _) = open(&place.path());
    for number in 0..ENTRIES {
        keep(&backend, &number.to_string(), "old");
    }
    backend.flush(LONG).unwrap();
    for number in 0..ENTRIES {
        keep(&backend, &number.to_string(), &metadata(number));
    }
    backend.flush(LONG).unwrap();
    if is_closed {
        drop(backend);
    }
    fs::read(place.path()).unwrap()
}

/// Opens a file with this content. What it held, by number, if it was believed.
fn judge(content: &[u8]) -> Option<Vec<String>> {
    let place = Place::new();
    fs::write(place.path(), content).unwrap();
    let (backend, opened) = open(&place.path());
    let found = if let Some(set_aside) = opened.set_aside {
        assert_eq!(opened.restored, 0);
        assert!(!set_aside.why.is_empty());
        assert!(
            fs::read(&set_aside.path).unwrap() == content,
            "set aside as it was"
        );
        assert_eq!(place.names().len(), 2);
        None
    } else {
        assert_eq!(opened.restored, ENTRIES);
        assert_eq!(place.names(), ["state"]);
        let found = (0..ENTRIES).map(|number| kept(&backend, &number.to_string()).unwrap());
        Some(found.collect())
    };
    // Whatever it was, it is a sound file from now on.
    keep(&backend, "new", "x");
    backend.flush(LONG).unwrap();
    drop(backend);
    let (backend, opened) = open(&place.path());
    let count = found.as_ref().map_or(0, Vec::len);
    assert_eq!(opened, restored(count + 1));
    assert_eq!(kept(&backend, "new").as_deref(), Some("x"));
    found
}

fn whole() -> Vec<String> {
    (0..ENTRIES).map(metadata).collect()
}

#[test]
fn a_sound_file_is_believed() {
    for is_closed in [true, false] {
        assert_eq!(judge(sound(is_closed)), Some(whole()));
    }
}

#[test]
fn what_is_no_state_file_is_set_aside() {
    let zeroed = vec![0; 4096];
    for content in [
        &b"x"[..],
        b"apiVersion: v1\nkind: ConfigMap\n",
        b"redb",
        b"redb\x1A\x0A\xA9\x0D\x0A",
        &zeroed,
    ] {
        assert_eq!(judge(content), None, "{content:?}");
    }
}

#[test]
fn a_file_with_a_key_that_cannot_be_is_set_aside() {
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
        let why = opened.set_aside.unwrap().why;
        assert!(why.contains("this key cannot be kept"), "{why}");
    }
}

#[test]
fn an_empty_file_is_a_file_that_is_new() {
    let place = Place::new();
    fs::write(place.path(), "").unwrap();
    assert_eq!(open(&place.path()).1, restored(0));
    assert_eq!(place.names(), ["state"]);
}

#[test]
fn a_file_that_was_cut_off_is_set_aside_wherever_it_was() {
    for is_closed in [true, false] {
        let sound = sound(is_closed);
        let (mut length, mut step) = (1, 1);
        while length < sound.len() {
            // What is cut off may have held nothing.
            if let Some(found) = judge(&sound[..length]) {
                assert_eq!(found, whole(), "cut off at {length}");
            }
            step = (step * 3 / 2 + 1).min(100_000);
            length += step;
        }
    }
}

#[test]
fn the_name_of_an_older_damaged_file_is_not_taken() {
    let place = Place::new();
    for number in 1..4 {
        fs::write(place.path(), format!("damage {number}")).unwrap();
        let (_, opened) = open(&place.path());
        let path = opened.set_aside.unwrap().path;
        assert_eq!(
            fs::read_to_string(path).unwrap(),
            format!("damage {number}")
        );
        assert_eq!(place.names().len(), number + 1);
    }
}

#[test]
fn a_damaged_file_is_told_of_once() {
    let place = Place::new();
    fs::write(place.path(), "damage").unwrap();
    let database = Database::new(place.path());
    let (first, second) = (nodes(&database), database.table("pools", index_of));
    let set_aside = first.init().unwrap().set_aside.unwrap();
    let name = set_aside.path.file_name().unwrap().to_str().unwrap();
    let seconds = name.strip_prefix("state.damaged-").unwrap();
    seconds.parse::<u64>().unwrap();
    assert_eq!(second.init(), Ok(restored(0)));
}

#[test]
fn a_damaged_file_that_cannot_be_renamed_is_an_error_and_stays() {
    let place = Place::new();
    // The longest name that there is leaves no room for another.
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
    fn flipped_bits_are_found_or_do_not_matter(
        is_closed in any::<bool>(),
        flips in prop::collection::vec((any::<prop::sample::Index>(), 1..=255u8), 1..4),
        near_the_start in any::<bool>(),
    ) {
        let mut content = sound(is_closed).to_vec();
        // Most of a small file is empty, and nobody reads that.
        let used: Vec<usize> = (0..content.len())
            .filter(|offset| content[*offset] != 0 && (!near_the_start || *offset < 320))
            .collect();
        for (index, flip) in flips {
            content[used[index.index(used.len())]] ^= flip;
        }
        if let Some(found) = judge(&content) {
            // The last commit of a process that was killed may be taken for one that was cut short.
            let is_older = !is_closed && found.iter().all(|metadata| metadata == "old");
            prop_assert!(is_older || found == whole(), "{found:?}");
        }
    }
}
