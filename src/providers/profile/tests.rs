//! What the profiles have in common: pools, and the nodes of a generation.

use super::fixtures::{Cluster, Node};
use super::*;
use crate::domain::facts::Facts;
use crate::domain::fixtures::at;
use crate::domain::pool_name::LabelKey;
use crate::providers::{Options, gke};

fn pool(options: &Options, node: &Node) -> String {
    let mut cluster = Cluster::with("v1.31.2", options);
    let states = cluster.see(0, std::slice::from_ref(node));
    let name = states.of("a").pool_name().unwrap();
    name.to_string()
}

#[test]
fn the_label_of_the_provider_names_the_pool_of_a_node_without_a_label_of_the_user() {
    let node = Node::new("a", "v1.31.2")
        .label("eks.amazonaws.com/nodegroup", "blue")
        .label("example.com/team", "red");
    let with = |keys: &[&str]| Options {
        pool_label_keys: keys.iter().map(ToString::to_string).collect(),
        ..Options::default()
    };
    assert_eq!(pool(&with(&[]), &node), "blue.nodegroup");
    assert_eq!(pool(&with(&["example.com/team"]), &node), "red.team");
    assert_eq!(pool(&with(&["example.com/none"]), &node), "blue.nodegroup");
    // Where two labels have the same name, names of pools differ by their prefixes.
    let name = pool(&with(&["example.com/nodegroup"]), &node);
    assert_eq!(name, "blue.nodegroup.eks.amazonaws.com");
    let empty = Node::new("a", "v1.31.2").label("eks.amazonaws.com/nodegroup", "");
    assert_eq!(pool(&with(&[]), &empty), "worker");
    // A label of a provider means nothing to another one.
    let plain = Node::new("a", "v1.31.2").label("example.com/team", "red");
    assert_eq!(pool(&with(&[]), &plain), "worker");
}

#[test]
fn every_label_of_a_profile_is_a_well_known_pool_label() {
    let settings = Settings::new(&Options::default());
    for profile in [
        &crate::providers::aks::AKS,
        &crate::providers::eks::EKS,
        &crate::providers::eks::EKSCTL,
        &gke::GKE,
        &crate::providers::gardener::GARDENER,
        &crate::providers::kops::KOPS,
    ] {
        let Mark::Label(key, shown) = profile.mark else {
            panic!("{} has a label", profile.name);
        };
        assert_eq!(shown, format!("label {key}"));
        let node = Node::new("a", "v1.31.2").label(key, "blue").object();
        let facts = Facts::new(&[]);
        let pool = settings.pool_of_provider(&node.labels, key, &facts.view());
        let own = LabelKey::all(&[key.to_owned()]);
        assert_eq!(pool.reference.resource, own[0].resource());
    }
}

#[test]
fn a_node_is_counted_in_its_generation_and_among_the_cordoned_ones_by_its_provider_alone() {
    let node = Node::new("a", "v1.31.2").label("cloud.google.com/gke-nodepool", "blue");
    let settings = Settings::new(&Options::default());
    let keys = |profile: &'static Profile, node: &Node| {
        let provider = Profiled::new(profile, &settings);
        let facts = NodeFacts::new(node.object(), Vec::new());
        let mut keys = Keys::default();
        provider.node_keys(&facts, &mut keys);
        format!("{keys:?}").matches("generation").count()
    };
    assert_eq!(keys(&gke::GKE, &node), 1);
    assert_eq!(keys(&gke::GKE, &node.clone().cordoned(0)), 2);
    assert_eq!(keys(&crate::providers::aks::AKS, &node), 0);
    assert_eq!(keys(&crate::providers::eks::EKS, &node), 0);
    assert_eq!(keys(&gke::GKE, &Node::new("a", "v1.31.2")), 0);
}

#[test]
fn an_explanation_is_added_only_while_no_step_is_in_progress() {
    let said = |phase: Phase, message: &'static str| {
        let step = Step::new(phase, None, "Reason", message).again_at(Some(at(0)));
        let step = explained(step, "A host is maintained");
        assert_eq!(step.again_at, Some(at(0)));
        step.message.into_owned()
    };
    let no_update = "A host is maintained; this is no update";
    assert_eq!(said(Phase::Completed, ""), no_update);
    assert_eq!(
        said(Phase::Completed, "It is deleted"),
        "It is deleted. A host is maintained"
    );
    assert_eq!(
        said(Phase::Pending, "It waits"),
        "It waits. A host is maintained"
    );
    for phase in [
        Phase::Draining,
        Phase::Updating,
        Phase::Rebooting,
        Phase::Unknown,
    ] {
        assert_eq!(said(phase, "It goes on"), "It goes on");
    }
}
