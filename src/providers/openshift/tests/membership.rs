//! Which pool a node belongs to.

use proptest::prelude::*;

use super::*;
use crate::api::types::Scope;
use crate::domain::fixtures::node;
use crate::domain::node::NodeFacts;
use crate::providers::fixtures::{NEW, membership, openshift, pool, selector};

fn pool_of(node: &NodeFacts, cluster: &ClusterFacts) -> Option<String> {
    membership(&OpenShift::chosen(), node, cluster)
        .pool()
        .map(|pool| pool.name.to_string())
}

fn with_pools(names: &[&str]) -> ClusterFacts {
    openshift(names.iter().map(|name| pool(name, NEW)))
}

#[test]
fn master_wins_over_worker_and_over_one_custom_pool() {
    let cluster = with_pools(&["master", "worker", "infra", "gpu"]);
    let master = node("n").role("master").role("worker").role("infra");
    assert_eq!(
        pool_of(&master.build(), &cluster).as_deref(),
        Some("master")
    );
}

#[test]
fn two_custom_pools_are_a_conflict_also_on_a_control_plane_node() {
    let cluster = with_pools(&["master", "worker", "infra", "gpu"]);
    let master = node("n").role("master").role("infra").role("gpu");
    assert_eq!(
        membership(&OpenShift::chosen(), &master.clone().build(), &cluster),
        Membership::Conflict(["gpu".into(), "infra".into()].into())
    );
    let state = first_state(&master.build(), &cluster);
    assert_eq!(
        (state.phase, state.updating.reason),
        (Phase::Unknown, "PoolConflict")
    );
    assert_eq!(state.scope, Scope::ControlPlane);
}

#[test]
fn in_a_compact_cluster_every_node_is_in_master_and_runs_the_control_plane() {
    let cluster = with_pools(&["master", "worker"]);
    let compact = node("n")
        .role("master")
        .role("control-plane")
        .role("worker")
        .build();
    let state = first_state(&compact, &cluster);
    assert_eq!(state.pool_name().as_deref(), Some("master"));
    assert_eq!(state.scope, Scope::ControlPlane);
}

#[test]
fn one_custom_pool_wins_over_worker() {
    let cluster = with_pools(&["master", "worker", "infra"]);
    let infra = node("n").role("worker").role("infra").build();
    assert_eq!(pool_of(&infra, &cluster).as_deref(), Some("infra"));
    let plain = node("n").role("worker").build();
    assert_eq!(pool_of(&plain, &cluster).as_deref(), Some("worker"));
}

#[test]
fn a_custom_pool_needs_no_worker_pool_beside_it() {
    let cluster = with_pools(&["infra"]);
    let infra = node("n").role("worker").role("infra").build();
    assert_eq!(pool_of(&infra, &cluster).as_deref(), Some("infra"));
}

#[test]
fn two_custom_pools_are_a_conflict_that_names_both_in_order_and_the_node_is_unknown() {
    let cluster = with_pools(&["worker", "infra", "gpu"]);
    let both = node("n").role("worker").role("infra").role("gpu").build();
    assert_eq!(
        membership(&OpenShift::chosen(), &both, &cluster),
        Membership::Conflict(["gpu".into(), "infra".into()].into())
    );
    let state = first_state(&both, &cluster);
    assert_eq!((state.pool, state.phase), (None, Phase::Unknown));
    assert_eq!(state.updating.status, ConditionStatus::Unknown);
    assert_eq!(state.updating.reason, "PoolConflict");
    assert!(state.updating.message.ends_with("gpu, infra"));
}

#[test]
fn a_windows_node_is_in_no_pool_whatever_its_roles() {
    let cluster = with_pools(&["master", "worker", "infra"]);
    for role in ["master", "worker", "infra"] {
        let windows = node("n")
            .role(role)
            .label("kubernetes.io/os", "windows")
            .build();
        assert_eq!(
            membership(&OpenShift::chosen(), &windows, &cluster),
            Membership::None,
            "{role}"
        );
    }
    let linux = node("n")
        .role("worker")
        .label("kubernetes.io/os", "linux")
        .build();
    assert_eq!(pool_of(&linux, &cluster).as_deref(), Some("worker"));
}

#[test]
fn a_node_without_a_pool_is_unknown_and_the_condition_has_the_reason() {
    let state = first_state(&node("n").build(), &with_pools(&["master", "worker"]));
    assert_eq!((state.pool, state.phase), (None, Phase::Unknown));
    assert_eq!(state.updating.status, ConditionStatus::Unknown);
    assert_eq!(state.updating.reason, "NoPool");
}

#[test]
fn a_node_that_the_daemon_has_annotated_and_no_pool_selects_will_never_be_updated() {
    let cluster = with_pools(&["master", "worker"]);
    let message = |node: &NodeFacts| first_state(node, &cluster).updating.message;
    let lost = node("n").role("edge").current(NEW).desired(NEW).build();
    let found = message(&lost);
    assert!(found.ends_with("it will never be updated"), "{found}");
    assert_eq!(&*message(&node("n").build()), "The node belongs to no pool");
}

#[test]
fn a_nil_selector_and_an_empty_one_match_nothing_even_for_master() {
    let worker = node("n").role("master").role("worker").build();
    for empty in [None, selector(&[])] {
        let mut master = pool("master", NEW);
        master.selector.clone_from(&empty);
        let mut custom = pool("custom", NEW);
        custom.selector = empty;
        let cluster = openshift([master, custom, pool("worker", NEW)]);
        assert_eq!(pool_of(&worker, &cluster).as_deref(), Some("worker"));
    }
}

#[test]
fn a_pool_is_master_or_worker_by_its_name_and_not_by_what_it_selects() {
    let mut masters = pool("masters", NEW);
    masters.selector = selector(&[("node-role.kubernetes.io/master", "")]);
    let cluster = openshift([masters, pool("worker", NEW)]);
    let compact = node("n").role("master").role("worker").build();
    assert_eq!(pool_of(&compact, &cluster).as_deref(), Some("masters"));
}

const ROLES: [&str; 5] = ["master", "worker", "infra", "gpu", "storage"];

fn nodes(roles: &[Vec<&'static str>]) -> Vec<NodeFacts> {
    roles
        .iter()
        .enumerate()
        .map(|(index, roles)| {
            roles
                .iter()
                .fold(node(&format!("n{index}")), |node, role| node.role(role))
                .build()
        })
        .collect()
}

proptest! {
    #[test]
    fn membership_follows_the_precedence_for_every_set_of_pools_and_roles(
        pools in prop::sample::subsequence(ROLES.to_vec(), 0..=5),
        roles in prop::sample::subsequence(ROLES.to_vec(), 0..=5),
    ) {
        let common: Vec<&str> = pools.iter().copied().filter(|p| roles.contains(p)).collect();
        let custom: Vec<&str> = common.iter().copied()
            .filter(|p| !["master", "worker"].contains(p)).collect();
        let expected = if custom.len() > 1 {
            Err(())
        } else if common.contains(&"master") {
            Ok(Some("master"))
        } else {
            Ok(custom.first().copied().or(common.contains(&"worker").then_some("worker")))
        };
        let found = membership(&OpenShift::chosen(), &nodes(&[roles])[0], &with_pools(&pools));
        let found = match &found {
            Membership::Pool(pool) => Ok(Some(&*pool.name)),
            Membership::None => Ok(None),
            Membership::Conflict(_) => Err(()),
            Membership::Excluded => unreachable!("no pool of OpenShift excludes a node"),
        };
        prop_assert_eq!(found, expected);
    }
}
