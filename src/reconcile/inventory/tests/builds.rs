//! Different builds of one version in a pool: which nodes are outdated.

use std::cmp::Ordering;

use proptest::prelude::*;

use super::*;
use crate::domain::version;

/// A pool `blue` of EKS whose nodes run `kubelets`; each node is named by its index.
fn nodegroup(kubelets: &[&str]) -> Inventory {
    let inventory = Inventory::of(plain_kubernetes(
        &["eks.amazonaws.com/nodegroup".to_owned()],
        None,
    ));
    for (index, kubelet) in kubelets.iter().enumerate() {
        inventory.apply_node(member_of_blue(index, kubelet).build());
    }
    inventory.evaluate_all();
    inventory
}

fn member_of_blue(index: usize, kubelet: &str) -> NodeBuilder {
    node(&index.to_string())
        .label("eks.amazonaws.com/nodegroup", "blue")
        .kubelet(kubelet)
}

/// The desired version of each node, in the order of the list; `None` if it is not outdated. The last node is the
/// youngest one.
fn desired_versions(kubelets: &[&str]) -> Vec<Option<String>> {
    let inventory = nodegroup(kubelets);
    (0..kubelets.len())
        .map(|index| {
            let state = inventory
                .evaluate(&index.to_string().into(), None, None, at(0))
                .unwrap();
            let desired = state.desired.clone().filter(|_| state.is_outdated());
            desired.map(|desired| desired.version.to_string())
        })
        .collect()
}

#[test]
fn builds_without_an_order_are_another_generation_than_that_of_the_youngest_node() {
    for kubelets in [
        ["v1.31.2-eks-16b398d", "v1.31.2-eks-a737599"],
        ["v1.31.2-eks-a737599", "v1.31.2-eks-16b398d"],
        ["v1.27.4+18eadca", "v1.27.4+31a56cf75"],
        ["v1.18.4-vk-azure-aci-1.4.5", "v1.18.4-vk-azure-aci-1.4.6"],
        ["v1.29.4+rke2r1", "v1.29.4+k3s9"],
    ] {
        let youngest = Some(kubelets[1].to_owned());
        assert_eq!(
            desired_versions(&kubelets),
            [youngest, None],
            "{kubelets:?}"
        );
    }
    let missing = ["v1.31.2", "v1.31.2-dirty"];
    assert_eq!(desired_versions(&missing), [None, None]);
}

#[test]
fn a_kubelet_without_a_suffix_is_not_outdated_and_hides_no_newer_build() {
    let newest = || Some("v1.29.4+rke2r10".to_owned());
    // Windows kubelets report no suffix.
    let windows = ["v1.29.4", "v1.29.4+rke2r2", "v1.29.4+rke2r10"];
    assert_eq!(desired_versions(&windows), [None, newest(), None]);
    for kubelets in [
        ["v1.29.4-zzz", "v1.29.4+rke2r2", "v1.29.4+rke2r10"],
        ["v1.29.4+vmware.99", "v1.29.4+rke2r2", "v1.29.4+rke2r10"],
    ] {
        assert_eq!(
            desired_versions(&kubelets),
            [newest(), newest(), None],
            "{kubelets:?}"
        );
    }
    assert_eq!(
        desired_versions(&["v1.29.3", "v1.29.4", "v1.29.4-zzz"])[1..],
        [None, None]
    );
}

#[test]
fn a_younger_node_affects_its_pool_only_if_it_shows_another_build() {
    let inventory = nodegroup(&["v1.29.4+k3s1", "v1.29.4", "v1.29.3", "v1.29.4-zzz"]);
    let affected = inventory.apply_node(member_of_blue(4, "v1.29.4-zzz").build());
    assert_eq!(nodes(&affected), ["4"]);
    inventory.evaluate_all();
    let affected = inventory.apply_node(member_of_blue(5, "v1.29.4+k3s2").build());
    assert_eq!(nodes(&affected), ["0", "1", "2", "3", "4", "5"]);
}

proptest! {
    #[test]
    fn nodes_of_one_version_have_the_build_of_the_youngest_node_or_are_outdated(
        hashes in prop::collection::vec("(-eks-|\\+|-gke-|-)[0-9a-f]{7,9}", 1..8),
    ) {
        let kubelets: Vec<String> = hashes.iter().map(|hash| format!("v1.31.2{hash}")).collect();
        let kubelets: Vec<&str> = kubelets.iter().map(String::as_str).collect();
        let youngest = *kubelets.last().unwrap();
        let expected = kubelets.iter().map(|kubelet| {
            let is_same = version::compare(kubelet, youngest) == Some(Ordering::Equal);
            (!is_same).then(|| youngest.to_owned())
        });
        prop_assert_eq!(desired_versions(&kubelets), expected.collect::<Vec<_>>());
    }
}
