//! What the queue still runs when it shuts down.

use super::*;

#[tokio::test(start_paused = true)]
async fn an_idle_queue_ends_at_once() {
    local(async {
        let bench = Bench::start(8, |_, _| (SECOND, Outcome::Done));
        bench.until(SECOND).await;
        let (took, runs) = bench.stop().await;
        assert_eq!((took, runs), (Duration::ZERO, vec![]));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_paced_change_runs_at_once_when_the_queue_ends() {
    local(async {
        let bench = Bench::start(8, |_, _| (MS, Outcome::DoneFor(60 * SECOND)));
        bench.mark(1);
        bench.mark(2);
        bench.until(SECOND).await;
        bench.mark(1);
        bench.until(2 * SECOND).await;
        assert_eq!(bench.runs().len(), 2);
        let (took, runs) = bench.stop().await;
        assert!(took < 10 * MS, "{took:?}");
        let keys: Vec<u32> = runs.iter().map(|run| run.key).collect();
        assert_eq!(keys, [1, 2, 1], "only the changed key runs again");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn everything_in_the_inbox_and_in_flight_is_finished_before_the_queue_ends() {
    local(async {
        let bench = Bench::start(2, |_, _| (100 * MS, Outcome::Done));
        for key in 0..20 {
            bench.mark(key);
        }
        bench.until(50 * MS).await;
        bench.mark(0);
        let (_, runs) = bench.stop().await;
        let mut keys: Vec<u32> = runs.iter().map(|run| run.key).collect();
        keys.sort_unstable();
        let expected: Vec<u32> = std::iter::once(0).chain(0..20).collect();
        assert_eq!(
            keys, expected,
            "the key that changed while it ran runs twice"
        );
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_change_during_shutdown_is_not_lost() {
    local(async {
        let bench = Bench::start(2, |_, _| (100 * MS, Outcome::Done));
        bench.mark(1);
        bench.until(10 * MS).await;
        bench.shutdown.cancel();
        bench.until(50 * MS).await;
        bench.mark(2);
        let (_, runs) = bench.stop().await;
        let keys: Vec<u32> = runs.iter().map(|run| run.key).collect();
        assert_eq!(keys, [1, 2]);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_key_that_fails_during_shutdown_is_given_up() {
    local(async {
        for outcome in [Outcome::Retry, Outcome::Rejected, Outcome::Failing(None)] {
            let bench = Bench::start(8, move |_, _| (MS, outcome));
            bench.mark(1);
            bench.until(50 * MS).await;
            let before = bench.runs().len();
            let (took, runs) = bench.stop().await;
            assert!(took < 10 * MS, "{outcome:?}: {took:?}");
            assert_eq!(runs.len(), before + 1, "{outcome:?}: tried once more");
        }
    })
    .await;
}
