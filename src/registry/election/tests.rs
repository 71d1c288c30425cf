//! The election protocol on paused time, with failing networks and wall clocks.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI64};

use tokio::task::JoinHandle;
use tokio::time::{advance, sleep};

use super::*;

mod durations;
mod property;

const SECOND: Duration = Duration::from_secs(1);

/// An API server with one lease; replicas can be disconnected from it.
#[derive(Default)]
struct Server {
    lease: Mutex<Option<(Record, u64)>>,
    versions: AtomicU64,
}

impl Server {
    fn holder(&self) -> Option<String> {
        let lease = self.lease.lock().unwrap();
        lease.as_ref().and_then(|(record, _)| record.holder.clone())
    }

    fn edit(&self, edit: impl FnOnce(&mut Option<Record>)) {
        let mut lease = self.lease.lock().unwrap();
        let mut record = lease.take().map(|(record, _)| record);
        edit(&mut record);
        *lease = record.map(|record| (record, self.next()));
    }

    fn next(&self) -> u64 {
        self.versions.fetch_add(1, Ordering::Relaxed) + 1
    }
}

#[derive(Clone, Default)]
struct Line {
    server: Arc<Server>,
    /// Neither requests nor responses get through.
    is_disconnected: Arc<AtomicBool>,
    /// Requests get through, but responses are lost.
    is_one_way: Arc<AtomicBool>,
    /// All requests are rejected.
    is_rejected: Arc<AtomicBool>,
    /// Latency of a request, and again of its response, in milliseconds.
    delay: Arc<AtomicU64>,
}

impl Line {
    async fn call<T>(&self, work: impl FnOnce() -> Result<T, LeaseError>) -> Result<T, LeaseError> {
        let delay = Duration::from_millis(3 + self.delay.load(Ordering::Relaxed));
        sleep(delay).await;
        if self.is_disconnected.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        if self.is_rejected.load(Ordering::Relaxed) {
            return Err(LeaseError::Unavailable("no permission".to_owned()));
        }
        let answer = work();
        sleep(delay).await;
        if self.is_disconnected.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        answer
    }

    async fn write<T>(
        &self,
        work: impl FnOnce() -> Result<T, LeaseError>,
    ) -> Result<T, LeaseError> {
        let done = self.call(work).await;
        if self.is_one_way.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        done
    }
}

impl LeaseStore for Line {
    type Version = u64;

    async fn read(&self) -> Result<Option<(Record, u64)>, LeaseError> {
        self.call(|| Ok(self.server.lease.lock().unwrap().clone()))
            .await
    }

    async fn create(&self, record: &Record) -> Result<u64, LeaseError> {
        self.write(|| {
            let mut lease = self.server.lease.lock().unwrap();
            if lease.is_some() {
                return Err(LeaseError::Conflict);
            }
            let version = self.server.next();
            *lease = Some((record.clone(), version));
            Ok(version)
        })
        .await
    }

    async fn replace(&self, record: &Record, version: &u64) -> Result<u64, LeaseError> {
        self.write(|| {
            let mut lease = self.server.lease.lock().unwrap();
            if lease.as_ref().map(|(_, version)| version) != Some(version) {
                return Err(LeaseError::Conflict);
            }
            let version = self.server.next();
            *lease = Some((record.clone(), version));
            Ok(version)
        })
        .await
    }
}

/// The last reported error.
#[derive(Default)]
struct Report(Mutex<Option<LeaseError>>);

impl ObserveElection for Report {
    fn stands(&self, _: &Standing) {}

    fn looked(&self, outcome: Result<(), &LeaseError>, _: bool) {
        *self.0.lock().unwrap() = outcome.err().cloned();
    }

    fn not_released(&self, error: &LeaseError, _: Duration) {
        *self.0.lock().unwrap() = Some(error.clone());
    }
}

/// A participating process.
struct Replica {
    line: Line,
    leadership: Leadership,
    report: Arc<Report>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Replica {
    /// `hours` is the error of its wall clock.
    fn start(server: &Arc<Server>, identity: &str, hours: i64) -> Self {
        Self::with(server, identity, 15 * SECOND, clock(hours))
    }

    fn with(server: &Arc<Server>, identity: &str, lease: Duration, clock: Clock) -> Self {
        let line = Line {
            server: Arc::clone(server),
            ..Line::default()
        };
        let report = Arc::new(Report::default());
        let election = Election::new(
            line.clone(),
            identity,
            Timing::of(lease),
            clock,
            Arc::clone(&report) as Arc<dyn ObserveElection>,
        );
        let (leadership, stop) = (election.leadership(), CancellationToken::new());
        let task = tokio::spawn(election.run(stop.clone()));
        Self {
            line,
            leadership,
            report,
            stop,
            task,
        }
    }

    fn holds(&self) -> bool {
        self.leadership.holds()
    }

    async fn release(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }
}

/// A wall clock that is wrong by this many hours.
fn clock(hours: i64) -> Clock {
    let (origin, start) = (Instant::now(), 1_700_000_000 + hours * 3600);
    Arc::new(move || {
        let passed = i64::try_from(origin.elapsed().as_secs()).unwrap();
        Timestamp::from_second(start + passed).unwrap()
    })
}

/// Waits for the condition in steps of 10 ms plus a hundredth, asserting `meanwhile`. Returns the time
/// it took.
async fn until(mut is_so: impl FnMut() -> bool, meanwhile: impl Fn()) -> Duration {
    let began = Instant::now();
    while !is_so() {
        meanwhile();
        assert!(
            began.elapsed() < 2000 * SECOND,
            "the condition was never met"
        );
        sleep(Duration::from_millis(10).max(began.elapsed() / 100)).await;
    }
    began.elapsed()
}

async fn two() -> (Arc<Server>, Replica, Replica) {
    let server = Arc::new(Server::default());
    let a = Replica::start(&server, "a", 0);
    until(|| a.holds(), || ()).await;
    // The other replica's clock is an hour off.
    let b = Replica::start(&server, "b", 1);
    sleep(5 * SECOND).await;
    (server, a, b)
}

#[tokio::test(start_paused = true)]
async fn the_first_replica_takes_a_free_lease_immediately_and_holds_it() {
    let (server, a, b) = two().await;
    for _ in 0..1000 {
        sleep(SECOND).await;
        assert!(a.holds() && !b.holds());
    }
    assert_eq!(server.holder().as_deref(), Some("a"));
    let standby = Standing::Standby(Some("a".to_owned()));
    assert_eq!(
        (a.leadership.standing(), b.leadership.standing()),
        (Standing::Leader, standby)
    );
    let record = server.lease.lock().unwrap().clone().unwrap().0;
    assert_eq!((record.transitions, record.duration), (0, 15 * SECOND));
}

#[tokio::test(start_paused = true)]
async fn a_released_lease_is_taken_at_the_next_read() {
    let (server, a, b) = two().await;
    let leadership = a.leadership.clone();
    a.release().await;
    assert!(!leadership.holds());
    let took = until(|| b.holds(), || ()).await;
    assert!(took <= 2 * SECOND, "{took:?}");
    assert_eq!(server.holder().as_deref(), Some("b"));
    assert_eq!(
        server.lease.lock().unwrap().as_ref().unwrap().0.transitions,
        1
    );
}

#[tokio::test(start_paused = true)]
async fn after_a_crash_the_standby_writes_within_17_seconds_and_not_before_15() {
    for millis in (0..2000).step_by(130) {
        let (_, a, b) = two().await;
        sleep(Duration::from_millis(millis)).await;
        a.task.abort();
        let took = until(|| b.holds(), || ()).await;
        assert!(took <= 17 * SECOND, "{took:?}");
        assert!(
            took >= 13 * SECOND,
            "the last renewal was up to 2 s ago: {took:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_cannot_renew_loses_the_lease_seconds_before_another_takes_it() {
    let (_, a, b) = two().await;
    a.line.is_disconnected.store(true, Ordering::Relaxed);
    let lost = until(|| !a.holds(), || assert!(!b.holds())).await;
    assert!(lost > 7 * SECOND && lost <= 10 * SECOND, "{lost:?}");
    let why = a.leadership.lost().await;
    assert!(
        why.contains("could not be renewed for 10s: the API server did not answer"),
        "{why}"
    );
    let after = until(|| b.holds(), || assert!(!a.holds())).await;
    assert!(after >= 3 * SECOND, "{after:?}");
    assert!(a.task.is_finished());
}

#[tokio::test(start_paused = true)]
async fn a_rejected_renewal_is_retried_until_the_deadline() {
    let (_, a, b) = two().await;
    a.line.is_rejected.store(true, Ordering::Relaxed);
    sleep(7 * SECOND).await;
    a.line.is_rejected.store(false, Ordering::Relaxed);
    sleep(20 * SECOND).await;
    assert!(a.holds() && !b.holds());
    a.line.is_rejected.store(true, Ordering::Relaxed);
    let why = a.leadership.lost().await;
    assert_eq!(why, "it could not be renewed for 10s: no permission");
}

#[tokio::test(start_paused = true)]
async fn a_suspended_process_knows_of_the_loss_before_it_writes() {
    let (_, a, b) = two().await;
    // Nothing runs meanwhile, as with SIGSTOP.
    advance(11 * SECOND).await;
    assert!(!a.holds());
    drop(b);
    let why = a.leadership.lost().await;
    assert!(
        why.contains("held up") || why.contains("did not answer"),
        "{why}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_lease_deleted_by_hand_stays_with_its_holder() {
    let (server, a, b) = two().await;
    for _ in 0..20 {
        server.edit(|record| *record = None);
        for _ in 0..370 {
            sleep(Duration::from_millis(10)).await;
            assert!(a.holds() && !b.holds());
        }
        assert_eq!(server.holder().as_deref(), Some("a"));
    }
}

#[tokio::test(start_paused = true)]
async fn changing_the_holder_by_hand_never_makes_two_writers() {
    for holder in [None, Some(""), Some("b"), Some("stranger")] {
        let (server, a, b) = two().await;
        let edit = |record: &mut Option<Record>| {
            record.as_mut().unwrap().holder = holder.map(str::to_owned);
        };
        server.edit(edit);
        let lost = until(|| !a.holds(), || assert!(!b.holds(), "{holder:?}")).await;
        assert!(lost <= Duration::from_millis(2100), "{holder:?}: {lost:?}");
        until(|| b.holds(), || assert!(!a.holds())).await;
        assert!(a.task.is_finished());
    }
}

#[tokio::test(start_paused = true)]
async fn other_edits_of_the_lease_by_hand_have_no_effect() {
    let (server, a, b) = two().await;
    server.edit(|record| {
        let record = record.as_mut().unwrap();
        (record.duration, record.transitions) = (Duration::from_hours(1000), u32::MAX);
        record.renewed = Some(Timestamp::MAX);
        record.acquired = None;
    });
    sleep(5 * SECOND).await;
    assert!(a.holds() && !b.holds());
    let record = server.lease.lock().unwrap().clone().unwrap().0;
    assert_eq!((record.transitions, record.duration), (0, 15 * SECOND));
}

#[tokio::test(start_paused = true)]
async fn a_take_whose_answer_was_lost_is_noticed_at_the_next_read() {
    let server = Arc::new(Server::default());
    let a = Replica::start(&server, "a", 0);
    a.line.is_one_way.store(true, Ordering::Relaxed);
    until(|| server.holder().is_some(), || ()).await;
    a.line.is_one_way.store(false, Ordering::Relaxed);
    let took = until(|| a.holds(), || ()).await;
    assert!(took <= 8 * SECOND, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn exactly_one_of_many_replicas_started_together_leads() {
    for _ in 0..50 {
        let server = Arc::new(Server::default());
        let names: Vec<String> = (0..5).map(|number| format!("replica-{number}")).collect();
        let all: Vec<Replica> = names
            .iter()
            .map(|name| Replica::start(&server, name, 0))
            .collect();
        for _ in 0..600 {
            sleep(Duration::from_millis(10)).await;
            assert!(all.iter().filter(|replica| replica.holds()).count() <= 1);
        }
        assert_eq!(all.iter().filter(|replica| replica.holds()).count(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_lease_a_process_may_always_write() {
    let leadership = Leadership::unconditional();
    leadership.gained().await;
    advance(100 * SECOND).await;
    assert!(leadership.holds());
    assert_eq!(leadership.standing(), Standing::Leader);
}
