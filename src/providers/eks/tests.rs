//! One test for each rule of EKS, from Nodes as EKS labels and taints them.

use serde_json::json;

use crate::api::types::{ConditionStatus, DesiredVersionSource, Phase, UpdateKind};
use crate::domain::fact::{Fact, Meta, Object, Parsed};
use crate::domain::fixtures::at;
use crate::providers::cluster_api::kinds::MachinePool;
use crate::providers::profile::fixtures::{Cluster, Node, Seen};

const API_SERVER: &str = "v1.32.1-eks-7d5f2a1";
const OLD: &str = "v1.31.2-eks-94953ac";
const NEW: &str = "v1.32.0-eks-1552ad0";
const EXCLUDED: &str = "node.kubernetes.io/exclude-from-external-load-balancers";

const VERSION: Option<UpdateKind> = Some(UpdateKind::Version);

fn member(name: &str, version: &str, ami: &str) -> Node {
    Node::new(name, version)
        .label("eks.amazonaws.com/nodegroup", "blue")
        .label("eks.amazonaws.com/nodegroup-image", ami)
}

fn old(name: &str) -> Node {
    member(name, OLD, "ami-0aaa")
}

/// A node of the new generation, created at 100.
fn new(name: &str) -> Node {
    member(name, NEW, "ami-0bbb").created(100)
}

fn excluded(node: Node) -> Node {
    node.label(EXCLUDED, "true")
}

#[test]
fn a_group_is_updated_with_a_surge_and_each_node_passes_every_step() {
    let mut cluster = Cluster::new(API_SERVER);
    let states = cluster.see(90, &[old("a"), old("b")]);
    assert_eq!(states.seen("a"), (Phase::Pending, VERSION, "Pending"));
    let state = states.of("a");
    assert_eq!(state.provider.as_str(), "EKS");
    assert_eq!(state.pool_name().as_deref(), Some("blue.nodegroup"));
    let desired = state.desired.as_ref().unwrap();
    assert_eq!(desired.source, DesiredVersionSource::ApiServer);

    let states = cluster.see(101, &[old("a"), old("b"), new("c").not_ready(100)]);
    assert_eq!(states.seen("c"), (Phase::Unknown, None, "Joining"));
    let states = cluster.see(130, &[old("a"), old("b"), new("c")]);
    assert_eq!(states.seen("c"), (Phase::Completed, None, "Updated"));
    let desired = states.of("a").desired.as_ref().unwrap();
    assert_eq!(
        (&*desired.version, desired.source),
        (NEW, DesiredVersionSource::NewestInPool)
    );

    let waiting = [old("a").cordoned(140), old("b").cordoned(140), new("c")];
    let states = cluster.see(141, &waiting);
    for name in ["a", "b"] {
        assert_eq!(states.seen(name), (Phase::Pending, VERSION, "Cordoned"));
        let cordon = states.of(name).cordoned_by.as_ref().unwrap();
        assert!(!cordon.is_foreign, "the cordon is part of the update");
    }
    let drained = excluded(old("a").cordoned(140));
    let states = cluster.see(200, &[drained.clone(), old("b").cordoned(140), new("c")]);
    assert_eq!(states.seen("a"), (Phase::Updating, VERSION, "Terminating"));
    assert_eq!(states.seen("b").2, "Cordoned");
    let silent = drained.clone().silent(230);
    let states = cluster.see(231, &[silent, old("b").cordoned(140), new("c")]);
    assert_eq!(states.seen("a"), (Phase::Updating, VERSION, "Terminating"));
    let states = cluster.see(240, &[drained.deleting(), new("c")]);
    let replaced = Some(UpdateKind::Replacement);
    assert_eq!(
        states.seen("a"),
        (Phase::Updating, replaced, "BeingReplaced")
    );
}

#[test]
fn a_cordon_that_the_operator_sees_with_the_first_new_node_stays_part_of_the_update() {
    let before = |name: &str| member(name, NEW, "ami-0aaa");
    let mut cluster = Cluster::new(API_SERVER);
    let states = cluster.see(0, &[before("a"), before("b")]);
    assert_eq!(states.seen("a").0, Phase::Completed);
    let nodes = [
        before("a").cordoned(120),
        before("b").cordoned(120),
        new("c"),
    ];
    for second in [500, 560] {
        let states = cluster.see(second, &nodes);
        let image = Some(UpdateKind::Image);
        assert_eq!(states.seen("a"), (Phase::Pending, image, "Cordoned"));
        assert!(!states.of("a").cordoned_by.as_ref().unwrap().is_foreign);
    }
}

#[test]
fn a_drained_node_that_does_not_report_is_terminating_for_half_an_hour_only() {
    let gone = excluded(old("a").cordoned(140)).silent(200);
    let mut cluster = Cluster::new(API_SERVER);
    let nodes = [gone, new("c")];
    let states = cluster.see(1000, &nodes);
    assert_eq!(states.seen("a").0, Phase::Updating);
    assert_eq!(states.of("a").again_at, Some(at(200 + 30 * 60)));
    let states = cluster.see(200 + 30 * 60, &nodes);
    assert_eq!(states.seen("a"), (Phase::Pending, VERSION, "NotReady"));
    let available = states.of("a").available.status;
    assert_eq!(available, ConditionStatus::False);
}

#[test]
fn a_new_node_that_is_cordoned_and_removed_when_the_group_shrinks_is_no_update() {
    let cordoned = new("c").cordoned(300);
    for leaving in [
        cordoned.clone(),
        excluded(cordoned.clone()),
        cordoned.clone().silent(320),
        cordoned.deleting(),
    ] {
        let mut cluster = Cluster::new(API_SERVER);
        cluster.see(290, &[new("c"), new("d")]);
        let states = cluster.see(330, &[leaving, new("d")]);
        let (phase, kind, _) = states.seen("c");
        assert_eq!((phase, kind), (Phase::Completed, None));
    }
}

#[test]
fn the_exclusion_from_load_balancers_is_a_sign_only_on_an_outdated_cordoned_node() {
    let on = |node: Node, value: &str| node.label(EXCLUDED, value);
    for (node, expected) in [
        (on(old("a").cordoned(140), "true"), Phase::Updating),
        // Other tools write other values.
        (on(old("a").cordoned(140), "karpenter"), Phase::Pending),
        (on(old("a").cordoned(140), ""), Phase::Pending),
        (on(old("a"), "true"), Phase::Pending),
        (on(new("a").cordoned(140), "true"), Phase::Completed),
    ] {
        let states = Cluster::first(API_SERVER, &[node.clone(), new("c")]);
        assert_eq!(states.seen("a").0, expected, "{node:?}");
    }
}

#[test]
fn the_taint_of_older_releases_means_cordoned_and_the_node_is_unavailable() {
    let tainted =
        |node: Node| node.taint("eks.amazonaws.com/nodegroup", "unschedulable", "NoSchedule");
    let states = Cluster::first(API_SERVER, &[tainted(old("a")), new("c")]);
    assert_eq!(states.seen("a"), (Phase::Pending, VERSION, "Cordoned"));
    assert_eq!(states.of("a").available.status, ConditionStatus::False);
    assert_eq!(states.of("a").available.reason, "Unschedulable");
    let states = Cluster::first(API_SERVER, &[excluded(tainted(old("a"))), new("c")]);
    assert_eq!(states.seen("a").2, "Terminating");
    let other = old("a").taint("eks.amazonaws.com/nodegroup", "gpu", "NoSchedule");
    let states = Cluster::first(API_SERVER, &[other, new("c")]);
    assert_eq!(states.seen("a").2, "Pending");
    let states = Cluster::first(API_SERVER, &[tainted(new("a")), new("c")]);
    assert_eq!(states.seen("a").0, Phase::Completed);
}

#[test]
fn a_generation_is_the_image_the_launch_template_and_the_kubelet() {
    let template = |node: Node, version: &str| {
        node.label("eks.amazonaws.com/sourceLaunchTemplateVersion", version)
    };
    let current = || member("a", NEW, "ami-0bbb");
    let (image, configuration) = (UpdateKind::Image, UpdateKind::Configuration);
    for (node, youngest, expected) in [
        (member("a", NEW, "ami-0aaa"), new("c"), Some(image)),
        (
            template(current(), "3"),
            template(new("c"), "4"),
            Some(configuration),
        ),
        (
            template(member("a", NEW, "ami-0aaa"), "3"),
            template(new("c"), "4"),
            Some(image),
        ),
        (current(), new("c"), None),
        // Another build of the same release: a hash has no order, and the youngest node shows the template.
        (
            member("a", "v1.32.0-eks-fffffff", "ami-0aaa"),
            new("c"),
            VERSION,
        ),
        (old("a"), new("c"), VERSION),
    ] {
        let states = Cluster::first(API_SERVER, &[node.clone(), youngest]);
        let (phase, kind, _) = states.seen("a");
        assert_eq!(kind, expected, "{node:?}");
        assert_eq!(phase == Phase::Pending, expected.is_some());
        assert_eq!(states.seen("c").0, Phase::Completed);
    }
}

#[test]
fn only_another_minor_version_of_the_api_server_makes_nodes_outdated() {
    let phase = |version: &str| Cluster::first(API_SERVER, &[member("a", version, "ami-0aaa")]);
    assert_eq!(phase("v1.32.0-eks-1552ad0").seen("a").0, Phase::Completed);
    assert_eq!(phase("v1.32.9-eks-1552ad0").seen("a").0, Phase::Completed);
    assert_eq!(phase("v1.31.9-eks-1552ad0").seen("a").0, Phase::Pending);
}

#[test]
fn a_cordon_without_a_newer_node_in_the_group_starts_no_update() {
    // As `eksctl drain nodegroup` does.
    let drained = [old("a").cordoned(10), old("b").cordoned(10)];
    let states = Cluster::first(API_SERVER, &drained);
    assert_eq!(states.seen("a"), (Phase::Pending, VERSION, "Pending"));
    let current = [new("a").cordoned(10), new("b").cordoned(10)];
    let states = Cluster::first(API_SERVER, &current);
    assert_eq!(states.seen("a"), (Phase::Completed, None, "Updated"));
    assert!(states.of("a").cordoned_by.as_ref().unwrap().is_foreign);
}

#[test]
fn node_auto_repair_is_named_and_is_no_update() {
    let sick = |node: Node| node.condition("KernelReady", "False", "SoftLockup");
    let states = Cluster::first(API_SERVER, &[sick(new("a").cordoned(10)), new("c")]);
    assert_eq!(states.seen("a").0, Phase::Completed);
    let message = states.message("a");
    assert!(message.contains("KernelReady=False") && message.ends_with("this is no update"));
    let states = Cluster::first(API_SERVER, &[sick(new("a")).deleting(), new("c")]);
    assert_eq!(states.seen("a"), (Phase::Completed, None, "BeingDeleted"));
    let states = Cluster::first(API_SERVER, &[sick(old("a")), new("c")]);
    assert_eq!(states.seen("a").0, Phase::Pending);
    assert!(states.message("a").contains("KernelReady=False"));
    let healthy = new("a").condition("KernelReady", "True", "KernelIsReady");
    let states = Cluster::first(API_SERVER, &[healthy, new("c")]);
    assert_eq!(states.message("a"), "");
}

#[test]
fn a_spot_interruption_of_an_outdated_node_is_no_update() {
    let taken = excluded(old("a").cordoned(140)).taint(
        "aws-node-termination-handler/spot-itn",
        "event",
        "NoSchedule",
    );
    for node in [taken.clone(), taken.clone().silent(200), taken.deleting()] {
        let states = Cluster::first(API_SERVER, &[node, new("c")]);
        assert_eq!(states.seen("a").0, Phase::Pending);
        assert!(states.message("a").contains("spot instance"));
    }
}

#[test]
fn the_end_of_a_drained_machine_by_its_scaling_group_is_part_of_the_update() {
    let key = "aws-node-termination-handler/asg-lifecycle-termination";
    let ended = |node: Node| node.taint(key, "event", "NoSchedule");
    let drained = ended(excluded(old("a").cordoned(140)));
    let states = Cluster::first(API_SERVER, &[drained, new("c")]);
    assert_eq!(states.seen("a"), (Phase::Updating, VERSION, "Terminating"));
}

#[test]
fn a_group_that_is_rolled_back_waits_on_its_newer_nodes() {
    let newer = |name: &str| new(name).cordoned(400);
    let again = |name: &str| old(name).created(390);
    let states = Cluster::first(API_SERVER, &[newer("a"), newer("b"), again("c")]);
    assert_eq!(states.seen("a"), (Phase::Pending, VERSION, "Cordoned"));
    let desired = states.of("a").desired.as_ref().unwrap();
    assert_eq!(&*desired.version, OLD);
}

/// A node of a group that eksctl made and that nothing manages.
fn unmanaged(name: &str, version: &str, created: i64) -> Node {
    Node::new(name, version)
        .label("alpha.eksctl.io/nodegroup-name", "ng-1")
        .label("alpha.eksctl.io/cluster-name", "prod")
        .created(created)
}

#[test]
fn a_group_of_eksctl_that_nothing_manages_drains_a_cordoned_node_once_there_is_a_newer_one() {
    let (a, c) = (unmanaged("a", OLD, 0), unmanaged("c", NEW, 100));
    let draining: Seen = (Phase::Draining, VERSION, "Draining");
    let states = Cluster::first(API_SERVER, &[a.clone().cordoned(140), c.clone()]);
    assert_eq!(states.of("a").provider.as_str(), "eksctl");
    assert_eq!(
        states.of("a").pool_name().as_deref(),
        Some("ng-1.nodegroup-name")
    );
    assert_eq!(states.seen("a"), draining);
    let states = Cluster::first(API_SERVER, &[a.clone().cordoned(140)]);
    assert_eq!(states.seen("a").0, Phase::Pending);

    let ended = a.taint(
        "aws-node-termination-handler/asg-lifecycle-termination",
        "event",
        "NoSchedule",
    );
    let ended = ended.cordoned(140);
    let states = Cluster::first(API_SERVER, &[ended.clone(), c]);
    assert_eq!(states.seen("a"), draining, "an instance refresh");
    let states = Cluster::first(API_SERVER, &[ended]);
    assert_eq!(states.seen("a").0, Phase::Pending);
    assert!(states.message("a").contains("scaling group"));
}

#[test]
fn a_managed_group_of_eksctl_is_managed_by_eks_and_auto_mode_belongs_to_karpenter() {
    let managed = old("a").label("alpha.eksctl.io/nodegroup-name", "blue");
    let states = Cluster::first(API_SERVER, &[managed]);
    assert_eq!(states.of("a").provider.as_str(), "EKS");
    let auto = Node::new("a", NEW)
        .label("eks.amazonaws.com/compute-type", "auto")
        .label("karpenter.sh/nodepool", "general-purpose");
    let states = Cluster::first(API_SERVER, &[auto]);
    assert_eq!(states.of("a").provider.as_str(), "Karpenter");
}

#[test]
fn a_cordoned_node_is_drained_once_its_pods_leave_until_the_drain_is_over() {
    let mut cluster = Cluster::new(API_SERVER);
    let nodes = [old("a").cordoned(140), old("b").cordoned(140), new("c")];
    for name in ["a", "b"] {
        cluster.pods(name, &[false, false]);
    }
    let states = cluster.see(141, &nodes);
    assert_eq!(states.seen("a"), (Phase::Pending, VERSION, "Cordoned"));
    cluster.pods("a", &[true, false]);
    let states = cluster.see(150, &nodes);
    let leaving = (Phase::Draining, VERSION, "PodsLeaving");
    assert_eq!(states.seen("a"), leaving);
    assert_eq!(states.seen("b"), (Phase::Pending, VERSION, "Cordoned"));
    // The next pod is not evicted yet, or none is left.
    for pods in [vec![false], vec![]] {
        cluster.pods("a", &pods);
        assert_eq!(cluster.see(160, &nodes).seen("a"), leaving);
    }
    let [a, b, c] = nodes;
    let states = cluster.see(170, &[excluded(a.clone()), b, c]);
    assert_eq!(states.seen("a"), (Phase::Updating, VERSION, "Terminating"));
    // A node that is uncordoned waits again.
    let uncordoned = [old("a"), old("b").cordoned(140), new("c")];
    let states = cluster.see(180, &uncordoned);
    assert_eq!(states.seen("a"), (Phase::Pending, VERSION, "Pending"));
}

#[test]
fn pods_that_leave_a_cordoned_node_are_no_drain_without_a_rollout() {
    let mut cluster = Cluster::new(API_SERVER);
    cluster.pods("a", &[true]);
    let states = cluster.see(200, &[old("a").cordoned(140), old("b")]);
    assert_eq!(states.seen("a"), (Phase::Pending, VERSION, "Pending"));
    let states = cluster.see(201, &[old("a"), old("b"), new("c")]);
    assert_eq!(states.seen("a"), (Phase::Pending, VERSION, "Pending"));
}

/// A cluster with the MachinePool of Cluster API that is the group; its machines have this version.
fn with_machine_pool(version: &str) -> Cluster {
    let mut cluster = Cluster::new(API_SERVER);
    let pool = json!({
        "metadata": {"name": "blue", "namespace": "clusters"},
        "spec": {"clusterName": "prod", "template": {"spec": {"version": version}}},
    });
    let meta: Meta = serde_json::from_value(pool["metadata"].clone()).unwrap();
    let parsed = MachinePool::parse(&Object::new(&meta, &pool.to_string()));
    let Parsed::Fact(pool) = parsed else {
        panic!("{parsed:?}");
    };
    cluster.put("clusters/blue", pool);
    cluster
}

fn of_pool(node: Node) -> Node {
    node.annotation("cluster.x-k8s.io/cluster-name", "prod")
        .annotation("cluster.x-k8s.io/cluster-namespace", "clusters")
        .annotation("cluster.x-k8s.io/owner-kind", "MachinePool")
        .annotation("cluster.x-k8s.io/owner-name", "blue")
}

#[test]
fn a_machine_pool_that_can_be_read_names_the_release_and_the_youngest_node_the_build() {
    let mut cluster = with_machine_pool("v1.31.0");
    // It stays behind the control plane on purpose.
    let states = cluster.see(200, &[of_pool(old("a"))]);
    assert_eq!(states.seen("a"), (Phase::Completed, None, "Updated"));
    assert_eq!(states.of("a").provider.as_str(), "EKS");
    // The image within the release is the choice of EKS.
    let image = of_pool(member("c", OLD, "ami-0ccc").created(190));
    let states = cluster.see(210, &[of_pool(old("a")), image]);
    let pending = (Phase::Pending, Some(UpdateKind::Image), "Pending");
    assert_eq!(states.seen("a"), pending);

    let mut cluster = with_machine_pool("v1.32.0");
    let states = cluster.see(200, &[of_pool(old("a"))]);
    assert_eq!(states.seen("a"), (Phase::Pending, VERSION, "Pending"));
    let desired = states.of("a").desired.as_ref().unwrap();
    assert_eq!(
        (&*desired.version, desired.source),
        ("v1.32.0", DesiredVersionSource::Provider)
    );
    let states = cluster.see(210, &[of_pool(old("a")), of_pool(new("c"))]);
    let desired = states.of("a").desired.as_ref().unwrap();
    assert_eq!(&*desired.version, NEW);
    assert_eq!(states.seen("c").0, Phase::Completed);
}

#[test]
fn a_machine_pool_orders_a_rollback() {
    let mut cluster = with_machine_pool("v1.31.0");
    let states = cluster.see(200, &[of_pool(new("a")), of_pool(old("b"))]);
    assert_eq!(states.seen("a"), (Phase::Pending, VERSION, "Pending"));
    assert_eq!(states.seen("b").0, Phase::Completed);
}
