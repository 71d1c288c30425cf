//! Degraded and Available.

use super::*;
use crate::api::node::NodeProgressInsightStatus;
use crate::api::types::{MESSAGE_LIMIT, SUMMARY_LIMIT};
use crate::domain::fixtures::schema::StatusSchema;
use crate::domain::fixtures::{NodeBuilder, condition, node};
use crate::domain::node_status::project;
use crate::domain::state::NodeStateCondition;
use crate::providers::fixtures::{NEW, OLD, openshift, pool, worker};

fn state_of(node: NodeBuilder) -> NodeState {
    first_state(&node.build(), &openshift([pool("worker", NEW)]))
}

fn available(node: NodeBuilder) -> NodeStateCondition {
    state_of(node).available
}

// Degraded.

#[test]
fn the_condition_has_the_full_reason_and_the_message_has_one_line() {
    let line = "failed to drain node: cannot evict pod, would violate the budget – wörtlich";
    let reason = [line; 27].join("\n");
    let reason: String = reason.chars().take(2_000).collect();
    let state = state_of(
        worker(OLD, NEW)
            .daemon(DaemonState::Degraded)
            .reason(&reason),
    );
    assert_eq!(state.degraded.status, ConditionStatus::True);
    assert_eq!(state.degraded.reason, "Degraded");
    assert_eq!(state.phase, Phase::Updating);

    let status = project(&state);
    let degraded = status.conditions.iter().find(|c| c.type_ == "Degraded");
    assert_eq!(degraded.unwrap().message, reason);
    let message = status.message.as_deref().unwrap();
    assert!(message.starts_with(line) && message.ends_with('…'));
    assert!(!message.contains('\n'));
    assert_eq!(message.chars().count(), SUMMARY_LIMIT);
    let problems = StatusSchema::of::<NodeProgressInsightStatus>().problems(&status);
    assert!(problems.is_empty(), "{problems:?}");
}

#[test]
fn an_unreconcilable_node_is_degraded_by_that_reason() {
    let state = state_of(
        worker(OLD, NEW)
            .daemon(DaemonState::Unreconcilable)
            .reason("can't reconcile config"),
    );
    assert_eq!(state.degraded.status, ConditionStatus::True);
    assert_eq!(state.degraded.reason, "Unreconcilable");
    assert_eq!(&*state.degraded.message, "can't reconcile config");
}

#[test]
fn a_failed_daemon_without_a_desired_config_is_not_degraded() {
    let state = state_of(
        node("n")
            .role("worker")
            .current(OLD)
            .daemon(DaemonState::Degraded)
            .reason("old news"),
    );
    assert_eq!(state.degraded.status, ConditionStatus::False);
}

#[test]
fn a_stale_reason_of_a_working_daemon_is_not_degraded() {
    for daemon in [
        DaemonState::Done,
        DaemonState::Working,
        DaemonState::Rebooting,
    ] {
        let state = state_of(worker(OLD, NEW).daemon(daemon).reason("old news"));
        assert_eq!(state.degraded.status, ConditionStatus::False, "{daemon:?}");
    }
}

#[test]
fn a_degraded_node_without_a_readable_reason_still_has_a_message() {
    for reason in ["", " \n ", "\u{0}\u{7}"] {
        let state = state_of(
            worker(OLD, NEW)
                .daemon(DaemonState::Degraded)
                .reason(reason),
        );
        assert!(
            state.degraded.message.contains("does not say why"),
            "{reason:?}"
        );
    }
}

#[test]
fn a_reason_is_truncated_to_the_limit_of_a_condition() {
    let state = state_of(
        worker(OLD, NEW)
            .daemon(DaemonState::Degraded)
            .reason(&"ä".repeat(2 * MESSAGE_LIMIT)),
    );
    assert_eq!(state.degraded.message.chars().count(), MESSAGE_LIMIT);
}

// Available.

#[test]
fn a_healthy_updated_node_is_available() {
    let condition = available(worker(NEW, NEW));
    assert_eq!(
        (condition.status, condition.reason),
        (ConditionStatus::True, "AsExpected")
    );
}

#[test]
fn a_node_is_unavailable_when_ready_is_anything_but_true() {
    for status in [ConditionStatus::False, ConditionStatus::Unknown] {
        let node = worker(NEW, NEW).with(|conditions| {
            conditions.ready = Some(condition(status, "no heartbeat", -30));
        });
        let condition = available(node);
        assert_eq!(
            (condition.status, condition.reason),
            (ConditionStatus::False, "NotReady")
        );
        assert!(condition.message.contains("no heartbeat"));
    }
}

#[test]
fn a_node_without_a_ready_condition_counts_as_ready() {
    let node = worker(NEW, NEW).with(|conditions| *conditions = <_>::default());
    assert_eq!(available(node).status, ConditionStatus::True);
}

#[test]
fn unknown_disk_pressure_and_network_make_a_node_unavailable() {
    for status in [ConditionStatus::True, ConditionStatus::Unknown] {
        let disk = worker(NEW, NEW)
            .with(|conditions| conditions.disk_pressure = Some(condition(status, "", -30).into()));
        assert_eq!(available(disk).reason, "DiskPressure");
        let network = worker(NEW, NEW).with(|conditions| {
            conditions.network_unavailable = Some(condition(status, "", -30).into());
        });
        assert_eq!(available(network).reason, "NetworkUnavailable");
    }
}

#[test]
fn a_cordoned_draining_node_is_not_available() {
    let state = state_of(worker(OLD, NEW).cordoned().drain_requested());
    assert_eq!(state.phase, Phase::Draining);
    assert_eq!(
        (state.available.status, state.available.reason),
        (ConditionStatus::False, "Unschedulable")
    );
}

#[test]
fn several_reasons_are_joined_with_the_earliest_time() {
    let node = worker(OLD, NEW)
        .daemon(DaemonState::Rebooting)
        .not_ready(-20)
        .with(|conditions| {
            conditions.disk_pressure = Some(condition(ConditionStatus::Unknown, "", -40).into());
            conditions.network_unavailable = Some(condition(ConditionStatus::True, "", -10).into());
        })
        .cordoned_since(-300);
    let condition = available(node);
    assert_eq!(
        &*condition.message,
        "Node does not report: Kubelet stopped posting node status. \
         | Network of the node is unavailable | Node is marked unschedulable"
    );
    assert_eq!(condition.reason, "NotReady");
    assert_eq!(condition.since, at(-300));
}

#[test]
fn reasons_without_a_time_do_not_hide_the_time_of_the_others() {
    let condition = available(worker(NEW, NEW).cordoned().not_ready(-20));
    assert_eq!(condition.since, at(-20));
}

#[test]
fn a_node_is_unavailable_while_the_daemon_works_on_it() {
    for (daemon, current) in [
        (DaemonState::Working, OLD),
        (DaemonState::Rebooting, OLD),
        (DaemonState::Done, OLD),
        (DaemonState::Working, NEW),
    ] {
        let condition = available(worker(current, NEW).daemon(daemon));
        assert_eq!(condition.reason, "Processing", "{daemon:?}");
        assert_eq!(
            &*condition.message,
            "Machine Config Daemon is processing the node"
        );
    }
}

#[test]
fn a_failed_daemon_does_not_make_a_node_unavailable() {
    for daemon in [DaemonState::Degraded, DaemonState::Unreconcilable] {
        let condition = available(worker(OLD, NEW).daemon(daemon));
        assert_eq!(condition.status, ConditionStatus::True, "{daemon:?}");
    }
}

#[test]
fn a_node_that_has_no_current_config_yet_is_being_processed() {
    let joining = || node("worker-0").role("worker").desired(NEW);
    for daemon in [DaemonState::Done, DaemonState::Working] {
        let condition = available(joining().daemon(daemon));
        assert_eq!(
            (condition.status, condition.reason),
            (ConditionStatus::False, "Processing")
        );
    }
}

#[test]
fn processing_is_not_reported_if_the_node_has_its_own_reason() {
    let condition = available(worker(OLD, NEW).daemon(DaemonState::Working).cordoned());
    assert_eq!(&*condition.message, "Node is marked unschedulable");
}

// The one-line message.

#[test]
fn the_message_names_the_failure_before_the_step_and_the_step_before_unavailability() {
    let line = |node: NodeBuilder| project(&state_of(node)).message.unwrap_or_default();
    let working = || worker(OLD, NEW).daemon(DaemonState::Working).not_ready(0);
    assert!(line(working()).starts_with("Updating the node"));
    let failed = working().daemon(DaemonState::Degraded).reason("disk full");
    assert_eq!(line(failed), "disk full");
    let updated = worker(NEW, NEW).not_ready(0);
    assert!(line(updated).starts_with("Node does not report"));
    assert_eq!(line(worker(NEW, NEW)), "");
}
