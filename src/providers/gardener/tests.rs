//! One test for each rule of Gardener, from Nodes as its machine controller manager marks them.

use crate::api::types::{ConditionStatus, CordonerKind, Phase, UpdateKind};
use crate::providers::profile::fixtures::{Cluster, Node, States};

const API_SERVER: &str = "v1.31.4";
const OLD: &str = "v1.30.8";
const NEW: &str = "v1.31.4";

const VERSION: Option<UpdateKind> = Some(UpdateKind::Version);
const CONFIGURATION: Option<UpdateKind> = Some(UpdateKind::Configuration);

fn member(name: &str, version: &str) -> Node {
    Node::new(name, version)
        .label("worker.gardener.cloud/pool", "worker-1")
        .label(
            "worker.gardener.cloud/kubernetes-version",
            version.trim_start_matches('v'),
        )
}

fn old(name: &str) -> Node {
    member(name, OLD)
}

/// A node of the new generation, created at 100.
fn new(name: &str) -> Node {
    member(name, NEW).created(100)
}

/// A node of the old generation of a rolling update.
fn tainted(node: Node) -> Node {
    let key = "deployment.machine.sapcloud.io/prefer-no-schedule";
    node.taint(key, "True", "PreferNoSchedule")
}

fn terminating(node: Node, reason: &str) -> Node {
    node.condition("Terminating", "True", reason)
}

fn first(nodes: &[Node]) -> States {
    Cluster::first(API_SERVER, nodes)
}

#[test]
fn a_rolling_update_drains_and_deletes_the_nodes_of_the_old_generation() {
    let mut cluster = Cluster::new(API_SERVER);
    let states = cluster.see(90, &[old("a")]);
    assert_eq!(states.of("a").provider.as_str(), "Gardener");
    assert_eq!(states.of("a").pool_name().as_deref(), Some("worker-1.pool"));
    assert_eq!(states.seen("a"), (Phase::Pending, VERSION, "Pending"));
    let states = cluster.see(101, &[tainted(old("a")), new("c").not_ready(100)]);
    assert_eq!(states.seen("a"), (Phase::Pending, VERSION, "Pending"));
    assert_eq!(states.seen("c"), (Phase::Unknown, None, "Joining"));
    let draining = terminating(tainted(old("a")), "ScaleDown");
    let states = cluster.see(130, &[draining.clone(), new("c")]);
    assert_eq!(states.seen("a"), (Phase::Draining, VERSION, "Draining"));
    let draining = draining.cordoned(131);
    let states = cluster.see(132, &[draining.clone(), new("c")]);
    assert_eq!(states.seen("a"), (Phase::Draining, VERSION, "Draining"));
    let cordon = states.of("a").cordoned_by.as_ref().unwrap();
    assert_eq!(
        (cordon.by.kind, cordon.is_foreign),
        (CordonerKind::Updater, false)
    );
    let states = cluster.see(161, &[draining.clone().silent(160), new("c")]);
    assert_eq!(states.seen("a"), (Phase::Updating, VERSION, "Terminating"));
    let states = cluster.see(170, &[draining.deleting(), new("c")]);
    let replaced = Some(UpdateKind::Replacement);
    assert_eq!(
        states.seen("a"),
        (Phase::Updating, replaced, "BeingReplaced")
    );
}

#[test]
fn the_taint_alone_makes_a_node_of_the_same_version_outdated() {
    let states = first(&[tainted(new("a")), new("c")]);
    assert_eq!(states.seen("a"), (Phase::Pending, CONFIGURATION, "Pending"));
    let states = first(&[tainted(new("a").cordoned(990)), new("c")]);
    assert_eq!(
        states.seen("a"),
        (Phase::Draining, CONFIGURATION, "Draining")
    );
    let other = new("a").taint(
        "deployment.machine.sapcloud.io/prefer-no-schedule",
        "False",
        "PreferNoSchedule",
    );
    assert_eq!(first(&[other, new("c")]).seen("a").0, Phase::Completed);
}

#[test]
fn an_old_node_that_only_stops_reporting_is_not_being_terminated() {
    let states = first(&[tainted(old("a")).silent(990), new("c")]);
    assert_eq!(states.seen("a"), (Phase::Pending, VERSION, "NotReady"));
    let terminated = tainted(old("a").cordoned(10)).silent(20);
    let mut cluster = Cluster::new(API_SERVER);
    let nodes = [terminated, new("c")];
    assert_eq!(cluster.see(30, &nodes).seen("a").0, Phase::Updating);
    let states = cluster.see(20 + 2 * 60 * 60, &nodes);
    assert_eq!(states.seen("a"), (Phase::Pending, VERSION, "NotReady"));
}

#[test]
fn repair_and_scale_down_are_named_and_are_no_update() {
    for (node, expected, why) in [
        (
            terminating(new("a"), "Unhealthy"),
            Phase::Completed,
            "unhealthy",
        ),
        (
            terminating(new("a"), "ScaleDown"),
            Phase::Completed,
            "scale down",
        ),
        (
            terminating(tainted(old("a").cordoned(990)), "Unhealthy"),
            Phase::Pending,
            "unhealthy",
        ),
        (
            terminating(tainted(old("a").cordoned(990)), "Unhealthy").silent(995),
            Phase::Pending,
            "unhealthy",
        ),
        (
            terminating(old("a").cordoned(990), "ScaleDown"),
            Phase::Pending,
            "scale down",
        ),
        (
            terminating(new("a"), "Unhealthy").deleting(),
            Phase::Completed,
            "unhealthy",
        ),
    ] {
        let states = first(&[node.clone(), new("c")]);
        assert_eq!(states.seen("a").0, expected, "{node:?}");
        assert!(states.message("a").contains(why), "{}", states.message("a"));
    }
    let over = new("a").condition("Terminating", "False", "ScaleDown");
    assert_eq!(first(&[over, new("c")]).message("a"), "");
}

#[test]
fn an_unknown_reason_is_named_and_not_guessed() {
    let states = first(&[terminating(tainted(old("a")), "Bored"), new("c")]);
    assert_eq!(
        states.seen("a"),
        (Phase::Unknown, None, "TerminationUnknown")
    );
    assert!(states.message("a").contains("Bored"));
    let states = first(&[new("a").condition("InPlaceUpdate", "True", "Bored")]);
    assert_eq!(states.seen("a"), (Phase::Unknown, None, "StateUnknown"));
    assert!(states.message("a").contains("Bored"));
}

#[test]
fn the_reason_of_the_condition_is_the_step_of_an_update_in_place() {
    let in_place = |reason: &str| {
        let node = old("a").condition("InPlaceUpdate", "True", reason);
        first(&[node, new("c")])
    };
    for (reason, phase) in [
        ("CandidateForUpdate", Phase::Pending),
        ("SelectedForUpdate", Phase::Draining),
        ("DrainSuccessful", Phase::Updating),
        ("ReadyForUpdate", Phase::Updating),
        ("UpdateFailed", Phase::Updating),
    ] {
        let states = in_place(reason);
        assert_eq!(states.seen("a"), (phase, VERSION, reason));
        let degraded: ConditionStatus = (reason == "UpdateFailed").into();
        assert_eq!(states.of("a").degraded.status, degraded, "{reason}");
    }
    // A Node that Gardener has marked needs no newer node in the pool.
    let marked = new("a").condition("InPlaceUpdate", "True", "CandidateForUpdate");
    let states = first(&[marked]);
    assert_eq!(
        states.seen("a"),
        (Phase::Pending, CONFIGURATION, "CandidateForUpdate")
    );
}

#[test]
fn a_failed_update_in_place_has_its_reason_and_a_repair_ends_it() {
    let failed = old("a")
        .condition("InPlaceUpdate", "True", "UpdateFailed")
        .annotation(
            "node.machine.sapcloud.io/update-failed-reason",
            "kubelet did not start",
        );
    let states = first(std::slice::from_ref(&failed));
    assert_eq!(&*states.of("a").degraded.message, "kubelet did not start");
    let states = first(&[terminating(failed, "Unhealthy")]);
    assert_eq!(states.seen("a").0, Phase::Pending);
    assert!(states.message("a").contains("unhealthy"));
}

#[test]
fn the_success_of_an_update_in_place_does_not_hide_the_next_one() {
    let done = |node: Node| node.condition("InPlaceUpdate", "True", "UpdateSuccessful");
    let states = first(&[done(new("a").cordoned(990)), new("c")]);
    assert_eq!(states.seen("a"), (Phase::Completed, None, "Updated"));
    let states = first(&[done(old("a"))]);
    assert_eq!(states.seen("a"), (Phase::Pending, VERSION, "Pending"));
}

#[test]
fn a_preserved_machine_is_named() {
    let preserved = |node: Node| node.condition("Preserved", "True", "PreservationSuccessful");
    let states = first(&[preserved(new("a")), new("c")]);
    assert_eq!(states.seen("a"), (Phase::Completed, None, "Updated"));
    assert!(states.message("a").contains("preserves"));
    let states = first(&[preserved(tainted(old("a"))), new("c")]);
    assert_eq!(states.seen("a").0, Phase::Pending);
    assert!(states.message("a").contains("preserves"));
}

#[test]
fn without_the_taint_a_cordoned_node_is_drained_if_the_pool_has_a_newer_one() {
    let states = first(&[old("a").cordoned(990), new("c")]);
    assert_eq!(states.seen("a"), (Phase::Draining, VERSION, "Draining"));
    let states = first(&[old("a").cordoned(990), old("b")]);
    assert_eq!(states.seen("a"), (Phase::Pending, VERSION, "Pending"));
}

#[test]
fn the_nodes_of_a_pool_are_replaced_unless_one_of_them_is_updated_in_place() {
    let in_place = |reason: &str| old("a").condition("InPlaceUpdate", "True", reason);
    let replaces = |node: Node| first(&[node, old("b")]).pool("worker-1.pool").replaces;
    assert!(replaces(old("a")));
    for reason in ["CandidateForUpdate", "ReadyForUpdate", "UpdateSuccessful"] {
        assert!(!replaces(in_place(reason)), "{reason}");
    }
}
