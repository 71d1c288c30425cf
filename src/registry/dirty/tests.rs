//! No mark is lost, and no key is read twice.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

fn rest(reader: &mut Reader<u32, u32>) -> Vec<(u32, u32)> {
    std::iter::from_fn(|| reader.try_next()).collect()
}

#[test]
fn keys_are_read_in_the_order_of_their_first_marks_with_their_first_tags() {
    let (marker, mut reader) = dirty_set();
    assert_eq!(marker.mark(2, 20), Marked::New);
    assert_eq!(marker.mark(1, 10), Marked::New);
    assert_eq!(marker.mark(2, 21), Marked::Coalesced);
    assert_eq!(marker.mark(3, 30), Marked::New);
    assert_eq!(reader.pending(), 3);
    assert_eq!(rest(&mut reader), [(2, 20), (1, 10), (3, 30)]);
    assert_eq!((reader.pending(), reader.try_next()), (0, None));
}

#[test]
fn a_key_that_is_marked_again_after_it_was_read_is_read_again() {
    let (marker, mut reader) = dirty_set();
    marker.mark(1, 1);
    marker.mark(2, 1);
    assert_eq!(reader.try_next(), Some((1, 1)));
    assert_eq!(marker.mark(1, 2), Marked::New);
    assert_eq!(rest(&mut reader), [(2, 1), (1, 2)]);
}

#[tokio::test]
async fn a_reader_that_waits_is_woken_and_waits_again_when_nothing_is_left() {
    let (marker, mut reader) = dirty_set();
    let waiting = tokio::spawn(async move {
        let key = reader.next().await;
        (key, reader)
    });
    tokio::task::yield_now().await;
    marker.mark(1, 1);
    let (key, mut reader) = waiting.await.unwrap();
    assert_eq!(key, Some((1, 1)));
    let more = futures::FutureExt::now_or_never(reader.next());
    assert_eq!(more, None, "nothing is left");
}

#[tokio::test]
async fn keys_marked_before_the_last_marker_was_dropped_are_still_read() {
    let (marker, mut reader) = dirty_set();
    marker.clone().mark(1, 1);
    marker.mark(2, 2);
    drop(marker);
    assert_eq!(reader.next().await, Some((1, 1)));
    assert_eq!(reader.next().await, Some((2, 2)));
    assert_eq!(reader.next().await, None);
}

#[tokio::test]
async fn a_cancelled_wait_loses_nothing() {
    let (marker, mut reader) = dirty_set();
    for key in 0..100 {
        assert!(futures::FutureExt::now_or_never(reader.next()).is_none());
        marker.mark(key, 0);
        assert_eq!(reader.next().await, Some((key, 0)));
    }
}

#[test]
fn marking_without_a_reader_does_not_fail() {
    let (marker, reader) = dirty_set();
    drop(reader);
    assert_eq!(marker.mark(1, 1), Marked::New);
    assert_eq!(marker.mark(1, 1), Marked::Coalesced);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_mark_of_many_threads_is_seen_by_a_later_read() {
    // The value is raised before the key is marked, so the last read of the key sees the last value.
    const THREADS: usize = 8;
    const MARKS: usize = 5_000;
    const KEYS: usize = 16;
    let values: Arc<Vec<_>> = Arc::new(
        (0..KEYS)
            .map(|_| std::sync::atomic::AtomicUsize::new(0))
            .collect(),
    );
    let (marker, mut reader) = dirty_set();
    let threads: Vec<_> = (0..THREADS)
        .map(|thread| {
            let (marker, values) = (marker.clone(), Arc::clone(&values));
            std::thread::spawn(move || {
                for mark in 0..MARKS {
                    let key = (thread + mark) % KEYS;
                    values[key].fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                    marker.mark(key, ());
                }
            })
        })
        .collect();
    drop(marker);
    let mut seen = [0; KEYS];
    let reading = async {
        while let Some((key, ())) = reader.next().await {
            seen[key] = values[key].load(std::sync::atomic::Ordering::SeqCst);
        }
    };
    tokio::time::timeout(std::time::Duration::from_mins(1), reading)
        .await
        .expect("the reader is woken");
    for thread in threads {
        thread.join().unwrap();
    }
    assert_eq!(seen.iter().sum::<usize>(), THREADS * MARKS);
}

proptest! {
    #[test]
    fn a_dirty_set_behaves_like_an_ordered_set(steps in prop::collection::vec(prop::option::of(0..6u32), 0..80)) {
        let (marker, mut reader) = dirty_set();
        let mut model: Vec<(u32, u32)> = Vec::new();
        for (tag, step) in (0..).zip(steps) {
            if let Some(key) = step {
                let dirty: BTreeSet<u32> = model.iter().map(|(key, _)| *key).collect();
                let expected = if dirty.contains(&key) { Marked::Coalesced } else { Marked::New };
                if expected == Marked::New {
                    model.push((key, tag));
                }
                prop_assert_eq!(marker.mark(key, tag), expected);
            } else {
                let next = (!model.is_empty()).then(|| model.remove(0));
                prop_assert_eq!(reader.try_next(), next);
            }
            prop_assert_eq!(reader.pending(), model.len());
        }
        prop_assert_eq!(rest(&mut reader), model);
    }
}
