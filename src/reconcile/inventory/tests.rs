//! Which nodes and pools a change affects.

use super::*;
use crate::api::types::{DesiredVersionSource, Phase};
use crate::domain::fact::Kind;
use crate::domain::fixtures::{NodeBuilder, at, node};
use crate::providers::Options;
use crate::providers::fixtures::plain_kubernetes;
use crate::providers::fixtures::{NEW, NEW_VERSION, OLD, OLD_VERSION, paused, pool, selector};
use crate::providers::kubeadm::KubeadmConfig;
use crate::providers::openshift::OpenShift;
use crate::providers::openshift::evidence::DaemonState;

mod archetypes;
mod builds;
mod model;
mod order;

/// Names of nodes, sorted.
fn nodes(affected: &Affected) -> Vec<&str> {
    let mut names: Vec<&str> = affected.nodes.iter().map(|name| &**name).collect();
    names.sort_unstable();
    names
}

fn pools(affected: &Affected) -> Vec<&str> {
    let mut names: Vec<&str> = affected.pools.iter().map(|name| &**name).collect();
    names.sort_unstable();
    names
}

fn member(name: &str, role: &str) -> NodeBuilder {
    node(name).role(role).current(OLD).desired(OLD)
}

/// Workers `w0` and `w1`, `i0` of pool `infra`, master `m0`, and `x` of no pool.
fn openshift() -> Inventory {
    let inventory = Inventory::of(OpenShift::chosen());
    for name in ["master", "worker", "infra"] {
        inventory.apply_pool(pool(name, NEW));
    }
    inventory.set_release_version(OLD, Some(OLD_VERSION));
    inventory.set_release_version(NEW, Some(NEW_VERSION));
    inventory.set_cluster_version(Some(NEW_VERSION));
    for (name, role) in [
        ("w0", "worker"),
        ("w1", "worker"),
        ("i0", "infra"),
        ("m0", "master"),
        ("x", "none"),
    ] {
        inventory.apply_node(member(name, role).build());
    }
    inventory.evaluate_all();
    inventory
}

fn phase(inventory: &Inventory, name: &str) -> Phase {
    inventory
        .evaluate(&name.into(), None, None, at(0))
        .unwrap()
        .phase
}

#[test]
fn a_change_of_a_node_affects_that_node_alone() {
    let inventory = openshift();
    let affected =
        inventory.apply_node(member("w0", "worker").daemon(DaemonState::Working).build());
    assert_eq!((nodes(&affected), pools(&affected)), (vec!["w0"], vec![]));
    let affected = inventory.apply_node(member("new", "worker").build());
    assert_eq!((nodes(&affected), pools(&affected)), (vec!["new"], vec![]));
}

#[test]
fn an_unchanged_node_affects_nothing() {
    let inventory = openshift();
    assert!(
        inventory
            .apply_node(member("w0", "worker").build())
            .is_empty()
    );
}

#[test]
fn a_recreated_node_of_the_same_name_is_evaluated_again() {
    let inventory = openshift();
    let mut recreated = member("w0", "worker").build();
    recreated.uid = "another".into();
    assert_eq!(nodes(&inventory.apply_node(recreated)), ["w0"]);
    let (uid, _) = inventory.identity(&"w0".into()).unwrap();
    assert_eq!(&*uid, "another");
}

#[test]
fn a_deleted_node_is_affected_once_and_is_gone() {
    let inventory = openshift();
    assert_eq!(nodes(&inventory.remove_node(&"w0".into())), ["w0"]);
    assert!(
        inventory
            .evaluate(&"w0".into(), None, None, at(0))
            .is_none()
    );
    assert!(inventory.remove_node(&"w0".into()).is_empty());
}

#[test]
fn pausing_a_pool_affects_its_nodes_and_itself_and_no_other() {
    let inventory = openshift();
    let affected = inventory.apply_pool(paused(pool("worker", NEW)));
    assert_eq!(
        (nodes(&affected), pools(&affected)),
        (vec!["w0", "w1"], vec!["worker"])
    );
    assert_eq!(phase(&inventory, "w0"), Phase::Paused);
    assert_eq!(phase(&inventory, "i0"), Phase::Pending);
}

#[test]
fn a_new_configuration_of_a_pool_affects_its_nodes() {
    let inventory = openshift();
    let affected = inventory.apply_pool(pool("infra", "rendered-infra"));
    assert_eq!(
        (nodes(&affected), pools(&affected)),
        (vec!["i0"], vec!["infra"])
    );
}

#[test]
fn a_new_selector_of_a_pool_affects_exactly_the_nodes_that_move() {
    let inventory = openshift();
    inventory.apply_node(member("w1", "worker").label("disk", "ssd").build());
    inventory.evaluate_all();
    let mut infra = pool("infra", NEW);
    infra.selector = selector(&[("disk", "ssd")]);
    let affected = inventory.apply_pool(infra);
    assert_eq!(
        (nodes(&affected), pools(&affected)),
        (vec!["i0", "w1"], vec!["infra"])
    );
    let pool_of = |name: &str| {
        inventory
            .evaluate(&name.into(), None, None, at(0))
            .unwrap()
            .pool_name()
    };
    assert_eq!(pool_of("w1").as_deref(), Some("infra"));
    assert_eq!(pool_of("i0"), None);
}

#[test]
fn an_unchanged_pool_affects_nothing() {
    let inventory = openshift();
    assert!(inventory.apply_pool(pool("worker", NEW)).is_empty());
}

#[test]
fn a_recreated_pool_affects_itself_and_the_nodes_that_read_it() {
    let inventory = openshift();
    let mut recreated = pool("worker", NEW);
    recreated.uid = "another".into();
    let affected = inventory.apply_pool(recreated);
    assert_eq!(
        (nodes(&affected), pools(&affected)),
        (vec!["w0", "w1"], vec!["worker"])
    );
}

#[test]
fn a_new_pool_affects_the_nodes_that_join_it_and_a_deleted_pool_its_nodes() {
    let inventory = openshift();
    inventory.apply_node(member("w1", "worker").role("gpu").build());
    inventory.evaluate_all();
    assert_eq!(nodes(&inventory.apply_pool(pool("gpu", NEW))), ["w1"]);
    let affected = inventory.remove_pool("gpu");
    assert_eq!(
        (nodes(&affected), pools(&affected)),
        (vec!["w1"], vec!["gpu"])
    );
    assert!(inventory.remove_pool("gpu").is_empty());
}

#[test]
fn a_pool_that_claims_a_node_of_another_pool_affects_that_node() {
    let inventory = openshift();
    let mut rival = pool("rival", NEW);
    rival.selector = selector(&[("node-role.kubernetes.io/infra", "")]);
    assert_eq!(nodes(&inventory.apply_pool(rival)), ["i0"]);
    assert_eq!(phase(&inventory, "i0"), Phase::Unknown);
    assert_eq!(nodes(&inventory.remove_pool("rival")), ["i0"]);
    assert_eq!(phase(&inventory, "i0"), Phase::Pending);
}

#[test]
fn the_release_version_of_a_config_affects_the_nodes_and_pools_that_run_or_desire_it() {
    let inventory = openshift();
    inventory.apply_node(member("w1", "worker").current(NEW).build());
    inventory.evaluate_all();
    let affected = inventory.set_release_version(NEW, Some("4.16.0"));
    assert_eq!(nodes(&affected), ["w1"]);
    assert_eq!(pools(&affected), ["infra", "master", "worker"]);
    let affected = inventory.set_release_version(OLD, None);
    // w1 is to return to it.
    assert_eq!(nodes(&affected), ["i0", "m0", "w0", "w1"]);
    assert_eq!(pools(&affected), Vec::<&str>::new());
}

#[test]
fn an_unchanged_or_unused_release_version_affects_nothing() {
    let inventory = openshift();
    assert!(
        inventory
            .set_release_version(NEW, Some(NEW_VERSION))
            .is_empty()
    );
    assert!(inventory.set_release_version("unheard-of", None).is_empty());
    let affected = inventory.set_release_version("unused", Some(NEW_VERSION));
    assert!(affected.is_empty());
}

#[test]
fn a_new_target_version_affects_all_pools_and_their_nodes_and_an_unchanged_one_nothing() {
    let inventory = openshift();
    let affected = inventory.set_cluster_version(Some("4.16.0"));
    assert_eq!(nodes(&affected), ["i0", "m0", "w0", "w1"]);
    assert_eq!(pools(&affected), ["infra", "master", "worker"]);
    assert!(inventory.set_cluster_version(Some("4.16.0")).is_empty());
}

fn kubernetes() -> Inventory {
    let inventory = Inventory::of(plain_kubernetes(&["example.com/pool".into()], None));
    for (name, pool) in [("a0", "a"), ("a1", "a"), ("b0", "b")] {
        inventory.apply_node(plain(name, pool, "v1.31.2").build());
    }
    inventory.evaluate_all();
    inventory
}

fn plain(name: &str, pool: &str, version: &str) -> NodeBuilder {
    node(name).label("example.com/pool", pool).kubelet(version)
}

#[test]
fn a_pool_has_the_provider_that_its_nodes_show_now() {
    let providers = Providers::standard(&Options::default()).unwrap();
    let inventory = Inventory::new(providers);
    inventory.open();
    for (place, kind) in inventory.providers().kinds().iter().enumerate() {
        let is_read = kind.is_same_type(&Kind::of::<KubeadmConfig>());
        let availability = if is_read {
            Availability::Ready
        } else {
            Availability::NotServed
        };
        inventory.set_availability(place, availability);
    }
    inventory.apply_node(node("n").role("worker").kubelet("v1.32.0").build());
    let provider = || match inventory.describe(&"worker".into(), at(0)) {
        Found::Here(pool) => pool.provider.to_string(),
        Found::Gone | Found::Unknown => String::new(),
    };
    assert_eq!(provider(), "Kubernetes");
    let config = KubeadmConfig { version: None };
    let affected = inventory.apply_fact("kube-system/kubeadm-config", Some(config));
    assert_eq!(pools(&affected), ["worker"]);
    assert_eq!(provider(), "kubeadm");
    let affected = inventory.apply_fact("kube-system/kubeadm-config", None::<KubeadmConfig>);
    assert_eq!(pools(&affected), ["worker"]);
    assert_eq!(provider(), "Kubernetes");
}

#[test]
fn a_newer_version_in_a_pool_affects_the_other_nodes_of_that_pool() {
    let inventory = kubernetes();
    let affected = inventory.apply_node(plain("a2", "a", "v1.32.0").build());
    assert_eq!(nodes(&affected), ["a0", "a1", "a2"]);
    let state = inventory.evaluate(&"a0".into(), None, None, at(0)).unwrap();
    assert_eq!(state.phase, Phase::Pending);
    let desired = state.desired.unwrap();
    assert_eq!(&*desired.version, "v1.32.0");
    assert_eq!(desired.source, DesiredVersionSource::NewestInPool);
    // A second node of that version affects no other node.
    let affected = inventory.apply_node(plain("a1", "a", "v1.32.0").build());
    assert_eq!(nodes(&affected), ["a1"]);
}

#[test]
fn the_newest_node_affects_its_pool_when_it_moves_or_is_deleted() {
    let inventory = kubernetes();
    inventory.apply_node(plain("a2", "a", "v1.32.0").build());
    inventory.evaluate_all();
    assert_eq!(
        nodes(&inventory.apply_node(plain("a2", "b", "v1.32.0").build())),
        ["a0", "a1", "a2", "b0"]
    );
    assert_eq!(nodes(&inventory.remove_node(&"a2".into())), ["a2", "b0"]);
    assert_eq!(phase(&inventory, "b0"), Phase::Completed);
}

#[test]
fn the_newest_version_does_not_depend_on_which_of_two_equal_versions_came_first() {
    let newest = |order: [(&str, &str); 2]| {
        let inventory = kubernetes();
        for (name, version) in order {
            inventory.apply_node(plain(name, "a", version).build());
        }
        let desired = inventory
            .evaluate(&"a0".into(), None, None, at(0))
            .unwrap()
            .desired;
        desired.unwrap().version
    };
    let (first, second) = (("a1", "v1.32.0+rke2r1"), ("a2", "v1.32.0-rke2r1"));
    assert_eq!(newest([first, second]), newest([second, first]));
}

#[test]
fn a_new_version_of_the_api_server_affects_every_node_and_an_unchanged_one_none() {
    let inventory = kubernetes();
    let affected = inventory.set_api_server_version(Some("v1.33.0".into()));
    assert_eq!(nodes(&affected), ["a0", "a1", "b0"]);
    assert_eq!(phase(&inventory, "b0"), Phase::Pending);
    assert!(
        inventory
            .set_api_server_version(Some("v1.33.0".into()))
            .is_empty()
    );
}

#[test]
fn an_object_that_was_seen_before_affects_nothing_until_another_was() {
    let inventory = Inventory::new(crate::providers::fixtures::only(plain_kubernetes(
        &[],
        Some("v1.36.3"),
    )));
    inventory.open();
    let object = |kubelet: &str| NodeObject {
        name: "a".into(),
        uid: "uid".into(),
        kubelet_version: kubelet.into(),
        ..NodeObject::default()
    };
    let affects = |kubelet: &str| !inventory.apply_node_object(object(kubelet)).is_empty();
    assert!(affects("v1.36.3"));
    assert!(!affects("v1.36.3"));
    assert!(affects("v1.35.0"));
    assert!(affects("v1.36.3"));
    inventory.remove_node(&"a".into());
    assert!(affects("v1.36.3"));
}
