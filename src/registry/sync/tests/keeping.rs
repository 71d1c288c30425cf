//! Persisting the status: in order, in parallel with syncs, and harmless when it fails.

use super::*;

fn status(phase: SyncPhase) -> SyncStatus {
    SyncStatus {
        phase,
        ..SyncStatus::begun(None, SyncReason::Interval, Timestamp::UNIX_EPOCH).completed(
            COMPARED,
            SECOND,
            Timestamp::UNIX_EPOCH,
        )
    }
}

fn found(found: Result<SyncStatus, StoreError>) -> Memory {
    Memory {
        found: Mutex::new(Some(found)),
        ..Memory::default()
    }
}

fn slow(takes: Duration) -> Memory {
    Memory {
        takes: Mutex::new(takes),
        ..Memory::default()
    }
}

#[tokio::test(start_paused = true)]
async fn the_status_is_saved_at_the_beginning_and_end_of_a_sync() {
    let bench = Bench::start([Step::Take(SECOND)]);
    bench.until(SECOND / 2).await;
    assert_eq!(bench.saved(), [SyncPhase::Syncing]);
    bench.until(SECOND).await;
    assert_eq!(bench.saved(), [SyncPhase::Syncing, SyncPhase::Complete]);
    assert_eq!(bench.memory.saved.lock().unwrap()[1], bench.status());
}

#[tokio::test(start_paused = true)]
async fn the_last_status_is_shown_immediately_after_a_restart() {
    let last = status(SyncPhase::Complete);
    let memory = found(Ok(last.clone()));
    let steps = [Step::Fail(SECOND)];
    let bench = Bench::start_with(steps, INTERVAL, memory, sleep(10 * SECOND));
    bench.until(Duration::ZERO).await;
    assert_eq!(bench.status(), last);
    bench.until(11 * SECOND).await;
    let status = bench.status();
    assert_eq!(status.phase, SyncPhase::Failed);
    assert_eq!(
        status.last_success, last.last_success,
        "known from the last process"
    );
    assert_eq!(status.nodes_compared, 59);
}

#[tokio::test(start_paused = true)]
async fn a_sync_interrupted_by_the_last_shutdown_is_not_shown_as_running() {
    let memory = found(Ok(status(SyncPhase::Syncing)));
    let steps = [Step::Take(SECOND)];
    let bench = Bench::start_with(steps, INTERVAL, memory, sleep(10 * SECOND));
    bench.until(Duration::ZERO).await;
    let status = bench.status();
    assert_eq!(status.phase, SyncPhase::Failed);
    assert!(status.message.unwrap().contains("operator stopped"));
    bench.until(11 * SECOND).await;
    assert_eq!(bench.status().attempts, 2);
}

#[tokio::test(start_paused = true)]
async fn an_unreadable_status_is_reported_and_ignored() {
    let memory = found(Err(StoreError::Unreadable("not JSON".to_owned())));
    let steps = [Step::Take(SECOND)];
    let bench = Bench::start_with(steps, INTERVAL, memory, async {});
    bench.until(SECOND).await;
    let expected = ["not JSON", "started start", "complete in 1s"];
    assert_eq!(bench.notes(), expected);
    assert_eq!(bench.status().attempts, 1);
    assert_eq!(bench.saved().len(), 2, "it is overwritten");
}

#[tokio::test(start_paused = true)]
async fn a_failed_save_stops_no_sync_and_is_reported_each_time() {
    let bench = Bench::start([Step::Take(SECOND)]);
    bench.memory.broken.store(true, Ordering::Relaxed);
    bench.until(2 * SECOND).await;
    bench.handle.request(SyncReason::AskedFor);
    bench.until(4 * SECOND).await;
    let notes = bench.notes();
    assert_eq!(notes.iter().filter(|note| *note == "disk full").count(), 4);
    assert_eq!(
        notes
            .iter()
            .filter(|note| *note == "complete in 1s")
            .count(),
        2
    );
}

#[tokio::test(start_paused = true)]
async fn a_hanging_save_times_out_and_delays_neither_sync_nor_status() {
    let hour = Duration::from_hours(1);
    let steps = [Step::Take(SECOND)];
    let bench = Bench::start_with(steps, INTERVAL, slow(hour), async {});
    // Loading the last status times out first.
    bench.until(6 * SECOND).await;
    assert_eq!(bench.begun(), [(SyncReason::Start, 5000)]);
    assert_eq!(bench.status().phase, SyncPhase::Complete);
    bench.until(15 * SECOND).await;
    let notes = bench.notes();
    let slow = StoreError::Slow(5 * SECOND).to_string();
    let expected = [&slow, "started start", "complete in 1s", &slow, &slow];
    assert_eq!(notes, expected);
}

#[tokio::test(start_paused = true)]
async fn slow_saves_store_the_newest_statuses_in_order() {
    let bench = Bench::start_with([Step::Take(SECOND)], INTERVAL, slow(2 * SECOND), async {});
    bench.until(3 * SECOND).await;
    for _ in 0..3 {
        bench.handle.sync_now(SyncReason::AskedFor).await.unwrap();
    }
    bench.until(60 * SECOND).await;
    let saved = bench.memory.saved.lock().unwrap();
    assert_eq!(saved.last(), bench.handle.status().as_ref());
    assert!(saved.len() < 8, "some are skipped: {}", saved.len());
    assert!(saved.is_sorted_by_key(|status| (status.last_attempt, status.phase as u8)));
}

#[tokio::test(start_paused = true)]
async fn the_last_status_is_saved_when_the_operator_stops() {
    let bench = Bench::start_with([Step::Hang], INTERVAL, slow(SECOND), async {});
    bench.until(10 * SECOND).await;
    bench.stop.cancel();
    bench.task.await.unwrap();
    let saved = bench.memory.saved.lock().unwrap();
    let message = saved.last().unwrap().message.as_deref().unwrap();
    assert!(message.contains("operator stopped"), "{message}");
}

#[tokio::test(start_paused = true)]
async fn a_hanging_store_does_not_delay_shutdown() {
    let bench = Bench::start_with([Step::Hang], INTERVAL, slow(60 * SECOND), async {});
    bench.until(10 * SECOND).await;
    bench.stop.cancel();
    bench.task.await.unwrap();
    assert!(bench.begin.elapsed() <= 13 * SECOND);
    let notes = bench.notes.0.lock().unwrap();
    assert!(notes.last().unwrap().contains("within 2s"), "{notes:?}");
}
