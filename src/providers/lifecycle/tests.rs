//! One test for each rule of the conditions of KEP-5683.

use super::*;
use crate::api::types::ConditionStatus;
use crate::domain::cordon::Cordoner;
use crate::domain::fixtures::{NodeBuilder, at, node};
use crate::domain::state::{History, NodeState};
use crate::providers::fixtures::{ClusterFacts, next_state, plain_kubernetes};
use crate::providers::kured::Kured;
use crate::providers::{OverlayList, Providers};

const OLD: &str = "v1.31.2";
const NEW: &str = "v1.32.0";
const VERSION: Option<UpdateKind> = Some(UpdateKind::Version);
const REBOOT: Option<UpdateKind> = Some(UpdateKind::Reboot);

fn running(version: &str) -> NodeBuilder {
    node("n").kubelet(version).boot("first")
}

/// The node with conditions of this status.
fn with(node: NodeBuilder, status: ConditionStatus, names: &[&str]) -> NodeBuilder {
    names.iter().fold(node, |node, name| {
        node.with(|conditions| {
            let (conditions, shown) = (&mut conditions.lifecycle, status == ConditionStatus::True);
            match *name {
                "DrainInProgress" => conditions.drain_in_progress = shown,
                "Drained" => conditions.drained = shown,
                "MaintenancePlanned" => conditions.maintenance_planned = shown,
                "MaintenanceInProgress" => conditions.maintenance_in_progress = shown,
                "GracefulNodeShutdownInProgress" => {
                    conditions.graceful_shutdown_in_progress = shown;
                }
                other => panic!("{other} is no such condition"),
            }
        })
    })
}

fn holds(node: NodeBuilder, names: &[&str]) -> NodeBuilder {
    with(node, ConditionStatus::True, names)
}

/// Successive states of a node of plain Kubernetes, evaluated a minute apart.
fn states(overlays: impl Fn() -> OverlayList, seen: &[NodeBuilder]) -> Vec<NodeState> {
    let provider = plain_kubernetes(&[], None);
    let providers = Providers::new(vec![Box::new(provider)], overlays()).unwrap();
    let cluster = ClusterFacts {
        api_server_version: Some(NEW.into()),
        ..ClusterFacts::default()
    };
    let mut states: Vec<NodeState> = Vec::new();
    for (minute, node) in (0..).zip(seen) {
        let past = states.last().map(History::from);
        let (node, now) = (node.clone().build(), at(60 * minute));
        let state = next_state(&providers, &node, &cluster, past.as_ref(), now);
        let in_progress: ConditionStatus = state.phase.is_in_progress().into();
        assert_eq!(state.updating.status, in_progress);
        states.push(state);
    }
    states
}

fn only_lifecycle() -> OverlayList {
    vec![Box::new(Lifecycle)]
}

/// Phase, kind and reason of each state.
fn steps(seen: &[NodeBuilder]) -> Vec<(Phase, Option<UpdateKind>, &'static str)> {
    let states = states(only_lifecycle, seen).into_iter();
    states
        .map(|state| (state.phase, state.kind, state.updating.reason))
        .collect()
}

fn state(node: NodeBuilder) -> NodeState {
    states(only_lifecycle, &[node]).remove(0)
}

#[test]
fn the_conditions_of_a_node_refine_its_phase() {
    for (version, names, phase, reason) in [
        (
            OLD,
            &["DrainInProgress"][..],
            Phase::Draining,
            "DrainInProgress",
        ),
        (
            NEW,
            &["DrainInProgress"],
            Phase::Draining,
            "DrainInProgress",
        ),
        (
            OLD,
            &["MaintenanceInProgress"],
            Phase::Updating,
            "MaintenanceInProgress",
        ),
        (
            NEW,
            &["MaintenanceInProgress"],
            Phase::Updating,
            "MaintenanceInProgress",
        ),
        (
            NEW,
            &["Drained", "MaintenanceInProgress"],
            Phase::Updating,
            "MaintenanceInProgress",
        ),
        (
            NEW,
            &["DrainInProgress", "MaintenanceInProgress"],
            Phase::Draining,
            "DrainInProgress",
        ),
        (
            OLD,
            &["MaintenanceInProgress", "GracefulNodeShutdownInProgress"],
            Phase::Rebooting,
            "GracefulNodeShutdownInProgress",
        ),
    ] {
        let kind = if version == OLD { VERSION } else { REBOOT };
        let state = state(holds(running(version), names));
        let shown = (state.phase, state.kind, state.updating.reason);
        assert_eq!(shown, (phase, kind, reason), "{version} {names:?}");
        assert_eq!(state.overlays[..], [ProviderName::new("NodeLifecycle")]);
        assert_eq!(state.provider.as_str(), "Kubernetes");
    }
}

#[test]
fn without_a_difference_of_versions_the_kind_is_reboot_and_nothing_is_desired_below_the_version() {
    let state = state(holds(running(NEW), &["DrainInProgress"]));
    assert_eq!(state.kind, REBOOT);
    let desired = state.desired.as_ref().map(|desired| &*desired.version);
    assert_eq!((state.version.as_deref(), desired), (Some(NEW), Some(NEW)));
}

#[test]
fn a_drained_node_counts_only_while_it_is_cordoned_or_in_maintenance() {
    let drained = |version| holds(running(version), &["Drained"]);
    // The condition outlives the maintenance.
    let after = state(drained(NEW));
    assert_eq!((after.phase, after.kind), (Phase::Completed, None));
    assert!(after.overlays.is_empty());
    assert_eq!(state(drained(OLD)).phase, Phase::Pending);
    for (version, kind) in [(OLD, VERSION), (NEW, REBOOT)] {
        let state = state(drained(version).cordoned());
        let shown = (state.phase, state.kind, state.updating.reason);
        assert_eq!(shown, (Phase::Updating, kind, "Drained"));
    }
}

#[test]
fn a_node_with_both_conditions_of_a_drain_is_drained() {
    let both = holds(running(OLD), &["DrainInProgress", "Drained"]);
    let state_of_both = state(both.clone().cordoned());
    assert_eq!(state_of_both.phase, Phase::Updating);
    assert_eq!(state_of_both.updating.reason, "Drained");
    // Here it is an earlier drain that has ended.
    assert_eq!(state(both).phase, Phase::Draining);
}

#[test]
fn planned_maintenance_of_an_outdated_node_is_paused_and_of_a_current_node_nothing() {
    let planned = |version| holds(running(version), &["MaintenancePlanned"]);
    let outdated = state(planned(OLD));
    let shown = (outdated.phase, outdated.kind, outdated.updating.reason);
    assert_eq!(shown, (Phase::Paused, VERSION, "MaintenancePlanned"));
    assert!(outdated.updating.message.contains("planned maintenance"));
    let current = state(planned(NEW));
    assert_eq!((current.phase, current.kind), (Phase::Completed, None));
    assert!(current.overlays.is_empty());
}

#[test]
fn planned_maintenance_does_not_hold_back_a_step_that_has_begun() {
    let drained = holds(running(OLD), &["MaintenancePlanned"]).cordoned();
    assert_eq!(state(drained).phase, Phase::Draining);
    let names = ["MaintenancePlanned", "MaintenanceInProgress"];
    assert_eq!(state(holds(running(OLD), &names)).phase, Phase::Updating);
}

#[test]
fn a_condition_that_is_false_or_unknown_is_ignored() {
    let all = [
        "DrainInProgress",
        "Drained",
        "MaintenancePlanned",
        "MaintenanceInProgress",
        "GracefulNodeShutdownInProgress",
    ];
    for status in [ConditionStatus::False, ConditionStatus::Unknown] {
        for (version, phase) in [(NEW, Phase::Completed), (OLD, Phase::Pending)] {
            let state = state(with(running(version), status, &all));
            assert_eq!(state.phase, phase, "{status:?}");
            assert!(state.overlays.is_empty());
        }
    }
    // Nor does an unknown maintenance confirm that the node is drained.
    let drained = holds(running(NEW), &["Drained"]);
    let unknown = with(
        drained,
        ConditionStatus::Unknown,
        &["MaintenanceInProgress"],
    );
    assert_eq!(state(unknown).phase, Phase::Completed);
}

#[test]
fn the_kind_of_an_update_in_maintenance_stays_when_the_node_has_the_new_version() {
    let maintained = |version| holds(running(version), &["MaintenanceInProgress"]);
    assert_eq!(
        steps(&[maintained(OLD), maintained(NEW), running(NEW)]),
        [
            (Phase::Updating, VERSION, "MaintenanceInProgress"),
            (Phase::Updating, VERSION, "MaintenanceInProgress"),
            (Phase::Completed, None, "Updated"),
        ]
    );
}

#[test]
fn a_maintenance_passes_every_phase_in_order() {
    let cordoned = || running(NEW).cordoned();
    let seen = [
        running(NEW),
        holds(cordoned(), &["DrainInProgress"]),
        holds(cordoned(), &["Drained"]),
        holds(cordoned(), &["Drained", "MaintenanceInProgress"]),
        holds(running(NEW).boot("second"), &["Drained"]),
    ];
    let phases: Vec<Phase> = steps(&seen).iter().map(|(phase, ..)| *phase).collect();
    assert_eq!(
        phases,
        [
            Phase::Completed,
            Phase::Draining,
            Phase::Updating,
            Phase::Updating,
            Phase::Completed,
        ]
    );
}

#[test]
fn the_cordon_of_a_node_in_maintenance_belongs_to_it() {
    let by = Cordoner::updater("some-tool");
    let drained = holds(
        running(NEW).cordoned_by(by.clone(), -20),
        &["DrainInProgress"],
    );
    let cordon = *state(drained).cordoned_by.unwrap();
    assert_eq!((cordon.by, cordon.is_foreign), (by, false));
}

#[test]
fn it_is_an_overlay_of_plain_kubernetes_beside_others() {
    let both = || -> OverlayList { vec![Box::new(Kured), Box::new(Lifecycle)] };
    let seen = [holds(running(NEW), &["DrainInProgress"])];
    let state = states(both, &seen).remove(0);
    assert_eq!(state.phase, Phase::Draining);
    assert_eq!(state.overlays[..], [ProviderName::new("NodeLifecycle")]);
}
