//! When pods and budgets are read, and what the insight shows of them.

use crate::api::types::Phase;
use crate::domain::drain::fixtures::{budget, running};
use crate::domain::node_status::project;
use crate::domain::state::NodeState;
use crate::providers::Options;
use crate::providers::profile::fixtures::{Cluster, Node};

const API_SERVER: &str = "v1.32.0";

/// A node that is drained since 0.
fn draining() -> Node {
    Node::new("a", "v1.31.2").cordoned(0)
}

fn blocked(cluster: &mut Cluster) {
    cluster.put_pods("a", vec![running("web").build()]);
    cluster.put("shop/web", budget("web", 1, 1, 1));
}

fn reasons(state: &NodeState) -> Vec<String> {
    let drain = project(state).drain;
    let blockers = drain.map(|drain| drain.blockers).unwrap_or_default();
    blockers.into_iter().map(|blocker| blocker.reason).collect()
}

#[test]
fn a_drain_that_takes_more_than_a_minute_says_what_holds_it_up() {
    let mut cluster = Cluster::new(API_SERVER);
    blocked(&mut cluster);
    let states = cluster.see(0, &[draining()]);
    let state = states.of("a");
    assert_eq!(state.phase, Phase::Draining);
    assert_eq!(state.drain, None);
    let second = crate::domain::fixtures::at;
    assert_eq!(state.again_at, Some(second(55)), "to read its pods");
    let states = cluster.see(55, &[draining()]);
    let state = states.of("a");
    assert_eq!((&state.drain, state.again_at), (&None, Some(second(60))));
    let states = cluster.see(60, &[draining()]);
    let state = states.of("a");
    assert_eq!(reasons(state), ["BudgetNeverAllows"]);
    let shown = project(state);
    assert_eq!(shown.drain.unwrap().pods_left, Some(1));
    let message = shown.message.unwrap();
    assert!(
        message.contains("PodDisruptionBudget shop/web"),
        "{message}"
    );
    // It is over with the phase.
    let states = cluster.see(70, &[Node::new("a", "v1.31.2")]);
    assert_eq!(states.of("a").drain, None);
}

#[test]
fn until_pods_are_known_the_insight_stays_as_it_is() {
    let mut cluster = Cluster::new(API_SERVER);
    blocked(&mut cluster);
    cluster.see(0, &[draining()]);
    cluster.see(60, &[draining()]);
    cluster.forget_pods("a");
    let states = cluster.see(70, &[draining()]);
    assert_eq!(reasons(states.of("a")), ["BudgetNeverAllows"]);
}

#[test]
fn without_permissions_the_node_says_what_is_missing() {
    let mut cluster = Cluster::new(API_SERVER);
    blocked(&mut cluster);
    cluster.see(0, &[draining()]);
    cluster.reject("pods");
    let states = cluster.see(60, &[draining()]);
    let state = states.of("a");
    assert_eq!((state.phase, reasons(state).len()), (Phase::Draining, 0));
    assert!(
        states.message("a").contains("pods cannot be read"),
        "{}",
        states.message("a")
    );

    let mut cluster = Cluster::new(API_SERVER);
    blocked(&mut cluster);
    cluster.see(0, &[draining()]);
    cluster.reject("poddisruptionbudgets");
    let states = cluster.see(60, &[draining()]);
    let state = states.of("a");
    assert_eq!(project(state).drain.unwrap().pods_left, Some(1));
    let message = states.message("a");
    assert!(
        message.contains("poddisruptionbudgets cannot be read"),
        "{message}"
    );
}

#[test]
fn pods_are_not_read_where_the_user_does_not_want_it() {
    let options = Options {
        no_drain_blockers: true,
        ..Options::default()
    };
    let mut cluster = Cluster::with(API_SERVER, &options);
    cluster.see(0, &[draining()]);
    let states = cluster.see(600, &[draining()]);
    assert_eq!(states.of("a").drain, None);
}
