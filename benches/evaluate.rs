//! The cost of evaluating one node: `cargo bench --bench evaluate`. Only prints figures.

#![allow(
    clippy::expect_used,
    reason = "a benchmark that cannot be set up has no result"
)]

use divan::{Bencher, black_box};
use node_insights::domain::state::History;
use node_insights::reconcile::inventory::Inventory;

#[path = "support/node.rs"]
mod node;

/// Iterations per sample: a single one of a microsecond would mostly measure the clock.
const SHORT: u32 = 1000;

fn main() {
    divan::main();
}

#[divan::bench(sample_size = SHORT)]
fn openshift(bencher: Bencher) {
    evaluated_again(bencher, &node::inventory(node::openshift()));
}

#[divan::bench(sample_size = SHORT)]
fn kubernetes(bencher: Bencher) {
    evaluated_again(bencher, &node::inventory(node::kubernetes()));
}

#[divan::bench(sample_size = SHORT)]
fn eks_in_a_mixed_cluster(bencher: Bencher) {
    evaluated_again(bencher, &node::mixed("eks.amazonaws.com/nodegroup"));
}

#[divan::bench(sample_size = SHORT)]
fn karpenter_in_a_mixed_cluster(bencher: Bencher) {
    evaluated_again(bencher, &node::mixed("karpenter.sh/nodepool"));
}

/// The usual case: the node was evaluated before, and its times are preserved.
fn evaluated_again(bencher: Bencher, inventory: &Inventory) {
    let name = node::NAME.into();
    let before = inventory.evaluate(&name, None, None, node::at(0));
    let past = History::from(&before.expect("the node exists"));
    // Dropped at once, like an unchanged state: a thousand stored states would measure memory.
    bencher.bench_local(|| {
        drop(black_box(inventory.evaluate(
            black_box(&name),
            None,
            Some(&past),
            node::at(1),
        )));
    });
}
