//! The centre: when it evaluates, what it commits, and whom it tells.

use futures::FutureExt;
use tokio::task::JoinHandle;

use super::*;
use crate::api::types::Phase;
use crate::domain::evaluate::kubernetes::Kubernetes;
use crate::domain::fixtures::{NodeBuilder, at, node};
use crate::telemetry::cause::Trigger;

const POOL: &str = "example.com/pool";

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
    fn start() -> Self {
        let rules = Kubernetes::new(&[POOL.to_owned()], Some("v1.36.3"));
        let metrics = Arc::new(Metrics::new().unwrap());
        let health = Arc::new(Health::default());
        let clock: Clock = Arc::new(|| at(0));
        let mut builder = CentreBuilder::new(Box::new(rules), Arc::clone(&metrics), health, clock);
        let nodes = builder.consumer("nodes", |key| matches!(key, InsightKey::Node(_)));
        let pools = builder.consumer("pools", |key| matches!(key, InsightKey::Pool(_)));
        let (centre, dirty) = builder.build();
        let (gate, stop) = (Arc::new(SyncGate::new(["nodes"])), CancellationToken::new());
        let task = tokio::spawn({
            let (centre, gate, stop) = (Arc::clone(&centre), Arc::clone(&gate), stop.clone());
            async move { centre.run(dirty, &gate, Vec::new, stop).await }
        });
        Self {
            centre,
            gate,
            nodes,
            pools,
            metrics,
            stop,
            task,
        }
    }

    fn apply(&self, node: NodeBuilder) {
        let cause = Cause::new(Trigger::Node, "1");
        self.centre
            .observe(&cause, |inventory| inventory.apply_node(node.build()));
    }

    fn remove(&self, name: &str) {
        let cause = Cause::new(Trigger::NodeDeleted, "2");
        self.centre
            .observe(&cause, |inventory| inventory.remove_node(name));
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
    let mut bench = Bench::start();
    bench.apply(member("a", "blue"));
    tokio::task::yield_now().await;
    assert_eq!(bench.evaluations(), 0);
    assert!(bench.centre.node(&"a".into()).is_none());
    assert!(bench.centre.evaluated().now_or_never().is_none());
    assert_eq!(read(&mut bench.nodes), Vec::<String>::new());
    bench.finish().await;
    assert_eq!(bench.evaluations(), 1);
    assert_eq!(
        (read(&mut bench.nodes), read(&mut bench.pools)),
        (vec!["a".to_owned()], vec!["blue.pool".to_owned()])
    );
}

#[tokio::test]
async fn a_node_that_changes_three_times_before_its_turn_is_evaluated_once_in_its_last_state() {
    let mut bench = Bench::start();
    for version in ["v1.34.0", "v1.35.0", "v1.36.3"] {
        bench.apply(member("a", "blue").kubelet(version));
    }
    bench.finish().await;
    assert_eq!(bench.evaluations(), 1);
    let state = bench.centre.node(&"a".into()).unwrap();
    assert_eq!(state.state.phase, Phase::Completed);
    assert_eq!(read(&mut bench.nodes), ["a"]);
}

#[tokio::test]
async fn a_change_that_nobody_can_see_is_evaluated_and_told_to_nobody() {
    let mut bench = Bench::start();
    bench.apply(member("a", "blue"));
    bench.settle(1).await;
    read(&mut bench.nodes);
    read(&mut bench.pools);
    bench.apply(member("a", "blue").label("unrelated", "1"));
    bench.finish().await;
    assert_eq!(bench.evaluations(), 2);
    assert_eq!(read(&mut bench.nodes), Vec::<String>::new());
    assert_eq!(read(&mut bench.pools), Vec::<String>::new());
}

#[tokio::test]
async fn a_node_that_changes_its_pool_tells_both_pools_and_one_that_goes_tells_its_last() {
    let mut bench = Bench::start();
    bench.apply(member("a", "blue"));
    bench.settle(1).await;
    assert_eq!(read(&mut bench.pools), ["blue.pool"]);
    bench.apply(member("a", "green"));
    bench.settle(2).await;
    assert_eq!(read(&mut bench.pools), ["blue.pool", "green.pool"]);
    assert!(bench.centre.pool(&"blue.pool".into()).is_none());
    read(&mut bench.nodes);
    bench.remove("a");
    bench.finish().await;
    assert_eq!(
        (read(&mut bench.nodes), read(&mut bench.pools)),
        (vec!["a".to_owned()], vec!["green.pool".to_owned()])
    );
    assert!(bench.centre.node(&"a".into()).is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_is_told_of_a_node_finds_its_state() {
    let mut bench = Bench::start();
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
                    centre.node(&name).is_some(),
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
}

#[tokio::test]
async fn a_node_that_is_created_anew_under_its_name_has_no_past() {
    let mut bench = Bench::start();
    bench.apply(member("a", "blue").kubelet("v1.35.0"));
    bench.settle(1).await;
    let mut anew = member("a", "blue").build();
    anew.uid = "another".into();
    let cause = Cause::new(Trigger::Node, "3");
    bench
        .centre
        .observe(&cause, |inventory| inventory.apply_node(anew));
    bench.finish().await;
    let state = bench.centre.node(&"a".into()).unwrap();
    assert_eq!(
        state.state.timeline.len(),
        1,
        "the first one's phases are not its own"
    );
}
