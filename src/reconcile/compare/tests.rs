//! The compare with paused time: what counts as missed, and what is repaired.

use std::collections::BTreeSet;
use std::sync::Mutex;

use super::*;
use crate::domain::fixtures::{at, node};
use crate::kubernetes::diagnosis::{Diagnosis, Problem};
use crate::providers::fixtures::only;
use crate::providers::fixtures::plain_kubernetes;
use crate::reconcile::node_state::KnownInsights;
use crate::reconcile::states::States;
use crate::reconcile::sync_gate::SyncGate;
use crate::registry::fanout::Inbox;
use crate::registry::sync::{
    Observe, Parts, StatusStore, StoreError, SyncCoordinator, SyncHandle, SyncPhase, SyncStatus,
};
use crate::telemetry::health::Health;

const INTERVAL: Duration = Duration::from_hours(1);

/// Insights that differ and fail as the test configures them.
#[derive(Default)]
struct Fake {
    differing: Mutex<Differences>,
    failing: Mutex<BTreeSet<InsightKey>>,
}

impl Fake {
    fn differ(&self, name: &str, desired: u64) {
        let key = InsightKey::Node(name.into());
        self.differing.lock().unwrap().insert(key, desired);
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

/// Persists no status and reports nothing.
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
    controller: Arc<NodeStateController>,
    relist: Arc<Relist>,
    fake: Arc<Fake>,
    queue: watch::Sender<QueueStatus>,
    inbox: Inbox<InsightKey>,
    metrics: Arc<Metrics>,
    sync: SyncHandle,
}

impl Bench {
    /// A node-state controller that has evaluated three nodes and finished its first compare.
    async fn start() -> Self {
        let (metrics, health) = (
            Arc::new(Metrics::new().unwrap()),
            Arc::new(Health::default()),
        );
        let states = States::in_memory(&metrics, &health);
        let providers = only(plain_kubernetes(&[], Some("v1.36.3")));
        let clock: crate::registry::Clock = Arc::new(|| at(0));
        let (controller, dirty) = NodeStateController::new(
            providers,
            states,
            KnownInsights::default(),
            Arc::clone(&metrics),
            health,
            Arc::clone(&clock),
        );
        let inbox = controller
            .attach("nodes", |key| matches!(key, InsightKey::Node(_)))
            .unwrap();
        for name in ["a", "b", "c"] {
            let facts = node(name).kubelet("v1.36.3").build();
            controller.observe(&Cause::new(Trigger::Node, "1"), |inventory| {
                inventory.apply_node(facts)
            });
        }
        let (relist, fake) = (Arc::new(Relist::default()), Arc::new(Fake::default()));
        let (queue, seen) = watch::channel(QueueStatus::default());
        let compare = FullCompare::new(
            Arc::clone(&controller),
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
        let ready = Arc::clone(&controller);
        tokio::spawn(async move {
            coordinator
                .start(ready.evaluated(), CancellationToken::new())
                .await;
        });
        tokio::spawn({
            let (controller, gate) = (Arc::clone(&controller), SyncGate::new([]));
            async move {
                controller.run(dirty, &gate, CancellationToken::new()).await;
            }
        });
        let mut bench = Self {
            controller,
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
        assert_eq!(bench.notified(), ["a", "b", "c"]);
        bench
    }

    async fn compare(&self) -> SyncStatus {
        self.sync.sync_now(SyncReason::AskedFor).await.unwrap()
    }

    fn notified(&mut self) -> Vec<String> {
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
async fn the_first_compare_evaluates_no_node_twice() {
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
async fn without_missed_changes_there_is_no_difference_and_no_notification() {
    let mut bench = Bench::start().await;
    assert_eq!(found(&bench.compare().await), (3, 0, 0));
    assert_eq!(bench.notified(), Vec::<String>::new());
    assert_eq!(bench.out_of_sync(), "node_insights_insights_out_of_sync 0");
}

#[tokio::test(start_paused = true)]
async fn a_lasting_difference_is_notified_and_counted_and_repaired_once_it_is_gone() {
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
async fn a_compare_fails_and_names_an_insight_that_it_cannot_repair() {
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
async fn a_rejected_insight_is_a_difference_and_does_not_fail_the_compare() {
    let bench = Bench::start().await;
    bench.fake.differ("b", 1);
    let key = InsightKey::Node("b".into());
    bench.fake.failing.lock().unwrap().insert(key);
    assert_eq!(found(&bench.compare().await), (3, 1, 0));
    assert_eq!(bench.out_of_sync(), "node_insights_insights_out_of_sync 1");
}

#[tokio::test(start_paused = true)]
async fn an_insight_whose_desired_content_keeps_changing_is_no_difference() {
    let mut bench = Bench::start().await;
    bench.fake.differ("b", 1);
    let changes = tokio::spawn({
        let fake = Arc::clone(&bench.fake);
        async move {
            for desired in 2..20 {
                tokio::time::sleep(LOOK).await;
                fake.differ("b", desired);
            }
        }
    });
    assert_eq!(found(&bench.compare().await), (3, 0, 0));
    assert_eq!(bench.notified(), Vec::<String>::new());
    changes.abort();
}

#[tokio::test(start_paused = true)]
async fn an_insight_that_waits_to_be_written_is_no_difference() {
    let mut bench = Bench::start().await;
    bench.fake.differ("b", 1);
    bench.controller.touch(&InsightKey::Node("b".into()));
    assert_eq!(found(&bench.compare().await), (3, 0, 0));
    assert_eq!(bench.notified(), ["b"]);
    // The compare does not fail while the insight still waits to be written.
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

fn unreachable() -> Diagnosis {
    Diagnosis {
        problem: Problem::Unreachable,
        what: "The API server is unreachable".to_owned(),
        remedy: "wait".to_owned(),
    }
}

#[tokio::test(start_paused = true)]
async fn a_change_that_a_relist_finds_is_a_difference() {
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
        pools.asked().await.answer(Err(unreachable()));
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
        text.contains("pools could not be listed: The API server is unreachable"),
        "{text}"
    );
    assert!(!text.contains("nodes"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_kind_whose_list_never_finishes_delays_the_compare_by_two_minutes_at_most() {
    let bench = Bench::start().await;
    let _silent = bench.relist.listener("pools", false);
    let begin = tokio::time::Instant::now();
    let error = bench.sync.sync_now(SyncReason::AskedFor).await.unwrap_err();
    assert_eq!(begin.elapsed(), LISTING_AT_MOST);
    let text = error.to_string();
    assert!(text.contains("Listing pools took longer"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn every_compare_but_the_first_relists_everything() {
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
