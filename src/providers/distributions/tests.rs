//! One test for each rule of k3s, RKE2 and Talos, from Nodes as they write them.

use crate::api::types::{CordonerKind, DesiredVersionSource, Phase, Scope, UpdateKind};
use crate::domain::fixtures::at;
use crate::providers::profile::fixtures::{Cluster, Node};

const VERSION: Option<UpdateKind> = Some(UpdateKind::Version);
const IMAGE: Option<UpdateKind> = Some(UpdateKind::Image);
const REBOOT: Option<UpdateKind> = Some(UpdateKind::Reboot);

fn k3s(name: &str, version: &str) -> Node {
    Node::new(name, version)
        .annotation("k3s.io/node-args", r#"["server"]"#)
        .annotation("k3s.io/node-config-hash", "AAAA====")
}

#[test]
fn k3s_and_rke2_are_recognised_by_their_arguments_and_grouped_by_role() {
    let rke2 = Node::new("r", "v1.31.3+rke2r1").annotation("rke2.io/node-args", r#"["agent"]"#);
    let server = k3s("s", "v1.31.3+k3s1").label("node-role.kubernetes.io/master", "true");
    let rancher = k3s("o", "v1.31.3+k3s1").label("node-role.kubernetes.io/controlplane", "true");
    let agent = k3s("a", "v1.31.3+k3s1");
    let states = Cluster::first("v1.31.3+k3s1", &[rke2, server, rancher, agent]);
    for (name, provider, pool, scope) in [
        ("r", "RKE2", "worker", Scope::WorkerPool),
        ("s", "k3s", "control-plane", Scope::ControlPlane),
        ("o", "k3s", "control-plane", Scope::ControlPlane),
        ("a", "k3s", "worker", Scope::WorkerPool),
    ] {
        let state = states.of(name);
        assert_eq!(state.provider.as_str(), provider);
        assert_eq!(state.pool_name().as_deref(), Some(pool));
        assert_eq!(state.scope, scope, "{name}");
    }
}

#[test]
fn a_node_of_k3s_is_outdated_by_the_whole_version_of_the_api_server() {
    for (version, phase) in [
        ("v1.31.3+k3s1", Phase::Pending),
        ("v1.31.3+k3s2", Phase::Completed),
        ("v1.31.2+k3s9", Phase::Pending),
        ("v1.31.4+k3s1", Phase::Completed),
        // Kubelets on Windows report no build.
        ("v1.31.3", Phase::Completed),
        ("v1.31.3+rke2r1", Phase::Completed),
    ] {
        let states = Cluster::first("v1.31.3+k3s2", &[k3s("a", version)]);
        assert_eq!(states.seen("a").0, phase, "{version}");
    }
}

#[test]
fn a_node_of_k3s_is_updated_in_place_with_its_service_and_not_its_machine_restarted() {
    const OLD: &str = "v1.31.3+k3s1";
    const NEW: &str = "v1.31.4+k3s1";
    let mut cluster = Cluster::new(NEW);
    let states = cluster.see(0, &[k3s("a", OLD)]);
    assert_eq!(states.seen("a"), (Phase::Pending, VERSION, "Pending"));
    let states = cluster.see(11, &[k3s("a", OLD).cordoned(10)]);
    assert_eq!(states.seen("a"), (Phase::Draining, VERSION, "Draining"));
    let states = cluster.see(20, &[k3s("a", NEW).cordoned(10)]);
    assert_eq!(states.seen("a"), (Phase::Updating, VERSION, "Updating"));
    let states = cluster.see(30, &[k3s("a", NEW)]);
    assert_eq!(states.seen("a"), (Phase::Completed, None, "Updated"));
}

fn talos(name: &str, os: &str) -> Node {
    Node::new(name, "v1.31.3").os_image(os)
}

const OLD_OS: &str = "Talos (v1.8.3)";
const NEW_OS: &str = "Talos (v1.9.0)";

/// As Talos cordons its own node.
fn by_talos(node: Node, second: i64) -> Node {
    node.annotation("talos.dev/cordoned", "true")
        .cordoned(second)
}

/// Three control-plane nodes, of which only the youngest one, `c`, runs `os`.
fn control_plane(a: Node, os: &str) -> [Node; 3] {
    let nodes = [a, talos("b", OLD_OS), talos("c", os).created(-50_000)];
    nodes.map(|node| node.label("node-role.kubernetes.io/control-plane", ""))
}

#[test]
fn talos_is_recognised_by_its_operating_system() {
    let states = Cluster::first("v1.31.3", &[talos("a", OLD_OS), talos("b", "Talos Linux")]);
    assert_eq!(states.of("a").provider.as_str(), "Talos");
    assert_eq!(states.of("b").provider.as_str(), "Kubernetes");
}

#[test]
fn a_restart_by_talos_passes_every_step_and_changes_nothing() {
    let mut cluster = Cluster::new("v1.31.3");
    cluster.see(0, &[talos("a", NEW_OS)]);
    let draining = by_talos(talos("a", NEW_OS), 10);
    let states = cluster.see(11, std::slice::from_ref(&draining));
    assert_eq!(states.seen("a"), (Phase::Draining, REBOOT, "Draining"));
    let cordon = states.of("a").cordoned_by.as_ref().unwrap();
    assert_eq!(
        (cordon.by.kind, cordon.is_foreign),
        (CordonerKind::Updater, false)
    );
    let states = cluster.see(21, &[draining.clone().silent(20)]);
    assert_eq!(states.seen("a"), (Phase::Rebooting, REBOOT, "Rebooting"));
    assert_eq!(states.of("a").again_at, Some(at(20 + 30 * 60)));
    let states = cluster.see(61, &[draining.clone().boot("second").not_ready(60)]);
    assert_eq!(states.seen("a"), (Phase::Rebooting, REBOOT, "Rebooted"));
    for second in [70, 71] {
        let states = cluster.see(second, &[draining.clone().boot("second")]);
        assert_eq!(states.seen("a"), (Phase::Updating, REBOOT, "Rebooted"));
    }
    let states = cluster.see(80, &[talos("a", NEW_OS).boot("second")]);
    assert_eq!(states.seen("a"), (Phase::Completed, None, "Rebooted"));
    // The next restart begins with a drain again.
    let again = by_talos(talos("a", NEW_OS), 90).boot("second");
    assert_eq!(cluster.see(91, &[again]).seen("a").0, Phase::Draining);
}

#[test]
fn an_upgrade_of_talos_is_an_image_update() {
    let mut cluster = Cluster::new("v1.31.3");
    let states = cluster.see(0, &control_plane(talos("a", OLD_OS), NEW_OS));
    assert_eq!(states.seen("a"), (Phase::Pending, IMAGE, "Pending"));
    assert_eq!(states.seen("c").0, Phase::Completed);
    let draining = by_talos(talos("a", OLD_OS), 10);
    let states = cluster.see(11, &control_plane(draining.clone(), NEW_OS));
    assert_eq!(states.seen("a"), (Phase::Draining, IMAGE, "Draining"));
    let states = cluster.see(21, &control_plane(draining.silent(20), NEW_OS));
    assert_eq!(states.seen("a").0, Phase::Rebooting);
    let back = by_talos(talos("a", NEW_OS), 10).boot("second");
    let states = cluster.see(60, &control_plane(back, NEW_OS));
    assert_eq!(states.seen("a"), (Phase::Updating, IMAGE, "Rebooted"));
    let states = cluster.see(
        70,
        &control_plane(talos("a", NEW_OS).boot("second"), NEW_OS),
    );
    assert_eq!(states.seen("a"), (Phase::Completed, None, "Updated"));
}

#[test]
fn a_node_that_is_upgraded_before_the_youngest_one_is_not_outdated() {
    for newer in ["Talos (v1.9.0)", "Talos (v1.8.10)", "Talos (custom)"] {
        let states = Cluster::first("v1.31.3", &control_plane(talos("a", newer), OLD_OS));
        assert_eq!(states.seen("a").0, Phase::Completed, "{newer}");
    }
    // Other extensions of the same release have no order.
    let schematic = |node: Node, id: &str| node.annotation("extensions.talos.dev/schematic", id);
    let [a, b, c] = control_plane(schematic(talos("a", NEW_OS), "376567"), NEW_OS);
    let states = Cluster::first("v1.31.3", &[a, b, schematic(c, "ce4c98")]);
    assert_eq!(states.seen("a").0, Phase::Completed);
    assert_eq!(states.seen("b"), (Phase::Pending, IMAGE, "Pending"));
}

#[test]
fn workers_of_talos_share_no_template_and_are_outdated_by_their_kubelet_alone() {
    let worker = |name: &str, os: &str, version: &str| talos(name, os).kubelet(version);
    let nodes = [
        worker("a", OLD_OS, "v1.31.3"),
        worker("b", NEW_OS, "v1.31.3").created(0),
        worker("c", NEW_OS, "v1.30.1"),
    ];
    let states = Cluster::first("v1.31.3", &nodes);
    assert_eq!(states.seen("a").0, Phase::Completed);
    assert_eq!(states.seen("c"), (Phase::Pending, VERSION, "Pending"));
    let desired = states.of("c").desired.as_ref().unwrap();
    assert_eq!(desired.source, DesiredVersionSource::ApiServer);
}

#[test]
fn a_drain_by_talosctl_is_one_of_talos_and_a_cordon_by_a_user_is_not() {
    let by = |manager: &str| talos("a", NEW_OS).cordoned_by(manager, 990);
    let states = Cluster::first("v1.31.3", &[by("talosctl")]);
    assert_eq!(states.seen("a"), (Phase::Draining, REBOOT, "Draining"));
    let states = Cluster::first("v1.31.3", &[by("kubectl")]);
    assert_eq!(states.seen("a"), (Phase::Completed, None, "Updated"));
    let states = Cluster::first(
        "v1.31.3",
        &[talos("a", NEW_OS).annotation("talos.dev/cordoned", "true")],
    );
    assert_eq!(
        states.seen("a"),
        (Phase::Completed, None, "Updated"),
        "it is uncordoned"
    );
}

#[test]
fn a_staged_upgrade_restarts_without_a_drain() {
    let mut cluster = Cluster::new("v1.31.3");
    cluster.see(0, &[talos("a", OLD_OS)]);
    let states = cluster.see(11, &[talos("a", OLD_OS).silent(10)]);
    assert_eq!(states.seen("a").0, Phase::Completed);
    let back = talos("a", NEW_OS).boot("second");
    let states = cluster.see(30, &[back.clone().not_ready(29)]);
    assert_eq!(states.seen("a"), (Phase::Rebooting, REBOOT, "Rebooted"));
    let states = cluster.see(40, &[back]);
    assert_eq!(states.seen("a"), (Phase::Completed, None, "Rebooted"));
}
