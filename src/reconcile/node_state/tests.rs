//! The node-state controller: when it evaluates, what it commits, and which consumers it notifies.

use futures::FutureExt;
use tempfile::TempDir;
use tokio::task::JoinHandle;

use super::*;
use crate::api::types::Phase;
use crate::domain::fixtures::{NodeBuilder, at, node};
use crate::providers::fixtures::only;
use crate::providers::fixtures::plain_kubernetes;
use crate::reconcile::inventory::Found;
use crate::reconcile::states::{Backends, pool_of};
use crate::registry::backend::file::Database;
use crate::registry::backend::memory::MemoryBackend;
use crate::telemetry::cause::Trigger;

mod file;

mod standby;
mod time;

const POOL: &str = "example.com/pool";

type Make = fn(&TempDir) -> Backends;

/// All backends.
const BACKENDS: [(&str, Make); 2] = [
    ("memory", |_| Backends {
        kind: "memory",
        nodes: Arc::new(MemoryBackend::new(pool_of)),
        pools: Arc::new(MemoryBackend::new(|_| None)),
    }),
    ("file", |folder| {
        let database = Database::new(folder.path().join("state.redb"));
        Backends {
            kind: "file",
            nodes: Arc::new(database.table("nodes", pool_of)),
            pools: Arc::new(database.table("pools", |_| None)),
        }
    }),
];

/// Runs a test on every backend, one after the other.
async fn on_every_backend(test: impl AsyncFn(Backends)) {
    for (name, make) in BACKENDS {
        let folder = tempfile::tempdir().unwrap();
        let backends = make(&folder);
        backends.nodes.init().unwrap();
        backends.pools.init().unwrap();
        println!("on the backend '{name}'");
        test(backends).await;
    }
}

/// A node-state controller of a plain cluster with two consumers, one of nodes and one of pools.
struct Bench {
    controller: Arc<NodeStateController>,
    gate: Arc<SyncGate>,
    nodes: Inbox<InsightKey>,
    pools: Inbox<InsightKey>,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Bench {
    /// Starts the node-state controller; its gate waits for `nodes`.
    fn start(backends: Backends) -> Self {
        Self::start_at(backends, 0)
    }

    fn start_at(backends: Backends, second: i64) -> Self {
        let mut bench = Self::standby(backends, second);
        bench.nodes = bench.controller.attach("nodes", is_node).unwrap();
        bench.pools = bench
            .controller
            .attach("pools", |key| !is_node(key))
            .unwrap();
        bench
    }

    /// Starts the node-state controller without a consumer.
    fn standby(backends: Backends, second: i64) -> Self {
        Self::with(backends, Arc::new(move || at(second)))
    }

    fn with(backends: Backends, clock: Clock) -> Self {
        let providers = only(plain_kubernetes(&[POOL.to_owned()], Some("v1.36.3")));
        let metrics = Arc::new(Metrics::new().unwrap());
        let health = Arc::new(Health::default());
        let states = States::new(backends, Arc::clone(&metrics), Arc::clone(&health));
        let (controller, dirty) = NodeStateController::new(
            providers,
            states,
            KnownInsights::default(),
            Arc::clone(&metrics),
            health,
            clock,
        );
        let (gate, stop) = (Arc::new(SyncGate::new(["nodes"])), CancellationToken::new());
        let task = tokio::spawn({
            let (controller, gate, stop) =
                (Arc::clone(&controller), Arc::clone(&gate), stop.clone());
            async move { controller.run(dirty, &gate, stop).await }
        });
        Self {
            controller,
            gate,
            nodes: dirty_set().1,
            pools: dirty_set().1,
            metrics,
            stop,
            task,
        }
    }

    fn state(&self, name: &str) -> Option<Arc<Evaluated>> {
        self.controller.node(&name.into()).unwrap()
    }

    fn apply(&self, node: NodeBuilder) {
        let cause = Cause::new(Trigger::Node, "1");
        self.controller
            .observe(&cause, |inventory| inventory.apply_node(node.build()));
    }

    fn remove(&self, name: &str) -> Cause {
        let cause = Cause::new(Trigger::NodeDeleted, "2");
        self.controller
            .observe(&cause, |inventory| inventory.remove_node(&name.into()));
        cause
    }

    /// Stops the node-state controller once everything that is dirty is evaluated.
    async fn finish(&mut self) {
        self.gate.arrived("nodes");
        self.controller.evaluated().await;
        self.stop.cancel();
        (&mut self.task).await.unwrap();
    }

    /// Waits for `evaluations` in total, without stopping the node-state controller.
    async fn settle(&mut self, evaluations: usize) {
        self.gate.arrived("nodes");
        self.controller.evaluated().await;
        while self.evaluations() < evaluations {
            tokio::task::yield_now().await;
        }
    }

    fn evaluations(&self) -> usize {
        let text = self.metrics.render().unwrap();
        text.lines()
            .filter(|line| line.starts_with("node_insights_evaluations_total"))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<usize>().ok())
            .sum()
    }
}

fn is_node(key: &InsightKey) -> bool {
    matches!(key, InsightKey::Node(_))
}

fn read(inbox: &mut Inbox<InsightKey>) -> Vec<String> {
    let mut names: Vec<String> = std::iter::from_fn(|| inbox.try_next())
        .map(|(key, _)| match key {
            InsightKey::Node(name) | InsightKey::Pool(name) => name.to_string(),
        })
        .collect();
    names.sort_unstable();
    names
}

fn member(name: &str, pool: &str) -> NodeBuilder {
    node(name).label(POOL, pool).kubelet("v1.36.3")
}

#[tokio::test]
async fn nothing_is_evaluated_and_no_consumer_is_notified_before_everything_is_listed() {
    on_every_backend(async |backends| {
        let mut bench = Bench::start(backends);
        bench.apply(member("a", "blue"));
        tokio::task::yield_now().await;
        assert_eq!(bench.evaluations(), 0);
        assert!(bench.state("a").is_none());
        assert!(bench.controller.evaluated().now_or_never().is_none());
        assert_eq!(read(&mut bench.nodes), Vec::<String>::new());
        bench.finish().await;
        assert_eq!(bench.evaluations(), 1);
        assert_eq!(
            (read(&mut bench.nodes), read(&mut bench.pools)),
            (vec!["a".to_owned()], vec!["blue.pool".to_owned()])
        );
    })
    .await;
}

#[tokio::test]
async fn a_node_that_changes_three_times_before_its_evaluation_is_evaluated_once() {
    on_every_backend(async |backends| {
        let mut bench = Bench::start(backends);
        for version in ["v1.34.0", "v1.35.0", "v1.36.3"] {
            bench.apply(member("a", "blue").kubelet(version));
        }
        bench.finish().await;
        assert_eq!(bench.evaluations(), 1);
        let state = bench.state("a").unwrap();
        assert_eq!(state.state.phase, Phase::Completed);
        assert_eq!(read(&mut bench.nodes), ["a"]);
    })
    .await;
}

#[tokio::test]
async fn a_change_that_leaves_the_state_equal_notifies_no_consumer() {
    on_every_backend(async |backends| {
        let mut bench = Bench::start(backends);
        bench.apply(member("a", "blue"));
        bench.settle(1).await;
        read(&mut bench.nodes);
        read(&mut bench.pools);
        bench.apply(member("a", "blue").label("unrelated", "1"));
        bench.finish().await;
        assert_eq!(bench.evaluations(), 2);
        assert_eq!(read(&mut bench.nodes), Vec::<String>::new());
        assert_eq!(read(&mut bench.pools), Vec::<String>::new());
    })
    .await;
}

#[tokio::test]
async fn a_node_that_moves_notifies_both_pools_and_a_deleted_node_its_last_pool() {
    on_every_backend(async |backends| {
        let mut bench = Bench::start(backends);
        bench.apply(member("a", "blue"));
        bench.settle(1).await;
        assert_eq!(read(&mut bench.pools), ["blue.pool"]);
        bench.apply(member("a", "green"));
        bench.settle(2).await;
        assert_eq!(read(&mut bench.pools), ["blue.pool", "green.pool"]);
        assert!(matches!(
            bench.controller.pool(&"blue.pool".into()).unwrap(),
            Found::Gone
        ));
        read(&mut bench.nodes);
        bench.remove("a");
        bench.finish().await;
        assert_eq!(
            (read(&mut bench.nodes), read(&mut bench.pools)),
            (vec!["a".to_owned()], vec!["green.pool".to_owned()])
        );
        assert!(bench.state("a").is_none());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_that_is_notified_of_a_node_finds_its_state() {
    on_every_backend(async |backends| {
        let mut bench = Bench::start(backends);
        bench.gate.arrived("nodes");
        let reader = tokio::spawn({
            let controller = Arc::clone(&bench.controller);
            let mut inbox = std::mem::replace(&mut bench.nodes, dirty_set().1);
            async move {
                let mut last = 0;
                for _ in 0..2_000 {
                    let Some((InsightKey::Node(name), _)) = inbox.next().await else {
                        break;
                    };
                    assert!(
                        controller.node(&name).unwrap().is_some(),
                        "notified of {name} before it was committed"
                    );
                    last += 1;
                }
                last
            }
        });
        for index in 0..2_000 {
            bench.apply(member(&format!("node-{index}"), "blue"));
        }
        assert_eq!(reader.await.unwrap(), 2_000);
        bench.finish().await;
    })
    .await;
}

#[tokio::test]
async fn a_recreated_node_has_no_history() {
    on_every_backend(async |backends| {
        let mut bench = Bench::start(backends);
        bench.apply(member("a", "blue").kubelet("v1.35.0"));
        bench.settle(1).await;
        let mut recreated = member("a", "blue").build();
        recreated.uid = "another".into();
        let cause = Cause::new(Trigger::Node, "3");
        bench
            .controller
            .observe(&cause, |inventory| inventory.apply_node(recreated));
        bench.finish().await;
        let state = bench.state("a").unwrap();
        assert_eq!(
            state.state.timeline.len(),
            1,
            "the phases of the deleted node are not its own"
        );
    })
    .await;
}

#[tokio::test]
async fn a_consumer_that_attaches_late_gets_every_key_and_then_every_change() {
    on_every_backend(async |backends| {
        let mut bench = Bench::start(backends);
        for name in ["a", "b", "c"] {
            bench.apply(member(name, "blue"));
        }
        bench.settle(3).await;
        let mut late = bench.controller.attach("late", |_| true).unwrap();
        assert_eq!(read(&mut late), ["a", "b", "blue.pool", "c"]);
        bench.apply(member("b", "blue").kubelet("v1.35.0"));
        bench.settle(4).await;
        assert_eq!(read(&mut late), ["b", "blue.pool"]);
        assert_eq!(
            bench.evaluations(),
            4,
            "a change is evaluated once for all consumers"
        );
    })
    .await;
}

#[tokio::test]
async fn a_state_without_a_node_is_reaped_and_its_consumers_are_notified() {
    on_every_backend(async |backends| {
        let states = backends.clone();
        let mut bench = Bench::start(backends);
        bench.apply(member("a", "blue"));
        bench.apply(member("b", "green"));
        bench.settle(2).await;
        // As if its deletion had been missed.
        let lost = bench.state("a").unwrap();
        let ghost = Evaluated {
            state: Arc::new(NodeState {
                name: "ghost".into(),
                ..(*lost.state).clone()
            }),
            cause: lost.cause.clone(),
        };
        states.nodes.register(&"ghost".into(), ghost).unwrap();
        read(&mut bench.nodes);
        read(&mut bench.pools);
        let cause = Cause::new(Trigger::Sync, "");
        assert_eq!(bench.controller.reap(&cause).unwrap(), 1);
        assert!(bench.state("ghost").is_none());
        assert_eq!(
            (read(&mut bench.nodes), read(&mut bench.pools)),
            (vec!["ghost".to_owned()], vec!["blue.pool".to_owned()])
        );
        assert_eq!(bench.controller.reap(&cause).unwrap(), 0);
    })
    .await;
}

#[tokio::test]
async fn the_cause_of_a_deletion_is_available_until_the_deletion_is_written() {
    on_every_backend(async |backends| {
        let mut bench = Bench::start(backends);
        let name: Arc<str> = "a".into();
        bench.apply(member("a", "blue"));
        bench.settle(1).await;
        assert!(bench.controller.pending_deletion(&name).is_none());

        let cause = bench.remove("a");
        bench.settle(2).await;
        let deletion = bench.controller.pending_deletion(&name).unwrap();
        assert_eq!(deletion.reconcile_id, cause.reconcile_id);
        bench.controller.deletion_written(&name);
        assert!(bench.controller.pending_deletion(&name).is_none());

        // A node that comes back has no pending deletion.
        bench.apply(member("a", "blue"));
        bench.settle(3).await;
        bench.remove("a");
        bench.settle(4).await;
        bench.apply(member("a", "blue"));
        bench.settle(5).await;
        assert!(bench.controller.pending_deletion(&name).is_none());
    })
    .await;
}

#[tokio::test]
async fn reevaluating_a_node_changes_only_a_wrong_state() {
    on_every_backend(async |backends| {
        let states = backends.clone();
        let mut bench = Bench::start(backends);
        bench.apply(member("a", "blue").kubelet("v1.35.0"));
        bench.settle(1).await;
        let cause = Cause::new(Trigger::Sync, "");
        let name: Arc<str> = "a".into();
        let result = bench.controller.reevaluate(&name, &cause).unwrap();
        assert_eq!(result, EvaluationResult::Unchanged);
        let right = bench.state("a").unwrap();
        let wrong = Evaluated {
            state: Arc::new(NodeState {
                phase: Phase::Completed,
                ..(*right.state).clone()
            }),
            cause: right.cause.clone(),
        };
        states.nodes.update(&name, wrong).unwrap();
        read(&mut bench.nodes);
        read(&mut bench.pools);
        let result = bench.controller.reevaluate(&name, &cause).unwrap();
        assert_eq!(result, EvaluationResult::Changed);
        assert_eq!(bench.state("a").unwrap().state.phase, Phase::Pending);
        assert_eq!(read(&mut bench.nodes), ["a"]);
    })
    .await;
}

#[tokio::test]
async fn a_pool_without_nodes_is_forgotten_with_its_series() {
    on_every_backend(async |backends| {
        let mut bench = Bench::start(backends);
        bench.apply(member("a", "blue"));
        bench.apply(member("b", "green"));
        bench.settle(2).await;
        bench.remove("a");
        bench.finish().await;
        assert_eq!(
            bench.controller.pool_names().unwrap(),
            ["green.pool".into()]
        );
        assert!(
            bench
                .controller
                .evaluated_pool(&"blue.pool".into())
                .unwrap()
                .is_none()
        );
        let metrics = bench.metrics.render().unwrap();
        assert!(metrics.contains(r#"pool="green.pool""#));
        assert!(!metrics.contains(r#"pool="blue.pool""#), "{metrics}");
    })
    .await;
}

#[tokio::test]
async fn the_oldest_node_of_a_phase_is_known_until_it_leaves_the_phase() {
    on_every_backend(async |backends| {
        let mut bench = Bench::start_at(backends, 70);
        bench.apply(member("a", "blue").kubelet("v1.35.0"));
        bench.settle(1).await;
        assert_eq!(bench.controller.oldest(Phase::Pending), Some(at(70)));
        assert_eq!(bench.controller.oldest(Phase::Completed), None);
        bench.apply(member("a", "blue"));
        bench.finish().await;
        assert_eq!(bench.controller.oldest(Phase::Pending), None);
    })
    .await;
}
