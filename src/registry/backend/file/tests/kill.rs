//! kill -9 at any point: flushed data survives.

use std::hash::{BuildHasher as _, RandomState};
use std::io::{BufRead as _, BufReader, Read as _, Write as _, stdin, stdout};
use std::process::{Child, Command, Stdio};

use super::storage::{Control, Health};
use super::*;

/// The path of the child's file; set only in the child.
const PATH: &str = "NODE_INSIGHTS_TEST_STATE_FILE";
const KEYS: usize = 20;
const ROUNDS: usize = 20;

/// Runs this program again, as the child for this test.
fn child(test: &str, path: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", &format!("{MODULE}::{test}")])
        .env(PATH, path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

const MODULE: &str = "registry::backend::file::tests::kill";

fn print(line: &str) {
    println!("{line}");
    stdout().flush().unwrap();
}

#[test]
fn a_child_that_writes_until_it_is_killed() {
    let Some(path) = std::env::var_os(PATH) else {
        return;
    };
    let (backend, _) = open(Path::new(&path));
    let first = get(&backend, "0").map_or(0, |number| number.parse().unwrap());
    for number in first + 1.. {
        for name in 0..KEYS {
            put(&backend, &name.to_string(), &u64::to_string(&number));
        }
        backend.flush(LONG).unwrap();
        print(&format!("durable {number}"));
    }
}

#[test]
fn flushed_data_survives_kill_9_at_any_moment() {
    let place = Place::new();
    let mut durable = 0;
    let mut progress = 0;
    for round in 0..ROUNDS {
        let mut child = child("a_child_that_writes_until_it_is_killed", &place.path());
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut last = None;
        // Some are killed while they open the file, except the first one, which creates it.
        if round == 0 || !round.is_multiple_of(3) {
            last = lines.find_map(|line| number(&line.unwrap()));
        }
        let random = RandomState::new().hash_one(round) % 50_000;
        thread::sleep(Duration::from_micros(random));
        child.kill().unwrap();
        let last = lines
            .filter_map(|line| number(&line.unwrap()))
            .last()
            .or(last);
        child.wait().unwrap();
        if let Some(last) = last {
            assert!(last > durable);
            durable = last;
            progress += 1;
        }
        let (backend, opened) = open(&place.path());
        assert_eq!(opened, restored(KEYS), "in round {round}");
        for name in 0..KEYS {
            let found: u64 = get(&backend, &name.to_string()).unwrap().parse().unwrap();
            assert!(
                (durable..=durable + 1).contains(&found),
                "in round {round}: {found} instead of {durable}"
            );
        }
        // A commit that the child did not report any more counts from here on.
        durable = get(&backend, "0").unwrap().parse().unwrap();
    }
    assert!(progress > ROUNDS / 2, "{progress} children came to write");
    assert_eq!(place.names(), ["state"]);
}

fn number(line: &str) -> Option<u64> {
    line.strip_prefix("durable ")?.parse().ok()
}

#[test]
fn a_child_that_has_the_file_open() {
    let Some(path) = std::env::var_os(PATH) else {
        return;
    };
    let (_backend, _) = open(Path::new(&path));
    print("open");
    let _ = stdin().read(&mut [0]);
}

#[test]
fn a_file_open_in_another_process_is_rejected_until_it_is_closed() {
    let place = Place::new();
    let mut child = child("a_child_that_has_the_file_open", &place.path());
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap() == "open"));
    let backend = nodes(&Database::new(place.path()));
    let error = backend.init().unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "{} is open in another process: stop that one, or give this one another file",
            place.path().display()
        )
    );
    assert_eq!(place.names(), ["state"]);
    drop(child.stdin.take());
    child.wait().unwrap();
    assert_eq!(once_free(&backend), Ok(restored(0)));
}

/// Writes twice to a file on a disk that fails at operation `end`. Returns what was flushed by then,
/// and the number of operations.
fn live_until(end: u64, path: &Path) -> (u64, u64) {
    let control = Control::new();
    control.set(Health::Ends(end));
    let mut flushed = 0;
    'lives: for life in 0..2 {
        let backend = nodes(&Database::with(control.file(path.to_owned()), HURRY));
        if once_free(&backend).is_err() {
            break;
        }
        for number in life * 10 + 1..life * 10 + 3 {
            for name in 0..KEYS {
                let much = format!("{number} ").repeat(100 * name);
                put(&backend, &name.to_string(), &format!("{number} {much}"));
            }
            if backend.flush(LONG).is_err() {
                break 'lives;
            }
            flushed = number;
        }
    }
    (flushed, control.operations())
}

#[test]
fn flushed_data_survives_an_end_after_every_single_write() {
    let place = Place::new();
    let (flushed, operations) = live_until(u64::MAX, &place.path());
    assert_eq!(flushed, 12);
    assert!(operations > 50, "{operations}");
    for end in 0..operations {
        let place = Place::new();
        let (flushed, _) = live_until(end, &place.path());
        let (backend, opened) = open(&place.path());
        if flushed == 0 {
            continue;
        }
        assert_eq!(opened, restored(KEYS), "after {end} writes");
        let first = |name: usize| -> u64 {
            let metadata = get(&backend, &name.to_string()).unwrap();
            metadata.split(' ').next().unwrap().parse().unwrap()
        };
        let found: Vec<u64> = (0..KEYS).map(first).collect();
        assert!(
            found.iter().all(|found| *found >= flushed),
            "after {end} writes: {found:?} instead of {flushed}"
        );
    }
}
