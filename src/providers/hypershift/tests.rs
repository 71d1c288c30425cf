//! One test for each rule of HyperShift.

use std::collections::BTreeMap;

use super::*;
use crate::api::types::{ConditionStatus, CordonerKind, DesiredVersionSource};
use crate::domain::facts::{Availability, Facts};
use crate::domain::fixtures::{at, member};
use crate::domain::rows::Rows;
use crate::domain::state::{History, NodeState};
use crate::providers::fixtures::FactTable;
use crate::providers::openshift::evidence::PREFIX;
use crate::providers::{Assignment, Options, Platform, Providers};

mod in_place;
mod replace;

const OLD: &str = "v1.32.6";
const NEW: &str = "v1.33.2";
/// The pool of the nodes, as its insight is named.
const POOL: &str = "workers.nodepools";

/// A node of NodePool `workers`, as a hosted cluster has it.
#[derive(Clone)]
struct Hosted {
    annotations: BTreeMap<String, String>,
    taints: Vec<[&'static str; 4]>,
    ready: (&'static str, i64),
    object: NodeObject,
}

impl Hosted {
    fn new(kubelet: &str) -> Self {
        let annotations = [
            ("cluster.x-k8s.io/cluster-name", "guest"),
            ("cluster.x-k8s.io/machine", "workers-x7k2p"),
            ("cluster.x-k8s.io/owner-kind", "MachineSet"),
            ("cluster.x-k8s.io/owner-name", "workers"),
            ("hypershift.openshift.io/labelsSynced", "true"),
        ];
        let annotations = annotations.map(|(key, value)| (key.to_owned(), value.to_owned()));
        Self {
            annotations: annotations.into(),
            taints: Vec::new(),
            ready: ("True", -1000),
            object: NodeObject {
                name: "worker-0".into(),
                uid: "uid".into(),
                labels: Labels::new([
                    (NODE_POOL_LABEL, "workers"),
                    ("node-role.kubernetes.io/worker", ""),
                    ("node.openshift.io/os_id", "rhel"),
                ]),
                created: Some(at(-100_000)),
                kubelet_version: kubelet.into(),
                boot_id: "one".into(),
                ..NodeObject::default()
            },
        }
    }

    /// Annotations of the Machine Config Daemon.
    fn daemon(mut self, annotations: &[(&str, &str)]) -> Self {
        for (key, value) in annotations {
            let key = format!("{PREFIX}{key}");
            self.annotations.insert(key, (*value).to_owned());
        }
        self
    }

    /// Current and desired config, and state.
    fn configs(self, current: &str, desired: &str, state: &str) -> Self {
        self.daemon(&[
            ("currentConfig", current),
            ("desiredConfig", desired),
            ("state", state),
        ])
    }

    fn outdated(mut self) -> Self {
        let key = "node.cluster.x-k8s.io/outdated-revision";
        self.taints.push([key, "", "PreferNoSchedule", ""]);
        self
    }

    fn cordoned(mut self) -> Self {
        self.object.unschedulable = true;
        self
    }

    fn not_ready(mut self, since: i64) -> Self {
        self.ready = ("Unknown", since);
        self
    }

    fn with(mut self, change: impl FnOnce(&mut NodeObject)) -> Self {
        change(&mut self.object);
        self
    }

    fn object(self) -> NodeObject {
        let annotations = self.annotations.iter();
        let annotations: Vec<_> = annotations.map(|(key, value)| (&**key, &**value)).collect();
        let (ready, since) = self.ready;
        let since = at(since).to_string();
        NodeObject {
            annotations: Labels::new(annotations),
            taints: Rows::new(self.taints),
            conditions: Rows::new([["Ready", ready, "", since.as_str(), ""]]),
            ..self.object
        }
    }
}

/// A hosted cluster, whose API server may be ahead of its nodes.
struct Guest {
    providers: Providers,
    facts: Facts,
}

impl Guest {
    fn new(api_server: &str) -> Self {
        Self::with(api_server, &Options::default())
    }

    fn with(api_server: &str, options: &Options) -> Self {
        let providers = Providers::standard(options).unwrap();
        let mut facts = FactTable::new(providers.kinds()).facts;
        for (place, kind) in providers.kinds().iter().enumerate() {
            // As where the API server is one of OpenShift without MachineConfigPools.
            if kind.spec.plural != "clusterversions" {
                facts.set_availability(place, Availability::NotServed);
            }
        }
        facts.set_api_server_version(Some(api_server.into()));
        Self { providers, facts }
    }

    /// The youngest node of the pool.
    fn youngest(mut self, version: &str) -> Self {
        // The nodes of these tests have no label of their system.
        let youngest = member(version, ("", ""));
        self.facts
            .change_member(&POOL.into(), None, Some(&youngest));
        self
    }

    /// Another node of the cluster, as far as nodes are counted.
    fn and(mut self, node: Hosted) -> Self {
        let node = self.providers.node_facts(node.object());
        let keys = self.providers.node_keys(&node);
        self.facts.count_node(&Keys::default(), &keys);
        self
    }

    fn assign(&self, node: Hosted) -> (NodeFacts, Assignment) {
        let node = self.providers.node_facts(node.object());
        let assignment = self.providers.assign(&node, &self.facts.view());
        (node, assignment)
    }

    fn state_after(&self, node: Hosted, past: Option<&NodeState>) -> NodeState {
        let (node, assignment) = self.assign(node);
        let past = past.map(History::from);
        let view = self.facts.view();
        self.providers
            .evaluate(&node, &assignment, None, &view, past.as_ref(), at(0))
    }

    fn state_of(&self, node: Hosted) -> NodeState {
        self.state_after(node, None)
    }

    /// Phase, reason and kind.
    fn seen(&self, node: Hosted) -> (Phase, &'static str, Option<UpdateKind>) {
        let state = self.state_of(node);
        (state.phase, state.updating.reason, state.kind)
    }
}

#[test]
fn the_label_claims_a_node_before_cluster_api_and_the_machine_config_operator() {
    for platform in [Platform::Any, Platform::Kubernetes] {
        let options = Options {
            platform,
            ..Options::default()
        };
        let mut guest = Guest::with(NEW, &options);
        // Some platforms keep the CRD of MachineConfigPools, without objects.
        for place in 0..guest.providers.kinds().len() {
            guest.facts.set_availability(place, Availability::Ready);
        }
        for node in [Hosted::new(NEW), Hosted::new(NEW).configs("a", "a", "Done")] {
            let state = guest.state_of(node);
            assert_eq!(state.provider, HyperShift::NAME);
            assert_eq!(state.phase, Phase::Completed, "{:?}", state.updating);
            assert_eq!(state.version.as_deref(), Some(NEW));
            let pool = state.pool.unwrap();
            assert_eq!((&*pool.name, &*pool.reference.name), (POOL, "workers"));
            assert_eq!(&*pool.reference.group, "hypershift.openshift.io");
        }
    }
}

#[test]
fn a_node_without_the_label_or_with_an_empty_one_is_none_of_its_nodes() {
    let guest = Guest::new(NEW);
    for labels in [vec![], vec![(NODE_POOL_LABEL, "")]] {
        let node = Hosted::new(NEW).with(|node| node.labels = Labels::new(labels));
        assert_eq!(guest.state_of(node).provider.as_str(), "ClusterAPI");
    }
}

#[test]
fn another_updater_that_is_not_known_to_occur_with_it_is_a_conflict() {
    let labels = [
        (NODE_POOL_LABEL, "workers"),
        ("karpenter.sh/nodepool", "default"),
    ];
    let node = Hosted::new(NEW).with(|node| node.labels = Labels::new(labels));
    let state = Guest::new(NEW).state_of(node);
    assert_eq!(
        (state.phase, state.updating.reason),
        (Phase::Unknown, "ProviderConflict")
    );
    let message = &state.updating.message;
    assert!(message.contains("HyperShift") && message.contains("Karpenter"));
}

#[test]
fn a_node_that_nothing_is_written_on_has_no_evidence() {
    assert_eq!(HyperShiftNode::of(&Hosted::new(NEW).object()), None);
    // Other annotations of the operator are no config.
    let topology =
        Hosted::new(NEW).daemon(&[("controlPlaneTopology", "External"), ("reason", "x")]);
    assert_eq!(HyperShiftNode::of(&topology.object()), None);
    let unlabelled = Hosted::new(NEW).configs("a", "b", "Working");
    let unlabelled = unlabelled.with(|node| node.labels = Labels::default());
    assert_eq!(HyperShiftNode::of(&unlabelled.object()), None);
}

#[test]
fn the_api_server_is_an_upper_bound_by_its_minor_version() {
    let state = Guest::new("v1.33.9").state_of(Hosted::new(NEW));
    assert_eq!(state.phase, Phase::Completed);
    let state = Guest::new(NEW).state_of(Hosted::new(OLD));
    assert_eq!(
        (state.phase, state.kind),
        (Phase::Pending, Some(UpdateKind::Version))
    );
    let desired = state.desired.unwrap();
    assert_eq!(desired.source, DesiredVersionSource::ApiServer);
}

#[test]
fn the_youngest_node_of_the_pool_and_the_users_target_say_what_is_desired() {
    for node in [Hosted::new(OLD), Hosted::new(OLD).configs("a", "a", "Done")] {
        let guest = Guest::new(NEW).youngest("v1.32.9");
        let desired = guest.state_of(node.clone()).desired.unwrap();
        assert_eq!(desired.source, DesiredVersionSource::NewestInPool);
        let options = Options {
            target_version: Some(OLD.to_owned()),
            ..Options::default()
        };
        let state = Guest::with(NEW, &options).state_of(node);
        assert_eq!(state.phase, Phase::Completed);
        let desired = state.desired.unwrap();
        assert_eq!(desired.source, DesiredVersionSource::UserTarget);
    }
}
