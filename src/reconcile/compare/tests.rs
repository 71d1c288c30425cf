//! The compare with paused time: what counts as missed, and what is repaired.

use std::collections::BTreeSet;
use std::sync::Mutex;

use super::*;
use crate::domain::fixtures::{at, node};
use crate::kubernetes::diagnosis::{Diagnosis, Problem};
use crate::providers::fixtures::only;
use crate::providers::kubernetes::Kubernetes;
use crate::reconcile::states::States;
use crate::reconcile::sync_gate::SyncGate;
use crate::registry::fanout::Inbox;
use crate::registry::sync::{
    Observe, Parts, StatusStore, StoreError, SyncCoordinator, SyncHandle, SyncPhase, SyncStatus,
};
use crate::telemetry::health::Health;

const INTERVAL: Duration = Duration::from_hours(1);

/// Insights that are what the test says.
#[derive(Default)]
struct Fake {
    differing: Mutex<Differences>,
    failing: Mutex<BTreeSet<InsightKey>>,
}

impl Fake {
    fn differ(&self, name: &str, wanted: u64) {
        let key = InsightKey::Node(name.into());
        self.differing.lock().unwrap().insert(key, wanted);
    }
}

impl Insights for Fake {
    fn keys(&self) -> Result<Vec<InsightKey>, BackendError> {
        Ok(self.differing.lock().unwrap().keys().cloned().collect())
    }

    fn difference(&self, key: &InsightKey) -> Result<Option<u64>, BackendError> {
        Ok(self.differing.lock().unwrap().get(key).copied())
    }

    fn fails(&self, key: &InsightKey) -> bool {
        self.failing.lock().unwrap().contains(key)
    }
}

/// Keeps no status and tells nobody.
struct Nowhere;

impl StatusStore for Nowhere {
    fn load(&self) -> BoxFuture<'_, Result<Option<SyncStatus>, StoreError>> {
        Box::pin(async { Ok(None) })
    }

    fn save<'a>(&'a self, _: &'a SyncStatus) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async { Ok(()) })
    }
}

impl Observe for Nowhere {
    fn started(&self, _: SyncReason) {}
    fn finished(&self, _: &SyncStatus, _: Duration) {}
    fn persist_failed(&self, _: &StoreError) {}
}

struct Bench {
    centre: Arc<Centre>,
    relist: Arc<Relist>,
    fake: Arc<Fake>,
    queue: watch::Sender<QueueStatus>,
    inbox: Inbox<InsightKey>,
    metrics: Arc<Metrics>,
    sync: SyncHandle,
}

impl Bench {
    /// A centre of three nodes that were evaluated, and the first compare behind it.
    async fn start() -> Self {
        let (metrics, health) = (
            Arc::new(Metrics::new().unwrap()),
            Arc::new(Health::default()),
        );
        let states = States::in_memory(&metrics, &health);
        let providers = only(Kubernetes::new(&[], Some("v1.36.3")));
        let clock: crate::registry::Clock = Arc::new(|| at(0));
        let (centre, dirty) = Centre::new(
            providers,
            states,
            None,
            Arc::clone(&metrics),
            health,
            Arc::clone(&clock),
        );
        let inbox = centre
            .attach("nodes", |key| matches!(key, InsightKey::Node(_)))
            .unwrap();
        for name in ["a", "b", "c"] {
            let facts = node(name).kubelet("v1.36.3").build();
            centre.observe(&Cause::new(Trigger::Node, "1"), |inventory| {
                inventory.apply_node(facts)
            });
        }
        let (relist, fake) = (Arc::new(Relist::default()), Arc::new(Fake::default()));
        let (queue, seen) = watch::channel(QueueStatus::default());
        let compare = FullCompare::new(
            Arc::clone(&centre),
            Arc::clone(&relist),
            vec![Arc::clone(&fake) as Arc<dyn Insights>],
            vec![seen],
            Arc::clone(&metrics),
            INTERVAL,
        );
        let coordinator = SyncCoordinator::new(
            Parts {
                compare: Arc::new(compare),
                store: Arc::new(Nowhere),
                observe: Arc::new(Nowhere),
                clock,
            },
            INTERVAL,
        );
        let sync = coordinator.handle();
        let ready = Arc::clone(&centre);
        tokio::spawn(async move {
            coordinator
                .start(ready.evaluated(), CancellationToken::new())
                .await;
        });
        tokio::spawn({
            let (centre, gate) = (Arc::clone(&centre), SyncGate::new([]));
            async move {
                centre.run(dirty, &gate, CancellationToken::new()).await;
            }
        });
        let mut bench = Self {
            centre,
            relist,
            fake,
            queue,
            inbox,
            metrics,
            sync,
        };
        let mut reports = bench.sync.subscribe();
        let is_complete = |report: &crate::registry::sync::Report| {
            report
                .status
                .as_ref()
                .is_some_and(|status| status.phase == SyncPhase::Complete)
        };
        reports.wait_for(is_complete).await.unwrap();
        assert_eq!(bench.told(), ["a", "b", "c"]);
        bench
    }

    async fn compare(&self) -> SyncStatus {
        self.sync.sync_now(SyncReason::AskedFor).await.unwrap()
    }

    fn told(&mut self) -> Vec<String> {
        let mut names: Vec<String> = std::iter::from_fn(|| self.inbox.try_next())
            .map(|(key, _)| match key {
                InsightKey::Node(name) | InsightKey::Pool(name) => name.to_string(),
            })
            .collect();
        names.sort_unstable();
        names
    }

    fn out_of_sync(&self) -> String {
        let text = self.metrics.render().unwrap();
        let line = text
            .lines()
            .find(|line| line.starts_with("node_insights_insights_out_of_sync"));
        line.unwrap_or_default().to_owned()
    }
}

fn found(status: &SyncStatus) -> (u64, u64, u64) {
    (
        status.nodes_compared,
        status.differences_found,
        status.differences_repaired,
    )
}

#[tokio::test(start_paused = true)]
async fn the_first_compare_evaluates_nobody_twice() {
    let bench = Bench::start().await;
    let first = bench.sync.status().unwrap();
    assert_eq!(found(&first), (3, 0, 0));
    let text = bench.metrics.render().unwrap();
    let evaluations = text
        .lines()
        .filter(|line| line.starts_with("node_insights_evaluations_total"))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<usize>().ok());
    assert_eq!(evaluations.sum::<usize>(), 3, "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_cluster_where_nothing_was_missed_has_no_difference_and_nobody_is_told() {
    let mut bench = Bench::start().await;
    assert_eq!(found(&bench.compare().await), (3, 0, 0));
    assert_eq!(bench.told(), Vec::<String>::new());
    assert_eq!(bench.out_of_sync(), "node_insights_insights_out_of_sync 0");
}

#[tokio::test(start_paused = true)]
async fn an_insight_that_differs_for_good_is_told_and_counted_and_repaired_when_it_does_not_any_more()
 {
    let mut bench = Bench::start().await;
    bench.fake.differ("b", 1);
    let asked = tokio::spawn({
        let sync = bench.sync.clone();
        async move { sync.sync_now(SyncReason::AskedFor).await }
    });
    let (key, _) = bench.inbox.next().await.unwrap();
    assert_eq!(key, InsightKey::Node("b".into()));
    bench.fake.differing.lock().unwrap().clear();
    assert_eq!(found(&asked.await.unwrap().unwrap()), (3, 1, 1));
    assert_eq!(bench.out_of_sync(), "node_insights_insights_out_of_sync 0");
}

#[tokio::test(start_paused = true)]
async fn a_compare_that_repairs_an_insight_in_vain_has_failed_and_names_it() {
    let mut bench = Bench::start().await;
    bench.fake.differ("b", 1);
    let asked = tokio::spawn({
        let sync = bench.sync.clone();
        async move { sync.sync_now(SyncReason::AskedFor).await }
    });
    bench.inbox.next().await.unwrap();
    let text = asked.await.unwrap().unwrap_err().to_string();
    assert!(
        text.contains("1 insight is wrong") && text.contains("node b"),
        "{text}"
    );
    assert_eq!(bench.out_of_sync(), "node_insights_insights_out_of_sync 1");
}

#[tokio::test(start_paused = true)]
async fn an_insight_that_is_known_to_be_refused_differs_and_is_no_failure_of_the_compare() {
    let bench = Bench::start().await;
    bench.fake.differ("b", 1);
    let key = InsightKey::Node("b".into());
    bench.fake.failing.lock().unwrap().insert(key);
    assert_eq!(found(&bench.compare().await), (3, 1, 0));
    assert_eq!(bench.out_of_sync(), "node_insights_insights_out_of_sync 1");
}

#[tokio::test(start_paused = true)]
async fn an_insight_that_is_on_its_way_is_no_difference() {
    let mut bench = Bench::start().await;
    bench.fake.differ("b", 1);
    let changes = tokio::spawn({
        let fake = Arc::clone(&bench.fake);
        async move {
            for wanted in 2..20 {
                tokio::time::sleep(LOOK).await;
                fake.differ("b", wanted);
            }
        }
    });
    assert_eq!(found(&bench.compare().await), (3, 0, 0));
    assert_eq!(bench.told(), Vec::<String>::new());
    changes.abort();
}

#[tokio::test(start_paused = true)]
async fn an_insight_that_waits_for_its_turn_to_be_written_was_not_missed() {
    let mut bench = Bench::start().await;
    bench.fake.differ("b", 1);
    bench.centre.touch(&InsightKey::Node("b".into()));
    assert_eq!(found(&bench.compare().await), (3, 0, 0));
    assert_eq!(bench.told(), ["b"]);
    // Nor was it repaired in vain while nobody comes to writing it.
    assert_eq!(found(&bench.compare().await), (3, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn the_compare_waits_for_busy_queues_but_not_for_ever() {
    let bench = Bench::start().await;
    bench.queue.send_replace(QueueStatus {
        ready: 7,
        ..QueueStatus::default()
    });
    let begin = tokio::time::Instant::now();
    bench.compare().await;
    assert_eq!(begin.elapsed(), BUSY_AT_MOST);
}

fn away() -> Diagnosis {
    Diagnosis {
        problem: Problem::Unreachable,
        what: "The API server is away".to_owned(),
        remedy: "wait".to_owned(),
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_fresh_list_finds_is_a_difference() {
    let bench = Bench::start().await;
    let mut listener = bench.relist.listener("nodes", false);
    let answers = tokio::spawn(async move { listener.asked().await.answer(Ok(2)) });
    assert_eq!(found(&bench.compare().await), (3, 2, 2));
    answers.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_kind_that_cannot_be_listed_is_named_and_the_others_are_compared_and_repaired() {
    let mut bench = Bench::start().await;
    bench.fake.differ("b", 1);
    let (mut nodes, mut pools) = (
        bench.relist.listener("nodes", false),
        bench.relist.listener("pools", false),
    );
    tokio::spawn(async move {
        nodes.asked().await.answer(Ok(2));
        pools.asked().await.answer(Err(away()));
    });
    let asked = tokio::spawn({
        let sync = bench.sync.clone();
        async move { sync.sync_now(SyncReason::AskedFor).await }
    });
    let (key, _) = bench.inbox.next().await.unwrap();
    assert_eq!(key, InsightKey::Node("b".into()), "it is repaired");
    bench.fake.differing.lock().unwrap().clear();
    let text = asked.await.unwrap().unwrap_err().to_string();
    assert!(
        text.contains("pools could not be listed: The API server is away"),
        "{text}"
    );
    assert!(!text.contains("nodes"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_kind_that_does_not_answer_holds_up_the_compare_for_two_minutes_at_most() {
    let bench = Bench::start().await;
    let _deaf = bench.relist.listener("pools", false);
    let begin = tokio::time::Instant::now();
    let error = bench.sync.sync_now(SyncReason::AskedFor).await.unwrap_err();
    assert_eq!(begin.elapsed(), LISTING_AT_MOST);
    let text = error.to_string();
    assert!(text.contains("Listing pools took longer"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn every_compare_but_the_first_lists_everything() {
    let bench = Bench::start().await;
    for reason in [
        SyncReason::WatchRestarted,
        SyncReason::LeadershipGained,
        SyncReason::AskedFor,
    ] {
        let mut listener = bench.relist.listener("nodes", false);
        let answers = tokio::spawn(async move { listener.asked().await.answer(Ok(1)) });
        let status = bench.sync.sync_now(reason).await.unwrap();
        assert_eq!(found(&status), (3, 1, 1), "{reason:?}");
        answers.await.unwrap();
    }
}
