//! Which pool a node belongs to.

use proptest::prelude::*;

use super::*;
use crate::api::types::Scope;
use crate::domain::fixtures::{NodeBuilder, node};

fn pool_of(rules: &Kubernetes, node: NodeBuilder) -> PoolId {
    let membership = rules.membership(&node.build(), &ClusterFacts::default());
    PoolId::clone(membership.pool().unwrap())
}

#[test]
fn the_first_pool_label_in_the_order_of_the_list_names_the_pool() {
    let both = || {
        node("n")
            .label("eks.amazonaws.com/nodegroup", "blue")
            .label("karpenter.sh/nodepool", "spot")
    };
    assert_eq!(&*pool_of(&rules(), both()).name, "blue.nodegroup");
    let reversed = Kubernetes::new(
        &[
            "karpenter.sh/nodepool".into(),
            "eks.amazonaws.com/nodegroup".into(),
        ],
        None,
    );
    assert_eq!(&*pool_of(&reversed, both()).name, "spot.nodepool");
}

#[test]
fn the_reference_of_a_pool_says_label_and_value_as_they_are() {
    let pool = pool_of(
        &rules(),
        node("n").label("cloud.google.com/gke-nodepool", "Pool_1"),
    );
    assert_eq!(pool.reference.group, "cloud.google.com");
    assert_eq!(pool.reference.resource, "gke-nodepool");
    assert_eq!(pool.reference.name, "Pool_1");
}

#[test]
fn an_empty_pool_label_names_no_pool() {
    let node = node("n")
        .label("eks.amazonaws.com/nodegroup", "")
        .label("karpenter.sh/nodepool", "spot");
    assert_eq!(&*pool_of(&rules(), node).name, "spot.nodepool");
}

#[test]
fn a_node_without_a_pool_label_is_grouped_by_its_role() {
    for (roles, pool) in [
        (&["control-plane"][..], "control-plane"),
        (&["master", "worker"], "control-plane"),
        (&["worker", "storage", "gpu"], "gpu"),
        (&["worker"], "worker"),
        (&[""], "worker"),
        (&[], "worker"),
    ] {
        let node = roles.iter().fold(node("n"), |node, role| node.role(role));
        assert_eq!(&*pool_of(&rules(), node).name, pool, "{roles:?}");
    }
}

#[test]
fn a_labelled_control_plane_node_serves_the_control_plane() {
    let node = node("n")
        .label("kops.k8s.io/instancegroup", "control-plane-a")
        .role("control-plane")
        .kubelet("v1.31.2");
    let state = judged(&rules(), node.build(), &ClusterFacts::default());
    assert_eq!(state.scope, Scope::ControlPlane);
    assert_eq!(
        state.pool_name().as_deref(),
        Some("control-plane-a.instancegroup")
    );
}

#[test]
fn pools_of_two_labels_with_the_same_name_are_told_apart_by_the_prefix() {
    let rules = Kubernetes::new(&["a.example/pool".into(), "b.example/pool".into()], None);
    let a = pool_of(&rules, node("n").label("a.example/pool", "x"));
    let b = pool_of(&rules, node("n").label("b.example/pool", "x"));
    assert_eq!(&*a.name, "x.pool.a.example");
    assert_eq!(&*b.name, "x.pool.b.example");
}

/// A DNS-1123 subdomain, as the API server wants the name of an object.
fn is_object_name(name: &str) -> bool {
    let alphanumeric = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    (1..=253).contains(&name.len())
        && name.split('.').all(|part| {
            part.starts_with(alphanumeric)
                && part.ends_with(alphanumeric)
                && part.chars().all(|c| alphanumeric(c) || c == '-')
        })
}

#[test]
fn a_label_value_with_a_dot_beside_a_dash_gives_a_valid_object_name() {
    // All of them are valid label values.
    for value in ["a-.b", "a.-b", "a..b", "a_.b", "a._b", "a.-.b"] {
        let name = PoolId::label("karpenter.sh/nodepool", value, false).name;
        assert!(is_object_name(&name), "{value}: {name}");
    }
}

proptest! {
    #[test]
    fn every_valid_label_gives_a_valid_object_name(
        value in "[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?",
        key in "[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?",
        prefix in "[a-z0-9]{1,60}(\\.[a-z0-9]{1,60}){0,3}",
        qualified in any::<bool>(),
    ) {
        let pool = PoolId::label(&format!("{prefix}/{key}"), &value, qualified);
        prop_assert!(is_object_name(&pool.name), "{}", pool.name);
        let role = PoolId::role(&key);
        prop_assert!(is_object_name(&role.name), "{}", role.name);
    }

    #[test]
    fn two_values_of_a_label_never_share_a_pool(
        a in "[aA][-_.]{0,2}[bB]",
        b in "[aA][-_.]{0,2}[bB]",
    ) {
        let name = |value| PoolId::label("example.com/pool", value, false).name;
        prop_assert_eq!(name(&a) == name(&b), a == b);
    }
}
