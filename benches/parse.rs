//! The cost of parsing the watched fields of a Node with 50 images, and of parsing all of it:
//! `cargo bench --bench parse`. Only prints figures.

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
fn watched_fields(bencher: Bencher) {
    parse::<WatchedNode>(bencher);
}

#[divan::bench]
fn all_fields(bencher: Bencher) {
    parse::<Node>(bencher);
}

fn parse<T: DeserializeOwned>(bencher: Bencher) {
    let json = node::node_json();
    let bencher = bencher.counter(BytesCount::of_slice(&json));
    bencher.bench_local(|| serde_json::from_slice::<T>(&json).expect("this is a Node"));
}
