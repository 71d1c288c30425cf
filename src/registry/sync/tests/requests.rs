//! Requests: which share a sync, which wait, and what waiting callers get.

use super::*;

#[tokio::test(start_paused = true)]
async fn requests_before_a_sync_share_it_and_the_strongest_reason_names_it() {
    let bench = Bench::start([Step::Take(SECOND)]);
    bench.until(2 * SECOND).await;
    for reason in [
        SyncReason::WatchRestarted,
        SyncReason::AskedFor,
        SyncReason::LeadershipGained,
        SyncReason::WatchRestarted,
    ] {
        bench.handle.request(reason);
    }
    bench.until(8 * Duration::from_mins(1)).await;
    let expected = [SyncReason::Start, SyncReason::AskedFor];
    assert_eq!(bench.reasons(), expected);
}

#[tokio::test(start_paused = true)]
async fn simultaneous_watch_restarts_trigger_two_syncs() {
    let bench = Bench::start([Step::Take(SECOND)]);
    for second in 60..66 {
        bench.until(second * SECOND).await;
        bench.handle.request(SyncReason::WatchRestarted);
    }
    bench.until(8 * Duration::from_mins(1)).await;
    let begun = bench.begun();
    assert_eq!(begun.len(), 3, "{begun:?}");
    assert_eq!(begun[1].0, SyncReason::WatchRestarted);
    assert!((60_000..=60_001).contains(&begun[1].1), "{begun:?}");
    assert_eq!(begun[2].0, SyncReason::WatchRestarted);
    assert!((90_000..=90_002).contains(&begun[2].1), "{begun:?}");
}

#[tokio::test(start_paused = true)]
async fn requests_during_a_sync_trigger_one_more_right_afterwards() {
    let bench = Bench::start([Step::Take(5 * SECOND)]);
    for second in [1, 2, 3] {
        bench.until(second * SECOND).await;
        bench.handle.request(SyncReason::LeadershipGained);
    }
    bench.until(8 * Duration::from_mins(1)).await;
    let expected = [(SyncReason::Start, 0), (SyncReason::LeadershipGained, 5000)];
    assert_eq!(bench.begun(), expected);
}

#[tokio::test(start_paused = true)]
async fn a_request_after_a_failure_does_not_wait_for_the_next_tick() {
    let bench = Bench::start([Step::Fail(SECOND), Step::Take(SECOND)]);
    bench.until(10 * SECOND).await;
    let status = bench.handle.sync_now(SyncReason::AskedFor).await.unwrap();
    assert_eq!(status.attempts, 2);
    assert!(bench.begin.elapsed() <= 12 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_request_during_a_sync_waits_for_the_next_one() {
    let bench = Bench::start([Step::Take(5 * SECOND)]);
    bench.until(2 * SECOND).await;
    let status = bench.handle.sync_now(SyncReason::AskedFor).await.unwrap();
    assert_eq!(status.reason, SyncReason::AskedFor);
    assert_eq!(status.last_attempt.as_second(), 1_700_000_005);
    assert_eq!(bench.begin.elapsed().as_secs(), 10);
}

#[tokio::test(start_paused = true)]
async fn a_request_before_the_first_sync_waits_for_it() {
    let steps = [Step::Take(SECOND)];
    let bench = Bench::start_with(steps, INTERVAL, Memory::default(), sleep(SECOND));
    let status = bench.handle.sync_now(SyncReason::AskedFor).await.unwrap();
    assert_eq!(status.reason, SyncReason::Start);
    bench.until(60 * SECOND).await;
    assert_eq!(bench.begun().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_waiting_caller_gets_the_failure() {
    let bench = Bench::start([Step::Fail(SECOND)]);
    let error = bench.handle.sync_now(SyncReason::AskedFor).await;
    assert_eq!(error, Err(SyncError::Failed("no answer".to_owned())));
}

#[tokio::test(start_paused = true)]
async fn waiting_and_later_callers_get_an_error_when_the_operator_stops() {
    let bench = Bench::start([Step::Hang]);
    let waiting = tokio::spawn({
        let handle = bench.handle.clone();
        async move { handle.sync_now(SyncReason::AskedFor).await }
    });
    bench.until(SECOND).await;
    bench.stop.cancel();
    assert_eq!(waiting.await.unwrap(), Err(SyncError::Stopped));
    let late = bench.handle.sync_now(SyncReason::AskedFor).await;
    assert_eq!(late, Err(SyncError::Stopped));
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_sync_stops_within_a_second_and_the_next_tick_comes() {
    let bench = Bench::start([Step::Take(SECOND), Step::Hang, Step::Take(SECOND)]);
    bench.until(5 * SECOND).await;
    let ticket = bench.handle.request(SyncReason::AskedFor);
    let other = bench.handle.request(SyncReason::AskedFor);
    bench.until(6 * SECOND).await;
    assert_eq!(bench.status().phase, SyncPhase::Syncing);
    ticket.cancel();
    bench.until(7 * SECOND).await;
    assert_eq!(bench.status().phase, SyncPhase::Failed);
    assert_eq!(bench.script.running.load(Ordering::Relaxed), 0);
    let result = other.finished().now_or_never().unwrap();
    assert_eq!(
        result,
        Err(SyncError::Failed("Cancelled on request".into()))
    );
    bench.until(12 * Duration::from_mins(1)).await;
    assert_eq!(bench.status().phase, SyncPhase::Complete);
}

#[tokio::test(start_paused = true)]
async fn cancelling_does_not_affect_a_sync_begun_before_the_request() {
    let bench = Bench::start([Step::Take(5 * SECOND)]);
    bench.until(SECOND).await;
    bench.handle.request(SyncReason::AskedFor).cancel();
    bench.until(60 * SECOND).await;
    assert_eq!(bench.status().phase, SyncPhase::Complete);
    assert_eq!(
        bench.begun(),
        [(SyncReason::Start, 0)],
        "the request was withdrawn"
    );
}
