//! The cost of detecting that an insight needs no write: `cargo bench --bench diff`. Only prints figures.

#![allow(
    clippy::expect_used,
    reason = "a benchmark that cannot be set up has no result"
)]

use divan::{Bencher, black_box};
use node_insights::api::NodeProgressInsightStatus;
use node_insights::domain::node_status::project;
use node_insights::domain::state::NodeState;
use node_insights::kubernetes::objects::WatchedInsight;
use node_insights::reconcile::insight_cache::InsightCache;
use serde_json::json;

#[path = "support/node.rs"]
#[allow(dead_code, reason = "only one platform is needed here")]
mod node;

/// Iterations per sample: a single one of a microsecond would mostly measure the clock.
const SHORT: u32 = 1000;

fn main() {
    divan::main();
}

/// Projects the state to a status.
#[divan::bench(sample_size = SHORT)]
fn project_a_state(bencher: Bencher) {
    let state = state();
    bencher.bench_local(|| drop(black_box(project(black_box(&state)))));
}

/// As in a reconcile: projects the state, and compares its digest with that of the object in the API server.
#[divan::bench(sample_size = SHORT)]
fn project_and_compare(bencher: Bencher) {
    let state = state();
    let cache = InsightCache::<NodeProgressInsightStatus>::default();
    cache.apply(written(&project(&state)), None);
    let base = cache.base(&node::NAME.into());
    let base = base.expect("the insight was applied");
    assert!(base.holds(&project(&state)), "the insight is up to date");
    bencher.bench_local(|| base.holds(&project(black_box(&state))));
}

fn state() -> NodeState {
    let state =
        node::inventory(node::openshift()).evaluate(&node::NAME.into(), None, None, node::at(0));
    state.expect("the node exists")
}

/// The insight with this status, as the API server sends it.
fn written(status: &NodeProgressInsightStatus) -> WatchedInsight<NodeProgressInsightStatus> {
    let metadata = json!({"name": node::NAME, "uid": "u", "resourceVersion": "1"});
    let insight = json!({"metadata": metadata, "status": status});
    serde_json::from_value(insight).expect("this is an insight")
}
