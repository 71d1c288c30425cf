//! Nodes without a machine are never updated.

use crate::api::types::{ConditionStatus, DesiredVersionSource, Phase};
use crate::providers::Options;
use crate::providers::profile::fixtures::{Cluster, Node};

fn fargate(name: &str) -> Node {
    Node::new(name, "v1.28.9-eks-1552ad0").label("eks.amazonaws.com/compute-type", "fargate")
}

fn virtual_kubelet(name: &str) -> Node {
    Node::new(name, "v1.25.0-vk-azure-aci-1.6.1").label("type", "virtual-kubelet")
}

#[test]
fn a_node_without_a_machine_is_completed_in_no_pool_and_without_a_desired_version() {
    for node in [
        fargate("a"),
        virtual_kubelet("a"),
        fargate("a").cordoned(10),
        virtual_kubelet("a").silent(10),
        fargate("a").deleting(),
    ] {
        let states = Cluster::first("v1.32.1-eks-7d5f2a1", &[node]);
        let state = states.of("a");
        assert_eq!(state.provider.as_str(), "Serverless");
        assert_eq!(states.seen("a"), (Phase::Completed, None, "NotUpdated"));
        assert_eq!((&state.pool, &state.desired), (&None, &None));
    }
    let states = Cluster::first("v1.32.1-eks-7d5f2a1", &[fargate("a").silent(10)]);
    assert_eq!(states.of("a").available.status, ConditionStatus::False);
}

#[test]
fn a_node_without_a_machine_shows_no_other_node_what_it_is_updated_to() {
    let options = Options {
        pool_label_keys: vec!["example.com/pool".to_owned()],
        ..Options::default()
    };
    let blue = |node: Node| node.label("example.com/pool", "blue");
    let node = || blue(Node::new("a", "v1.31.2"));
    let newer = || blue(Node::new("b", "v1.31.9").created(0));
    let see = |other: Node| {
        let mut cluster = Cluster::with("v1.31.9", &options);
        let states = cluster.see(1000, &[node(), other]);
        states.of("a").desired.as_ref().unwrap().source
    };
    assert_eq!(see(newer()), DesiredVersionSource::NewestInPool);
    let without_machine = newer().label("type", "virtual-kubelet");
    assert_eq!(see(without_machine), DesiredVersionSource::ApiServer);
}

#[test]
fn another_compute_type_has_a_machine() {
    let node = Node::new("a", "v1.31.2")
        .label("eks.amazonaws.com/compute-type", "hybrid")
        .label("type", "metal");
    let states = Cluster::first("v1.31.2", &[node]);
    assert_eq!(states.of("a").provider.as_str(), "Kubernetes");
}
