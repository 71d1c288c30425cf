//! Why a node is unavailable, on every platform.

use super::*;
use crate::domain::fixtures::{NodeBuilder, condition as at_second};

const STOPPED: &str = "Kubelet stopped posting node status.";

/// The message for a node, which must be the same on every platform.
fn message(node: NodeBuilder) -> String {
    let node = node.role("worker").current("c").desired("c").build();
    let cluster = openshift([pool("worker", "c")]);
    let messages: Vec<String> = each_alone("v1.36.3")
        .iter()
        .map(|providers| {
            let state = next_state(providers, &node, &cluster, None, at(0));
            assert_eq!(state.available.status, ConditionStatus::False);
            let message = state.available.message.into_string();
            message.replace(" | Machine Config Daemon is processing the node", "")
        })
        .collect();
    assert!(
        messages.windows(2).all(|two| two[0] == two[1]),
        "{messages:?}"
    );
    messages[0].clone()
}

fn unknown(text: &str, since: i64) -> NodeCondition {
    at_second(ConditionStatus::Unknown, text, since)
}

#[test]
fn a_stopped_kubelet_is_reported_once() {
    let stopped = node("n").not_ready(-20).with(|conditions| {
        conditions.disk_pressure = Some(unknown(STOPPED, -20).into());
        conditions.network_unavailable = Some(unknown("something else", -20).into());
    });
    assert_eq!(message(stopped), format!("Node does not report: {STOPPED}"));
    let silent = node("n").with(|conditions| {
        conditions.ready = Some(unknown("", -20));
        conditions.disk_pressure = Some(unknown("", -20).into());
    });
    assert_eq!(message(silent), "Node does not report");
}

#[test]
fn conditions_reported_before_the_kubelet_stopped_are_still_reported() {
    let full = node("n").not_ready(-20).with(|conditions| {
        conditions.disk_pressure =
            Some(at_second(ConditionStatus::True, "disk is full", -90).into());
    });
    assert_eq!(
        message(full),
        format!("Node does not report: {STOPPED} | Node has disk pressure: disk is full")
    );
}

#[test]
fn an_unknown_condition_is_not_reported_as_true() {
    let node = node("n").with(|conditions| {
        conditions.disk_pressure = Some(unknown(STOPPED, -20).into());
        conditions.network_unavailable = Some(unknown("", -20).into());
    });
    assert_eq!(
        message(node),
        format!(
            "Disk pressure of the node is not reported: {STOPPED} \
             | Network of the node is not reported"
        )
    );
}

#[test]
fn a_node_that_reports_not_ready_is_not_ready() {
    let node = node("n").with(|conditions| {
        conditions.ready = Some(at_second(ConditionStatus::False, "no runtime", -20));
        conditions.disk_pressure = Some(unknown("", -30).into());
    });
    assert_eq!(
        message(node),
        "Node is not ready: no runtime | Disk pressure of the node is not reported"
    );
}

#[test]
fn a_condition_without_its_own_message_counts_for_the_time() {
    let node = node("n")
        .not_ready(-20)
        .with(|conditions| conditions.disk_pressure = Some(unknown(STOPPED, -40).into()))
        .build();
    let state = next_state(
        &each_alone("v1.36.3")[1],
        &node,
        &ClusterFacts::default(),
        None,
        at(0),
    );
    assert_eq!(state.available.since, at(-40));
}
