//! Replicas with different lease durations, and leases whose duration was edited.

use super::*;

const DURATIONS: [u64; 3] = [3, 15, 600];

/// Every pair of durations.
fn pairs() -> impl Iterator<Item = (Duration, Duration)> {
    let all = || DURATIONS.into_iter().map(Duration::from_secs);
    all().flat_map(move |one| all().map(move |other| (one, other)))
}

/// `a` leads and `b` stands by.
async fn two_of(a: Duration, b: Duration) -> (Arc<Server>, Replica, Replica) {
    let server = Arc::new(Server::default());
    let a = Replica::with(&server, "a", a, clock(0));
    until(|| a.holds(), || ()).await;
    let b = Replica::with(&server, "b", b, clock(-1));
    sleep(3 * SECOND).await;
    (server, a, b)
}

fn edit(server: &Server, edit: impl FnOnce(&mut Record)) {
    server.edit(|record| edit(record.as_mut().unwrap()));
}

#[tokio::test(start_paused = true)]
async fn a_disconnected_leader_ends_before_another_leads_for_any_lease_durations() {
    for (its, others) in pairs() {
        let (_, a, b) = two_of(its, others).await;
        a.line.is_disconnected.store(true, Ordering::Relaxed);
        let lost = until(|| !a.holds(), || assert!(!b.holds(), "{its:?}, {others:?}")).await;
        assert!(lost <= its * 7 / 10, "{its:?}, {others:?}: {lost:?}");
        let after = until(|| b.holds(), || assert!(!a.holds())).await;
        let both = lost + after;
        assert!(
            both <= its.max(others) * 11 / 10 + 2 * SECOND,
            "{its:?}, {others:?}: {both:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_released_lease_of_any_duration_is_taken_within_3_seconds() {
    for (its, others) in pairs() {
        let (_, a, b) = two_of(its, others).await;
        a.release().await;
        let took = until(|| b.holds(), || ()).await;
        assert!(took <= 3 * SECOND, "{its:?}, {others:?}: {took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_shortened_or_given_away_by_hand_is_not_free_before_its_holder_ends() {
    let edits: [fn(&mut Record); 5] = [
        |record| record.duration = SECOND,
        |record| (record.duration, record.renewed) = (SECOND, Some(Timestamp::MAX)),
        |record| (record.duration, record.holder) = (SECOND, Some("stranger".to_owned())),
        |record| (record.duration, record.holder) = (SECOND, Some("b".to_owned())),
        |record| (record.duration, record.holder) = (SECOND, None),
    ];
    for (its, others) in pairs() {
        for change in edits {
            let (server, a, b) = two_of(its, others).await;
            a.line.is_disconnected.store(true, Ordering::Relaxed);
            edit(&server, change);
            until(|| !a.holds(), || assert!(!b.holds(), "{its:?}, {others:?}")).await;
            until(|| b.holds(), || assert!(!a.holds())).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_connected_leader_holds_a_lease_shortened_by_hand_also_against_new_replicas() {
    for (its, others) in pairs() {
        let (server, a, b) = two_of(its, others).await;
        edit(&server, |record| record.duration = SECOND);
        let c = Replica::with(&server, "c", 3 * SECOND, clock(1));
        for _ in 0..200 {
            sleep(Duration::from_millis(100)).await;
            assert!(a.holds() && !b.holds() && !c.holds(), "{its:?}, {others:?}");
        }
        let record = server.lease.lock().unwrap().clone().unwrap().0;
        assert_eq!(record.duration, its);
    }
}

#[tokio::test(start_paused = true)]
async fn a_just_deleted_lease_is_not_taken_by_a_new_replica() {
    for its in DURATIONS.map(Duration::from_secs) {
        let (server, a, _b) = two_of(its, its).await;
        for _ in 0..10 {
            server.edit(|record| *record = None);
            let c = Replica::with(&server, "c", 3 * SECOND, clock(0));
            for _ in 0..70 {
                sleep(Duration::from_millis(100)).await;
                assert!(a.holds() && !c.holds(), "{its:?}");
            }
            c.task.abort();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_absurd_lease_duration_is_reported_and_not_shortened() {
    let (server, a, b) = two().await;
    let absurd = Duration::from_secs(u64::from(i32::MAX.unsigned_abs()));
    a.task.abort();
    edit(&server, |record| record.duration = absurd);
    sleep(2 * SECOND).await;
    let reported = || b.report.0.lock().unwrap().clone();
    let expected = LeaseError::TooLong {
        holder: "a".to_owned(),
        duration: absurd,
    };
    assert_eq!(reported(), Some(expected));
    sleep(Duration::from_hours(24)).await;
    assert!(!b.holds());
    // A replica that has just started knows no more.
    let c = Replica::start(&server, "c", 0);
    sleep(Duration::from_hours(1)).await;
    assert!(!b.holds() && !c.holds());
    // The documented remedy works, and the error is cleared.
    server.edit(|record| *record = None);
    let took = until(|| b.holds() || c.holds(), || ()).await;
    assert!(took <= 2 * SECOND, "{took:?}");
    sleep(2 * SECOND).await;
    assert_eq!(reported(), None);
}

#[tokio::test(start_paused = true)]
async fn an_absurd_duration_ends_when_it_is_replaced_but_earlier_claims_do_not() {
    let (server, a, b) = two_of(600 * SECOND, 3 * SECOND).await;
    a.line.is_disconnected.store(true, Ordering::Relaxed);
    edit(&server, |record| {
        record.duration = Duration::from_hours(1000);
    });
    sleep(2 * SECOND).await;
    edit(&server, |record| record.duration = SECOND);
    until(|| !a.holds(), || assert!(!b.holds())).await;
    let took = until(|| b.holds(), || assert!(!a.holds())).await;
    assert!(took <= 210 * SECOND, "{took:?}");
    assert_eq!(*b.report.0.lock().unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn a_leader_whose_wall_clock_stands_still_or_goes_back_holds_its_lease() {
    for step in [0, -1, -3600] {
        let server = Arc::new(Server::default());
        let time = AtomicI64::new(1_700_000_000);
        let wrong: Clock = Arc::new(move || {
            Timestamp::from_second(time.fetch_add(step, Ordering::Relaxed)).unwrap()
        });
        let a = Replica::with(&server, "a", 15 * SECOND, wrong);
        until(|| a.holds(), || ()).await;
        let b = Replica::start(&server, "b", 0);
        for _ in 0..600 {
            sleep(Duration::from_millis(100)).await;
            assert!(a.holds() && !b.holds(), "{step}");
        }
    }
}
