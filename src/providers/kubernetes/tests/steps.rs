//! The phase of a node, and what is no update.

use super::*;
use crate::domain::fixtures::{NodeBuilder, node};

const OLD: &str = "v1.31.2";
const NEW: &str = "v1.32.0";

fn cluster() -> ClusterFacts {
    ClusterFacts {
        api_server_version: Some(NEW.into()),
        ..ClusterFacts::default()
    }
}

fn running(version: &str) -> NodeBuilder {
    node("n").kubelet(version).boot("first")
}

/// Phase, kind and reason of each state.
fn steps(seen: &[NodeBuilder]) -> Vec<(Phase, Option<UpdateKind>, &'static str)> {
    let seen: Vec<NodeFacts> = seen.iter().cloned().map(NodeBuilder::build).collect();
    history(&plain(), &cluster(), &seen)
        .into_iter()
        .map(|state| {
            let expected: ConditionStatus = state.phase.is_in_progress().into();
            assert_eq!(state.updating.status, expected);
            (state.phase, state.kind, state.updating.reason)
        })
        .collect()
}

fn last(seen: &[NodeBuilder]) -> (Phase, Option<UpdateKind>, &'static str) {
    *steps(seen).last().unwrap()
}

const VERSION: Option<UpdateKind> = Some(UpdateKind::Version);
const REBOOT: Option<UpdateKind> = Some(UpdateKind::Reboot);

#[test]
fn an_update_in_place_passes_every_phase_in_order() {
    assert_eq!(
        steps(&[
            running(OLD),
            running(OLD).cordoned(),
            running(OLD).cordoned().not_ready(100),
            running(NEW).boot("second").cordoned().not_ready(100),
            running(NEW).boot("second").cordoned(),
            running(NEW).boot("second"),
        ]),
        [
            (Phase::Pending, VERSION, "Pending"),
            (Phase::Draining, VERSION, "Draining"),
            (Phase::Rebooting, VERSION, "Rebooting"),
            (Phase::Rebooting, VERSION, "Rebooted"),
            (Phase::Updating, VERSION, "Rebooted"),
            (Phase::Completed, None, "Updated"),
        ]
    );
}

#[test]
fn an_update_without_a_restart_is_updating_until_the_node_is_uncordoned() {
    assert_eq!(
        steps(&[
            running(OLD).cordoned(),
            running(NEW).cordoned(),
            running(NEW)
        ]),
        [
            (Phase::Draining, VERSION, "Draining"),
            (Phase::Updating, VERSION, "Updating"),
            (Phase::Completed, None, "Updated"),
        ]
    );
}

#[test]
fn the_cordon_of_an_up_to_date_node_is_no_update() {
    let seen = [running(NEW), running(NEW).cordoned()];
    assert_eq!(last(&seen).0, Phase::Completed);
    let facts: Vec<NodeFacts> = seen.into_iter().map(NodeBuilder::build).collect();
    let state = history(&plain(), &cluster(), &facts).remove(1);
    assert_eq!(state.available.status, ConditionStatus::False);
    assert_eq!(state.available.reason, "Unschedulable");
}

#[test]
fn a_cordoned_node_that_does_not_report_restarts() {
    assert_eq!(
        last(&[running(NEW).cordoned().not_ready(0)]),
        (Phase::Rebooting, REBOOT, "Rebooting")
    );
}

#[test]
fn a_node_that_only_stops_reporting_is_not_being_updated() {
    assert_eq!(last(&[running(NEW).not_ready(0)]).0, Phase::Completed);
    assert_eq!(last(&[running(OLD).not_ready(0)]).0, Phase::Pending);
}

#[test]
fn a_node_without_a_ready_condition_does_not_restart() {
    let silent = running(OLD)
        .cordoned()
        .with(|conditions| conditions.ready = None);
    assert_eq!(last(&[silent]).0, Phase::Draining);
}

#[test]
fn another_boot_of_an_up_to_date_node_was_a_restart() {
    let again = running(NEW).boot("second");
    assert_eq!(
        steps(&[running(NEW), again.clone(), again]),
        [
            (Phase::Completed, None, "Updated"),
            (Phase::Completed, None, "Rebooted"),
            (Phase::Completed, None, "Rebooted"),
        ]
    );
}

#[test]
fn a_node_that_comes_back_cordoned_with_another_boot_is_being_updated() {
    assert_eq!(
        steps(&[
            running(NEW).cordoned(),
            running(NEW).boot("second").cordoned(),
            running(NEW).boot("second"),
        ])[1..],
        [
            (Phase::Updating, REBOOT, "Rebooted"),
            (Phase::Completed, None, "Rebooted"),
        ]
    );
}

#[test]
fn a_restart_is_remembered_when_the_node_registers_before_it_is_ready() {
    assert_eq!(
        steps(&[
            running(NEW),
            running(NEW).not_ready(0),
            running(NEW).boot("second").not_ready(0),
            running(NEW).boot("second"),
            running(NEW).boot("second"),
        ])[1..],
        [
            (Phase::Completed, None, "Updated"),
            (Phase::Rebooting, REBOOT, "Rebooted"),
            (Phase::Completed, None, "Rebooted"),
            (Phase::Completed, None, "Rebooted"),
        ]
    );
}

#[test]
fn an_old_restart_does_not_affect_the_next_one() {
    let again = || running(NEW).boot("second");
    assert_eq!(
        last(&[running(NEW), again(), again().cordoned().not_ready(0)]),
        (Phase::Rebooting, REBOOT, "Rebooting")
    );
}

#[test]
fn a_node_that_no_longer_reports_its_boot_id_was_not_restarted() {
    let mut silent = running(NEW).build();
    silent.boot_id = None;
    let states = history(&plain(), &cluster(), &[running(NEW).build(), silent]);
    assert_eq!(states[1].updating.reason, "Updated");
}

#[test]
fn an_outdated_node_that_is_deleted_is_being_replaced() {
    assert_eq!(
        last(&[running(OLD), running(OLD).cordoned().deleting()]),
        (
            Phase::Draining,
            Some(UpdateKind::Replacement),
            "BeingReplaced"
        )
    );
}

#[test]
fn the_deletion_of_an_up_to_date_node_is_reported_as_no_update() {
    let state = first_state(&plain(), running(NEW).deleting().build(), &cluster());
    assert_eq!((state.phase, state.kind), (Phase::Completed, None));
    assert_eq!(state.updating.reason, "BeingDeleted");
    assert!(state.updating.message.contains("no update"));
}

#[test]
fn an_outdated_node_that_the_autoscaler_removes_stays_outdated_until_it_is_deleted() {
    let node = running(OLD).removed_by_autoscaler();
    assert_eq!(
        last(std::slice::from_ref(&node)),
        (Phase::Pending, VERSION, "Pending")
    );
    assert_eq!(
        last(&[node.deleting()]),
        (Phase::Pending, VERSION, "BeingDeleted")
    );
}

#[test]
fn a_node_that_the_autoscaler_removes_is_not_being_updated() {
    for node in [
        running(NEW).cordoned().removed_by_autoscaler(),
        running(OLD).cordoned().removed_by_autoscaler(),
        running(OLD).cordoned().not_ready(0).removed_by_autoscaler(),
        running(OLD).removed_by_autoscaler().deleting(),
    ] {
        let state = first_state(&plain(), node.build(), &cluster());
        assert!(!state.phase.is_in_progress(), "{:?}", state.updating);
        assert!(state.updating.message.contains("autoscaler"));
    }
}

#[test]
fn a_plain_node_is_never_degraded() {
    let state = first_state(&plain(), running(OLD).not_ready(0).build(), &cluster());
    assert_eq!(state.degraded.status, ConditionStatus::False);
}
