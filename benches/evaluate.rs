//! What evaluating one node costs: `cargo bench --bench evaluate`. Prints, and fails on no figure.

#![allow(
    clippy::expect_used,
    reason = "a benchmark that cannot be set up has no result"
)]

use divan::{Bencher, black_box};
use node_insights::domain::state::History;
use node_insights::providers::Providers;

#[path = "support/node.rs"]
mod node;

/// What takes a microsecond is measured so many times at once, so that the clock is not what is measured.
const SHORT: u32 = 1000;

fn main() {
    divan::main();
}

#[divan::bench(sample_size = SHORT)]
fn openshift(bencher: Bencher) {
    evaluated_again(bencher, node::openshift());
}

#[divan::bench(sample_size = SHORT)]
fn kubernetes(bencher: Bencher) {
    evaluated_again(bencher, node::kubernetes());
}

/// As it happens all the time: the node was evaluated before, and its times are kept.
fn evaluated_again(bencher: Bencher, providers: Providers) {
    let inventory = node::inventory(providers);
    let name = node::NAME.into();
    let before = inventory.evaluate(&name, None, None, node::at(0));
    let past = History::from(&before.expect("the node is there"));
    // Dropped at once, as a state that has not changed is: kept, a thousand states would measure memory.
    bencher.bench_local(|| {
        drop(black_box(inventory.evaluate(
            black_box(&name),
            None,
            Some(&past),
            node::at(1),
        )));
    });
}
