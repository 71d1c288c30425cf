//! One test for each rule of kured.

use serde_json::{Value, json};

use super::*;
use crate::domain::fact::{Fact, Object, Parsed};
use crate::domain::facts::Availability;
use crate::domain::fixtures::{NodeBuilder, at, node};
use crate::domain::state::NodeState;
use crate::providers::fixtures::{FactTable, evaluated};
use crate::providers::{Options, Providers};

const NODE: &str = "a";

/// kured's DaemonSet with this lock annotation.
fn daemon_set(lock: &Value) -> KuredDaemonSet {
    let object = json!({"metadata": {
        "name": "kured", "namespace": "kube-system",
        "annotations": {"weave.works/kured-node-lock": lock.to_string()},
    }});
    parsed(&object).unwrap()
}

fn parsed(object: &Value) -> Option<KuredDaemonSet> {
    let meta = serde_json::from_value(object["metadata"].clone()).unwrap();
    match KuredDaemonSet::parse(&Object::new(&meta, &object.to_string())) {
        Parsed::Fact(set) => Some(set),
        Parsed::Ignored => None,
        other => panic!("{other:?}"),
    }
}

fn lock(node: &str) -> Value {
    json!({
        "nodeID": node, "metadata": {"unschedulable": false},
        "created": at(-100).to_string(), "TTL": 0,
    })
}

/// The node, ready since `second`.
fn ready_since(second: i64) -> NodeBuilder {
    node(NODE)
        .kubelet("v1.36.3")
        .boot("one")
        .with(|conditions| {
            conditions.ready =
                conditions
                    .ready
                    .take()
                    .map(|ready| crate::domain::node::NodeCondition {
                        since: Some(at(second)),
                        ..ready
                    });
        })
}

fn requests_reboot(node: NodeBuilder, second: i64) -> NodeBuilder {
    let mut facts = node.build();
    facts.evidence = vec![std::sync::Arc::new(KuredNode {
        requested: Some(at(second)),
    }) as Evidence]
    .into_boxed_slice();
    NodeBuilder::from(facts)
}

fn state(node: NodeBuilder, set: Option<KuredDaemonSet>, past: Option<&NodeState>) -> NodeState {
    let providers = Providers::standard(&Options::default()).unwrap();
    let mut table = FactTable::new(providers.kinds());
    for (place, kind) in providers.kinds().iter().enumerate() {
        let is_kured = kind.spec.plural == "daemonsets";
        if !is_kured || set.is_none() {
            table.facts.set_availability(place, Availability::NotServed);
        }
    }
    if let Some(set) = set {
        table.put("kube-system/kured", set);
    }
    table.facts.set_api_server_version(Some("v1.36.3".into()));
    evaluated(&providers, &table.facts, &node.build(), past)
}

fn with_lock(node: NodeBuilder) -> NodeState {
    state(node, Some(daemon_set(&lock(NODE))), None)
}

#[test]
fn a_node_with_the_lock_is_drained_rebooted_and_uncordoned() {
    let draining = with_lock(ready_since(-1000).cordoned());
    assert_eq!(
        (draining.phase, draining.kind),
        (Phase::Draining, Some(UpdateKind::Reboot))
    );
    assert_eq!(draining.overlays[..], [ProviderName::new("kured")]);
    assert_eq!(draining.provider.as_str(), "Kubernetes");
    let set = || Some(daemon_set(&lock(NODE)));
    let silent = ready_since(-1000).cordoned().not_ready(-10);
    let rebooting = state(silent, set(), Some(&draining));
    assert_eq!(rebooting.phase, Phase::Rebooting);
    let back = ready_since(-5).cordoned().boot("two");
    let updating = state(back, set(), Some(&rebooting));
    assert_eq!(
        (updating.phase, updating.updating.reason),
        (Phase::Updating, REBOOTED)
    );
    let done = state(ready_since(-5).boot("two"), None, Some(&updating));
    assert_eq!(done.phase, Phase::Completed);
    assert!(done.overlays.is_empty());
}

#[test]
fn a_reboot_since_the_lock_is_detected_without_history() {
    assert_eq!(
        with_lock(ready_since(-50).cordoned()).phase,
        Phase::Updating
    );
    assert_eq!(
        with_lock(ready_since(-150).cordoned()).phase,
        Phase::Draining
    );
}

#[test]
fn a_lock_of_another_node_or_an_expired_lock_is_ignored() {
    let other = state(ready_since(-1000), Some(daemon_set(&lock("b"))), None);
    assert_eq!(other.phase, Phase::Completed);
    let mut over = lock(NODE);
    over["TTL"] = json!(60_000_000_000_i64);
    assert_eq!(
        state(ready_since(-1000), Some(daemon_set(&over)), None).phase,
        Phase::Completed
    );
    over["TTL"] = json!(200_000_000_000_i64);
    let holds = state(ready_since(-1000), Some(daemon_set(&over)), None);
    assert_eq!(
        (holds.phase, holds.again_at),
        (Phase::Draining, Some(at(100)))
    );
}

#[test]
fn several_nodes_may_hold_a_lock() {
    let several = json!({"maxOwners": 2, "locks": [lock("b"), lock(NODE)]});
    assert_eq!(
        state(ready_since(-1000), Some(daemon_set(&several)), None).phase,
        Phase::Draining
    );
}

#[test]
fn a_reboot_in_progress_without_the_lock_is_waiting() {
    let waiting = state(
        requests_reboot(ready_since(-1000), -10),
        Some(daemon_set(&lock("b"))),
        None,
    );
    assert_eq!(
        (waiting.phase, waiting.kind),
        (Phase::Pending, Some(UpdateKind::Reboot))
    );
    assert_eq!(waiting.updating.reason, "RebootNeeded");
    // A request before the node last became ready has been served.
    let stale = state(
        requests_reboot(ready_since(-1000), -2000),
        Some(daemon_set(&lock("b"))),
        None,
    );
    assert_eq!(stale.phase, Phase::Completed);
}

#[test]
fn a_missing_permission_is_reported_only_on_nodes_with_kured_annotations() {
    let providers = Providers::standard(&Options::default()).unwrap();
    let mut facts = crate::domain::facts::Facts::new(providers.kinds());
    let mut kinds = providers.kinds().iter();
    let place = kinds
        .position(|kind| kind.spec.plural == "daemonsets")
        .unwrap();
    facts.set_availability(place, Availability::Rejected("forbidden".into()));
    let evaluated = |node: NodeBuilder| evaluated(&providers, &facts, &node.build(), None);
    let requesting = evaluated(requests_reboot(ready_since(-1000), -10));
    assert!(
        requesting
            .updating
            .message
            .contains("daemonsets cannot be read: forbidden")
    );
    let other = evaluated(ready_since(-1000));
    assert!(other.updating.message.is_empty() && other.overlays.is_empty());
}

#[test]
fn the_daemon_set_of_kured_is_found_by_its_lock_name_or_labels() {
    let set = |meta: Value| parsed(&json!({"metadata": meta})).map(|set| set.locks.len());
    assert_eq!(set(json!({"name": "kured"})), Some(0));
    let labelled = json!({"name": "reboots", "labels": {"app.kubernetes.io/name": "kured"}});
    assert_eq!(set(labelled), Some(0));
    assert_eq!(set(json!({"name": "kube-proxy"})), None);
    let other_key =
        json!({"name": "kured", "annotations": {"example.com/l": lock("a").to_string()}});
    assert_eq!(set(other_key), Some(1));
    for junk in ["", "{}", "[]", "{\"nodeID\": 7}", "{\"locks\": 1}"] {
        let meta = json!({"name": "kured", "annotations": {"weave.works/kured-node-lock": junk}});
        assert_eq!(set(meta), Some(0), "{junk}");
    }
}
