//! The cost of the store, at the size of a large cluster and far beyond: `cargo bench --bench store`. Only prints
//! figures.
//!
//! Names are as long as those of cloud nodes; there are three pools of equal size; keys are accessed in an order that
//! is unrelated to their location in memory. Dropping the results is included.

use std::hint::black_box;
use std::sync::Arc;

use divan::Bencher;
use node_insights::registry::store::Store;

/// The nodes of a large cluster, and far more than in any cluster.
const SIZES: [usize; 2] = [5_000, 100_000];

const POOLS: [&str; 3] = ["master", "worker", "infra"];

/// A stride that visits every node once per round: it is coprime to both sizes.
const STRIDE: usize = 7_919;

/// Iterations per sample: a single one of less than a microsecond would mostly measure the clock.
const SHORT: u32 = 10_000;

#[derive(PartialEq)]
struct Node {
    pool: Arc<str>,
    round: usize,
}

struct Cluster {
    store: Store<Arc<str>, Node, Arc<str>>,
    names: Vec<Arc<str>>,
    pools: Vec<Arc<str>>,
    at: usize,
}

impl Cluster {
    fn of(size: usize) -> Self {
        let mut cluster = Self {
            store: Store::indexed(|node: &Node| Some(Arc::clone(&node.pool))),
            names: (0..size)
                .map(|node| {
                    let (high, low) = (node / 256, node % 256);
                    format!("ip-10-0-{high}-{low}.eu-central-1.compute.internal").into()
                })
                .collect(),
            pools: POOLS.map(Into::into).into(),
            at: 0,
        };
        for _ in 0..size {
            cluster.put(0);
        }
        assert_eq!(cluster.store.count(), size, "the stride visits every node");
        cluster
    }

    /// A node, and the number of its pool.
    fn next(&mut self) -> usize {
        self.at = (self.at + STRIDE) % self.names.len();
        self.at
    }

    fn put(&mut self, round: usize) {
        let node = self.next();
        let value = Node {
            pool: Arc::clone(&self.pools[node % POOLS.len()]),
            round,
        };
        black_box(self.store.upsert(Arc::clone(&self.names[node]), value));
    }
}

fn main() {
    divan::main();
}

#[divan::bench(args = SIZES, sample_size = SHORT)]
fn get(bencher: Bencher<'_, '_>, size: usize) {
    let mut cluster = Cluster::of(size);
    bencher.bench_local(|| {
        let node = cluster.next();
        drop(black_box(cluster.store.get(&cluster.names[node])));
    });
}

/// Every put is a change.
#[divan::bench(args = SIZES, sample_size = SHORT)]
fn put(bencher: Bencher<'_, '_>, size: usize) {
    let mut cluster = Cluster::of(size);
    let mut round = 0;
    bencher.bench_local(|| {
        round += 1;
        cluster.put(round);
    });
}

/// Reads a pool, a third of the nodes.
#[divan::bench(args = SIZES)]
fn pool(bencher: Bencher<'_, '_>, size: usize) {
    let cluster = Cluster::of(size);
    bencher.bench_local(|| drop(black_box(cluster.store.snapshot_of(&cluster.pools[1]))));
}

/// Reads all nodes, ordered by key.
#[divan::bench(args = SIZES)]
fn snapshot(bencher: Bencher<'_, '_>, size: usize) {
    let cluster = Cluster::of(size);
    bencher.bench_local(|| drop(black_box(cluster.store.snapshot())));
}
