//! One test for each rule of MicroShift.

use super::*;
use crate::api::types::UpdateKind;
use crate::domain::facts::{Availability, Facts};
use crate::domain::fixtures::at;
use crate::domain::labels::Labels;
use crate::domain::rows::Rows;
use crate::domain::state::{NodeState, REBOOTED};
use crate::providers::fixtures::{FactTable, evaluated};
use crate::providers::{Options, Platform, Providers};

const OLD: &str = "v1.32.6";
const NEW: &str = "v1.33.2";

/// The node of a cluster.
fn machine(version: &str, boot: &str) -> NodeObject {
    NodeObject {
        name: "edge".into(),
        uid: "uid".into(),
        labels: Labels::new([
            ("node-role.kubernetes.io/control-plane", ""),
            ("node-role.kubernetes.io/master", ""),
            ("node-role.kubernetes.io/worker", ""),
            ("node.kubernetes.io/instance-type", "rhde"),
            (OS_ID, "rhel"),
        ]),
        created: Some(at(-100_000)),
        kubelet_version: version.into(),
        boot_id: boot.into(),
        conditions: Rows::new([["Ready", "True", "", "", ""]]),
        ..NodeObject::default()
    }
}

fn cordoned(node: NodeObject) -> NodeObject {
    NodeObject {
        unschedulable: true,
        ..node
    }
}

fn annotated(node: NodeObject) -> NodeObject {
    let key = format!("{PREFIX}controlPlaneTopology");
    NodeObject {
        annotations: Labels::new([(&*key, "SingleReplica")]),
        ..node
    }
}

/// The cluster of a user who wants this version, if any.
struct Cluster(Providers, Facts);

impl Cluster {
    fn new(platform: Platform, api_server: &str, target: Option<&str>) -> Self {
        let providers = Providers::standard(&Options {
            platform,
            target_version: target.map(str::to_owned),
            ..Options::default()
        });
        let providers = providers.unwrap();
        let mut facts = FactTable::new(providers.kinds()).facts;
        for place in 0..providers.kinds().len() {
            facts.set_availability(place, Availability::NotServed);
        }
        facts.set_api_server_version(Some(api_server.into()));
        Self(providers, facts)
    }

    fn state_after(&self, node: NodeObject, past: Option<&NodeState>) -> NodeState {
        let Self(providers, facts) = self;
        evaluated(providers, facts, &providers.node_facts(node), past)
    }

    fn state_of(&self, node: NodeObject) -> NodeState {
        self.state_after(node, None)
    }
}

#[test]
fn a_labelled_control_plane_without_annotations_of_the_machine_config_operator_is_microshift() {
    for platform in [Platform::Any, Platform::Kubernetes] {
        let cluster = Cluster::new(platform, NEW, None);
        let provider = |node| cluster.state_of(node).provider.as_str().to_owned();
        assert_eq!(provider(machine(NEW, "one")), "MicroShift");
        assert_eq!(provider(annotated(machine(NEW, "one"))), "Kubernetes");
        let mut unlabelled = machine(NEW, "one");
        unlabelled.labels = Labels::new([("node-role.kubernetes.io/master", "")]);
        assert_eq!(provider(unlabelled), "Kubernetes");
        // A node that joins a hosted cluster has the label and nothing else yet.
        let mut worker = machine(NEW, "one");
        worker.labels = Labels::new([(OS_ID, "rhel")]);
        assert_eq!(provider(worker), "Kubernetes");
    }
}

#[test]
fn boot_and_version_change_together_and_the_node_is_updated() {
    let cluster = Cluster::new(Platform::Any, OLD, None);
    let before = cluster.state_of(machine(OLD, "one"));
    assert_eq!(before.phase, Phase::Completed);
    // The API server is the same process.
    let cluster = Cluster::new(Platform::Any, NEW, None);
    let after = cluster.state_after(machine(NEW, "two"), Some(&before));
    assert_eq!(
        (after.phase, after.updating.reason),
        (Phase::Completed, REBOOTED)
    );
    assert_eq!(after.version.as_deref(), Some(NEW));
}

#[test]
fn only_the_users_target_makes_a_node_outdated() {
    let cluster = Cluster::new(Platform::Any, OLD, Some(NEW));
    let state = cluster.state_of(machine(OLD, "one"));
    assert_eq!(
        (state.phase, state.kind),
        (Phase::Pending, Some(UpdateKind::Version))
    );
}

#[test]
fn a_cordon_is_neither_a_drain_nor_the_end_of_an_update() {
    let cluster = Cluster::new(Platform::Any, OLD, Some(NEW));
    let waiting = cluster.state_of(cordoned(machine(OLD, "one")));
    assert_eq!(waiting.phase, Phase::Pending);
    assert!(waiting.updating.message.contains("drains nothing"));
    assert!(waiting.cordoned_by.as_ref().unwrap().is_foreign);
    let done = cluster.state_after(cordoned(machine(NEW, "two")), Some(&waiting));
    assert_eq!((done.phase, done.kind), (Phase::Completed, None));
}
