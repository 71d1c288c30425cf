//! The backlog, without a disk.

use super::*;
use crate::registry::backend::Metadata;

const PACE: Pace = Pace {
    gather: Duration::from_millis(20),
    first_retry: Duration::from_secs(1),
    last_retry: Duration::from_secs(30),
    stalled: Duration::from_secs(10),
    close: Duration::from_secs(2),
};

fn backlog() -> (Backlog, MetadataStore, TableId) {
    let backlog = Backlog::new("state".into(), PACE);
    let metadata = MetadataStore::default();
    let table = backlog.add_table("nodes", Arc::clone(&metadata));
    backlog.begin();
    (backlog, metadata, table)
}

fn key(name: &str) -> Arc<str> {
    Arc::from(name)
}

fn change(backlog: &Backlog, metadata: &MetadataStore, table: TableId, name: &str, text: &str) {
    metadata.upsert(key(name), Metadata::new(text.as_bytes()));
    backlog.mark(table, &key(name));
}

/// Returns what would be written, in order.
fn written(backlog: &Backlog, batch: &Batch) -> Vec<(String, Option<String>)> {
    let text = |metadata: Metadata| String::from_utf8(metadata.bytes().to_vec()).unwrap();
    let mut rows: Vec<_> = backlog
        .rows(batch)
        .into_iter()
        .flat_map(|(_, rows)| rows)
        .map(|(key, metadata)| (key.to_string(), metadata.map(text)))
        .collect();
    rows.sort();
    rows
}

fn error(why: &str) -> BackendError {
    BackendError::Unavailable {
        why: why.to_owned(),
    }
}

#[test]
fn repeated_changes_are_written_once_with_the_newest_metadata() {
    let (backlog, metadata, table) = backlog();
    let begin = Instant::now();
    for number in 0..100 {
        change(&backlog, &metadata, table, "a", &number.to_string());
        change(&backlog, &metadata, table, "b", "x");
    }
    assert!(backlog.wait_until_due());
    assert!(begin.elapsed() >= PACE.gather);
    let batch = backlog.take();
    metadata.remove("b");
    backlog.mark(table, &key("b"));
    let expected = [
        ("a".to_owned(), Some("99".to_owned())),
        ("b".to_owned(), None),
    ];
    assert_eq!(written(&backlog, &batch), expected);
}

#[test]
fn a_key_that_changes_while_it_is_written_is_written_again() {
    let (backlog, metadata, table) = backlog();
    change(&backlog, &metadata, table, "a", "1");
    assert!(backlog.wait_until_due());
    let batch = backlog.take();
    written(&backlog, &batch);
    change(&backlog, &metadata, table, "a", "2");
    backlog.succeeded(&batch);
    let error = backlog.flush(Duration::from_millis(1)).unwrap_err();
    assert_eq!(error.category(), "timeout", "it is not durable yet");
    assert!(backlog.wait_until_due());
    let batch = backlog.take();
    assert_eq!(
        written(&backlog, &batch),
        [("a".to_owned(), Some("2".to_owned()))]
    );
    backlog.succeeded(&batch);
    assert_eq!(backlog.flush(Duration::ZERO), Ok(()));
}

#[test]
fn failed_writes_are_retried_with_doubling_delays_up_to_the_longest() {
    let (backlog, metadata, table) = backlog();
    change(&backlog, &metadata, table, "a", "1");
    let delay = || {
        let state = backlog.lock();
        let failure = state.failure.as_ref().unwrap();
        assert!(failure.retry_at <= Instant::now() + failure.retry_in);
        failure.retry_in.as_secs()
    };
    let mut delays = Vec::new();
    for number in 0..7 {
        let batch = backlog.take();
        assert_eq!(written(&backlog, &batch).len(), 1);
        assert!(backlog.failed(Some(batch), error(&number.to_string())));
        assert_eq!(backlog.health(), Err(error(&number.to_string())));
        delays.push(delay());
    }
    assert_eq!(delays, [1, 2, 4, 8, 16, 30, 30]);

    let batch = backlog.take();
    backlog.succeeded(&batch);
    assert_eq!(backlog.health(), Ok(()));
    change(&backlog, &metadata, table, "a", "2");
    let batch = backlog.take();
    backlog.failed(Some(batch), error("again"));
    assert_eq!(delay(), 1, "the delay starts over");
}

#[test]
fn dirty_keys_are_tried_once_at_the_end() {
    let (backlog, metadata, table) = backlog();
    change(&backlog, &metadata, table, "a", "1");
    backlog.lock().is_stopping = true;
    let begin = Instant::now();
    assert!(backlog.wait_until_due());
    assert!(begin.elapsed() < PACE.gather, "immediately");
    let batch = backlog.take();
    assert!(!backlog.failed(Some(batch), error("full")));
    let batch = backlog.take();
    backlog.succeeded(&batch);
    assert!(!backlog.wait_until_due(), "nothing more to do");
}

#[test]
fn without_a_writer_health_and_flush_fail() {
    let (backlog, metadata, table) = backlog();
    change(&backlog, &metadata, table, "a", "1");
    backlog.end();
    let message = backlog.health().unwrap_err().to_string();
    assert_eq!(message, "state is no longer written");
    assert!(
        backlog.flush(Duration::from_mins(1)).is_err(),
        "immediately"
    );
}
