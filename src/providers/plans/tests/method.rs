//! How the pods of a node leave before a Plan updates it.

use super::*;
use crate::domain::drain::method::{Method, Removal};

/// A Plan that drains like this; `Null` if it does not.
fn draining(name: &str, drain: Value) -> Value {
    let mut plan = named(name);
    plan["spec"]["drain"] = drain;
    plan
}

fn method(plans: &[Value]) -> Option<Method> {
    let cluster = Cluster::new(plans, &[]);
    let state = cluster.state_of(agent());
    let view = cluster.table.facts.view();
    cluster.providers.method(&agent().build(), &state, &view)
}

fn drains(is_forced: bool, loses_local_data: bool) -> Method {
    Method::of(Drainer::SystemUpgrade {
        is_forced,
        loses_local_data,
    })
}

#[test]
fn a_plan_stops_at_what_its_drain_is_not_told_to_delete() {
    let forced = drains(true, true);
    let stops_at_unmanaged = drains(false, true);
    let stops_at_local_storage = drains(true, false);
    for (drain, expected) in [
        (json!({"force": true}), Some(forced)),
        (json!({}), Some(stops_at_unmanaged)),
        (json!({"force": false}), Some(stops_at_unmanaged)),
        (
            json!({"force": true, "deleteEmptydirData": false}),
            Some(stops_at_local_storage),
        ),
        (
            json!({"force": true, "deleteLocalData": false}),
            Some(stops_at_local_storage),
        ),
        (
            json!({"force": true, "disableEviction": true}),
            Some(Method {
                removal: Removal::Deletion,
                ..forced
            }),
        ),
        (Value::Null, None),
    ] {
        let plan = draining("agent-plan", drain.clone());
        assert_eq!(method(&[plan]), expected, "{drain}");
    }
}

#[test]
fn of_several_plans_the_strictest_drain_holds_a_node_up() {
    let plans = [
        draining("a", json!({"force": true, "disableEviction": true})),
        draining("b", json!({})),
        draining("c", Value::Null),
    ];
    let strictest = drains(false, true);
    assert_eq!(method(&plans), Some(strictest));
}

#[test]
fn without_a_plan_the_provider_of_the_node_drains_it() {
    assert_eq!(method(&[]), Some(Method::of(Drainer::Kubectl)));
}
