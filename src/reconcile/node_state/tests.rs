//! The centre: when it evaluates, what it commits, and whom it tells.

use futures::FutureExt;
use tempfile::TempDir;
use tokio::task::JoinHandle;

use super::*;
use crate::api::types::Phase;
use crate::domain::fixtures::{NodeBuilder, at, node};
use crate::providers::fixtures::only;
use crate::providers::kubernetes::Kubernetes;
use crate::reconcile::states::{Backends, pool_of};
use crate::registry::backend::file::Database;
use crate::registry::backend::memory::MemoryBackend;
use crate::telemetry::cause::Trigger;

mod standby;

const POOL: &str = "example.com/pool";

type Make = fn(&TempDir) -> Backends;

/// Makes a backend; one line for each there is.
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

/// A centre of a plain cluster with two consumers, one of nodes and one of pools.
struct Bench {
    centre: Arc<Centre>,
    gate: Arc<SyncGate>,
    nodes: Inbox<InsightKey>,
    pools: Inbox<InsightKey>,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Bench {
    /// The centre runs, and its gate waits for `nodes`.
    fn start(backends: Backends) -> Self {
        Self::start_at(backends, 0)
    }

    fn start_at(backends: Backends, second: i64) -> Self {
        let mut bench = Self::standby(backends, second);
        bench.nodes = bench.centre.attach("nodes", is_node).unwrap();
        bench.pools = bench.centre.attach("pools", |key| !is_node(key)).unwrap();
        bench
    }

    /// The centre runs, and has no consumer.
    fn standby(backends: Backends, second: i64) -> Self {
        let providers = only(Kubernetes::new(&[POOL.to_owned()], Some("v1.36.3")));
        let metrics = Arc::new(Metrics::new().unwrap());
        let health = Arc::new(Health::default());
        let states = States::new(backends, Arc::clone(&metrics), Arc::clone(&health));
        let clock: Clock = Arc::new(move || at(second));
        let (centre, dirty) =
            Centre::new(providers, states, None, Arc::clone(&metrics), health, clock);
        let (gate, stop) = (Arc::new(SyncGate::new(["nodes"])), CancellationToken::new());
        let task = tokio::spawn({
            let (centre, gate, stop) = (Arc::clone(&centre), Arc::clone(&gate), stop.clone());
            async move { centre.run(dirty, &gate, stop).await }
        });
        Self {
            centre,
            gate,
            nodes: dirty_set().1,
            pools: dirty_set().1,
            metrics,
            stop,
            task,
        }
    }

    fn state(&self, name: &str) -> Option<Arc<Evaluated>> {
        self.centre.node(&name.into()).unwrap()
    }

    fn apply(&self, node: NodeBuilder) {
        let cause = Cause::new(Trigger::Node, "1");
        self.centre
            .observe(&cause, |inventory| inventory.apply_node(node.build()));
    }

    fn remove(&self, name: &str) -> Cause {
        let cause = Cause::new(Trigger::NodeDeleted, "2");
        self.centre
            .observe(&cause, |inventory| inventory.remove_node(&name.into()));
        cause
    }

    /// Everything that is dirty is evaluated when the centre has stopped.
    async fn finish(&mut self) {
        self.gate.arrived("nodes");
        self.centre.evaluated().await;
        self.stop.cancel();
        (&mut self.task).await.unwrap();
    }

    /// Waits for so many evaluations in all, without stopping the centre.
    async fn settle(&mut self, evaluations: usize) {
        self.gate.arrived("nodes");
        self.centre.evaluated().await;
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
async fn nothing_is_evaluated_and_nobody_is_told_before_everything_is_listed() {
    on_every_backend(async |backends| {
        let mut bench = Bench::start(backends);
        bench.apply(member("a", "blue"));
        tokio::task::yield_now().await;
        assert_eq!(bench.evaluations(), 0);
        assert!(bench.state("a").is_none());
        assert!(bench.centre.evaluated().now_or_never().is_none());
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
async fn a_node_that_changes_three_times_before_its_turn_is_evaluated_once_in_its_last_state() {
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
async fn a_change_that_nobody_can_see_is_evaluated_and_told_to_nobody() {
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
async fn a_node_that_changes_its_pool_tells_both_pools_and_one_that_goes_tells_its_last() {
    on_every_backend(async |backends| {
        let mut bench = Bench::start(backends);
        bench.apply(member("a", "blue"));
        bench.settle(1).await;
        assert_eq!(read(&mut bench.pools), ["blue.pool"]);
        bench.apply(member("a", "green"));
        bench.settle(2).await;
        assert_eq!(read(&mut bench.pools), ["blue.pool", "green.pool"]);
        assert!(matches!(
            bench.centre.pool(&"blue.pool".into()).unwrap(),
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
async fn whoever_is_told_of_a_node_finds_its_state() {
    on_every_backend(async |backends| {
        let mut bench = Bench::start(backends);
        bench.gate.arrived("nodes");
        let reader = tokio::spawn({
            let centre = Arc::clone(&bench.centre);
            let mut inbox = std::mem::replace(&mut bench.nodes, dirty_set().1);
            async move {
                let mut last = 0;
                for _ in 0..2_000 {
                    let Some((InsightKey::Node(name), _)) = inbox.next().await else {
                        break;
                    };
                    assert!(
                        centre.node(&name).unwrap().is_some(),
                        "{name} was told before it was committed"
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
async fn a_node_that_is_created_anew_under_its_name_has_no_past() {
    on_every_backend(async |backends| {
        let mut bench = Bench::start(backends);
        bench.apply(member("a", "blue").kubelet("v1.35.0"));
        bench.settle(1).await;
        let mut anew = member("a", "blue").build();
        anew.uid = "another".into();
        let cause = Cause::new(Trigger::Node, "3");
        bench
            .centre
            .observe(&cause, |inventory| inventory.apply_node(anew));
        bench.finish().await;
        let state = bench.state("a").unwrap();
        assert_eq!(
            state.state.timeline.len(),
            1,
            "the first one's phases are not its own"
        );
    })
    .await;
}

#[tokio::test]
async fn a_third_consumer_that_comes_late_gets_every_key_that_there_is_and_then_every_change() {
    on_every_backend(async |backends| {
        let mut bench = Bench::start(backends);
        for name in ["a", "b", "c"] {
            bench.apply(member(name, "blue"));
        }
        bench.settle(3).await;
        let mut late = bench.centre.attach("late", |_| true).unwrap();
        assert_eq!(read(&mut late), ["a", "b", "blue.pool", "c"]);
        bench.apply(member("b", "blue").kubelet("v1.35.0"));
        bench.settle(4).await;
        assert_eq!(read(&mut late), ["b", "blue.pool"]);
        assert_eq!(
            bench.evaluations(),
            4,
            "whoever looks, a change is evaluated once"
        );
    })
    .await;
}

#[tokio::test]
async fn a_state_whose_node_is_gone_is_reaped_and_who_looks_at_it_is_told() {
    on_every_backend(async |backends| {
        let states = backends.clone();
        let mut bench = Bench::start(backends);
        bench.apply(member("a", "blue"));
        bench.apply(member("b", "green"));
        bench.settle(2).await;
        // As if the mark of its deletion had been lost.
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
        assert_eq!(bench.centre.reap(&cause).unwrap(), 1);
        assert!(bench.state("ghost").is_none());
        assert_eq!(
            (read(&mut bench.nodes), read(&mut bench.pools)),
            (vec!["ghost".to_owned()], vec!["blue.pool".to_owned()])
        );
        assert_eq!(bench.centre.reap(&cause).unwrap(), 0);
    })
    .await;
}

#[tokio::test]
async fn what_led_to_the_end_of_a_node_is_known_until_nothing_is_left_of_it() {
    on_every_backend(async |backends| {
        let mut bench = Bench::start(backends);
        let name: Arc<str> = "a".into();
        bench.apply(member("a", "blue"));
        bench.settle(1).await;
        assert!(bench.centre.departure(&name).is_none());

        let cause = bench.remove("a");
        bench.settle(2).await;
        let departure = bench.centre.departure(&name).unwrap();
        assert_eq!(departure.reconcile_id, cause.reconcile_id);
        bench.centre.parted(&name);
        assert!(bench.centre.departure(&name).is_none());

        // Who comes back under the name has not gone.
        bench.apply(member("a", "blue"));
        bench.settle(3).await;
        bench.remove("a");
        bench.settle(4).await;
        bench.apply(member("a", "blue"));
        bench.settle(5).await;
        assert!(bench.centre.departure(&name).is_none());
    })
    .await;
}

#[tokio::test]
async fn evaluating_a_node_again_finds_what_was_missed_and_nothing_else() {
    on_every_backend(async |backends| {
        let states = backends.clone();
        let mut bench = Bench::start(backends);
        bench.apply(member("a", "blue").kubelet("v1.35.0"));
        bench.settle(1).await;
        let cause = Cause::new(Trigger::Sync, "");
        let name: Arc<str> = "a".into();
        let again = bench.centre.reevaluate(&name, &cause).unwrap();
        assert_eq!(again, EvaluationResult::Unchanged);
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
        let again = bench.centre.reevaluate(&name, &cause).unwrap();
        assert_eq!(again, EvaluationResult::Changed);
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
        assert_eq!(bench.centre.pool_names().unwrap(), ["green.pool".into()]);
        assert!(
            bench
                .centre
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
async fn who_is_longest_in_a_phase_is_known_until_it_leaves_it() {
    on_every_backend(async |backends| {
        let mut bench = Bench::start_at(backends, 70);
        bench.apply(member("a", "blue").kubelet("v1.35.0"));
        bench.settle(1).await;
        assert_eq!(bench.centre.oldest(Phase::Pending), Some(at(70)));
        assert_eq!(bench.centre.oldest(Phase::Completed), None);
        bench.apply(member("a", "blue"));
        bench.finish().await;
        assert_eq!(bench.centre.oldest(Phase::Pending), None);
    })
    .await;
}

#[tokio::test]
async fn a_file_brings_back_the_timeline_of_the_same_node_and_what_its_pool_has_learned() {
    let folder = tempfile::tempdir().unwrap();
    let open = || {
        let backends = BACKENDS[1].1(&folder);
        backends.nodes.init().unwrap();
        backends.pools.init().unwrap();
        backends
    };
    let kept = {
        let backends = open();
        let mut bench = Bench::start_at(backends.clone(), 0);
        bench.apply(member("a", "blue").kubelet("v1.35.0").cordoned());
        bench.apply(member("b", "blue"));
        bench.settle(2).await;
        bench.apply(member("a", "blue"));
        bench.finish().await;
        backends.nodes.flush(Duration::from_secs(10)).unwrap();
        bench.state("a").unwrap().state.timeline.clone()
    };
    assert_eq!(kept.len(), 2, "{kept:?}");
    let mut bench = Bench::start_at(open(), 500);
    bench.apply(member("a", "blue"));
    let mut another = member("b", "blue").build();
    another.uid = "another".into();
    bench
        .centre
        .observe(&Cause::new(Trigger::Node, "1"), |inventory| {
            inventory.apply_node(another)
        });
    bench.finish().await;
    assert_eq!(bench.state("a").unwrap().state.timeline, kept);
    assert_eq!(
        bench.state("b").unwrap().state.timeline[0].start_time,
        at(500)
    );
    let learned = bench.centre.durations(&"blue.pool".into()).unwrap();
    assert_eq!(learned.medians(), [(kept[0].phase, 1, 0)]);
}
