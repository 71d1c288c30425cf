//! One test for each rule of AKS, from Nodes as AKS labels and annotates them.

use crate::api::types::{ConditionStatus, CordonerKind, Phase, UpdateKind};
use crate::domain::fixtures::at;
use crate::providers::profile::fixtures::{Cluster, Node, Seen, States};

const API_SERVER: &str = "v1.30.4";
const OLD: &str = "v1.29.9";
const NEW: &str = "v1.30.3";
const OLD_IMAGE: &str = "AKSUbuntu-2204gen2containerd-202409.04.0";
const NEW_IMAGE: &str = "AKSUbuntu-2204gen2containerd-202410.09.0";

const VERSION: Option<UpdateKind> = Some(UpdateKind::Version);
const IMAGE: Option<UpdateKind> = Some(UpdateKind::Image);
const DRAINING: Seen = (Phase::Draining, VERSION, "Draining");

fn member(name: &str, version: &str, image: &str) -> Node {
    Node::new(name, version)
        .label("kubernetes.azure.com/agentpool", "nodepool1")
        .label("agentpool", "nodepool1")
        .label("kubernetes.azure.com/mode", "System")
        .label("kubernetes.azure.com/node-image-version", image)
}

fn old(name: &str) -> Node {
    member(name, OLD, OLD_IMAGE)
}

/// A node of the new generation, created at 100.
fn new(name: &str) -> Node {
    member(name, NEW, NEW_IMAGE).created(100)
}

/// What AKS writes on a node that it upgrades.
fn marked(node: Node) -> Node {
    node.annotation(
        "cluster-autoscaler.kubernetes.io/scale-down-disabled",
        "true",
    )
    .annotation(
        "kubernetes.azure.com/azure-cluster-autoscaler-scale-down-disabled-reason",
        "upgrade",
    )
}

/// The node as it registers again after it was reimaged.
fn reimaged(name: &str, created: i64) -> Node {
    let boot = format!("boot-{created}");
    new(name)
        .uid(&format!("uid-{name}-{created}"))
        .created(created)
        .boot(&boot)
}

fn first(nodes: &[Node]) -> States {
    Cluster::first(API_SERVER, nodes)
}

#[test]
fn a_node_is_reimaged_under_its_name_and_continues_its_update() {
    let mut cluster = Cluster::new(API_SERVER);
    let states = cluster.see(90, &[old("a"), old("b")]);
    assert_eq!(states.of("a").provider.as_str(), "AKS");
    assert_eq!(
        states.of("a").pool_name().as_deref(),
        Some("nodepool1.agentpool")
    );
    assert_eq!(states.seen("a"), (Phase::Pending, VERSION, "Pending"));
    // The surge node.
    let states = cluster.see(101, &[old("a"), old("b"), new("c").not_ready(100)]);
    assert_eq!(states.seen("c"), (Phase::Unknown, None, "Joining"));
    let states = cluster.see(120, &[marked(old("a")), old("b"), new("c")]);
    assert_eq!(states.seen("a"), (Phase::Pending, VERSION, "Upgrading"));
    let draining = marked(old("a").cordoned(130));
    let states = cluster.see(131, &[draining.clone(), old("b"), new("c")]);
    assert_eq!(states.seen("a"), DRAINING);
    let cordon = states.of("a").cordoned_by.as_ref().unwrap();
    assert_eq!(
        (cordon.by.kind, cordon.is_foreign),
        (CordonerKind::Updater, false)
    );
    let states = cluster.see(140, &[draining.clone().silent(139), old("b"), new("c")]);
    assert_eq!(states.seen("a"), (Phase::Rebooting, VERSION, "Reimaging"));
    assert_eq!(states.of("a").again_at, Some(at(139 + 30 * 60)));
    // The Node is deleted.
    cluster.see(150, &[old("b"), new("c")]);
    let joining = reimaged("a", 160).not_ready(160);
    let states = cluster.see(161, &[joining.clone(), old("b"), new("c")]);
    assert_eq!(states.seen("a"), (Phase::Updating, VERSION, "Reimaged"));
    let states = cluster.see(165, &[marked(reimaged("a", 160)), old("b"), new("c")]);
    assert_eq!(states.seen("a"), (Phase::Updating, VERSION, "Reimaged"));
    let states = cluster.see(170, &[reimaged("a", 160), old("b"), new("c")]);
    assert_eq!(states.seen("a").0, Phase::Completed);
    let phases: Vec<Phase> = states
        .of("a")
        .timeline
        .iter()
        .map(|entry| entry.phase)
        .collect();
    let expected = [
        Phase::Pending,
        Phase::Draining,
        Phase::Rebooting,
        Phase::Updating,
        Phase::Completed,
    ];
    assert_eq!(phases, expected);
    // The surge node is removed at the end.
    let states = cluster.see(400, &[reimaged("a", 160), new("c").cordoned(390)]);
    assert_eq!(states.seen("c"), (Phase::Completed, None, "Updated"));
    let states = cluster.see(
        410,
        &[reimaged("a", 160), new("c").cordoned(390).deleting()],
    );
    assert_eq!(states.seen("c"), (Phase::Completed, None, "BeingDeleted"));
}

#[test]
fn the_first_node_of_an_update_without_a_surge_is_drained_until_it_registers_again() {
    // No node is newer, and the minor version stays: only the marker shows the update.
    let mut cluster = Cluster::new(API_SERVER);
    let before = |name: &str| member(name, "v1.30.1", OLD_IMAGE);
    cluster.see(0, &[before("a"), before("b")]);
    let draining = marked(before("a").cordoned(10));
    for second in [11, 20, 30] {
        let states = cluster.see(second, &[draining.clone(), before("b")]);
        assert_eq!(states.seen("a"), (Phase::Draining, IMAGE, "Draining"));
    }
    let states = cluster.see(60, &[marked(reimaged("a", 50).cordoned(55)), before("b")]);
    assert_eq!(states.seen("a"), (Phase::Updating, IMAGE, "Reimaged"));
    let states = cluster.see(70, &[reimaged("a", 50), before("b")]);
    assert_eq!(states.seen("a").0, Phase::Completed);
    assert_eq!(states.seen("b"), (Phase::Pending, VERSION, "Pending"));
}

#[test]
fn a_silent_node_without_the_marker_is_terminated_however_often_it_is_evaluated() {
    let mut cluster = Cluster::new(API_SERVER);
    cluster.see(110, &[old("a"), old("b"), new("c")]);
    let leaving = old("a").cordoned(120).silent(125);
    for second in [126, 130, 140] {
        let states = cluster.see(second, &[leaving.clone(), old("b"), new("c")]);
        assert_eq!(states.seen("a"), (Phase::Updating, VERSION, "Terminating"));
    }
}

#[test]
fn a_node_that_does_not_come_back_is_not_reimaged_for_ever() {
    let mut cluster = Cluster::new(API_SERVER);
    let draining = marked(old("a").cordoned(130));
    cluster.see(131, &[draining.clone(), new("c")]);
    let dead = draining.silent(139);
    let limit = 139 + 30 * 60;
    assert_eq!(
        cluster
            .see(limit - 1, &[dead.clone(), new("c")])
            .seen("a")
            .0,
        Phase::Rebooting
    );
    let states = cluster.see(limit, &[dead.clone(), new("c")]);
    assert_eq!(states.seen("a"), (Phase::Pending, VERSION, "NotReady"));
    let states = cluster.see(limit + 5, &[dead, new("c")]);
    assert_eq!(states.seen("a"), (Phase::Pending, VERSION, "NotReady"));
}

#[test]
fn a_quarantined_node_is_degraded_and_waits() {
    let stuck = |node: Node| node.label("kubernetes.azure.com/upgrade-status", "Quarantined");
    for node in [old("a").cordoned(10), marked(old("a").cordoned(10))] {
        let states = first(&[stuck(node), new("c")]);
        assert_eq!(states.seen("a"), (Phase::Pending, VERSION, "Quarantined"));
        let state = states.of("a");
        assert_eq!(state.degraded.status, ConditionStatus::True);
        let cordon = state.cordoned_by.as_ref().unwrap();
        assert_eq!((&*cordon.by.name, cordon.is_foreign), ("aks", false));
    }
    let other = old("a").label("kubernetes.azure.com/upgrade-status", "Upgrading");
    let states = first(&[other, new("c")]);
    assert_eq!(states.of("a").degraded.status, ConditionStatus::False);
}

#[test]
fn without_the_marker_a_cordoned_node_is_drained_only_if_a_newer_node_is_there() {
    let states = first(&[old("a").cordoned(150), old("b"), new("c")]);
    assert_eq!(states.seen("a"), DRAINING);
    let states = first(&[old("a").cordoned(150), old("b")]);
    assert_eq!(states.seen("a"), (Phase::Pending, VERSION, "Pending"));
    for half in [
        old("a").annotation(
            "cluster-autoscaler.kubernetes.io/scale-down-disabled",
            "true",
        ),
        old("a").annotation(
            "kubernetes.azure.com/azure-cluster-autoscaler-scale-down-disabled-reason",
            "upgrade",
        ),
    ] {
        let states = first(&[half, old("b")]);
        assert_eq!(states.seen("a").2, "Pending", "the user protects it");
    }
}

#[test]
fn blue_nodes_that_are_all_cordoned_wait_unless_aks_marks_one() {
    let blue = [old("a").cordoned(150), old("b").cordoned(150)];
    let states = first(&[blue[0].clone(), blue[1].clone(), new("c")]);
    for name in ["a", "b"] {
        assert_eq!(states.seen(name), (Phase::Pending, VERSION, "Cordoned"));
    }
    let states = first(&[marked(blue[0].clone()), blue[1].clone(), new("c")]);
    assert_eq!(states.seen("a"), DRAINING);
    assert_eq!(states.seen("b").2, "Cordoned");
}

#[test]
fn another_node_image_of_the_same_version_is_an_image_update() {
    let node = member("a", NEW, OLD_IMAGE);
    let states = first(&[node.clone(), new("c")]);
    assert_eq!(states.seen("a"), (Phase::Pending, IMAGE, "Pending"));
    let states = first(&[marked(node.cordoned(150)), new("c")]);
    assert_eq!(states.seen("a"), (Phase::Draining, IMAGE, "Draining"));
    // Patches of the control plane and the nodes are independent.
    let states = first(&[member("a", "v1.30.1", NEW_IMAGE)]);
    assert_eq!(states.seen("a").0, Phase::Completed);
}

#[test]
fn auto_repair_reimages_a_node_without_an_update() {
    let mut cluster = Cluster::new(API_SERVER);
    cluster.see(200, &[new("a"), new("b")]);
    let states = cluster.see(220, &[new("a").silent(210), new("b")]);
    assert_eq!(states.seen("a").0, Phase::Completed);
    let states = cluster.see(301, &[reimaged("a", 300).not_ready(300), new("b")]);
    assert_eq!(states.seen("a"), (Phase::Unknown, None, "Joining"));
    let states = cluster.see(320, &[reimaged("a", 300), new("b")]);
    assert_eq!(states.seen("a").0, Phase::Completed);
    let phases = states.of("a").timeline.iter().map(|entry| entry.phase);
    assert!(phases.into_iter().all(|phase| !phase.is_in_progress()));
}

#[test]
fn maintenance_by_azure_is_named_and_is_no_update() {
    let event = |node: Node| node.condition("VMEventScheduled", "True", "FreezeScheduled");
    for node in [
        event(new("a").cordoned(150)),
        event(new("a").cordoned(150)).silent(160),
        event(old("a").cordoned(150)),
    ] {
        let states = first(&[node, old("b"), new("c")]);
        assert!(
            !states.seen("a").0.is_in_progress(),
            "{:?}",
            states.seen("a")
        );
        assert!(states.message("a").contains("Azure maintains"));
    }
    let states = first(&[marked(event(old("a").cordoned(150))), new("c")]);
    assert_eq!(
        states.seen("a"),
        DRAINING,
        "AKS says that it upgrades the node"
    );
    let over = new("a").condition("VMEventScheduled", "False", "NoVMEventScheduled");
    assert_eq!(first(&[over]).message("a"), "");
}

#[test]
fn the_marker_of_an_upgrade_counts_beside_the_taint_of_the_autoscaler() {
    let tainted =
        |node: Node| node.taint("ToBeDeletedByClusterAutoscaler", "1790000000", "NoSchedule");
    let states = first(&[marked(tainted(old("a").cordoned(150))), new("c")]);
    assert_eq!(states.seen("a"), DRAINING);
    let states = first(&[tainted(old("a").cordoned(150)), old("b"), new("c")]);
    assert_eq!(states.seen("a").0, Phase::Pending);
    assert!(states.message("a").contains("autoscaler"));
}
