//! The queue with paused time: a key never runs twice at once.

use std::cell::RefCell;
use std::rc::Rc;

use tokio::time::sleep;

use super::*;
use crate::registry::dirty::{Marker, dirty_set};

mod pacing;
mod shutdown;

const SECOND: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);

/// A run of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Run {
    key: u32,
    start: Duration,
    end: Duration,
}

/// How long a reconcile takes, and its outcome.
type Script = Box<dyn Fn(u32, usize) -> (Duration, Outcome)>;

/// A running queue, with paused time.
struct Bench {
    marker: Marker<u32, std::time::Instant>,
    shutdown: CancellationToken,
    runs: Rc<RefCell<Vec<Run>>>,
    queue: tokio::task::JoinHandle<()>,
    status: watch::Receiver<QueueStatus>,
    begin: Instant,
}

impl Bench {
    /// `script` gets the key and the number of its earlier runs. Call this in a `LocalSet`.
    fn start(
        concurrency: usize,
        script: impl Fn(u32, usize) -> (Duration, Outcome) + 'static,
    ) -> Self {
        let (marker, inbox) = dirty_set();
        let guard: Marker<u32, std::time::Instant> = marker.clone();
        let (shutdown, runs) = (CancellationToken::new(), Rc::new(RefCell::new(Vec::new())));
        let begin = Instant::now();
        let (published, status) = watch::channel(QueueStatus::default());
        let script: Rc<Script> = Rc::new(Box::new(script));
        let queue = tokio::task::spawn_local({
            let (shutdown, runs) = (shutdown.clone(), Rc::clone(&runs));
            let attempts: Rc<RefCell<HashMap<u32, usize>>> = Rc::default();
            async move {
                // Keeps the inbox open.
                let _guard = guard;
                let metrics = Metrics::new().unwrap();
                run(
                    "test",
                    inbox,
                    concurrency,
                    &metrics,
                    &published,
                    shutdown,
                    |key| {
                        let attempt = {
                            let mut attempts = attempts.borrow_mut();
                            let attempt = attempts.entry(key).or_default();
                            *attempt += 1;
                            *attempt - 1
                        };
                        let (runs, script) = (Rc::clone(&runs), Rc::clone(&script));
                        async move {
                            let start = begin.elapsed();
                            let (time, outcome) = script(key, attempt);
                            sleep(time).await;
                            let end = begin.elapsed();
                            runs.borrow_mut().push(Run { key, start, end });
                            outcome
                        }
                    },
                )
                .await;
            }
        });
        Self {
            marker,
            shutdown,
            runs,
            queue,
            status,
            begin,
        }
    }

    fn mark(&self, key: u32) {
        self.marker.mark(key, std::time::Instant::now());
    }

    /// All runs that have ended so far, ordered by their end.
    fn runs(&self) -> Vec<Run> {
        self.runs.borrow().clone()
    }

    /// When the runs of `key` started, in milliseconds from the start of the test.
    fn starts(&self, key: u32) -> Vec<u128> {
        let runs = self.runs();
        let of_key = runs.iter().filter(|run| run.key == key);
        of_key.map(|run| run.start.as_millis()).collect()
    }

    async fn until(&self, moment: Duration) {
        tokio::time::sleep_until(self.begin + moment).await;
    }

    /// Stops the queue; returns how long that took, and all runs.
    async fn stop(self) -> (Duration, Vec<Run>) {
        let begin = Instant::now();
        self.shutdown.cancel();
        self.queue.await.unwrap();
        (begin.elapsed(), self.runs.take())
    }
}

/// Runs a test that spawns local tasks.
async fn local(test: impl Future<Output = ()>) {
    tokio::task::LocalSet::new().run_until(test).await;
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_marked_while_it_runs_runs_once_more_afterwards() {
    local(async {
        let bench = Bench::start(8, |_, _| (SECOND, Outcome::Done));
        bench.mark(1);
        for quarter in 1..4 {
            bench.until(quarter * SECOND / 4).await;
            bench.mark(1);
        }
        bench.until(60 * SECOND).await;
        assert_eq!(bench.starts(1), [0, 1000]);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn different_keys_run_in_parallel_up_to_the_limit() {
    local(async {
        let bench = Bench::start(3, |_, _| (SECOND, Outcome::Done));
        for key in 0..7 {
            bench.mark(key);
        }
        bench.until(60 * SECOND).await;
        let starts: Vec<_> = bench.runs().iter().map(|run| run.start.as_secs()).collect();
        assert_eq!(starts, [0, 0, 0, 1, 1, 1, 2]);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn keys_start_in_the_order_in_which_they_are_marked() {
    local(async {
        let bench = Bench::start(1, |_, _| (MS, Outcome::Done));
        let order = [5, 3, 9, 1, 7];
        for key in order {
            bench.mark(key);
        }
        bench.until(SECOND).await;
        let keys: Vec<u32> = bench.runs().iter().map(|run| run.key).collect();
        assert_eq!(keys, order);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_slow_key_delays_no_other() {
    local(async {
        let bench = Bench::start(2, |key, _| match key {
            1 => (60 * SECOND, Outcome::Done),
            _ => (MS, Outcome::Done),
        });
        bench.mark(1);
        for key in 2..10 {
            bench.mark(key);
        }
        bench.until(SECOND).await;
        assert_eq!(bench.runs().len(), 8);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn with_many_marks_no_key_runs_twice_at_once_and_the_last_mark_of_each_is_run() {
    local(async {
        let bench = Bench::start(4, |key, attempt| {
            let outcome = match (key + u32::try_from(attempt).unwrap()) % 5 {
                0 => Outcome::Retry,
                1 => Outcome::DoneFor(SECOND),
                2 if attempt < 3 => Outcome::Failing(None),
                3 if attempt < 3 => Outcome::Rejected,
                _ => Outcome::Done,
            };
            (MS * (1 + key % 7), outcome)
        });
        let mut last = HashMap::new();
        for step in 0..2_000u32 {
            let key = step.wrapping_mul(2_654_435_761) % 16;
            bench.mark(key);
            last.insert(key, bench.begin.elapsed());
            sleep(MS * (step % 3)).await;
        }
        bench.until(300 * SECOND).await;
        let runs = bench.runs();
        for (key, marked) in last {
            let mut of_key: Vec<&Run> = runs.iter().filter(|run| run.key == key).collect();
            of_key.sort_by_key(|run| run.start);
            assert!(of_key.windows(2).all(|pair| pair[0].end <= pair[1].start));
            assert!(of_key.last().unwrap().start >= marked, "key {key}");
        }
        let overlapping = |at: Duration| {
            let running = runs.iter().filter(|run| run.start <= at && at < run.end);
            running.count()
        };
        assert!(runs.iter().all(|run| overlapping(run.start) <= 4));
    })
    .await;
}
