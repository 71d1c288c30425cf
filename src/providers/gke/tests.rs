//! One test for each rule of GKE, from Nodes as GKE labels them.

use crate::api::types::{DesiredVersionSource, Phase, UpdateKind};
use crate::providers::profile::fixtures::{Cluster, Node, Seen};

const API_SERVER: &str = "v1.31.3-gke.1006000";
const OLD: &str = "v1.30.5-gke.1014001";
const NEW: &str = "v1.31.1-gke.1146000";
const COS: &str = "Container-Optimized OS from Google";

const VERSION: Option<UpdateKind> = Some(UpdateKind::Version);
const DRAINING: Seen = (Phase::Draining, VERSION, "Draining");
const WAITING: Seen = (Phase::Pending, VERSION, "Cordoned");

fn member(name: &str, version: &str) -> Node {
    Node::new(name, version)
        .label("cloud.google.com/gke-nodepool", "default-pool")
        .os_image(COS)
}

fn old(name: &str) -> Node {
    member(name, OLD)
}

/// A node of the new generation, created at 100.
fn new(name: &str) -> Node {
    member(name, NEW).created(100)
}

#[test]
fn a_surge_upgrade_drains_one_node_after_the_other() {
    let mut cluster = Cluster::new(API_SERVER);
    let states = cluster.see(90, &[old("a"), old("b")]);
    let state = states.of("a");
    assert_eq!(state.provider.as_str(), "GKE");
    assert_eq!(
        state.pool_name().as_deref(),
        Some("default-pool.gke-nodepool")
    );
    assert_eq!(states.seen("a"), (Phase::Pending, VERSION, "Pending"));

    let states = cluster.see(101, &[old("a"), old("b"), new("c").not_ready(100)]);
    assert_eq!(states.seen("c"), (Phase::Unknown, None, "Joining"));
    let states = cluster.see(130, &[old("a").cordoned(129), old("b"), new("c")]);
    assert_eq!(states.seen("a"), DRAINING);
    assert_eq!(states.seen("b"), (Phase::Pending, VERSION, "Pending"));
    let desired = states.of("b").desired.as_ref().unwrap();
    assert_eq!(desired.source, DesiredVersionSource::NewestInPool);
    let gone = old("a").cordoned(129).silent(190);
    let states = cluster.see(200, &[gone.clone(), old("b"), new("c")]);
    assert_eq!(states.seen("a"), (Phase::Updating, VERSION, "Terminating"));
    let states = cluster.see(210, &[gone.deleting(), old("b"), new("c")]);
    let replaced = Some(UpdateKind::Replacement);
    assert_eq!(
        states.seen("a"),
        (Phase::Updating, replaced, "BeingReplaced")
    );
    // The last one is drained although every old node is cordoned: it is the only one.
    let states = cluster.see(300, &[old("b").cordoned(290), new("c"), new("d")]);
    assert_eq!(states.seen("b"), DRAINING);
}

#[test]
fn blue_nodes_that_are_all_cordoned_at_once_wait_and_are_not_drained_yet() {
    let blue = ["a", "b", "c"].map(|name| old(name).cordoned(200));
    let green = ["d", "e", "f"].map(new);
    let nodes = [blue.to_vec(), green.to_vec()].concat();
    let states = Cluster::first(API_SERVER, &nodes);
    for name in ["a", "b", "c"] {
        assert_eq!(states.seen(name), WAITING);
        assert!(!states.of(name).cordoned_by.as_ref().unwrap().is_foreign);
    }
    for name in ["d", "e", "f"] {
        assert_eq!(states.seen(name).0, Phase::Completed);
    }
    // One of them is not cordoned yet.
    let nodes = [vec![old("a")], nodes[1..].to_vec()].concat();
    let states = Cluster::first(API_SERVER, &nodes);
    assert_eq!(states.seen("b"), DRAINING);
}

#[test]
fn the_nodes_of_another_pool_version_or_image_are_another_generation() {
    let other_pool = old("x").label("cloud.google.com/gke-nodepool", "other");
    for other in [
        other_pool,
        member("x", "v1.29.9-gke.1"),
        old("x").os_image("Ubuntu"),
    ] {
        let waiting = ["a", "b"].map(|name| old(name).cordoned(200));
        let nodes = [waiting.to_vec(), vec![other.clone(), new("c")]].concat();
        let states = Cluster::first(API_SERVER, &nodes);
        assert_eq!(states.seen("a"), WAITING, "{other:?}");
    }
}

#[test]
fn another_operating_system_image_of_the_same_version_is_an_image_update() {
    let node = new("a").created(0).os_image("Ubuntu 22.04.4 LTS");
    let states = Cluster::first(API_SERVER, &[node.clone(), new("c")]);
    let image = Some(UpdateKind::Image);
    assert_eq!(states.seen("a"), (Phase::Pending, image, "Pending"));
    let states = Cluster::first(API_SERVER, &[node.cordoned(150), new("b"), new("c")]);
    assert_eq!(states.seen("a"), (Phase::Draining, image, "Draining"));
}

#[test]
fn a_pool_may_lag_and_the_cordon_of_its_node_is_then_no_drain() {
    // The control plane is newer, but no node is: GKE has not begun.
    let states = Cluster::first(API_SERVER, &[old("a").cordoned(10), old("b")]);
    assert_eq!(states.seen("a"), (Phase::Pending, VERSION, "Pending"));
    // The same minor version as the control plane, and no other generation.
    let states = Cluster::first(API_SERVER, &[new("a").cordoned(10), new("b")]);
    assert_eq!(states.seen("a"), (Phase::Completed, None, "Updated"));
}

#[test]
fn maintenance_of_the_host_is_named_and_is_no_update() {
    let planned =
        |node: Node, time: &str| node.label("cloud.google.com/scheduled-maintenance-time", time);
    let states = Cluster::first(API_SERVER, &[planned(new("a"), "1790000000")]);
    assert_eq!(states.seen("a"), (Phase::Completed, None, "Updated"));
    let message = states.message("a");
    assert!(message.contains("2026-09-21T14:13:20Z"), "{message}");
    assert!(message.ends_with("this is no update"), "{message}");
    let states = Cluster::first(API_SERVER, &[planned(new("a"), "soon")]);
    assert!(
        states.message("a").contains("for soon"),
        "{}",
        states.message("a")
    );
    // Planned maintenance does not explain a cordon.
    let nodes = [
        planned(old("a").cordoned(150), "1790000000"),
        old("b"),
        new("c"),
    ];
    assert_eq!(Cluster::first(API_SERVER, &nodes).seen("a"), DRAINING);

    let ongoing = |node: Node| node.label("cloud.google.com/active-node-maintenance", "ONGOING");
    for node in [
        ongoing(new("a")),
        ongoing(new("a")).silent(150),
        ongoing(new("a").cordoned(140)).silent(150),
        ongoing(old("a").cordoned(150)),
        ongoing(old("a").cordoned(140)).silent(150),
    ] {
        let states = Cluster::first(API_SERVER, &[node, old("b"), new("c")]);
        assert!(!states.seen("a").0.is_in_progress());
        assert!(states.message("a").contains("maintains the host"));
    }
    let over = new("a").label("cloud.google.com/active-node-maintenance", "NONE");
    assert_eq!(Cluster::first(API_SERVER, &[over]).message("a"), "");
}

#[test]
fn the_end_of_a_spot_machine_is_no_update() {
    let ended = old("a").cordoned(150).taint(
        "cloud.google.com/impending-node-termination",
        "",
        "NoSchedule",
    );
    let states = Cluster::first(API_SERVER, &[ended, old("b"), new("c")]);
    assert_eq!(states.seen("a").0, Phase::Pending);
    assert!(states.message("a").contains("about to end"));
}

#[test]
fn auto_repair_recreates_a_node_without_an_update() {
    let mut cluster = Cluster::new(API_SERVER);
    cluster.see(200, &[new("a"), new("b")]);
    let dead = new("a").silent(210);
    assert_eq!(
        cluster.see(220, &[dead, new("b")]).seen("a").0,
        Phase::Completed
    );
    let again = new("a")
        .uid("another")
        .created(300)
        .boot("another")
        .not_ready(300);
    let states = cluster.see(301, &[again.clone(), new("b")]);
    assert_eq!(states.seen("a"), (Phase::Unknown, None, "Joining"));
}

#[test]
fn a_node_of_a_blue_green_upgrade_is_drained_once_its_pods_leave() {
    let mut cluster = Cluster::new(API_SERVER);
    let nodes = [old("a").cordoned(200), old("b").cordoned(200), new("c")];
    cluster.pods("a", &[false, false]);
    assert_eq!(cluster.see(210, &nodes).seen("a"), WAITING);
    cluster.pods("a", &[true, false]);
    let leaving = (Phase::Draining, VERSION, "PodsLeaving");
    let states = cluster.see(220, &nodes);
    assert_eq!((states.seen("a"), states.seen("b")), (leaving, WAITING));
    cluster.pods("a", &[false]);
    assert_eq!(cluster.see(230, &nodes).seen("a"), leaving);
}
