//! What reading one Node of 50 images costs, beside reading all of it: `cargo bench --bench parse`.
//! Prints, and fails on no figure.

#![allow(
    clippy::expect_used,
    reason = "a benchmark that cannot be set up has no result"
)]

use divan::Bencher;
use divan::counter::BytesCount;
use k8s_openapi::api::core::v1::Node;
use node_insights::kubernetes::objects::WatchedNode;
use serde::de::DeserializeOwned;

#[path = "support/node.rs"]
#[allow(dead_code, reason = "of its cluster only the Node is needed here")]
mod node;

fn main() {
    divan::main();
}

#[divan::bench]
fn what_is_watched(bencher: Bencher) {
    parse::<WatchedNode>(bencher);
}

#[divan::bench]
fn all_of_it(bencher: Bencher) {
    parse::<Node>(bencher);
}

fn parse<T: DeserializeOwned>(bencher: Bencher) {
    let json = node::node_json();
    let bencher = bencher.counter(BytesCount::of_slice(&json));
    bencher.bench_local(|| serde_json::from_slice::<T>(&json).expect("this is a Node"));
}
