//! Different builds of one version in a pool: which nodes are outdated.

use proptest::prelude::*;

use super::*;

/// A pool `blue` of EKS whose nodes run `kubelets`; each node is named by its index.
fn nodegroup(kubelets: &[&str]) -> Inventory {
    let inventory = Inventory::of(Kubernetes::new(
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

/// The desired version of each node, in the order of the list; `None` if it is not outdated.
fn desired_versions(kubelets: &[&str]) -> Vec<Option<String>> {
    let inventory = nodegroup(kubelets);
    (0..kubelets.len())
        .map(|index| {
            let state = inventory
                .evaluate(&index.to_string().into(), None, None, at(0))
                .unwrap();
            assert_eq!(state.is_outdated(), state.desired.is_some());
            state.desired.map(|desired| desired.version.to_string())
        })
        .collect()
}

#[test]
fn builds_without_an_order_do_not_outdate_each_other() {
    for kubelets in [
        &["v1.31.2-eks-16b398d", "v1.31.2-eks-a737599"][..],
        &["v1.31.2-eks-1234567", "v1.31.2-eks-7654321"],
        &["v1.27.4+18eadca", "v1.27.4+31a56cf75"],
        &["v1.31.2", "v1.31.2-dirty"],
        &["v1.18.4-vk-azure-aci-1.4.5", "v1.18.4-vk-azure-aci-1.4.6"],
        &["v1.29.4+rke2r1", "v1.29.4+k3s9"],
    ] {
        assert_eq!(desired_versions(kubelets), vec![None; 2], "{kubelets:?}");
    }
}

#[test]
fn a_kubelet_without_a_suffix_is_not_outdated_and_hides_no_newer_build() {
    let newest = || Some("v1.29.4+rke2r10".to_owned());
    // Windows kubelets report no suffix.
    for kubelets in [
        ["v1.29.4", "v1.29.4+rke2r2", "v1.29.4+rke2r10"],
        ["v1.29.4-zzz", "v1.29.4+rke2r2", "v1.29.4+rke2r10"],
        ["v1.29.4+vmware.99", "v1.29.4+rke2r2", "v1.29.4+rke2r10"],
    ] {
        assert_eq!(
            desired_versions(&kubelets),
            [None, newest(), None],
            "{kubelets:?}"
        );
    }
    assert_eq!(
        desired_versions(&["v1.29.3", "v1.29.4", "v1.29.4-zzz"])[1..],
        [None, None]
    );
}

#[test]
fn a_new_build_of_the_newest_version_affects_only_nodes_with_an_older_build() {
    let inventory = nodegroup(&["v1.29.4+k3s1", "v1.29.4", "v1.29.4-zzz", "v1.29.3"]);
    let affected = inventory.apply_node(member_of_blue(4, "v1.29.4-aaa").build());
    assert_eq!(nodes(&affected), ["4"]);
    let affected = inventory.apply_node(member_of_blue(5, "v1.29.4+k3s2").build());
    assert!(nodes(&affected).contains(&"0"));
}

proptest! {
    #[test]
    fn nodes_of_one_version_whose_builds_are_hashes_are_not_outdated(
        hashes in prop::collection::vec("(-eks-|\\+|-gke-|-)[0-9a-f]{7,9}", 1..8),
    ) {
        let kubelets: Vec<String> = hashes.iter().map(|hash| format!("v1.31.2{hash}")).collect();
        let kubelets: Vec<&str> = kubelets.iter().map(String::as_str).collect();
        prop_assert_eq!(desired_versions(&kubelets), vec![None; kubelets.len()]);
    }
}
