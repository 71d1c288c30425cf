//! Pools: their identity, which of them exist, and what their objects say.

use super::*;
use crate::api::types::Scope;
use crate::domain::labels::Labels;
use crate::domain::pool::PoolOwner;
use crate::providers::profile::fixtures as profile;

/// Name of the insight, group, resource, name and scope.
fn identity(state: &NodeState) -> (String, [String; 3], Scope) {
    let pool = state.pool.as_ref().unwrap();
    let reference = pool.reference.clone();
    let texts = [reference.group, reference.resource, reference.name];
    (pool.name.to_string(), texts, pool.scope)
}

#[test]
fn a_pool_has_the_same_identity_with_and_without_objects() {
    let labelled = |labels: Value| {
        let mut object = machine(NEW, &[UP_TO_DATE]);
        object["metadata"]["labels"] = labels;
        object
    };
    let kind = |kind, name: &'static str| {
        shown(NEW, move |shown| {
            shown.owner_kind = kind;
            shown.owner_name = name.into();
        })
    };
    let core = "cluster.x-k8s.io";
    for (node, object, group, resource, name, scope) in [
        (
            joined(NEW),
            machine(NEW, &[UP_TO_DATE]),
            core,
            "machinedeployments",
            "prod-md-0",
            Scope::WorkerPool,
        ),
        (
            kind(OwnerKind::KubeadmControlPlane, "prod-cp"),
            labelled(json!({"cluster.x-k8s.io/control-plane-name": "hash"})),
            "controlplane.cluster.x-k8s.io",
            "kubeadmcontrolplanes",
            "prod-cp",
            Scope::ControlPlane,
        ),
        (
            kind(OwnerKind::ControlPlane, "prod-rke2"),
            labelled(json!({"cluster.x-k8s.io/control-plane-name": "prod-rke2"})),
            core,
            "controlplanes",
            "prod-rke2",
            Scope::ControlPlane,
        ),
        (
            kind(OwnerKind::MachinePool, "prod-mp-0"),
            labelled(json!({"cluster.x-k8s.io/pool-name": "prod-mp-0"})),
            core,
            "machinepools",
            "prod-mp-0",
            Scope::WorkerPool,
        ),
    ] {
        let mut world = World::with(&object);
        let with = identity(&world.state_of(node.clone()));
        assert_eq!(with.0, format!("{name}.{resource}"));
        let reference = [group, resource, name].map(str::to_owned);
        assert_eq!((&with.1, with.2), (&reference, scope));
        world.reject("machines");
        assert_eq!(identity(&world.state_of(node.clone())), with);
        world.set("machines", Availability::Listing);
        assert_eq!(identity(&world.state_of(node.clone())), with);
        assert_eq!(identity(&World::empty().state_of(node)), with);
    }
}

#[test]
fn a_machine_set_without_a_deployment_is_a_pool_by_its_whole_name() {
    let mut object = machine(NEW, &[]);
    object["metadata"]["labels"] = json!({"cluster.x-k8s.io/set-name": "prod-md-0-7x2kq"});
    let state = state(joined(NEW), &object);
    assert_eq!(identity(&state).0, "prod-md-0-7x2kq.machinesets");
    // A label names the owner where the Node does not.
    let unnamed = shown(NEW, |shown| {
        shown.owner_kind = OwnerKind::None;
        shown.owner_name = Box::default();
    });
    let state = super::state(unnamed, &object);
    assert_eq!(identity(&state).0, "prod-md-0-7x2kq.machinesets");
}

fn read_node(annotations: &[(&str, &str)], taints: &[[&str; 4]]) -> Option<ClusterApiNode> {
    let mut annotations = annotations.to_vec();
    annotations.sort_unstable();
    ClusterApiNode::of(&NodeObject {
        annotations: Labels::new(annotations),
        taints: crate::domain::rows::Rows::new(taints.iter().copied()),
        provider_id: ID.into(),
        ..NodeObject::default()
    })
}

#[test]
fn a_node_is_read_by_its_annotations_and_taints() {
    assert_eq!(read_node(&[], &[]), None);
    let cluster = [
        ("cluster.x-k8s.io/cluster-name", "prod"),
        ("cluster.x-k8s.io/cluster-namespace", "clusters"),
    ];
    assert_eq!(read_node(&cluster, &[]), None);
    let mut all = cluster.to_vec();
    all.extend([
        ("cluster.x-k8s.io/machine", MACHINE),
        ("cluster.x-k8s.io/owner-kind", "MachineSet"),
        ("cluster.x-k8s.io/owner-name", "prod-md-0-7x2kq"),
    ]);
    let outdated = [
        "node.cluster.x-k8s.io/outdated-revision",
        "",
        "PreferNoSchedule",
        "",
    ];
    let new = ["node.cluster.x-k8s.io/uninitialized", "", "NoSchedule", ""];
    let found = read_node(&all, &[outdated, new]);
    let expected = shown(NEW, |shown| {
        shown.is_outdated = true;
        shown.is_new = true;
    });
    assert_eq!(found.as_ref(), expected.build().evidence());
    let kinds = [
        ("MachinePool", OwnerKind::MachinePool),
        ("KubeadmControlPlane", OwnerKind::KubeadmControlPlane),
        ("RKE2ControlPlane", OwnerKind::ControlPlane),
        ("AcmeMachines", OwnerKind::Other),
    ];
    for (kind, expected) in kinds {
        let found = read_node(&[("cluster.x-k8s.io/owner-kind", kind)], &[]).unwrap();
        assert_eq!((found.owner_kind, &*found.cluster), (expected, ""));
    }
}

#[test]
fn whatever_the_annotations_say_the_pool_has_a_valid_name() {
    let long = "x".repeat(10_000);
    for kind in ["", "MachineSet", "MachinePool", "TalosControlPlane", "?"] {
        for name in ["", "-", "-abcde", "a.b", "Ä\u{7}", "x-\n", &long] {
            let annotations = [
                ("cluster.x-k8s.io/machine", name),
                ("cluster.x-k8s.io/owner-kind", kind),
                ("cluster.x-k8s.io/owner-name", name),
            ];
            let found = read_node(&annotations, &[]).unwrap();
            let pool = super::super::pools::of(&found, None);
            let is_valid =
                |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || ".-".contains(c);
            assert!(pool.name.chars().all(is_valid), "{}", pool.name);
            assert!(pool.name.len() <= 253);
            let characters = pool.reference.name.chars().count();
            assert!((1..=253).contains(&characters), "{characters}");
        }
    }
}

#[test]
fn the_objects_of_the_cluster_that_the_nodes_name_are_pools_without_nodes_too() {
    let mut world = World::new();
    world.put::<MachinePool>(&machine_pool(NEW));
    world.put::<KubeadmControlPlane>(&control_plane(NEW));
    for (namespace, cluster) in [("others", "prod"), ("clusters", "dev")] {
        let mut foreign = deployment(NEW);
        foreign["metadata"]["name"] = format!("{cluster}-{namespace}").into();
        foreign["metadata"]["namespace"] = namespace.into();
        foreign["spec"]["clusterName"] = cluster.into();
        world.put::<MachineDeployment>(&foreign);
    }
    assert_eq!(world.pools().unwrap(), Vec::<String>::new());
    world.count(joined(NEW));
    let expected = [
        "prod-md-0.machinedeployments",
        "prod-mp-0.machinepools",
        "prod-cp.kubeadmcontrolplanes",
    ];
    assert_eq!(world.pools().unwrap(), expected);
    // One kind that may not be read does not hide the others.
    world.reject("machinepools");
    assert_eq!(world.pools().unwrap(), [expected[0], expected[2]]);
    world.set("machinepools", Availability::NotServed);
    assert_eq!(world.pools().unwrap(), [expected[0], expected[2]]);
    world.set("machinepools", Availability::Listing);
    assert_eq!(world.pools().unwrap_err().kind, "machinepools");
}

#[test]
fn the_object_of_a_pool_has_its_version_and_pauses_it() {
    let mut world = World::with(&machine(NEW, &[UP_TO_DATE]));
    // The same name in the namespace of another cluster.
    let mut foreign = deployment("v1.30.0");
    foreign["metadata"]["namespace"] = "another".into();
    world.put::<MachineDeployment>(&foreign);
    world.count(joined(NEW));
    let pool = world.state_of(joined(NEW)).pool.unwrap();
    let described = world.describe(&pool);
    assert_eq!(&*described.desired.unwrap().version, NEW);
    assert_eq!(described.configured_version.as_deref(), Some(NEW));
    assert!(!described.paused && described.missing.is_none());
    // The insight has no namespace, so no namespaced object can own it.
    assert_eq!(described.owner, PoolOwner::None);

    world.put::<super::Cluster>(&cluster(true));
    assert!(world.describe(&pool).paused);
    world.put::<super::Cluster>(&cluster(false));
    let annotated = with_annotation(deployment(NEW), "cluster.x-k8s.io/paused", "");
    world.put::<MachineDeployment>(&annotated);
    assert!(world.describe(&pool).paused);

    world.reject("clusters");
    assert_eq!(world.describe(&pool).missing.unwrap().kind, "clusters");
    world.reject("machinedeployments");
    let described = world.describe(&pool);
    assert_eq!(described.missing.unwrap().kind, "machinedeployments");
    assert_eq!(described.desired, None);
}

/// A worker of a cluster whose Machines are in a management cluster.
fn elsewhere(name: &str, version: &str) -> profile::Node {
    profile::Node::new(name, version)
        .annotation("cluster.x-k8s.io/cluster-name", "prod")
        .annotation("cluster.x-k8s.io/cluster-namespace", "clusters")
        .annotation("cluster.x-k8s.io/machine", name)
        .annotation("cluster.x-k8s.io/owner-kind", "MachineSet")
        .annotation("cluster.x-k8s.io/owner-name", "prod-md-0-7x2kq")
}

#[test]
fn the_machines_of_a_pool_are_replaced_unless_rancher_provisions_them() {
    let pool = "prod-md-0.machinedeployments";
    let node = elsewhere("a", OLD);
    let states = profile::Cluster::first(API_SERVER, std::slice::from_ref(&node));
    assert!(states.pool(pool).replaces);
    let of_rancher = node.label("rke.cattle.io/machine", "uid");
    let states = profile::Cluster::first(API_SERVER, &[of_rancher, elsewhere("b", OLD)]);
    assert!(!states.pool(pool).replaces);
}

#[test]
fn another_release_of_tanzu_with_the_same_kubelet_is_another_image() {
    let release = |node: profile::Node, build: &str| {
        let release = format!("v1.36.3---vmware.{build}-fips-vkr.2");
        node.label("run.tanzu.vmware.com/tkr", &release)
    };
    let kubelet = "v1.36.3+vmware.1-fips";
    let old = release(elsewhere("a", kubelet), "1");
    let new = release(elsewhere("c", kubelet).created(100), "2");
    let states = profile::Cluster::first(API_SERVER, &[old, new]);
    let image = Some(UpdateKind::Image);
    assert_eq!(states.seen("a"), (Phase::Pending, image, "Pending"));
    assert_eq!(states.seen("c").0, Phase::Completed);
}
