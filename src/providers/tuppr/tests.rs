//! One test for each rule of tuppr. The objects are made of the fields that are read, and nothing else.

use serde_json::{Value, json};

use super::kinds::*;
use super::*;
use crate::api::types::{ConditionStatus, CordonerKind};
use crate::domain::fact::{Fact, Meta, Object, Parsed};
use crate::domain::facts::Availability;
use crate::domain::fixtures::{NodeBuilder, at, node};
use crate::domain::labels::Labels;
use crate::domain::rows::Rows;
use crate::domain::state::NodeState;
use crate::providers::fixtures::FactTable;
use crate::providers::{Options, Providers};

const NODE_NAME: &str = "talos-0";
const RELEASE: &str = "v1.36.3";

fn parsed<F: Fact>(object: &Value) -> Parsed<F> {
    let meta: Meta = serde_json::from_value(object["metadata"].clone()).unwrap();
    F::parse(&Object::new(&meta, &object.to_string()))
}

fn upgrade(status: &Value) -> Value {
    json!({
        "metadata": {"name": "cluster"},
        "spec": {"talos": {"version": "v1.12.1"}},
        "status": status,
    })
}

/// An upgrade in this phase that is at the node.
fn at_node(phase: &str) -> Value {
    upgrade(&json!({"phase": phase, "currentNodes": [NODE_NAME]}))
}

fn suspended(mut upgrade: Value) -> Value {
    upgrade["metadata"]["annotations"] = json!({SUSPEND: "true"});
    upgrade
}

/// A node of Talos that is up to date as far as Talos shows it.
fn talos() -> NodeBuilder {
    node(NODE_NAME)
        .kubelet(RELEASE)
        .evidence(|_: &mut TalosNode| {})
}

fn marked(change: impl FnOnce(&mut TupprNode)) -> NodeBuilder {
    talos().evidence(change)
}

fn outdated() -> NodeBuilder {
    marked(|shown| shown.is_outdated = true)
}

struct Cluster {
    table: FactTable,
    providers: Providers,
}

impl Cluster {
    fn new() -> Self {
        let providers = Providers::standard(&Options::default()).unwrap();
        let mut table = FactTable::new(providers.kinds());
        for (place, kind) in providers.kinds().iter().enumerate() {
            if kind.spec.group.ends_with("openshift.io") {
                table.facts.set_availability(place, Availability::NotServed);
            }
        }
        table.facts.set_api_server_version(Some(RELEASE.into()));
        Self { table, providers }
    }

    fn with<F: Fact>(mut self, upgrade: &Value) -> Self {
        match parsed::<F>(upgrade) {
            Parsed::Fact(fact) | Parsed::Flawed(fact, _) => self.table.put("cluster", fact),
            other => panic!("{other:?}"),
        }
        self
    }

    fn set(mut self, availability: &Availability) -> Self {
        for (place, kind) in self.providers.kinds().iter().enumerate() {
            if kind.spec.group == TalosUpgrade::KIND.group {
                let availability = availability.clone();
                self.table.facts.set_availability(place, availability);
            }
        }
        self
    }

    fn state_of(&self, node: NodeBuilder) -> NodeState {
        let (node, view) = (node.build(), self.table.facts.view());
        let assignment = self.providers.assign(&node, &view);
        self.providers
            .evaluate(&node, &assignment, None, &view, None, at(0))
    }
}

fn state(node: NodeBuilder, upgrade: &Value) -> NodeState {
    Cluster::new().with::<TalosUpgrade>(upgrade).state_of(node)
}

fn seen(state: &NodeState) -> (Phase, Option<UpdateKind>, &'static str) {
    (state.phase, state.kind, state.updating.reason)
}

#[test]
fn the_phase_of_an_upgrade_is_the_step_of_the_node_that_it_is_at() {
    let image = Some(UpdateKind::Image);
    for (phase, expected, kind, reason) in [
        ("", Phase::Pending, image, "Pending"),
        ("Pending", Phase::Pending, image, "Pending"),
        ("HealthChecking", Phase::Updating, image, "HealthChecking"),
        ("PreHook", Phase::Updating, image, "PreHook"),
        ("Draining", Phase::Draining, image, "Draining"),
        ("Upgrading", Phase::Updating, image, "Upgrading"),
        ("Rebooting", Phase::Rebooting, image, "Rebooting"),
        ("PostHook", Phase::Updating, image, "PostHook"),
        ("Completed", Phase::Completed, None, "Updated"),
        ("Failed", Phase::Updating, image, "UpgradeFailed"),
        (
            "MaintenanceWindow",
            Phase::Paused,
            image,
            "MaintenanceWindow",
        ),
        ("Resting", Phase::Unknown, None, "PhaseUnknown"),
    ] {
        let found = state(talos(), &at_node(phase));
        assert_eq!(seen(&found), (expected, kind, reason), "{phase}");
        let is_degraded = found.degraded.status == ConditionStatus::True;
        assert_eq!(is_degraded, phase == "Failed", "{phase}");
        let is_shown = found.overlays[..] == [ProviderName::new(NAME)];
        assert_eq!(is_shown, phase != "Completed", "{phase}");
    }
    assert!(
        state(talos(), &at_node("Resting"))
            .updating
            .message
            .contains("Resting")
    );
    let message = state(talos(), &at_node("Upgrading")).updating.message;
    assert!(message.contains("TalosUpgrade cluster") && message.contains("v1.12.1"));
}

#[test]
fn an_upgrade_that_is_at_other_nodes_says_nothing_about_this_one() {
    let other = upgrade(&json!({
        "phase": "Draining", "currentNodes": ["talos-1"], "completedNodes": [NODE_NAME],
        "failedNodes": [{"nodeName": "talos-2"}], "rebootingNodes": [{"nodeName": "talos-3"}],
    }));
    let found = state(talos(), &other);
    assert_eq!(seen(&found), (Phase::Completed, None, "Updated"));
    assert!(found.overlays.is_empty());
}

#[test]
fn a_failed_node_is_degraded_with_the_error_of_the_upgrade() {
    let failed = upgrade(&json!({
        "phase": "Failed",
        "failedNodes": [{"nodeName": NODE_NAME, "lastError": "image not found"}],
    }));
    let found = state(outdated(), &failed);
    assert_eq!(found.phase, Phase::Updating);
    assert_eq!(
        (found.degraded.status, found.degraded.reason),
        (ConditionStatus::True, "UpgradeFailed")
    );
    assert!(found.degraded.message.contains("image not found"));
    let silent = upgrade(&json!({"failedNodes": [{"nodeName": NODE_NAME}]}));
    let message = state(talos(), &silent).degraded.message;
    assert!(message.ends_with("has failed on the node"), "{message}");
}

#[test]
fn a_rebooting_node_is_evaluated_again_at_its_deadline_and_is_degraded_from_then_on() {
    let until = |deadline: &Value| {
        upgrade(&json!({
            "phase": "Upgrading", "currentNodes": [NODE_NAME],
            "rebootingNodes": [{"nodeName": NODE_NAME, "deadline": deadline}],
        }))
    };
    let rebooting = state(talos(), &until(&at(60).to_string().into()));
    assert_eq!(rebooting.phase, Phase::Rebooting);
    assert_eq!(rebooting.again_at, Some(at(60)));
    assert_eq!(rebooting.degraded.status, ConditionStatus::False);
    let overdue = state(talos(), &until(&at(-1).to_string().into()));
    assert_eq!(overdue.phase, Phase::Rebooting);
    assert_eq!(
        (overdue.degraded.status, overdue.degraded.reason),
        (ConditionStatus::True, "RebootOverdue")
    );
    assert!(overdue.again_at > Some(at(60)), "{:?}", overdue.again_at);
    // Without a deadline that can be read, there is no limit.
    for unclear in [Value::Null, "soon".into()] {
        let found = state(talos(), &until(&unclear));
        let is_limited = found.again_at <= Some(at(60));
        assert_eq!((found.phase, is_limited), (Phase::Rebooting, false));
    }
    let flawed = parsed::<TalosUpgrade>(&until(&"soon".into()));
    assert!(matches!(flawed, Parsed::Flawed(..)), "{flawed:?}");
}

#[test]
fn an_upgrade_of_kubernetes_changes_the_version() {
    let cluster = Cluster::new().with::<KubernetesUpgrade>(&at_node("Upgrading"));
    let found = cluster.state_of(talos());
    let version = Some(UpdateKind::Version);
    assert_eq!(seen(&found), (Phase::Updating, version, "Upgrading"));
    assert!(found.updating.message.contains("KubernetesUpgrade cluster"));
}

#[test]
fn the_label_of_a_node_says_that_it_is_being_upgraded() {
    let upgrading = || marked(|shown| shown.is_upgrading = true);
    let found = Cluster::new().state_of(upgrading());
    let image = Some(UpdateKind::Image);
    assert_eq!(seen(&found), (Phase::Updating, image, "Upgrading"));
    let silent = upgrading().cordoned_since(-60).not_ready(-60);
    assert_eq!(Cluster::new().state_of(silent).phase, Phase::Rebooting);
    let by = Cluster::new()
        .state_of(upgrading().cordoned())
        .cordoned_by
        .unwrap()
        .by;
    assert_eq!((by.kind, &*by.name), (CordonerKind::Updater, NAME));
}

#[test]
fn an_outdated_node_waits_and_is_paused_where_its_upgrade_is_held_back() {
    let open = upgrade(&json!({"phase": "Upgrading", "currentNodes": ["talos-1"]}));
    let window = upgrade(&json!({"phase": "MaintenanceWindow"}));
    let done = upgrade(&json!({"phase": "Completed"}));
    for (upgrade, phase, reason) in [
        (open.clone(), Phase::Pending, "Pending"),
        (window, Phase::Paused, "MaintenanceWindow"),
        (suspended(open.clone()), Phase::Paused, "Suspended"),
        // What is completed holds nothing back.
        (suspended(done), Phase::Pending, "Pending"),
    ] {
        let found = state(outdated(), &upgrade);
        assert_eq!(seen(&found), (phase, Some(UpdateKind::Image), reason));
        // A node that is up to date is not held back.
        assert_eq!(state(talos(), &upgrade).phase, Phase::Completed);
    }
    let mut not_suspended = open.clone();
    not_suspended["metadata"]["annotations"] = json!({SUSPEND: "false"});
    assert_eq!(state(outdated(), &not_suspended).phase, Phase::Pending);
    let held = outdated().evidence(|shown: &mut TupprNode| shown.is_suspended = true);
    assert_eq!(state(held, &open).updating.reason, "Suspended");
    let failed = upgrade(&json!({"phase": "Failed"}));
    let own = outdated().evidence(|shown: &mut TupprNode| shown.version = Some("v1.11.9".into()));
    let message = state(own, &failed).updating.message;
    assert!(message.contains("v1.11.9") && message.contains("cluster has failed"));
}

#[test]
fn a_node_with_an_outdated_kubelet_is_paused_by_an_upgrade_of_kubernetes_that_is_held_back() {
    let old = || talos().kubelet("v1.35.4");
    let window = upgrade(&json!({"phase": "MaintenanceWindow"}));
    let cluster = Cluster::new().with::<KubernetesUpgrade>(&window);
    let version = Some(UpdateKind::Version);
    let found = cluster.state_of(old());
    assert_eq!(seen(&found), (Phase::Paused, version, "MaintenanceWindow"));
    // An upgrade of Talos does not update the kubelet.
    let cluster = Cluster::new().with::<TalosUpgrade>(&window);
    assert_eq!(cluster.state_of(old()).phase, Phase::Pending);
    assert!(cluster.state_of(old()).overlays.is_empty());
}

#[test]
fn upgrades_that_cannot_be_read_are_missed_only_by_nodes_with_marks_of_tuppr() {
    let cluster = Cluster::new().set(&Availability::Rejected("forbidden".into()));
    let found = cluster.state_of(outdated());
    assert_eq!(found.phase, Phase::Pending);
    let message = &found.updating.message;
    for kind in ["talosupgrades", "kubernetesupgrades"] {
        let missing = format!("{kind} cannot be read: forbidden");
        assert!(message.contains(&missing), "{message}");
    }
    let own = marked(|shown| shown.version = Some("v1.12.1".into()));
    let message = cluster.state_of(own).updating.message;
    assert!(message.contains("cannot be read: forbidden"), "{message}");
    let other = cluster.state_of(talos());
    assert!(other.overlays.is_empty() && other.updating.message.is_empty());
    // Where the kinds are not served, the marks remain.
    let cluster = Cluster::new().set(&Availability::NotServed);
    assert_eq!(cluster.state_of(outdated()).phase, Phase::Pending);
}

#[test]
fn nodes_that_do_not_run_talos_are_not_concerned() {
    let cluster = Cluster::new().with::<TalosUpgrade>(&at_node("Upgrading"));
    let found = cluster.state_of(node(NODE_NAME).kubelet(RELEASE));
    assert_eq!(found.phase, Phase::Completed);
}

#[test]
fn the_marks_of_tuppr_are_read_from_the_node() {
    let read = |change: fn(&mut NodeObject)| {
        let mut node = NodeObject::default();
        change(&mut node);
        TupprNode::of(&node)
    };
    assert_eq!(read(|_| ()), None);
    let upgrading = read(|node| node.labels = Labels::new([(UPGRADING, "true")]));
    assert!(upgrading.unwrap().is_upgrading);
    let outdated = read(|node| node.taints = Rows::new([[OUTDATED, "", "PreferNoSchedule", ""]]));
    assert!(outdated.unwrap().is_outdated);
    let other = read(|node| node.taints = Rows::new([[OUTDATED, "", "NoExecute", ""]]));
    assert_eq!(other, None);
    let annotated = read(|node| {
        node.annotations = Labels::new([(SUSPEND, "true"), (VERSION, "v1.11.9")]);
    })
    .unwrap();
    assert!(annotated.is_suspended);
    assert_eq!(annotated.version.as_deref(), Some("v1.11.9"));
}

#[test]
fn objects_that_cannot_be_read_are_named_as_such() {
    for status in [
        json!({"phase": 7}),
        json!({"currentNodes": NODE_NAME}),
        json!({"failedNodes": [{}]}),
        json!({"rebootingNodes": [NODE_NAME]}),
    ] {
        let found = parsed::<TalosUpgrade>(&upgrade(&status));
        assert!(matches!(found, Parsed::Unreadable(_)), "{found:?}");
    }
    let bare = json!({"metadata": {"name": "bare"}});
    assert!(matches!(
        parsed::<KubernetesUpgrade>(&bare),
        Parsed::Fact(_)
    ));
}
