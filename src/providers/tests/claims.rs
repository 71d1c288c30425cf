//! Which provider a node belongs to that shows several: the ones that occur together, and all others.

use super::*;
use crate::domain::facts::{Availability, Facts};
use crate::providers::fixtures::evaluated;
use crate::providers::openshift::kinds::{ClusterVersion, MachineConfigPool};
use crate::providers::profile::fixtures::Node;

/// Evidence of one provider: its name, what a conflict shows, and how the node is marked.
type Mark = (&'static str, &'static str, fn(Node) -> Node);

const KARPENTER: Mark = ("Karpenter", "label karpenter.sh/nodepool", |node| {
    node.label("karpenter.sh/nodepool", "default")
});
const FARGATE: Mark = (
    "Serverless",
    "label eks.amazonaws.com/compute-type=fargate",
    |node| node.label("eks.amazonaws.com/compute-type", "fargate"),
);
const VIRTUAL: Mark = ("Serverless", "label type=virtual-kubelet", |node| {
    node.label("type", "virtual-kubelet")
});
const EKS: Mark = ("EKS", "label eks.amazonaws.com/nodegroup", |node| {
    node.label("eks.amazonaws.com/nodegroup", "blue")
});
const AKS: Mark = ("AKS", "label kubernetes.azure.com/agentpool", |node| {
    node.label("kubernetes.azure.com/agentpool", "nodepool1")
});
const GKE: Mark = ("GKE", "label cloud.google.com/gke-nodepool", |node| {
    node.label("cloud.google.com/gke-nodepool", "default-pool")
});
const MACHINE: Mark = (
    "ClusterAPI",
    "annotation cluster.x-k8s.io/machine",
    |node| {
        node.annotation("cluster.x-k8s.io/machine", "md-0-x7k2p")
            .annotation("cluster.x-k8s.io/owner-kind", "MachineSet")
            .annotation("cluster.x-k8s.io/owner-name", "md-0-7c9f")
    },
);
const MACHINE_POOL: Mark = (
    "ClusterAPI",
    "annotation cluster.x-k8s.io/owner-kind=MachinePool",
    |node| {
        node.annotation("cluster.x-k8s.io/owner-kind", "MachinePool")
            .annotation("cluster.x-k8s.io/owner-name", "mp-0")
    },
);
const GARDENER: Mark = ("Gardener", "label worker.gardener.cloud/pool", |node| {
    node.label("worker.gardener.cloud/pool", "worker-1")
});
const KOPS: Mark = ("kOps", "label kops.k8s.io/instancegroup", |node| {
    node.label("kops.k8s.io/instancegroup", "nodes")
});
const EKSCTL: Mark = ("eksctl", "label alpha.eksctl.io/nodegroup-name", |node| {
    node.label("alpha.eksctl.io/nodegroup-name", "ng-1")
});

/// In order of precedence.
const ALL: [Mark; 11] = [
    KARPENTER,
    FARGATE,
    VIRTUAL,
    EKS,
    AKS,
    GKE,
    MACHINE,
    MACHINE_POOL,
    GARDENER,
    KOPS,
    EKSCTL,
];

/// Pairs that occur together; the first one owns the node.
const TOGETHER: [(Mark, Mark); 9] = [
    (KARPENTER, AKS),
    (KARPENTER, GKE),
    (KARPENTER, MACHINE),
    (KARPENTER, MACHINE_POOL),
    (KARPENTER, KOPS),
    (EKS, MACHINE_POOL),
    (EKS, EKSCTL),
    (AKS, MACHINE_POOL),
    (GKE, MACHINE_POOL),
];

/// Provider, reason and message of a node in a cluster without the kinds of any provider.
fn claimed(node: &Node) -> (String, &'static str, String) {
    let providers = Providers::standard(&Options::default()).unwrap();
    claimed_in(&providers, &Facts::new(providers.kinds()), node)
}

fn claimed_in(providers: &Providers, facts: &Facts, node: &Node) -> (String, &'static str, String) {
    let node = providers.node_facts(node.object());
    let state = evaluated(providers, facts, &node, None);
    let message = state.updating.message.to_string();
    (state.provider.to_string(), state.updating.reason, message)
}

fn node_with(marks: &[Mark]) -> Node {
    let node = Node::new("n", "v1.31.2");
    marks.iter().fold(node, |node, (.., mark)| mark(node))
}

#[test]
fn a_node_with_one_mark_belongs_to_its_provider() {
    for mark in ALL {
        let (provider, ..) = claimed(&node_with(&[mark]));
        assert_eq!(provider, mark.0);
    }
    assert_eq!(claimed(&node_with(&[])).0, "Kubernetes");
}

#[test]
fn two_marks_that_occur_together_have_one_owner_and_all_others_are_unknown_and_named() {
    for (place, first) in ALL.iter().enumerate() {
        for second in &ALL[place + 1..] {
            if first.0 == second.0 {
                continue;
            }
            let node = node_with(&[*first, *second]);
            let (provider, reason, message) = claimed(&node);
            let is_pair = |(a, b): &(Mark, Mark)| a.1 == first.1 && b.1 == second.1;
            if TOGETHER.iter().any(is_pair) {
                assert_eq!(provider, first.0, "{message}");
                assert_ne!(reason, "ProviderConflict", "{message}");
            } else {
                assert_eq!(reason, "ProviderConflict", "{} {}", first.1, second.1);
                for (name, shown, _) in [first, second] {
                    assert!(message.contains(&format!("{name} ({shown})")), "{message}");
                }
            }
        }
    }
}

#[test]
fn a_third_mark_that_does_not_belong_is_named_with_the_owner_alone() {
    let (_, reason, message) = claimed(&node_with(&[EKS, MACHINE_POOL, GARDENER]));
    assert_eq!(reason, "ProviderConflict");
    assert!(
        message.contains("EKS") && message.contains("Gardener"),
        "{message}"
    );
    assert!(!message.contains("ClusterAPI"), "{message}");
}

#[test]
fn the_marks_of_a_distribution_never_conflict() {
    let distributions: [fn(Node) -> Node; 3] = [
        |node| node.annotation("k3s.io/node-args", "[]"),
        |node| node.annotation("rke2.io/node-args", "[]"),
        |node| node.os_image("Talos (v1.9.0)"),
    ];
    for mark in ALL {
        for distribution in distributions {
            let (provider, ..) = claimed(&distribution(node_with(&[mark])));
            assert_eq!(provider, mark.0);
        }
    }
}

#[test]
fn a_node_of_the_machine_config_operator_is_not_one_of_another_updater() {
    let providers = Providers::standard(&Options::default()).unwrap();
    let mut facts = Facts::new(providers.kinds());
    for (place, kind) in providers.kinds().iter().enumerate() {
        let is_needed = kind.is_same_type(&Kind::of::<MachineConfigPool>())
            || kind.is_same_type(&Kind::of::<ClusterVersion>());
        if is_needed {
            facts.set_availability(place, Availability::Ready);
        }
    }
    let annotated = |node: Node| {
        node.annotation(
            "machineconfiguration.openshift.io/currentConfig",
            "rendered-worker-1",
        )
    };
    for mark in ALL {
        let node = annotated(node_with(&[mark]));
        let (_, reason, message) = claimed_in(&providers, &facts, &node);
        assert_eq!(reason, "ProviderConflict", "{}", mark.1);
        assert!(message.contains("OpenShift") && message.contains(mark.1));
        // Without the kinds of OpenShift, its annotations mean nothing.
        assert_eq!(claimed(&node).0, mark.0);
    }
}
