//! Operations, with a clock controlled by the test.

use std::sync::Barrier;
use std::sync::atomic::{AtomicI64, Ordering};
use std::thread;

use futures::FutureExt;
use jiff::Timestamp;

use super::*;

const BEGIN: i64 = 1_700_000_000;

/// Operations and a clock that stands still unless it is moved.
struct Bench {
    operations: Operations,
    now: Arc<AtomicI64>,
}

impl Bench {
    fn new(limits: Limits) -> Self {
        let now = Arc::new(AtomicI64::new(BEGIN));
        let clock = Arc::clone(&now);
        let clock = move || Timestamp::from_second(clock.load(Ordering::Relaxed)).unwrap();
        Self {
            operations: Operations::new(limits, Arc::new(clock)),
            now,
        }
    }

    fn pass(&self, seconds: i64) {
        self.now.fetch_add(seconds, Ordering::Relaxed);
    }

    fn start(&self, kind: &'static str) -> OperationHandle {
        started(self.operations.begin(kind, None))
    }

    fn show(&self, id: &OperationId) -> Operation {
        self.operations.show(id.as_str()).unwrap()
    }

    fn messages(&self) -> Vec<String> {
        let list = self.operations.list().into_iter();
        list.map(|operation| operation.message.unwrap_or_else(|| "runs".into()))
            .collect()
    }
}

fn bench() -> Bench {
    Bench::new(Limits::default())
}

fn started(begun: Begun) -> OperationHandle {
    match begun {
        Begun::Started(handle) => handle,
        Begun::Running(operation) => panic!("{} runs already", operation.id),
    }
}

#[test]
fn beginning_a_running_operation_returns_it() {
    let bench = bench();
    let handle = bench.start("resync");
    handle.progress(3, 10);
    let Begun::Running(running) = bench.operations.begin("resync", None) else {
        panic!("begun twice");
    };
    assert_eq!(&running.id, handle.id());
    assert_eq!(running.progress, Progress { done: 3, total: 10 });
    assert_eq!(bench.operations.list().len(), 1);
}

#[test]
fn operations_of_other_kinds_and_targets_run_concurrently() {
    let bench = bench();
    let handles = [
        bench.start("resync"),
        bench.start("export"),
        started(bench.operations.begin("resync", Some("worker"))),
        started(bench.operations.begin("resync", Some("master"))),
    ];
    assert_eq!(bench.operations.list().len(), handles.len());
}

#[test]
fn a_finished_operation_can_begin_again_with_another_id() {
    let bench = bench();
    let first = bench.start("resync");
    let id = first.id().clone();
    first.succeed("59 nodes", None);
    let second = bench.start("resync");
    assert_ne!(second.id(), &id);
}

#[test]
fn of_concurrent_callers_one_starts_the_operation() {
    let bench = bench();
    let (callers, rounds) = (8, 50);
    for _ in 0..rounds {
        let barrier = Barrier::new(callers);
        let begun: Vec<Begun> = thread::scope(|scope| {
            let begin = || {
                barrier.wait();
                bench.operations.begin("resync", Some("worker"))
            };
            let callers: Vec<_> = (0..callers).map(|_| scope.spawn(begin)).collect();
            callers
                .into_iter()
                .map(|caller| caller.join().unwrap())
                .collect()
        });
        let started: Vec<&OperationHandle> = begun
            .iter()
            .filter_map(|begun| match begun {
                Begun::Started(handle) => Some(handle),
                Begun::Running(_) => None,
            })
            .collect();
        assert_eq!(started.len(), 1);
        for begun in &begun {
            if let Begun::Running(operation) = begun {
                assert_eq!(&operation.id, started[0].id());
            }
        }
    }
}

#[test]
fn progress_and_counts_are_visible_while_it_runs_and_none_is_lost() {
    let bench = bench();
    let handle = bench.start("resync");
    thread::scope(|scope| {
        for name in ["compared", "differences", "repaired", "skipped"] {
            let handle = &handle;
            scope.spawn(move || {
                for number in 1..=200 {
                    handle.count(name, number);
                    handle.progress(number, 200);
                }
            });
        }
        assert_eq!(bench.show(handle.id()).state, OperationState::Running);
    });
    let operation = bench.show(handle.id());
    assert!(operation.counts.values().all(|number| *number == 200));
    assert_eq!(operation.counts.len(), 4);
    let (done, total) = (200, 200);
    assert_eq!(operation.progress, Progress { done, total });
}

#[test]
fn a_result_can_be_fetched_once_it_has_succeeded() {
    let bench = bench();
    let handle = bench.start("export");
    let id = handle.id().clone();
    let error = bench.operations.result(id.as_str()).unwrap_err();
    assert_eq!(error, OperationError::Running { id: id.clone() });
    bench.pass(5);
    handle.succeed("2 states", Some(Arc::from(*b"[1,2]")));
    assert_eq!(&*bench.operations.result(id.as_str()).unwrap(), b"[1,2]");
    let operation = bench.show(&id);
    assert_eq!(operation.state, OperationState::Succeeded);
    assert_eq!(operation.result_size, Some(5));
    assert_eq!(operation.message.as_deref(), Some("2 states"));
    assert_eq!(operation.finished_at.unwrap().as_second(), BEGIN + 5);
}

#[test]
fn a_failed_operation_has_a_reason_and_no_result() {
    let bench = bench();
    let handle = bench.start("export");
    let id = handle.id().clone();
    handle.fail(&format!("no room{}", "!".repeat(100_000)));
    assert_eq!(bench.show(&id).state, OperationState::Failed);
    let message = bench.show(&id).message.unwrap();
    assert!(message.starts_with("no room!"));
    assert_eq!(message.len(), MESSAGE_LIMIT);
    let error = bench.operations.result(id.as_str()).unwrap_err();
    assert!(error.to_string().contains("(failed)"), "{error}");
}

#[test]
fn a_cancelled_operation_runs_until_its_work_has_stopped() {
    let bench = bench();
    let handle = bench.start("resync");
    let id = handle.id().clone();
    assert!(handle.cancelled().now_or_never().is_none());
    let cancelled = bench.operations.cancel(id.as_str()).unwrap();
    assert_eq!(cancelled.state, OperationState::Running);
    assert!(cancelled.cancel_requested);
    assert!(handle.is_cancelled());
    assert!(handle.cancelled().now_or_never().is_some());
    assert!(
        bench.operations.cancel(id.as_str()).is_ok(),
        "cancelling twice"
    );
    handle.stopped("12 of 59 nodes were compared");
    let operation = bench.show(&id);
    assert_eq!(operation.state, OperationState::Cancelled);
    let error = bench.operations.cancel(id.as_str()).unwrap_err();
    assert!(
        error.to_string().contains("has ended already: cancelled"),
        "{error}"
    );
}

#[test]
fn cancelling_one_leaves_the_others_alone() {
    let bench = bench();
    let (one, other) = (bench.start("resync"), bench.start("export"));
    bench.operations.cancel(one.id().as_str()).unwrap();
    assert!(!other.is_cancelled());
    assert!(!bench.show(other.id()).cancel_requested);
}

#[test]
fn dropping_the_work_after_a_cancellation_counts_as_cancelled() {
    let bench = bench();
    let handle = bench.start("resync");
    let id = handle.id().clone();
    bench.operations.cancel(id.as_str()).unwrap();
    drop(handle);
    assert_eq!(bench.show(&id).state, OperationState::Cancelled);
}

#[test]
fn an_operation_whose_work_is_dropped_has_failed_and_can_begin_again() {
    let bench = bench();
    let handle = bench.start("resync");
    let id = handle.id().clone();
    drop(handle);
    let operation = bench.show(&id);
    assert_eq!(operation.state, OperationState::Failed);
    assert!(operation.message.unwrap().contains("without saying how"));
    let _again = bench.start("resync");
}

#[tokio::test]
async fn an_operation_that_panics_has_failed_even_if_it_was_cancelled() {
    let bench = bench();
    let handle = bench.start("resync");
    let id = handle.id().clone();
    bench.operations.cancel(id.as_str()).unwrap();
    let task = tokio::spawn(async move {
        handle.cancelled().await;
        panic!("in the middle");
    });
    assert!(task.await.unwrap_err().is_panic());
    assert_eq!(bench.show(&id).state, OperationState::Failed);
}

#[tokio::test(start_paused = true)]
async fn a_waiting_caller_is_woken_only_when_the_operation_ends() {
    let bench = bench();
    let handle = bench.start("resync");
    let id = handle.id().clone();
    let mut waiting = std::pin::pin!(bench.operations.finished(id.as_str()));
    assert!(waiting.as_mut().now_or_never().is_none());
    handle.progress(1, 2);
    drop(bench.start("export"));
    assert!(waiting.as_mut().now_or_never().is_none(), "another one");
    handle.succeed("done", None);
    let operation = waiting.now_or_never().unwrap().unwrap();
    assert_eq!(operation.state, OperationState::Succeeded);
    let again = bench.operations.finished(id.as_str()).now_or_never();
    assert_eq!(again.unwrap().unwrap(), operation);
}

#[test]
fn the_newest_is_listed_first() {
    let bench = bench();
    let ids: Vec<OperationId> = (0..12)
        .map(|_| {
            let handle = bench.start("resync");
            let id = handle.id().clone();
            handle.succeed("", None);
            id
        })
        .collect();
    let listed: Vec<OperationId> = bench.operations.list().into_iter().map(|o| o.id).collect();
    assert!(listed.iter().eq(ids.iter().rev()), "{listed:?}");
}

#[test]
fn finished_operations_expire_and_running_ones_do_not() {
    let bench = bench();
    let running = bench.start("export");
    let ended = bench.start("resync");
    let id = ended.id().clone();
    ended.succeed("done", None);
    bench.pass(600);
    assert_eq!(bench.messages(), ["done", "runs"]);
    bench.pass(1);
    assert_eq!(bench.messages(), ["runs"]);
    let error = bench.operations.show(id.as_str()).unwrap_err();
    assert!(error.to_string().contains("list the operations"), "{error}");
    drop(running);
}

#[test]
fn only_the_operations_that_ended_last_are_retained() {
    let bench = Bench::new(Limits {
        number: 2,
        ..Limits::default()
    });
    let slow = bench.start("slow");
    for message in ["one", "two", "three"] {
        bench.start("resync").succeed(message, None);
    }
    assert_eq!(bench.messages(), ["three", "two", "runs"]);
    // It began first and ended last.
    slow.succeed("slow", None);
    assert_eq!(bench.messages(), ["three", "slow"]);
}

#[test]
fn the_size_of_results_is_limited_except_for_the_newest() {
    let bench = Bench::new(Limits {
        result_bytes: 10,
        ..Limits::default()
    });
    let export = |message: &str, size: usize| {
        let result = vec![0; size].into();
        bench.start("export").succeed(message, Some(result));
    };
    export("5 bytes", 5);
    bench.start("resync").succeed("no result", None);
    export("4 bytes", 4);
    assert_eq!(bench.operations.0.entries.count(), 3);
    export("2 bytes", 2);
    // Results are removed when an operation ends, not when they are listed.
    assert_eq!(bench.operations.0.entries.count(), 3);
    assert_eq!(bench.messages(), ["2 bytes", "4 bytes", "no result"]);
    export("1000 bytes", 1000);
    assert_eq!(bench.messages(), ["1000 bytes", "no result"]);
}

#[test]
fn an_id_is_url_safe_and_unique() {
    let bench = bench();
    let (one, other) = (bench.start("resync"), bench.start("export"));
    assert_eq!(one.id().as_str(), "resync-1700000000-1");
    assert_eq!(other.id().as_str(), "export-1700000000-2");
}

#[test]
fn an_invalid_id_is_rejected_truncated_and_without_control_characters() {
    let bench = bench();
    let long = "x".repeat(100_000);
    for id in [
        "",
        "../../etc",
        "resync 1",
        "Resync-1",
        "a\u{1b}[31m",
        "ü",
        &long,
    ] {
        let error = bench.operations.show(id).unwrap_err();
        assert!(
            matches!(error, OperationError::InvalidId { .. }),
            "{id}: {error}"
        );
        let text = error.to_string();
        assert!(text.len() < 200, "{}", text.len());
        assert!(!text.chars().any(char::is_control), "{text}");
        assert!(text.contains("resync-1700000000-3"), "{text}");
    }
    let longest = "x".repeat(63);
    let error = bench.operations.cancel(&longest).unwrap_err();
    assert!(matches!(error, OperationError::NotFound { .. }));
}

#[test]
fn an_operation_survives_a_json_round_trip() {
    let bench = bench();
    let handle = started(bench.operations.begin("resync", Some("worker")));
    handle.progress(1, 2);
    handle.count("differences", 1);
    let id = handle.id().clone();
    handle.succeed("done", Some(Arc::from([0_u8; 3])));
    let json = serde_json::to_string(&bench.show(&id)).unwrap();
    assert_eq!(
        json,
        concat!(
            r#"{"id":"resync-1700000000-1","kind":"resync","target":"worker","state":"Succeeded","#,
            r#""cancelRequested":false,"progress":{"done":1,"total":2},"counts":{"differences":1},"#,
            r#""message":"done","startedAt":"2023-11-14T22:13:20Z","finishedAt":"2023-11-14T22:13:20Z","#,
            r#""resultSize":3}"#
        )
    );
    let read: Operation = serde_json::from_str(&json).unwrap();
    assert_eq!(read, bench.show(&id));
    let hostile = json.replace("resync-1700000000-1", "../1");
    assert!(serde_json::from_str::<Operation>(&hostile).is_err());
}
