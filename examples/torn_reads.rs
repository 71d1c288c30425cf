//! Counts torn reads of the store: snapshots of a pool that mix values of different moments, under
//! concurrent writes. `cargo run --release --example torn_reads`; `docs/adr/0002-store.md` has the
//! figures.
//!
//! The writer updates all nodes in order, round after round. So at any moment the nodes of a pool up to
//! some node are in one round and the others in the round before; any other snapshot is torn.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use node_insights::registry::store::Store;

/// As in a large cluster, and divisible into pools of equal size.
const NODES: u32 = 5_001;
const POOLS: u32 = 3;
const READS: u32 = 1_000_000;

/// A node, its pool and its round.
#[derive(Clone, Copy, PartialEq)]
struct Node {
    name: u32,
    pool: u32,
    round: u32,
}

fn main() {
    let store: Store<u32, Node, u32> = Store::indexed(|node| Some(node.pool));
    let started = Instant::now();
    let (torn, writes) = run(
        |node| drop(store.upsert(node.name, node)),
        |pool| {
            let snapshot = store.snapshot_of(&pool);
            snapshot.values.iter().map(|node| **node).collect()
        },
    );
    println!(
        "{READS} reads of a pool of {} nodes during {writes} writes in {:.1?}: {torn} torn",
        NODES / POOLS,
        started.elapsed()
    );
}

/// Reads pools, ordered by name, concurrently with a writer: one thread of each, as more threads than cores
/// would take turns and thereby hide torn reads. Returns the number of torn reads and of writes.
fn run(write: impl Fn(Node) + Sync, read: impl Fn(u32) -> Vec<Node>) -> (usize, u64) {
    let write_round = |round| {
        for name in 0..NODES {
            let pool = name % POOLS;
            write(Node { name, pool, round });
        }
    };
    write_round(0);
    let done = AtomicBool::new(false);
    let (torn, rounds) = std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut rounds = 0;
            while !done.load(Ordering::Relaxed) {
                rounds += 1;
                write_round(rounds);
            }
            rounds
        });
        let torn = (0..READS)
            .filter(|number| is_torn(&read(number % POOLS)))
            .count();
        done.store(true, Ordering::Relaxed);
        (torn, writer.join())
    });
    let rounds = rounds.unwrap_or_default();
    (torn, u64::from(rounds) * u64::from(NODES))
}

fn is_torn(nodes: &[Node]) -> bool {
    let (Some(first), Some(last)) = (nodes.first(), nodes.last()) else {
        return true;
    };
    nodes.len() != (NODES / POOLS) as usize
        || !nodes.is_sorted_by(|a, b| a.name < b.name && a.round >= b.round)
        || first.round - last.round > 1
}
