//! Which pool a node belongs to.

use proptest::prelude::*;

use super::*;
use crate::api::types::Scope;
use crate::domain::fixtures::{NodeBuilder, node};

fn pool_of(kubernetes: &Kubernetes, node: NodeBuilder) -> PoolId {
    let membership = membership(kubernetes, &node.build(), &ClusterFacts::default());
    PoolId::clone(membership.pool().unwrap())
}

/// The pool of the only label that names pools.
fn label(key: &str, value: &str) -> PoolId {
    PoolId::label(&LabelKey::all(&[key.to_owned()])[0], value)
}

#[test]
fn the_first_pool_label_in_the_order_of_the_list_names_the_pool() {
    let both = || {
        node("n")
            .label("eks.amazonaws.com/nodegroup", "blue")
            .label("karpenter.sh/nodepool", "spot")
    };
    assert_eq!(&*pool_of(&plain(), both()).name, "blue.nodegroup");
    let reversed = plain_kubernetes(
        &[
            "karpenter.sh/nodepool".into(),
            "eks.amazonaws.com/nodegroup".into(),
        ],
        None,
    );
    assert_eq!(&*pool_of(&reversed, both()).name, "spot.nodepool");
}

#[test]
fn the_reference_of_a_pool_has_the_unchanged_label_and_value() {
    let pool = pool_of(
        &plain(),
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
    assert_eq!(&*pool_of(&plain(), node).name, "spot.nodepool");
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
        assert_eq!(&*pool_of(&plain(), node).name, pool, "{roles:?}");
    }
}

#[test]
fn a_labelled_control_plane_node_serves_the_control_plane() {
    let node = node("n")
        .label("kops.k8s.io/instancegroup", "control-plane-a")
        .role("control-plane")
        .kubelet("v1.31.2");
    let state = first_state(&plain(), node.build(), &ClusterFacts::default());
    assert_eq!(state.scope, Scope::ControlPlane);
    assert_eq!(
        state.pool_name().as_deref(),
        Some("control-plane-a.instancegroup")
    );
}

#[test]
fn pools_of_two_labels_with_the_same_name_differ_by_the_prefix() {
    let kubernetes = plain_kubernetes(&["a.example/pool".into(), "b.example/pool".into()], None);
    let a = pool_of(&kubernetes, node("n").label("a.example/pool", "x"));
    let b = pool_of(&kubernetes, node("n").label("b.example/pool", "x"));
    assert_eq!(&*a.name, "x.pool.a.example");
    assert_eq!(&*b.name, "x.pool.b.example");
}

/// Whether a text is a DNS-1123 subdomain, as the API server requires for object names.
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
        let name = label("karpenter.sh/nodepool", value).name;
        assert!(is_object_name(&name), "{value}: {name}");
    }
}

/// The names of the pools that two nodes with these labels are in.
fn names(keys: &[&str], a: (&str, &str), b: (&str, &str)) -> (Arc<str>, Arc<str>) {
    let keys: Vec<String> = keys.iter().map(|key| (*key).to_owned()).collect();
    let kubernetes = plain_kubernetes(&keys, None);
    let name = |(key, value)| pool_of(&kubernetes, node("n").label(key, value)).name;
    (name(a), name(b))
}

#[test]
fn a_pool_name_cannot_be_forged_by_another_pool() {
    const NODEGROUP: &str = "eks.amazonaws.com/nodegroup";
    let mangled = names(&[NODEGROUP], (NODEGROUP, "Big_Pool"), (NODEGROUP, "x")).0;
    let (mangled, _) = mangled.rsplit_once('.').unwrap();
    for (keys, a, b) in [
        (
            &[NODEGROUP][..],
            (NODEGROUP, "Big_Pool"),
            (NODEGROUP, "big-pool-5752abc0"),
        ),
        (&[NODEGROUP], (NODEGROUP, "Big_Pool"), (NODEGROUP, mangled)),
        // A role named like the pool of a label.
        (
            &[NODEGROUP],
            (NODEGROUP, "blue"),
            ("node-role.kubernetes.io/blue.nodegroup", ""),
        ),
        // Two keys that differ only in characters that are invalid in names.
        (
            &["x/My_Key", "y/my-key"],
            ("x/My_Key", "a"),
            ("y/my-key", "a"),
        ),
        // The name of one key ends with that of another.
        (
            &["x/b.pool", "y/pool"],
            ("x/b.pool", "a"),
            ("y/pool", "a.b"),
        ),
        (
            &["b/pool", "c.b/pool", "d/b"],
            ("b/pool", "a"),
            ("d/b", "a.pool"),
        ),
    ] {
        let (a_name, b_name) = names(keys, a, b);
        assert_ne!(a_name, b_name, "{a:?} {b:?}");
    }
}

/// Texts that may be labels, and texts that imitate names of other pools.
fn hostile() -> BoxedStrategy<String> {
    prop_oneof![
        "[aA](\\.|-|_)?[bB]?(\\.pool|-pool|\\.b)?",
        "(a|A|-a)(\\.|-)?(f{32}|f{8}|0{32})?",
        "[a-zA-Z0-9._-]{0,80}",
        "\\PC{0,12}",
    ]
    .boxed()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn pool_names_are_unique_and_valid_object_names(
        keys in prop::sample::subsequence(
            vec!["x/pool", "y/pool", "b/pool", "x/b.pool", "x/My_Key", "y/my-key", "pool", "y/b", "c.y/b"], 1..=4
        ),
        texts in prop::collection::vec((any::<prop::sample::Index>(), hostile(), any::<bool>()), 2..12),
    ) {
        let owned: Vec<String> = keys.iter().map(|key| (*key).to_owned()).collect();
        let kubernetes = plain_kubernetes(&owned, None);
        let mut seen: Vec<PoolId> = Vec::new();
        for (key, text, is_role) in texts {
            let node = if is_role { node("n").role(&text) } else { node("n").label(key.get::<&str>(&keys), &text) };
            let pool = pool_of(&kubernetes, node);
            prop_assert!(is_object_name(&pool.name), "{}", pool.name);
            for other in &seen {
                prop_assert_eq!(other.name == pool.name, other.reference == pool.reference, "{:?} {:?}", other, &pool);
            }
            seen.push(pool);
        }
    }

    #[test]
    fn every_valid_label_gives_a_valid_object_name(
        value in "[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?",
        key in "[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?",
        prefix in "[a-z0-9]{1,60}(\\.[a-z0-9]{1,60}){0,3}",
    ) {
        let pool = label(&format!("{prefix}/{key}"), &value);
        prop_assert!(is_object_name(&pool.name), "{}", pool.name);
        let role = PoolId::role(&key);
        prop_assert!(is_object_name(&role.name), "{}", role.name);
    }

    #[test]
    fn two_values_of_a_label_never_share_a_pool(
        a in "[aA][-_.]{0,2}[bB]",
        b in "[aA][-_.]{0,2}[bB]",
    ) {
        let name = |value| label("example.com/pool", value).name;
        prop_assert_eq!(name(&a) == name(&b), a == b);
    }
}
