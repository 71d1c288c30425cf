//! A disk that is full, broken or hangs while the program runs: memory still works, health reports the
//! failure, and nothing is lost once the disk works again.

use super::storage::{Control, Health};
use super::*;

fn begin(place: &Place) -> (Backend, Arc<Control>) {
    let control = Control::new();
    let backend = nodes(&Database::with(control.file(place.path()), HURRY));
    assert_eq!(backend.init(), Ok(restored(0)));
    put(&backend, "before", "x");
    backend.flush(LONG).unwrap();
    (backend, control)
}

#[test]
fn nothing_is_lost_once_a_full_disk_has_room() {
    let place = Place::new();
    let (backend, control) = begin(&place);
    control.set(Health::Full);
    put(&backend, "a", "1");
    put(&backend, "once", "1");
    let error = backend.flush(LONG).unwrap_err();
    assert_eq!(error.category(), "unavailable");
    assert!(error.to_string().contains("no storage space"), "{error}");
    assert!(
        error.to_string().contains(&*place.path().to_string_lossy()),
        "{error}"
    );
    // Repeatedly; later changes are included.
    for number in 2..20 {
        put(&backend, "a", &number.to_string());
        put(&backend, &format!("b{number}"), "y");
        backend.unregister(&key(&format!("b{number}"))).unwrap();
        assert_eq!(
            backend.health_check().unwrap_err().category(),
            "unavailable"
        );
        backend.flush(LONG).unwrap_err();
    }
    put(&backend, "c", "z");
    backend.unregister(&key("before")).unwrap();
    assert_eq!(get(&backend, "a").as_deref(), Some("19"));

    control.set(Health::Well);
    eventually("it recovers without help", || {
        backend.health_check().is_ok()
    });
    drop(backend);
    let (backend, opened) = open(&place.path());
    assert_eq!(opened, restored(3));
    assert_eq!(get(&backend, "a").as_deref(), Some("19"));
    assert_eq!(get(&backend, "once").as_deref(), Some("1"));
    assert_eq!(get(&backend, "c").as_deref(), Some("z"));
    assert_eq!(place.names(), ["state"]);
}

#[test]
fn a_flush_does_not_wait_for_the_next_attempt() {
    let place = Place::new();
    let control = Control::new();
    let slow = Pace {
        first_retry: LONG,
        last_retry: LONG,
        ..HURRY
    };
    let backend = nodes(&Database::with(control.file(place.path()), slow));
    backend.init().unwrap();
    control.set(Health::Full);
    put(&backend, "a", "x");
    backend.flush(LONG).unwrap_err();
    control.set(Health::Well);
    let begin = Instant::now();
    assert_eq!(backend.flush(LONG), Ok(()));
    assert!(begin.elapsed() < LONG / 2);
    assert_eq!(backend.health_check(), Ok(()));
}

#[test]
fn operations_do_not_wait_for_a_hanging_disk_and_health_reports_it() {
    let place = Place::new();
    let (backend, control) = begin(&place);
    control.set(Health::Hangs);
    // The disk hangs until `Control` ends it: any wait for it would hang the test.
    for round in 0..10 {
        for number in 0..100 {
            put(&backend, &number.to_string(), &round.to_string());
            assert_eq!(get(&backend, &number.to_string()), Some(round.to_string()));
        }
    }
    eventually("health reports the hang", || {
        backend
            .health_check()
            .is_err_and(|error| error.category() == "timeout")
    });
    let error = backend.flush(Duration::from_millis(20)).unwrap_err();
    assert_eq!(error.category(), "timeout");
    assert_eq!(
        error.to_string(),
        format!(
            "writing {} takes longer than 0.02 s: check whether the disk hangs",
            place.path().display()
        )
    );
    assert_eq!(backend.counter().count(), 101, "memory still works");

    control.set(Health::Well);
    backend.flush(LONG).unwrap();
    assert_eq!(backend.health_check(), Ok(()));
    drop(backend);
    let (backend, opened) = open(&place.path());
    assert_eq!(opened, restored(101));
    assert_eq!(get(&backend, "99").as_deref(), Some("9"));
}

#[test]
fn the_program_ends_even_when_the_disk_hangs() {
    let place = Place::new();
    let (backend, control) = begin(&place);
    control.set(Health::Hangs);
    put(&backend, "a", "x");
    let begin = Instant::now();
    drop(backend);
    let elapsed = begin.elapsed();
    assert!(elapsed >= HURRY.close, "{elapsed:?}: it was given time");
    assert!(elapsed < LONG / 2, "{elapsed:?}");
    control.set(Health::Well);
    eventually("the hanging write completes", || {
        let backend = nodes(&Database::new(place.path()));
        backend.init().is_ok_and(|opened| opened.restored == 2)
    });
}

#[test]
fn a_deleted_file_is_recreated_with_everything() {
    let place = Place::new();
    let (backend, control) = begin(&place);
    control.set(Health::Full);
    put(&backend, "a", "x");
    backend.flush(LONG).unwrap_err();
    fs::remove_file(place.path()).unwrap();
    control.set(Health::Well);
    backend.flush(LONG).unwrap();
    drop(backend);
    let (backend, opened) = open(&place.path());
    assert_eq!(opened, restored(2));
    assert_eq!(get(&backend, "before").as_deref(), Some("x"));
}

#[test]
fn damage_to_an_open_file_is_reported_and_the_file_not_touched() {
    let place = Place::new();
    let (backend, control) = begin(&place);
    control.set(Health::Garbled);
    put(&backend, "a", "x");
    backend.flush(LONG).unwrap_err();
    eventually("the damage is found", || {
        backend
            .health_check()
            .is_err_and(|error| error.category() == "corrupt")
    });
    let message = backend.health_check().unwrap_err().to_string();
    assert!(
        message.contains("restart, which quarantines it"),
        "{message}"
    );
    assert_eq!(get(&backend, "before").as_deref(), Some("x"));
    assert_eq!(place.names(), ["state"]);

    control.set(Health::Well);
    backend.flush(LONG).unwrap();
    assert_eq!(backend.health_check(), Ok(()));
}

#[test]
fn a_panic_while_writing_counts_as_a_failed_attempt() {
    let place = Place::new();
    let (backend, control) = begin(&place);
    control.set(Health::Panics);
    put(&backend, "a", "x");
    let error = backend.flush(LONG).unwrap_err();
    assert!(error.to_string().contains("on purpose"), "{error}");
    control.set(Health::Well);
    eventually("it is written", || backend.health_check().is_ok());
    drop(backend);
    assert_eq!(open(&place.path()).1, restored(2));
}

#[test]
fn a_full_disk_at_the_start_is_reported_and_the_next_attempt_succeeds() {
    let place = Place::new();
    let control = Control::new();
    let backend = nodes(&Database::with(control.file(place.path()), HURRY));
    control.set(Health::Full);
    let error = backend.init().unwrap_err();
    assert_eq!(error.category(), "inaccessible");
    assert!(
        error.to_string().ends_with(": free some disk space"),
        "{error}"
    );
    control.set(Health::Well);
    assert_eq!(backend.init(), Ok(restored(0)));
    put(&backend, "a", "x");
    backend.flush(LONG).unwrap();
}
