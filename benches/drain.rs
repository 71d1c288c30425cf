//! The cost of following drains: `cargo bench --bench drain`. 500 nodes are drained, with 100 pods each, and 2,000
//! budgets. Only prints figures.

#![allow(
    clippy::expect_used,
    reason = "a benchmark that cannot be set up has no result"
)]

use std::cell::Cell;
use std::collections::HashSet;
use std::sync::Arc;

use divan::{Bencher, black_box};
use node_insights::api::types::Phase;
use node_insights::domain::state::History;
use node_insights::reconcile::inventory::Inventory;
use serde_json::{Value, json};

#[path = "support/node.rs"]
#[allow(dead_code, reason = "of its cluster only the objects are needed here")]
mod node;

const NODES: usize = 500;
const PODS: usize = 100;
const BUDGETS: usize = 2_000;
/// Workloads that have a budget each; those of a namespace have the first pods of every node.
const NAMESPACES: usize = 50;

fn main() {
    let (before, cluster) = (resident(), Cluster::new());
    let nodes = resident();
    cluster.follow();
    let all = resident();
    println!(
        "{NODES} nodes: {:.1} MiB; their {} pods and {BUDGETS} budgets: {:.1} MiB more",
        nodes - before,
        NODES * PODS,
        all - nodes
    );
    divan::main();
}

/// Resident memory of this process, in MiB.
fn resident() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u32>().ok());
    f64::from(kib.unwrap_or_default()) / 1024.0
}

/// Nodes that are drained.
struct Cluster(Inventory);

impl Cluster {
    fn new() -> Self {
        let inventory = node::empty(node::kubernetes());
        for index in 0..NODES {
            let mut node: Value =
                serde_json::from_slice(&node::node_json()).expect("a Node is JSON");
            node["metadata"]["name"] = name(index).into();
            node["metadata"]["uid"] = name(index).into();
            node["metadata"]["annotations"] = json!({});
            node["spec"]["unschedulable"] = true.into();
            let node = serde_json::to_vec(&node).expect("a Node is JSON");
            node::add(&inventory, &node);
        }
        let cluster = Self(inventory);
        for index in 0..NODES {
            cluster.evaluate(index, None, 0);
        }
        cluster
    }

    /// All pods and budgets are known, and every drain is evaluated.
    fn follow(&self) {
        for index in 0..BUDGETS {
            let namespace = format!("namespace-{}", index % NAMESPACES);
            let app = json!({"matchLabels": {"app": format!("app-{}", index / NAMESPACES)}});
            let budget = json!({
                "metadata": {"namespace": namespace, "generation": 1},
                "spec": {"maxUnavailable": 1, "selector": app},
                "status": {
                    "observedGeneration": 1, "expectedPods": 3, "currentHealthy": 3,
                    "desiredHealthy": 2, "disruptionsAllowed": 1,
                },
            });
            let key = format!("{namespace}/budget-{index}");
            node::put(&self.0, "poddisruptionbudgets", &key, budget);
        }
        for index in 0..NODES {
            for pod in 0..PODS {
                self.put(index, pod, true);
            }
            let pods = (0..PODS).map(|pod| key(index, pod));
            let kinds = self.0.providers().kinds();
            let mut plurals = kinds.iter().map(|kind| kind.spec.plural);
            let place = plurals.position(|plural| plural == "pods");
            let place = place.expect("pods are read");
            self.0
                .listed_on_node(place, &name(index), &pods.collect::<HashSet<_>>());
            let past = self.evaluate(index, None, 0);
            self.evaluate(index, Some(&past), 60);
        }
    }

    fn put(&self, node: usize, pod: usize, is_ready: bool) {
        let ready = if is_ready { "True" } else { "False" };
        let owner = json!({
            "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": format!("app-{pod}-5d8f7c9b6"),
            "uid": "u", "controller": true,
        });
        let object = json!({
            "metadata": {
                "namespace": format!("namespace-{}", pod % NAMESPACES),
                "labels": {"app": format!("app-{pod}"), "pod-template-hash": "5d8f7c9b6"},
                "ownerReferences": [owner],
            },
            "spec": {"nodeName": name(node), "containers": [{"name": "main", "image": "main"}]},
            "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": ready}]},
        });
        node::put(&self.0, "pods", &key(node, pod), object);
    }

    fn evaluate(&self, index: usize, past: Option<&History>, second: i64) -> History {
        let name: Arc<str> = name(index).into();
        let state = self.0.evaluate(&name, None, past, node::at(second));
        let state = state.expect("the node exists");
        assert_eq!(state.phase, Phase::Draining, "the benchmark is of drains");
        History::from(&state)
    }
}

fn name(index: usize) -> String {
    format!(
        "ip-10-0-{}-{}.us-east-2.compute.internal",
        index / 250,
        index % 250
    )
}

fn key(node: usize, pod: usize) -> String {
    format!(
        "namespace-{}/app-{pod}-5d8f7c9b6-{node:05}",
        pod % NAMESPACES
    )
}

/// A pod changes: it is parsed and stored.
#[divan::bench]
fn a_pod_changes(bencher: Bencher) {
    let cluster = Cluster::new();
    cluster.follow();
    let is_ready = Cell::new(true);
    bencher.bench_local(|| {
        is_ready.set(!is_ready.get());
        cluster.put(0, 7, is_ready.get());
    });
}

/// A node with 100 pods is evaluated, at most once a second.
#[divan::bench]
fn a_drain_is_evaluated(bencher: Bencher) {
    let cluster = Cluster::new();
    cluster.follow();
    let past = cluster.evaluate(0, None, 0);
    let past = cluster.evaluate(0, Some(&past), 60);
    bencher.bench_local(|| black_box(cluster.evaluate(0, Some(&past), 61)));
}
