//! The coordinator, on paused time.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use futures::FutureExt;
use jiff::Timestamp;
use tokio::task::JoinHandle;

use super::*;

mod keeping;
mod requests;

const SECOND: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);
const INTERVAL: Duration = Duration::from_mins(10);
const COMPARED: Compared = Compared {
    nodes: 59,
    differences: 2,
    repaired: 2,
};

/// The behaviour of one compare; the last step of a script repeats.
#[derive(Clone, Copy)]
enum Step {
    /// Succeeds after this time.
    Take(Duration),
    /// Fails after this time.
    Fail(Duration),
    /// Reports progress, then hangs until it is dropped.
    Hang,
    /// Ends with an error as soon as it is cancelled.
    Obey,
    Panic,
}

/// A compare that follows a script.
struct Script {
    steps: Mutex<VecDeque<Step>>,
    begin: Instant,
    /// Reasons and times, in milliseconds from the start.
    begun: Mutex<Vec<(SyncReason, u128)>>,
    running: AtomicU32,
    obeyed: AtomicBool,
}

impl Compare for Script {
    fn compare<'a>(
        &'a self,
        reason: SyncReason,
        progress: SyncProgress<'a>,
        cancel: CancellationToken,
    ) -> BoxFuture<'a, Result<Compared, CompareError>> {
        Box::pin(async move {
            let at = self.begin.elapsed().as_millis();
            self.begun.lock().unwrap().push((reason, at));
            assert_eq!(
                self.running.fetch_add(1, Ordering::Relaxed),
                0,
                "only one runs"
            );
            let _running = Running(&self.running);
            let step = {
                let mut steps = self.steps.lock().unwrap();
                match steps.len() {
                    1 => steps[0],
                    _ => steps.pop_front().unwrap(),
                }
            };
            match step {
                Step::Take(time) => {
                    sleep(time).await;
                    Ok(COMPARED)
                }
                Step::Fail(time) => {
                    sleep(time).await;
                    Err("no answer".into())
                }
                Step::Hang => {
                    progress.set(12, 59);
                    std::future::pending().await
                }
                Step::Obey => {
                    cancel.cancelled().await;
                    self.obeyed.store(true, Ordering::Relaxed);
                    Err("cancelled".into())
                }
                Step::Panic => panic!("a node without a name"),
            }
        })
    }
}

struct Running<'a>(&'a AtomicU32);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Stores statuses after a delay, or fails.
#[derive(Default)]
struct Memory {
    saved: Mutex<Vec<SyncStatus>>,
    found: Mutex<Option<Result<SyncStatus, StoreError>>>,
    takes: Mutex<Duration>,
    broken: AtomicBool,
}

impl StatusStore for Memory {
    fn load(&self) -> BoxFuture<'_, Result<Option<SyncStatus>, StoreError>> {
        Box::pin(async {
            let takes = *self.takes.lock().unwrap();
            sleep(takes).await;
            self.found.lock().unwrap().clone().transpose()
        })
    }

    fn save<'a>(&'a self, status: &'a SyncStatus) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async {
            let takes = *self.takes.lock().unwrap();
            sleep(takes).await;
            if self.broken.load(Ordering::Relaxed) {
                return Err(StoreError::Unavailable("disk full".to_owned()));
            }
            self.saved.lock().unwrap().push(status.clone());
            Ok(())
        })
    }
}

/// Records all events.
#[derive(Default)]
struct Notes(Mutex<Vec<String>>);

impl Observe for Notes {
    fn started(&self, reason: SyncReason) {
        let mut notes = self.0.lock().unwrap();
        notes.push(format!("started {}", reason.as_str()));
    }

    fn finished(&self, status: &SyncStatus, took: Duration) {
        let mut notes = self.0.lock().unwrap();
        notes.push(format!("{} in {took:?}", status.phase.as_str()));
    }

    fn persist_failed(&self, error: &StoreError) {
        self.0.lock().unwrap().push(error.to_string());
    }
}

/// A running coordinator.
struct Bench {
    handle: SyncHandle,
    script: Arc<Script>,
    memory: Arc<Memory>,
    notes: Arc<Notes>,
    stop: CancellationToken,
    task: JoinHandle<()>,
    begin: Instant,
}

impl Bench {
    fn start(steps: impl IntoIterator<Item = Step>) -> Self {
        Self::start_with(steps, INTERVAL, Memory::default(), async {})
    }

    fn start_with(
        steps: impl IntoIterator<Item = Step>,
        interval: Duration,
        memory: Memory,
        ready: impl Future<Output = ()> + Send + 'static,
    ) -> Self {
        let begin = Instant::now();
        let script = Arc::new(Script {
            steps: Mutex::new(steps.into_iter().collect()),
            begin,
            begun: Mutex::default(),
            running: AtomicU32::new(0),
            obeyed: AtomicBool::new(false),
        });
        let (memory, notes) = (Arc::new(memory), Arc::new(Notes::default()));
        let clock = move || {
            let seconds = i64::try_from(begin.elapsed().as_secs()).unwrap();
            Timestamp::from_second(1_700_000_000 + seconds).unwrap()
        };
        let parts = Parts {
            compare: Arc::clone(&script) as _,
            store: Arc::clone(&memory) as _,
            observe: Arc::clone(&notes) as _,
            clock: Arc::new(clock),
        };
        let coordinator = SyncCoordinator::new(parts, interval);
        let (handle, stop) = (coordinator.handle(), CancellationToken::new());
        let task = tokio::spawn(coordinator.start(ready, stop.clone()));
        Self {
            handle,
            script,
            memory,
            notes,
            stop,
            task,
            begin,
        }
    }

    /// Runs everything until this time after the start.
    async fn until(&self, moment: Duration) {
        sleep_until(self.begin + moment + MS / 2).await;
    }

    fn begun(&self) -> Vec<(SyncReason, u128)> {
        self.script.begun.lock().unwrap().clone()
    }

    fn reasons(&self) -> Vec<SyncReason> {
        self.begun().into_iter().map(|(reason, _)| reason).collect()
    }

    fn status(&self) -> SyncStatus {
        self.handle.status().unwrap()
    }

    fn notes(&self) -> Vec<String> {
        self.notes.0.lock().unwrap().clone()
    }

    fn saved(&self) -> Vec<SyncPhase> {
        let saved = self.memory.saved.lock().unwrap();
        saved.iter().map(|status| status.phase).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_sync_begins_once_ready() {
    let steps = [Step::Take(2 * SECOND)];
    let bench = Bench::start_with(steps, INTERVAL, Memory::default(), sleep(3 * SECOND));
    bench.until(2900 * MS).await;
    assert_eq!(bench.begun(), []);
    assert_eq!(bench.handle.status(), None);
    bench.until(4 * SECOND).await;
    assert_eq!(bench.begun(), [(SyncReason::Start, 3000)]);
    assert_eq!(bench.status().phase, SyncPhase::Syncing);
    bench.until(5 * SECOND).await;
    let status = bench.status();
    assert_eq!(status.phase, SyncPhase::Complete);
    assert_eq!(status.last_attempt.as_second(), 1_700_000_003);
    assert_eq!(status.last_success.unwrap().as_second(), 1_700_000_005);
    assert_eq!(status.last_duration_seconds, Some(2.0));
    let found = (status.differences_found, status.differences_repaired);
    assert_eq!((status.nodes_compared, found), (59, (2, 2)));
    assert_eq!((status.attempts, status.message), (1, None));
    assert_eq!(bench.notes(), ["started start", "complete in 2s"]);
}

#[tokio::test(start_paused = true)]
async fn later_syncs_begin_at_every_interval_within_a_tenth() {
    let bench = Bench::start([Step::Take(SECOND)]);
    bench.until(100 * INTERVAL).await;
    let begun = bench.begun();
    assert!((90..=111).contains(&begun.len()), "{}", begun.len());
    let reasons = &bench.reasons()[1..];
    assert!(reasons.iter().all(|reason| *reason == SyncReason::Interval));
    let gaps: Vec<u128> = begun.windows(2).map(|two| two[1].1 - two[0].1).collect();
    // From the end of a sync, which takes a second, to the beginning of the next.
    assert!(
        gaps.iter().all(|gap| (541_000..=661_001).contains(gap)),
        "{gaps:?}"
    );
    let (least, most) = (gaps.iter().min().unwrap(), gaps.iter().max().unwrap());
    assert!(most - least > 60_000, "at random: {least} to {most}");
}

#[tokio::test(start_paused = true)]
async fn a_failed_sync_is_counted_and_retried_within_minutes() {
    let fail = Step::Fail(SECOND);
    let bench = Bench::start([Step::Take(SECOND), fail, fail, Step::Take(SECOND)]);
    let mut seen = Vec::new();
    let mut report = bench.handle.subscribe();
    while seen.len() < 4 {
        report.changed().await.unwrap();
        let status = report.borrow_and_update().status.clone().unwrap();
        if status.phase != SyncPhase::Syncing {
            seen.push((status.phase, status.attempts, status.message));
        }
    }
    let failed = |attempts| (SyncPhase::Failed, attempts, Some("no answer".to_owned()));
    let complete = |attempts| (SyncPhase::Complete, attempts, None);
    assert_eq!(seen, [complete(1), failed(1), failed(2), complete(3)]);
    let begun = bench.begun();
    let waits: Vec<_> = begun.windows(2).map(|two| two[1].1 - two[0].1).collect();
    assert!(waits[0] >= 541_000, "at the tick: {begun:?}");
    assert!((54_000..=67_001).contains(&waits[1]), "{begun:?}");
    assert!((108_000..=133_001).contains(&waits[2]), "{begun:?}");
}

#[tokio::test(start_paused = true)]
async fn the_results_of_the_last_success_stay_while_later_syncs_run_and_fail() {
    let bench = Bench::start([Step::Take(SECOND), Step::Fail(SECOND)]);
    bench.until(SECOND).await;
    let good = bench.status();
    bench.handle.request(SyncReason::AskedFor);
    for moment in [1500 * MS, 3 * SECOND] {
        bench.until(moment).await;
        let status = bench.status();
        assert_ne!(status.phase, SyncPhase::Complete);
        assert_eq!(status.last_success, good.last_success);
        assert_eq!(status.nodes_compared, 59);
    }
}

#[tokio::test(start_paused = true)]
async fn a_hanging_compare_is_dropped_after_five_minutes() {
    let bench = Bench::start([Step::Hang]);
    bench.until(299 * SECOND).await;
    assert_eq!(bench.status().phase, SyncPhase::Syncing);
    let progress = bench.handle.subscribe().borrow().progress;
    let (done, total) = (12, 59);
    assert_eq!(progress, Some(Progress { done, total }));
    bench.until(301 * SECOND).await;
    let status = bench.status();
    assert_eq!(status.phase, SyncPhase::Failed);
    let message = status.message.unwrap();
    assert!(message.contains("did not finish within 300s"), "{message}");
    assert_eq!(bench.handle.subscribe().borrow().progress, None);
    assert_eq!(bench.script.running.load(Ordering::Relaxed), 0, "dropped");
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_a_compare_ends_the_coordinator_with_its_message() {
    let bench = Bench::start([Step::Panic]);
    let panic = bench.task.await.unwrap_err().into_panic();
    assert_eq!(panic.downcast_ref::<&str>(), Some(&"a node without a name"));
}

#[tokio::test(start_paused = true)]
async fn stopping_ends_a_compare_within_a_second_even_if_it_ignores_cancellation() {
    for (step, most) in [(Step::Obey, MS), (Step::Hang, SECOND)] {
        let bench = Bench::start([step]);
        bench.until(10 * SECOND).await;
        bench.stop.cancel();
        bench.task.await.unwrap();
        let end = bench.begin.elapsed();
        assert!(end <= 10 * SECOND + most, "{end:?}");
        assert_eq!(bench.script.running.load(Ordering::Relaxed), 0);
        let status = bench.handle.status().unwrap();
        assert_eq!(status.phase, SyncPhase::Failed);
        assert!(status.message.unwrap().contains("operator stopped"));
        // No failure is reported, so that no alert fires.
        assert_eq!(*bench.notes.0.lock().unwrap(), ["started start"]);
        let saved = bench.memory.saved.lock().unwrap();
        assert_eq!(saved.last().unwrap().phase, SyncPhase::Failed);
    }
}

#[tokio::test(start_paused = true)]
async fn stopping_between_syncs_and_before_the_first_is_immediate() {
    let idle = Bench::start([Step::Take(SECOND)]);
    let waiting = Bench::start_with(
        [Step::Take(SECOND)],
        INTERVAL,
        Memory::default(),
        std::future::pending(),
    );
    idle.until(60 * SECOND).await;
    idle.stop.cancel();
    waiting.stop.cancel();
    idle.task.await.unwrap();
    waiting.task.await.unwrap();
    assert!(idle.begin.elapsed() <= 60 * SECOND + MS);
    let status = idle.handle.status().unwrap();
    assert_eq!(status.phase, SyncPhase::Complete, "unchanged");
    assert_eq!(waiting.handle.status(), None);
}
