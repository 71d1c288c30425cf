//! Drains that were held up in public reports, from objects as the API server has them.

use serde_json::{Value, json};

use super::*;
use crate::domain::fact::{Fact, Meta, Object, Parsed};

const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;

fn parsed<F: Fact>(object: &Value) -> F {
    let meta: Meta = serde_json::from_value(object["metadata"].clone()).unwrap();
    match F::parse(&Object::new(&meta, &object.to_string())) {
        Parsed::Fact(fact) => fact,
        other => panic!("{other:?}"),
    }
}

/// A pod of a controller, as its status has it.
fn pod((namespace, name): (&str, &str), (kind, owner): (&str, &str), status: &Value) -> Value {
    json!({
        "metadata": {
            "namespace": namespace, "name": name, "labels": {"app": owner},
            "creationTimestamp": at(-30 * DAY).to_string(),
            "ownerReferences": [{"kind": kind, "name": owner, "controller": true}],
        },
        "spec": {"nodeName": "a"},
        "status": status,
    })
}

fn running() -> Value {
    json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]})
}

/// A budget of the pods of an owner: expected, current, desired and allowed.
fn budget((namespace, name): (&str, &str), owner: &str, spec: Value, numbers: [i32; 4]) -> Budget {
    let [expected, current, desired, allowed] = numbers;
    let mut spec = spec;
    spec["selector"] = json!({"matchLabels": {"app": owner}});
    parsed(&json!({
        "metadata": {"namespace": namespace, "name": name, "generation": 1},
        "spec": spec,
        "status": {
            "observedGeneration": 1, "expectedPods": expected, "currentHealthy": current,
            "desiredHealthy": desired, "disruptionsAllowed": allowed,
        },
    }))
}

fn found(scene: &mut Scene, second: i64) -> Vec<(Reason, String)> {
    let (drain, _) = scene.at(second);
    let blockers = drain.blockers.iter();
    let named = |blocker: &Blocker| {
        let Key {
            kind,
            namespace,
            name,
            ..
        } = &blocker.key;
        (blocker.key.reason, format!("{kind} {namespace}/{name}"))
    };
    blockers.map(named).collect()
}

/// An update of ROSA from 4.19 to 4.20: the pod of a DaemonSet was deleted while it ran, ended, and never went. The
/// guard of etcd allows nothing either, and has no pod on the node.
#[test]
fn a_finished_pod_of_a_daemon_set_holds_the_machine_config_operator_up() {
    let mut agent = pod(
        ("mon", "agent-x1"),
        ("DaemonSet", "agent"),
        &json!({"phase": "Succeeded"}),
    );
    agent["metadata"]["deletionTimestamp"] = at(-3 * HOUR).to_string().into();
    agent["metadata"]["deletionGracePeriodSeconds"] = 30.into();
    let guard = budget(
        ("etcd", "guard-pdb"),
        "guard",
        json!({"minAvailable": 2}),
        [3, 2, 2, 0],
    );
    let mut scene = one(parsed(&agent))
        .with([guard])
        .by(Drainer::MachineConfigOperator);
    let expected = (
        Reason::TerminatingPastGrace,
        "DaemonSet mon/agent".to_owned(),
    );
    assert_eq!(found(&mut scene, HOUR), [expected]);
}

/// open-bank-oss#9691: the only instance of a database kept a node of Karpenter for days. The budget of the storage
/// waits for the volume of that very pod.
#[test]
fn a_database_of_one_instance_keeps_a_node_of_karpenter_and_its_storage_only_follows() {
    let pods = [
        pod(("db", "orders-1"), ("Cluster", "orders"), &running()),
        pod(("storage", "im-a"), ("InstanceManager", "a"), &running()),
    ];
    let numbers = [1, 1, 1, 0];
    let needs_one = json!({"minAvailable": 1});
    let budgets = [
        budget(
            ("db", "orders-primary"),
            "orders",
            needs_one.clone(),
            numbers,
        ),
        budget(("storage", "im-a"), "a", needs_one, numbers),
    ];
    let mut scene = Scene::new(pods.iter().map(parsed))
        .with(budgets)
        .by(Drainer::Karpenter);
    // A number of pods counts from the second look on.
    scene.at(9 * DAY);
    let named = |name: &str| {
        (
            Reason::BudgetNeverAllows,
            format!("PodDisruptionBudget {name}"),
        )
    };
    let expected = [named("db/orders-primary"), named("storage/im-a")];
    assert_eq!(found(&mut scene, 9 * DAY + 10), expected);
}

/// cyclops#34: both pods of a Deployment crash, so one that may be unavailable cannot be evicted.
#[test]
fn a_pair_that_crashes_is_never_evicted_although_one_may_be_unavailable() {
    let unready = json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "False"}]});
    let api = pod(("shop", "api-a"), ("ReplicaSet", "api"), &unready);
    let one_unavailable = json!({"maxUnavailable": 1});
    let budget = budget(("shop", "api"), "api", one_unavailable, [2, 0, 1, 0]);
    let mut scene = one(parsed(&api)).with([budget]);
    let blocker = scene.only(40 * 60);
    assert_eq!(blocker.key.reason, Reason::BudgetUnhealthy);
    assert!(
        blocker
            .message
            .contains("unhealthyPodEvictionPolicy to AlwaysAllow")
    );
}
