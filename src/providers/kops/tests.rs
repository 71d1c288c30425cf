//! One test for each rule of kOps, from Nodes as `kops rolling-update` leaves them.

use crate::api::types::{CordonerKind, DesiredVersionSource, Phase, UpdateKind};
use crate::domain::fixtures::at;
use crate::providers::profile::fixtures::{Cluster, Node, States};

const OLD: &str = "v1.30.4";
const NEW: &str = "v1.30.6";
const EXCLUDED: &str = "node.kubernetes.io/exclude-from-external-load-balancers";

const VERSION: Option<UpdateKind> = Some(UpdateKind::Version);
const CONFIGURATION: Option<UpdateKind> = Some(UpdateKind::Configuration);

fn member(name: &str, version: &str) -> Node {
    Node::new(name, version)
        .label("kops.k8s.io/instancegroup", "nodes-us-east-1a")
        .label("node-role.kubernetes.io/node", "")
}

fn old(name: &str) -> Node {
    member(name, OLD)
}

/// A node of the new generation, created at 100.
fn new(name: &str) -> Node {
    member(name, NEW).created(100)
}

/// As the rolling update taints every outdated node of the group at its start.
fn scheduled(node: Node) -> Node {
    node.taint("kops.k8s.io/scheduled-for-update", "", "PreferNoSchedule")
}

fn first(nodes: &[Node]) -> States {
    Cluster::first(NEW, nodes)
}

#[test]
fn a_rolling_update_replaces_the_nodes_of_a_group_one_by_one() {
    let mut cluster = Cluster::new(NEW);
    let states = cluster.see(0, &[old("a"), old("b")]);
    let state = states.of("a");
    assert_eq!(state.provider.as_str(), "kOps");
    assert_eq!(
        state.pool_name().as_deref(),
        Some("nodes-us-east-1a.instancegroup")
    );
    assert_eq!(states.seen("a"), (Phase::Pending, VERSION, "Pending"));
    let desired = state.desired.as_ref().unwrap();
    assert_eq!(desired.source, DesiredVersionSource::ApiServer);

    let states = cluster.see(10, &[scheduled(old("a")), scheduled(old("b"))]);
    assert_eq!(states.seen("a"), (Phase::Pending, VERSION, "Scheduled"));
    let drained = scheduled(old("a").cordoned(20)).label(EXCLUDED, "");
    let states = cluster.see(21, &[drained.clone(), scheduled(old("b"))]);
    assert_eq!(states.seen("a"), (Phase::Draining, VERSION, "Draining"));
    let cordon = states.of("a").cordoned_by.as_ref().unwrap();
    assert_eq!(
        (cordon.by.kind, cordon.is_foreign),
        (CordonerKind::Updater, false)
    );
    let states = cluster.see(61, &[drained.silent(60), scheduled(old("b"))]);
    assert_eq!(states.seen("a"), (Phase::Updating, VERSION, "Terminating"));
    let states = cluster.see(101, &[scheduled(old("b")), new("c").not_ready(100)]);
    assert_eq!(states.seen("c"), (Phase::Unknown, None, "Joining"));
    let states = cluster.see(130, &[scheduled(old("b")), new("c")]);
    assert_eq!(states.seen("c"), (Phase::Completed, None, "Updated"));
    assert_eq!(states.seen("b"), (Phase::Pending, VERSION, "Scheduled"));
}

#[test]
fn a_node_of_the_desired_version_that_kops_schedules_gets_another_configuration() {
    let states = first(&[scheduled(new("a")), new("c")]);
    assert_eq!(
        states.seen("a"),
        (Phase::Pending, CONFIGURATION, "Scheduled")
    );
    let states = first(&[scheduled(new("a").cordoned(990)), new("c")]);
    assert_eq!(
        states.seen("a"),
        (Phase::Draining, CONFIGURATION, "Draining")
    );
}

#[test]
fn a_failed_run_leaves_its_taints_and_cordons_and_the_message_says_so() {
    let tainted = first(&[scheduled(old("a")), old("b")]);
    assert!(
        tainted
            .message("a")
            .contains("a failed run leaves its taint")
    );
    let mut cluster = Cluster::new(NEW);
    let nodes = [scheduled(old("a").cordoned(0)), old("b")];
    let states = cluster.see(10, &nodes);
    assert!(!states.message("a").contains("failed"));
    let limit = 15 * 60;
    assert_eq!(states.of("a").again_at, Some(at(limit)));
    let states = cluster.see(limit, &nodes);
    assert_eq!(states.seen("a").0, Phase::Draining);
    assert!(
        states
            .message("a")
            .contains("a failed rolling update leaves")
    );
    let again = states.of("a").again_at;
    assert!(again.is_some_and(|again| again > at(limit)), "{again:?}");
}

#[test]
fn a_node_that_a_user_marks_is_outdated_until_a_rolling_update_takes_it() {
    let marked = |node: Node| node.annotation("kops.k8s.io/needs-update", "");
    let states = first(&[marked(new("a")), new("c")]);
    assert_eq!(states.seen("a"), (Phase::Pending, CONFIGURATION, "Marked"));
    assert!(states.message("a").contains("A user marked"));
    let states = first(&[scheduled(marked(new("a"))), new("c")]);
    assert_eq!(states.seen("a").2, "Scheduled");
    let states = first(&[marked(new("a")).silent(900), new("c")]);
    assert_eq!(
        states.seen("a"),
        (Phase::Pending, CONFIGURATION, "NotReady")
    );
}

#[test]
fn a_cordon_without_the_taint_is_not_the_one_of_kops() {
    let states = first(&[old("a").cordoned(990), old("b")]);
    assert_eq!(states.seen("a"), (Phase::Pending, VERSION, "Pending"));
    let states = first(&[new("a").cordoned(990), new("c")]);
    assert_eq!(states.seen("a"), (Phase::Completed, None, "Updated"));
    assert!(states.of("a").cordoned_by.as_ref().unwrap().is_foreign);
}

#[test]
fn control_plane_nodes_are_excluded_from_load_balancers_for_ever() {
    let control_plane = |name: &str, version: &str| {
        Node::new(name, version)
            .label("kops.k8s.io/instancegroup", "control-plane-us-east-1a")
            .label("node-role.kubernetes.io/control-plane", "")
            .label(EXCLUDED, "")
    };
    let states = first(&[
        control_plane("a", OLD),
        control_plane("c", NEW).created(100),
    ]);
    assert_eq!(states.seen("c"), (Phase::Completed, None, "Updated"));
    assert_eq!(states.seen("a"), (Phase::Pending, VERSION, "Pending"));
    let desired = states.of("a").desired.as_ref().unwrap();
    assert_eq!(desired.source, DesiredVersionSource::NewestInPool);
}

#[test]
fn a_scheduled_node_that_the_autoscaler_removes_is_not_being_updated() {
    let removed = scheduled(old("a").cordoned(990)).taint(
        "ToBeDeletedByClusterAutoscaler",
        "1790000000",
        "NoSchedule",
    );
    for node in [
        removed.clone(),
        removed.clone().silent(995),
        removed.deleting(),
    ] {
        let states = first(&[node, old("b")]);
        assert_eq!(states.seen("a").0, Phase::Pending);
        assert!(states.message("a").contains("autoscaler"));
    }
}

#[test]
fn nodes_that_karpenter_makes_in_a_kops_cluster_belong_to_karpenter() {
    let node = old("a").label("karpenter.sh/nodepool", "default");
    assert_eq!(first(&[node]).of("a").provider.as_str(), "Karpenter");
}
