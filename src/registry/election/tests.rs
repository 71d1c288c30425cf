//! The rules of the election, with replicas whose network and wall clocks fail, on paused time.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI64};

use tokio::task::JoinHandle;
use tokio::time::{advance, sleep};

use super::*;

mod durations;
mod property;

const SECOND: Duration = Duration::from_secs(1);

/// An API server with one lease, which can be cut off from one of those who use it.
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
    /// Nothing gets through any more, and nothing comes back.
    is_cut: Arc<AtomicBool>,
    /// What is written gets through, but no answer comes back.
    is_one_way: Arc<AtomicBool>,
    /// Everything is refused.
    is_refused: Arc<AtomicBool>,
    /// How many milliseconds a call is under way, and its answer again.
    delay: Arc<AtomicU64>,
}

impl Line {
    async fn call<T>(&self, work: impl FnOnce() -> Result<T, LeaseError>) -> Result<T, LeaseError> {
        let delay = Duration::from_millis(3 + self.delay.load(Ordering::Relaxed));
        sleep(delay).await;
        if self.is_cut.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        if self.is_refused.load(Ordering::Relaxed) {
            return Err(LeaseError::Unavailable("no permission".to_owned()));
        }
        let answer = work();
        sleep(delay).await;
        if self.is_cut.load(Ordering::Relaxed) {
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

/// What is wrong with the lease, as it was said last.
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

/// A process that takes part.
struct Replica {
    line: Line,
    leadership: Leadership,
    report: Arc<Report>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Replica {
    /// `hours` is by how much its wall clock is wrong.
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

/// A wall clock that is wrong by so many hours.
fn clock(hours: i64) -> Clock {
    let (origin, start) = (Instant::now(), 1_700_000_000 + hours * 3600);
    Arc::new(move || {
        let passed = i64::try_from(origin.elapsed().as_secs()).unwrap();
        Timestamp::from_second(start + passed).unwrap()
    })
}

/// How long it takes until it is so, in steps of 10 ms and of a hundredth; what must hold meanwhile is asserted.
async fn until(mut is_so: impl FnMut() -> bool, meanwhile: impl Fn()) -> Duration {
    let began = Instant::now();
    while !is_so() {
        meanwhile();
        assert!(began.elapsed() < 2000 * SECOND, "it does not come");
        sleep(Duration::from_millis(10).max(began.elapsed() / 100)).await;
    }
    began.elapsed()
}

async fn two() -> (Arc<Server>, Replica, Replica) {
    let server = Arc::new(Server::default());
    let a = Replica::start(&server, "a", 0);
    until(|| a.holds(), || ()).await;
    // The other side's clock is an hour off.
    let b = Replica::start(&server, "b", 1);
    sleep(5 * SECOND).await;
    (server, a, b)
}

#[tokio::test(start_paused = true)]
async fn the_first_one_gets_a_lease_that_nobody_has_at_once_and_keeps_it() {
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
async fn a_lease_that_was_let_go_of_is_taken_at_the_next_look() {
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
async fn after_a_crash_the_other_one_writes_within_17_seconds_and_not_before_15() {
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
async fn a_leader_that_cannot_renew_loses_the_lease_seconds_before_another_one_gets_it() {
    let (_, a, b) = two().await;
    a.line.is_cut.store(true, Ordering::Relaxed);
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
async fn a_refused_renewal_is_tried_again_until_the_deadline() {
    let (_, a, b) = two().await;
    a.line.is_refused.store(true, Ordering::Relaxed);
    sleep(7 * SECOND).await;
    a.line.is_refused.store(false, Ordering::Relaxed);
    sleep(20 * SECOND).await;
    assert!(a.holds() && !b.holds());
    a.line.is_refused.store(true, Ordering::Relaxed);
    let why = a.leadership.lost().await;
    assert_eq!(why, "it could not be renewed for 10s: no permission");
}

#[tokio::test(start_paused = true)]
async fn a_process_that_was_stopped_knows_before_it_does_anything() {
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
async fn a_lease_that_is_deleted_by_hand_stays_with_its_holder() {
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
async fn a_lease_that_is_given_to_somebody_by_hand_never_makes_two_writers() {
    for holder in [None, Some(""), Some("b"), Some("nobody")] {
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
async fn what_else_is_changed_in_the_lease_by_hand_changes_nothing() {
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
async fn a_take_whose_answer_was_lost_is_known_at_the_next_look() {
    let server = Arc::new(Server::default());
    let a = Replica::start(&server, "a", 0);
    a.line.is_one_way.store(true, Ordering::Relaxed);
    until(|| server.holder().is_some(), || ()).await;
    a.line.is_one_way.store(false, Ordering::Relaxed);
    let took = until(|| a.holds(), || ()).await;
    assert!(took <= 8 * SECOND, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn of_many_that_start_together_exactly_one_leads() {
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
async fn without_a_lease_a_process_always_may() {
    let leadership = Leadership::unconditional();
    leadership.gained().await;
    advance(100 * SECOND).await;
    assert!(leadership.holds());
    assert_eq!(leadership.standing(), Standing::Leader);
}
