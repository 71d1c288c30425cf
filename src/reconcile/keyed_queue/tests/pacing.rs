//! Pacing, retries, and failures of the API server.

use super::*;

#[tokio::test(start_paused = true)]
async fn the_first_change_runs_at_once_then_one_a_second_and_the_last_always() {
    local(async {
        let bench = Bench::start(8, |_, _| (Duration::ZERO, Outcome::DoneFor(SECOND)));
        // A change every 100 ms for three seconds.
        for change in 0..30u32 {
            bench.until(500 * MS + change * 100 * MS).await;
            bench.mark(1);
        }
        bench.until(60 * SECOND).await;
        let starts = bench.starts(1);
        assert_eq!(starts.len(), 4, "{starts:?}");
        assert_eq!(starts[0], 500, "the first change runs at once");
        assert!(starts.windows(2).all(|pair| pair[1] - pair[0] >= 1000));
        assert!(starts[3] >= 3400, "the last change runs: {starts:?}");
        assert!(starts[3] <= 3600, "it runs soon: {starts:?}");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_paced_key_without_a_change_does_not_run_again() {
    local(async {
        let bench = Bench::start(8, |_, _| (Duration::ZERO, Outcome::DoneFor(SECOND)));
        bench.mark(1);
        bench.until(5 * SECOND).await;
        assert_eq!(bench.starts(1), [0]);
        bench.mark(1);
        bench.until(6 * SECOND).await;
        assert_eq!(bench.starts(1), [0, 5000]);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_change_during_a_run_waits_for_the_end_of_the_pacing_interval() {
    local(async {
        let bench = Bench::start(8, |_, _| (300 * MS, Outcome::DoneFor(SECOND)));
        bench.mark(1);
        bench.until(100 * MS).await;
        bench.mark(1);
        bench.until(60 * SECOND).await;
        let starts = bench.starts(1);
        assert_eq!(starts.len(), 2, "{starts:?}");
        assert!((1300..=1310).contains(&starts[1]), "{starts:?}");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn the_pacing_of_one_key_delays_no_other() {
    local(async {
        let bench = Bench::start(1, |_, _| (Duration::ZERO, Outcome::DoneFor(SECOND)));
        for key in 0..5 {
            bench.mark(key);
        }
        bench.until(10 * MS).await;
        assert_eq!(bench.runs().len(), 5);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_failing_key_is_retried_with_exponential_backoff() {
    local(async {
        let bench = Bench::start(8, |_, attempt| {
            let outcome = if attempt < 7 {
                Outcome::Retry
            } else {
                Outcome::Done
            };
            (Duration::ZERO, outcome)
        });
        bench.mark(1);
        bench.until(100 * SECOND).await;
        let starts = bench.starts(1);
        assert_eq!(starts.len(), 8, "after a success it is not retried");
        let gaps: Vec<u128> = starts.windows(2).map(|pair| pair[1] - pair[0]).collect();
        for (gap, least) in gaps
            .iter()
            .zip([200, 400, 800, 1_600, 3_200, 6_400, 12_800])
        {
            assert!((least..=2 * least + 10).contains(gap), "{gaps:?}");
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_success_resets_the_backoff() {
    local(async {
        // Fails three times, succeeds, fails once, succeeds.
        let bench = Bench::start(8, |_, attempt| {
            let outcome = match attempt {
                3 | 5 => Outcome::Done,
                _ => Outcome::Retry,
            };
            (Duration::ZERO, outcome)
        });
        bench.mark(1);
        bench.until(50 * SECOND).await;
        bench.mark(1);
        bench.until(100 * SECOND).await;
        let starts = bench.starts(1);
        assert_eq!(starts.len(), 6);
        assert!(starts[5] - starts[4] <= 410, "{starts:?}");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_failing_key_delays_no_other() {
    local(async {
        let bench = Bench::start(1, |key, _| match key {
            1 => (Duration::ZERO, Outcome::Retry),
            _ => (Duration::ZERO, Outcome::Done),
        });
        for key in 1..5 {
            bench.mark(key);
        }
        bench.until(100 * MS).await;
        assert_eq!(bench.runs().len(), 4);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_failure_of_the_api_server_pauses_every_key_and_then_all_run() {
    local(async {
        // Every run fails in the first five seconds.
        let begin = Instant::now();
        let bench = Bench::start(2, move |_, _| {
            let is_failing = begin.elapsed() < 5 * SECOND;
            (
                MS,
                if is_failing {
                    Outcome::Failing(None)
                } else {
                    Outcome::Done
                },
            )
        });
        for key in 0..50 {
            bench.mark(key);
        }
        bench.until(5 * SECOND).await;
        let tries = bench.runs().len();
        assert!(tries <= 2 * 6, "paused, not hammering: {tries}");
        bench.until(11 * SECOND).await;
        let mut done: Vec<u32> = bench.runs().iter().skip(tries).map(|run| run.key).collect();
        done.sort_unstable();
        assert_eq!(done, (0..50).collect::<Vec<_>>(), "each once");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_new_change_of_a_failing_key_is_tried_a_second_after_the_failure() {
    local(async {
        let bench = Bench::start(8, |_, _| (Duration::ZERO, Outcome::Retry));
        bench.mark(1);
        // Long enough for delays of half a minute.
        bench.until(300 * SECOND).await;
        let last = *bench.starts(1).last().unwrap();
        let wait = Duration::from_millis(last.try_into().unwrap()) + 100 * MS;
        bench.until(wait.max(300 * SECOND)).await;
        bench.mark(1);
        let marked = 300_000.max(last + 100);
        bench
            .until(Duration::from_millis(marked.try_into().unwrap()) + 1100 * MS)
            .await;
        let starts = bench.starts(1);
        assert!(*starts.last().unwrap() > last, "{starts:?}");
        assert!(
            starts.windows(2).all(|pair| pair[1] - pair[0] >= 200),
            "never at once: {starts:?}"
        );
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn when_a_failing_key_succeeds_all_failing_keys_are_retried_at_once() {
    local(async {
        // All fail until 100 s have passed.
        let begin = Instant::now();
        let bench = Bench::start(8, move |_, _| {
            let works = begin.elapsed() > 100 * SECOND;
            (
                Duration::ZERO,
                if works { Outcome::Done } else { Outcome::Retry },
            )
        });
        for key in 0..50 {
            bench.mark(key);
        }
        bench.until(100 * SECOND).await;
        assert_eq!(bench.status.borrow().retrying, 50);
        bench.until(300 * SECOND).await;
        let back: Vec<_> = (0..50)
            .map(|key| *bench.starts(key).last().unwrap())
            .collect();
        let (first, last) = (back.iter().min().unwrap(), back.iter().max().unwrap());
        assert!(last - first <= 20, "{back:?}");
        assert_eq!(*bench.status.borrow(), QueueStatus::default());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn the_status_counts_keys_by_what_they_wait_for() {
    local(async {
        let bench = Bench::start(1, |key, _| match key {
            1 => (Duration::ZERO, Outcome::DoneFor(100 * SECOND)),
            2 => (Duration::ZERO, Outcome::Retry),
            _ => (10 * SECOND, Outcome::Done),
        });
        bench.mark(1);
        bench.mark(2);
        bench.until(SECOND / 10).await;
        bench.mark(1);
        for key in 3..8 {
            bench.mark(key);
        }
        bench.until(SECOND).await;
        let status = *bench.status.borrow();
        assert_eq!((status.running, status.paced), (1, 1), "{status:?}");
        assert_eq!(
            status.retrying + status.ready + status.pending,
            5,
            "{status:?}"
        );
        assert!(!status.is_idle() && !status.blocked);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn rejected_keys_delay_no_other_and_are_retried_with_backoff() {
    local(async {
        let bench = Bench::start(8, |key, _| match key {
            0..20 => (MS, Outcome::Rejected),
            _ => (MS, Outcome::Done),
        });
        for key in 0..20 {
            bench.mark(key);
        }
        for change in 0..600u32 {
            bench.until(100 * MS * change).await;
            bench.mark(100 + change);
        }
        bench.until(60 * SECOND).await;
        for change in 0..600u32 {
            let waited = bench.starts(100 + change)[0] - u128::from(change) * 100;
            assert!(waited <= 10, "{waited} ms at {change}");
        }
        let tries = (0..20).map(|key| bench.starts(key).len()).max().unwrap();
        // Backoff from 0.2 s, doubling, with up to 100 % jitter; at least 2 s each with 20 rejected keys.
        assert!((4..=15).contains(&tries), "{tries} in a minute");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn thousands_of_rejected_keys_are_retried_ten_a_second_and_all_at_once_after_a_success() {
    local(async {
        let begin = Instant::now();
        let bench = Bench::start(8, move |_, _| {
            let works = begin.elapsed() > 300 * SECOND;
            (
                MS,
                if works {
                    Outcome::Done
                } else {
                    Outcome::Rejected
                },
            )
        });
        for key in 0..3_000 {
            bench.mark(key);
        }
        bench.until(100 * SECOND).await;
        let before = bench.runs().len();
        bench.until(200 * SECOND).await;
        let rate = (bench.runs().len() - before) / 100;
        assert!((3..=20).contains(&rate), "{rate} a second");
        bench.until(305 * SECOND).await;
        assert_eq!(
            *bench.status.borrow(),
            QueueStatus::default(),
            "all are done within 5 s"
        );
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_single_key_whose_writes_fail_delays_no_other() {
    local(async {
        let bench = Bench::start(8, |key, _| match key {
            0 => (MS, Outcome::Failing(None)),
            _ => (MS, Outcome::Done),
        });
        bench.mark(0);
        for change in 1..600u32 {
            bench.until(100 * MS * change).await;
            assert!(!bench.status.borrow().blocked, "at {change}");
            bench.mark(change);
        }
        bench.until(60 * SECOND).await;
        for change in 1..600u32 {
            let waited = bench.starts(change)[0] - u128::from(change) * 100;
            assert!(waited <= 10, "{waited} ms at {change}");
        }
        assert!(bench.starts(0).len() > 10, "it is retried every 5 s");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_retry_after_from_the_api_server_delays_every_key() {
    local(async {
        let begin = Instant::now();
        let bench = Bench::start(8, move |_, _| {
            let is_over = begin.elapsed() >= 7 * SECOND;
            let retry_after = Outcome::Failing(Some(7 * SECOND));
            (MS, if is_over { Outcome::Done } else { retry_after })
        });
        bench.mark(1);
        bench.until(SECOND).await;
        bench.mark(2);
        bench.until(20 * SECOND).await;
        assert!(bench.starts(2)[0] >= 7_000, "{:?}", bench.starts(2));
        assert!(bench.starts(2)[0] < 8_000, "{:?}", bench.starts(2));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_change_during_a_failing_run_is_tried_a_second_later() {
    local(async {
        let bench = Bench::start(8, |_, _| (100 * MS, Outcome::Retry));
        bench.mark(1);
        // Until the delays are half a minute and more.
        bench.until(100 * SECOND).await;
        loop {
            let running = bench.status.borrow().running;
            if running == 1 {
                break;
            }
            sleep(10 * MS).await;
        }
        bench.mark(1);
        let marked = bench.begin.elapsed();
        bench.until(marked + 2 * SECOND).await;
        let last = *bench.starts(1).last().unwrap();
        assert!(last > marked.as_millis(), "{last} after {marked:?}");
    })
    .await;
}
