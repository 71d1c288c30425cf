//! The desired version: from which node of a pool, and from the API server.

use super::*;

/// Desired version, its source and the phase of node `a`.
fn target(states: &States) -> (Option<(String, DesiredVersionSource)>, Phase) {
    let state = states.of("a");
    let desired = state.desired.as_ref();
    let desired = desired.map(|desired| (desired.version.to_string(), desired.source));
    (desired, state.phase)
}

fn newest(version: &str) -> (String, DesiredVersionSource) {
    (version.to_owned(), DesiredVersionSource::NewestInPool)
}

fn api_server(version: &str) -> (String, DesiredVersionSource) {
    (version.to_owned(), DesiredVersionSource::ApiServer)
}

/// A node of a pool that a label of the user names.
fn labelled(name: &str, version: &str) -> Node {
    Node::new(name, version).label("example.com/pool", "blue")
}

fn see_labelled(version: &str, nodes: &[Node]) -> States {
    let options = Options {
        pool_label_keys: vec!["example.com/pool".to_owned()],
        ..Options::default()
    };
    Cluster::with(version, &options).see(1000, nodes)
}

#[test]
fn the_youngest_ready_node_of_a_pool_that_a_label_names_is_the_target() {
    let states = see_labelled(
        NEW,
        &[labelled("a", OLD), labelled("b", "v1.31.9").created(100)],
    );
    assert_eq!(target(&states), (Some(newest("v1.31.9")), Phase::Pending));
    let dead = labelled("b", "v1.31.9").created(100).silent(900);
    let states = see_labelled(NEW, &[labelled("a", OLD), dead]);
    assert_eq!(target(&states), (Some(api_server(NEW)), Phase::Pending));
}

#[test]
fn nodes_that_only_share_a_role_have_no_template() {
    let youngest = Node::new("b", "v1.31.9").created(100);
    let states = Cluster::first("v1.31.9-dirty", &[plain("v1.31.9"), youngest.clone()]);
    assert_eq!(states.seen("a").0, Phase::Completed);
    let states = Cluster::first(OLD, &[plain(OLD), youngest.clone()]);
    assert_eq!(target(&states), (Some(api_server(OLD)), Phase::Completed));
    // The control plane is one pool with one version.
    let role = |node: Node| node.label("node-role.kubernetes.io/control-plane", "");
    let states = Cluster::first(NEW, &[role(plain(OLD)), role(youngest)]);
    assert_eq!(target(&states), (Some(newest("v1.31.9")), Phase::Pending));
}

#[test]
fn a_node_of_another_operating_system_or_architecture_is_no_target() {
    for (key, value) in [
        ("kubernetes.io/os", "windows"),
        ("kubernetes.io/arch", "arm64"),
    ] {
        let other = labelled("b", "v1.31.9").created(100).label(key, value);
        let states = see_labelled("v1.31.9", &[labelled("a", OLD), other]);
        assert_eq!(
            target(&states),
            (Some(api_server("v1.31.9")), Phase::Pending)
        );
    }
}

#[test]
fn no_target_is_newer_than_the_api_server_and_a_node_ahead_of_it_is_not_outdated() {
    let ahead = labelled("b", "v1.33.0").created(100);
    let states = see_labelled(NEW, &[labelled("a", OLD), ahead.clone()]);
    assert_eq!(target(&states), (Some(api_server(NEW)), Phase::Pending));
    // Nor is it rolled back when it is cordoned.
    let ahead = labelled("a", "v1.33.0");
    for node in [ahead.clone(), ahead.clone().cordoned(990), ahead.deleting()] {
        let states = see_labelled(NEW, &[node, labelled("b", NEW).created(100)]);
        assert_eq!(target(&states), (None, Phase::Completed));
    }
}

#[test]
fn a_rollback_is_an_update_of_the_newer_nodes_that_leave() {
    let again = replaced("b", OLD).created(200);
    let newer = replaced("a", NEW).created(100);
    let states = see(&[newer.clone().cordoned(300), again.clone()]);
    assert_eq!(target(&states), (Some(newest(OLD)), Phase::Draining));
    let states = see(&[newer.clone().deleting(), again.clone()]);
    assert_eq!(target(&states), (Some(newest(OLD)), Phase::Updating));
    // While a newer node stays, nothing shows a rollback.
    let states = see(&[newer, again]);
    assert_eq!(target(&states), (Some(api_server(NEW)), Phase::Completed));
    assert_eq!(states.seen("b"), PENDING);
}

#[test]
fn builds_are_compared_only_where_the_vendor_orders_them_or_nodes_have_a_template() {
    let phase = |own: &str, youngest: &str| {
        let nodes = [labelled("a", own), labelled("b", youngest).created(100)];
        see_labelled("v1.31.9", &nodes).seen("a").0
    };
    for (own, youngest, expected) in [
        ("v1.31.9+k3s1", "v1.31.9+k3s2", Phase::Pending),
        ("v1.31.9+k3s2", "v1.31.9+k3s1", Phase::Completed),
        // A hash has no order: another build than that of the youngest node.
        ("v1.31.9-eks-aaa", "v1.31.9-eks-bbb", Phase::Pending),
        // A kubelet on Windows reports no build, and a missing one may be any.
        ("v1.31.9", "v1.31.9+rke2r2", Phase::Completed),
        ("v1.31.9+rke2r2", "v1.31.9", Phase::Completed),
    ] {
        assert_eq!(phase(own, youngest), expected, "{own} {youngest}");
    }
}

#[test]
fn builds_of_a_control_plane_that_is_updated_in_place_have_no_youngest_node() {
    let member = |name: &str, version: &str| {
        Node::new(name, version).label("node-role.kubernetes.io/control-plane", "")
    };
    for (own, youngest) in [
        ("v1.31.9+31a56cf75", "v1.31.9+18eadca"),
        ("v1.31.9+18eadca", "v1.31.9+31a56cf75"),
    ] {
        let nodes = [member("a", own), member("b", youngest).created(100)];
        let states = Cluster::first("v1.31.9+18eadca", &nodes);
        assert_eq!(states.seen("a").0, Phase::Completed, "{own} {youngest}");
    }
}

#[test]
fn a_managed_control_plane_is_patched_apart_from_its_nodes_whoever_updates_them() {
    for (api, own, expected) in [
        (
            "v1.31.9-eks-7d5f2a1",
            "v1.31.2-eks-94953ac",
            Phase::Completed,
        ),
        ("v1.32.0-eks-7d5f2a1", "v1.31.2-eks-94953ac", Phase::Pending),
        ("v1.31.9-gke.1006000", "v1.31.2-gke.1", Phase::Completed),
        ("v1.31.9", "v1.31.2", Phase::Pending),
    ] {
        let states = see_labelled(api, &[labelled("a", own)]);
        assert_eq!(states.seen("a").0, expected, "{api} {own}");
    }
    // A patch of the nodes that is newer than the control plane's may be the target.
    let nodes = [
        labelled("a", "v1.31.2-eks-94953ac"),
        labelled("b", "v1.31.5-eks-1552ad0").created(100),
    ];
    let states = see_labelled("v1.31.4-eks-7d5f2a1", &nodes);
    assert_eq!(
        target(&states),
        (Some(newest("v1.31.5-eks-1552ad0")), Phase::Pending)
    );
}

#[test]
fn the_target_of_the_user_has_precedence_and_may_be_older() {
    let options = Options {
        target_version: Some(OLD.to_owned()),
        ..Options::default()
    };
    let source = DesiredVersionSource::UserTarget;
    for (version, phase) in [(OLD, Phase::Completed), (NEW, Phase::Pending)] {
        let nodes = [replaced("a", version), young()];
        let states = Cluster::with(NEW, &options).see(1000, &nodes);
        assert_eq!(target(&states), (Some((OLD.to_owned(), source)), phase));
    }
    let cordoned = [replaced("a", NEW).cordoned(990), young()];
    let states = Cluster::with(NEW, &options).see(1000, &cordoned);
    assert_eq!(states.seen("a"), DRAINING);
}

#[test]
fn a_completed_node_shows_no_desired_version_below_its_own() {
    for version in ["v1.32.1", "v1.33.0"] {
        let late = replaced("b", OLD).created(200);
        let states = see(&[plain(version), late.clone()]);
        assert_eq!(target(&states), (None, Phase::Completed), "{version}");
        let states = see(&[replaced("a", version), late]);
        let (desired, phase) = target(&states);
        assert_eq!(phase, Phase::Completed, "{version}");
        let is_below = desired.is_some_and(|(desired, _)| desired != version);
        assert!(!is_below, "{version}");
    }
}
