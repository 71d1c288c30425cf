//! One test for each rule of the Bottlerocket update operator.

use serde_json::{Value, json};

use super::*;
use crate::api::types::{ConditionStatus, CordonerKind};
use crate::domain::fact::{Fact, Meta, Object, Parsed};
use crate::domain::facts::Availability;
use crate::domain::fixtures::{NodeBuilder, at, condition, node};
use crate::domain::state::NodeState;
use crate::providers::Providers;
use crate::providers::fixtures::{self, FactTable, plain_kubernetes};

mod kinds;

const NODE_NAME: &str = "ip-10-0-1-7";
const VERSION: &str = "v1.36.3";
const OLD: &str = "1.19.1";
const NEW: &str = "1.20.0";

fn asked(state: &str, version: Option<&str>) -> Value {
    json!({
        "state": state, "version": version,
        "state_transition_timestamp": at(-100).to_string().replace('Z', ".608609964+00:00"),
    })
}

fn reported(state: &str, current: &str, target: &str) -> Value {
    json!({
        "current_state": state, "current_version": current, "target_version": target,
        "crash_count": 0, "state_transition_failure_timestamp": null,
    })
}

/// A shadow of the node, as the API server returns it.
fn shadow(spec: Value, status: Value) -> Value {
    let mut object = json!({
        "apiVersion": "brupop.bottlerocket.aws/v2", "kind": "BottlerocketShadow",
        "metadata": {
            "name": format!("brs-{NODE_NAME}"), "namespace": "brupop-bottlerocket-aws",
            "uid": "5a6b", "resourceVersion": "7",
            "ownerReferences": [
                {"apiVersion": "v1", "kind": "Node", "name": NODE_NAME, "uid": "1f2e"},
            ],
        },
    });
    object["spec"] = spec;
    object["status"] = status;
    object
}

fn parse(object: &Value) -> Parsed<Shadow> {
    let meta: Meta = serde_json::from_value(object["metadata"].clone()).unwrap();
    Shadow::parse(&Object::new(&meta, &object.to_string()))
}

fn parsed(object: &Value) -> Shadow {
    match parse(object) {
        Parsed::Fact(shadow) => shadow,
        other => panic!("{other:?}"),
    }
}

/// A node that the operator updates; it became ready long before.
fn bottlerocket() -> NodeBuilder {
    let (label, version) = LABEL;
    node(NODE_NAME)
        .kubelet(VERSION)
        .boot("one")
        .label(label, version)
}

fn ready_since(second: i64) -> NodeBuilder {
    bottlerocket().with(|conditions| {
        conditions.ready = Some(condition(ConditionStatus::True, "", second));
    })
}

/// What is read of the shadows.
fn table(shadows: &[Value]) -> (Providers, FactTable) {
    let provider = plain_kubernetes(&[], None);
    let providers = Providers::new(vec![Box::new(provider)], vec![Box::new(Bottlerocket)]);
    let providers = providers.unwrap();
    let mut table = FactTable::new(providers.kinds());
    for (number, shadow) in shadows.iter().enumerate() {
        table.put(&format!("brupop/{number}"), parsed(shadow));
    }
    table.facts.set_api_server_version(Some(VERSION.into()));
    (providers, table)
}

fn evaluated(
    (providers, table): &(Providers, FactTable),
    node: NodeBuilder,
    past: Option<&NodeState>,
) -> NodeState {
    fixtures::evaluated(providers, &table.facts, &node.build(), past)
}

fn next(node: NodeBuilder, shadow: &Value, past: Option<&NodeState>) -> NodeState {
    evaluated(&table(std::slice::from_ref(shadow)), node, past)
}

fn state(node: NodeBuilder, shadow: &Value) -> NodeState {
    next(node, shadow, None)
}

/// The shadow while the node is drained and restarted.
fn restarting() -> Value {
    let status = reported("StagedAndPerformedUpdate", OLD, NEW);
    shadow(asked("RebootedIntoUpdate", Some(NEW)), status)
}

#[test]
fn each_pair_of_wanted_and_reached_state_has_its_phase() {
    let staged = "StagedAndPerformedUpdate";
    let (rebooted, monitoring) = ("RebootedIntoUpdate", "MonitoringUpdate");
    for (wanted, reached, current, phase, reason) in [
        ("Idle", "Idle", OLD, Phase::Pending, "Pending"),
        ("Idle", "Idle", NEW, Phase::Completed, "Updated"),
        (staged, "Idle", OLD, Phase::Updating, "Installing"),
        (staged, staged, OLD, Phase::Updating, "Installed"),
        (rebooted, staged, OLD, Phase::Draining, "Draining"),
        (rebooted, staged, NEW, Phase::Updating, REBOOTED),
        (rebooted, rebooted, NEW, Phase::Updating, "Completing"),
        (monitoring, rebooted, NEW, Phase::Updating, "Completing"),
        (monitoring, monitoring, NEW, Phase::Updating, "Completing"),
        ("Idle", monitoring, NEW, Phase::Updating, "Completing"),
        (staged, "ErrorReset", OLD, Phase::Updating, "ErrorReset"),
        (rebooted, "ErrorReset", OLD, Phase::Updating, "ErrorReset"),
        ("Idle", "ErrorReset", OLD, Phase::Updating, "ErrorReset"),
    ] {
        let version = (wanted != "Idle").then_some(NEW);
        let shadow = shadow(asked(wanted, version), reported(reached, current, NEW));
        let state = state(bottlerocket(), &shadow);
        let shown = (state.phase, state.updating.reason);
        assert_eq!(shown, (phase, reason), "{wanted} {reached} {current}");
        let is_updated = phase == Phase::Completed;
        let kind = (!is_updated).then_some(UpdateKind::Image);
        assert_eq!(state.kind, kind, "{wanted} {reached}");
        assert_eq!(state.overlays.is_empty(), is_updated);
        let is_failed = (reached == "ErrorReset").into();
        assert_eq!(state.degraded.status, is_failed, "{wanted} {reached}");
    }
}

#[test]
fn the_message_has_the_versions_of_the_system_and_the_columns_those_of_kubernetes() {
    let pending = shadow(asked("Idle", None), reported("Idle", OLD, NEW));
    let state = state(bottlerocket(), &pending);
    let message = &*state.updating.message;
    assert_eq!(
        message,
        "Bottlerocket 1.19.1 to 1.20.0: the node waits for its turn"
    );
    assert_eq!(state.version.as_deref(), Some(VERSION));
    let desired = state.desired.unwrap();
    assert_eq!(&*desired.version, VERSION);
    assert_eq!(state.provider.as_str(), "Kubernetes");
    assert_eq!(state.overlays[..], [ProviderName::new("Bottlerocket")]);
}

#[test]
fn the_wanted_version_is_that_of_the_spec_except_while_the_node_is_idle() {
    let newest = "1.21.0";
    let status = reported("Idle", OLD, newest);
    let message = |spec| {
        let state = state(bottlerocket(), &shadow(spec, status.clone()));
        state.updating.message
    };
    let staged = message(asked("StagedAndPerformedUpdate", Some(NEW)));
    assert!(
        staged.starts_with("Bottlerocket 1.19.1 to 1.20.0:"),
        "{staged}"
    );
    // The version of the last update stays in the spec.
    let idle = message(asked("Idle", Some(OLD)));
    assert!(idle.starts_with("Bottlerocket 1.19.1 to 1.21.0:"), "{idle}");
}

#[test]
fn a_node_is_drained_restarted_and_uncordoned_in_order() {
    let draining = next(bottlerocket().cordoned(), &restarting(), None);
    assert_eq!(draining.phase, Phase::Draining);
    let silent = bottlerocket().cordoned().not_ready(-10);
    let rebooting = next(silent, &restarting(), Some(&draining));
    assert_eq!(rebooting.phase, Phase::Rebooting);
    assert_eq!(rebooting.updating.reason, "Rebooting");
    let booted = || ready_since(-5).cordoned().boot("two");
    let registered = next(booted().not_ready(-5), &restarting(), Some(&rebooting));
    let shown = (registered.phase, registered.updating.reason);
    assert_eq!(shown, (Phase::Rebooting, REBOOTED));
    // The agent has not started yet, so the shadow is that of before.
    let back = next(booted(), &restarting(), Some(&registered));
    let shown = (back.phase, back.updating.reason);
    assert_eq!(shown, (Phase::Rebooting, REBOOTED));
    let status = reported("RebootedIntoUpdate", NEW, NEW);
    let completing = shadow(asked("RebootedIntoUpdate", Some(NEW)), status);
    let completing = next(booted(), &completing, Some(&back));
    assert_eq!(completing.phase, Phase::Updating);
    let done = shadow(asked("Idle", None), reported("Idle", NEW, NEW));
    let done = next(ready_since(-5).boot("two"), &done, Some(&completing));
    assert_eq!(
        (done.phase, done.updating.reason),
        (Phase::Completed, "Updated")
    );
    assert!(done.overlays.is_empty());
}

#[test]
fn a_node_that_does_not_report_for_a_moment_while_it_is_drained_has_not_restarted() {
    let draining = next(bottlerocket(), &restarting(), None);
    let silent = bottlerocket().not_ready(-10);
    let silent = next(silent, &restarting(), Some(&draining));
    let again = next(ready_since(-5), &restarting(), Some(&silent));
    assert_eq!(again.phase, Phase::Draining);
}

#[test]
fn a_restart_is_detected_without_history_by_the_time_of_the_request() {
    assert_eq!(
        state(ready_since(-50), &restarting()).phase,
        Phase::Rebooting
    );
    assert_eq!(
        state(ready_since(-150), &restarting()).phase,
        Phase::Draining
    );
}

#[test]
fn a_step_that_the_provider_infers_from_the_cordon_is_replaced() {
    let outdated = bottlerocket().kubelet("v1.35.1").cordoned();
    let state = state(outdated, &restarting());
    assert_eq!(
        (state.phase, state.kind),
        (Phase::Draining, Some(UpdateKind::Image))
    );
    assert!(
        state
            .updating
            .message
            .contains("Bottlerocket 1.19.1 to 1.20.0")
    );
}

#[test]
fn an_up_to_date_system_leaves_what_the_provider_says() {
    let current = shadow(asked("Idle", None), reported("Idle", NEW, NEW));
    let state = state(bottlerocket().kubelet("v1.35.1"), &current);
    assert_eq!(
        (state.phase, state.kind),
        (Phase::Pending, Some(UpdateKind::Version))
    );
    assert!(state.overlays.is_empty());
}

#[test]
fn a_step_in_progress_began_when_the_controller_asked_for_it() {
    let begun = state(bottlerocket(), &restarting());
    assert_eq!(begun.updating.since.as_second(), at(-100).as_second());
    let pending = shadow(asked("Idle", None), reported("Idle", OLD, NEW));
    assert_eq!(state(bottlerocket(), &pending).updating.since, at(0));
}

#[test]
fn the_cordon_is_that_of_the_operator_only_while_it_drains_and_restarts() {
    let by = |shadow: &Value| {
        let cordoned =
            bottlerocket().cordoned_by(Cordoner::new(CordonerKind::Person, "kubectl"), -5);
        let cordon = *state(cordoned, shadow).cordoned_by.unwrap();
        (cordon.by.name.into_owned(), cordon.is_foreign)
    };
    let operator = "bottlerocket-update-operator".to_owned();
    assert_eq!(by(&restarting()), (operator, false));
    let staged = asked("StagedAndPerformedUpdate", Some(NEW));
    let installing = shadow(staged, reported("Idle", OLD, NEW));
    assert_eq!(by(&installing), ("kubectl".to_owned(), true));
    let pending = shadow(asked("Idle", None), reported("Idle", OLD, NEW));
    assert_eq!(by(&pending), ("kubectl".to_owned(), true));
}

#[test]
fn failed_attempts_are_in_the_message_and_the_next_one_is_made_later_each_time() {
    let message = |failures: u32, seconds_ago: i64| {
        let mut status = reported("Idle", OLD, NEW);
        status["crash_count"] = failures.into();
        status["state_transition_failure_timestamp"] = at(-seconds_ago).to_string().into();
        let state = state(bottlerocket(), &shadow(asked("Idle", Some(NEW)), status));
        assert_eq!(
            (state.phase, state.degraded.status),
            (Phase::Pending, ConditionStatus::False)
        );
        let is_retry = state.updating.reason == "Retrying";
        assert_eq!(state.again_at.is_some(), is_retry);
        state.updating.message
    };
    let once = message(1, 60);
    assert!(once.ends_with("; 1 attempt has failed"), "{once}");
    assert!(
        once.contains(&format!("not made before {}", at(60))),
        "{once}"
    );
    let often = message(4, 60);
    assert!(often.ends_with("; 4 attempts have failed"), "{often}");
    assert!(often.contains(&at(15 * 60).to_string()), "{often}");
    let day = 24 * 3600;
    for failures in [11, 63, 64, u32::MAX] {
        let at_most_a_day = message(failures, 60);
        assert!(
            at_most_a_day.contains(&at(day - 60).to_string()),
            "{at_most_a_day}"
        );
    }
    let allowed = message(3, 1000);
    assert!(allowed.contains("waits for its turn"), "{allowed}");
}

#[test]
fn a_failed_step_is_degraded_with_the_versions_and_the_attempts() {
    let mut status = reported("ErrorReset", OLD, NEW);
    status["crash_count"] = 2.into();
    let state = state(
        bottlerocket(),
        &shadow(asked("RebootedIntoUpdate", Some(NEW)), status),
    );
    assert_eq!(state.degraded.reason, "UpdateFailed");
    let message = &*state.degraded.message;
    assert!(
        message.starts_with("Bottlerocket 1.19.1 to 1.20.0:"),
        "{message}"
    );
    assert!(message.ends_with("; 2 attempts have failed"), "{message}");
}

#[test]
fn a_shadow_without_a_status_is_unknown() {
    let state = state(bottlerocket(), &shadow(asked("Idle", None), Value::Null));
    assert_eq!(
        (state.phase, state.updating.reason),
        (Phase::Unknown, "NoStatus")
    );
}

#[test]
fn contradictions_are_unknown_and_named() {
    let idle = || asked("Idle", None);
    for (spec, status, reason, named) in [
        (
            asked("Sleeping", None),
            reported("Idle", OLD, NEW),
            "UnexpectedState",
            "'Sleeping'",
        ),
        (
            idle(),
            reported("StagedUpdate", OLD, NEW),
            "UnexpectedState",
            "'StagedUpdate'",
        ),
        (
            asked("ErrorReset", None),
            reported("Idle", OLD, NEW),
            "UnexpectedState",
            "'ErrorReset'",
        ),
        (
            json!({}),
            reported("Idle", OLD, NEW),
            "UnexpectedState",
            "''",
        ),
        (
            idle(),
            reported("Idle", "latest", NEW),
            "VersionUnreadable",
            "'latest'",
        ),
        (idle(), reported("Idle", OLD, ""), "VersionUnreadable", "''"),
        (
            asked("RebootedIntoUpdate", Some("ä.ö.ü")),
            reported("Idle", OLD, NEW),
            "VersionUnreadable",
            "'ä.ö.ü'",
        ),
    ] {
        let state = state(bottlerocket(), &shadow(spec, status));
        assert_eq!(
            (state.phase, state.updating.reason),
            (Phase::Unknown, reason)
        );
        assert!(
            state.updating.message.contains(named),
            "{:?}",
            state.updating
        );
    }
    let mut second = restarting();
    second["metadata"]["namespace"] = "other".into();
    let state = evaluated(&table(&[restarting(), second]), bottlerocket(), None);
    assert_eq!(
        (state.phase, state.updating.reason),
        (Phase::Unknown, "SeveralShadows")
    );
    let name = format!("other/brs-{NODE_NAME}");
    assert!(
        state.updating.message.contains(&name),
        "{:?}",
        state.updating
    );
}

#[test]
fn only_nodes_with_the_label_of_this_interface_are_read() {
    for node in [
        node(NODE_NAME).kubelet(VERSION),
        bottlerocket().label(LABEL.0, "1.0.0"),
    ] {
        let mut read = table(&[restarting()]);
        read.1
            .facts
            .set_availability(0, Availability::Rejected("forbidden".into()));
        let state = evaluated(&read, node, None);
        assert_eq!(state.phase, Phase::Completed);
        assert!(state.overlays.is_empty() && state.updating.message.is_empty());
    }
}

#[test]
fn without_shadows_the_provider_decides_and_a_missing_permission_is_reported() {
    let evaluated_with = |availability| {
        let mut read = table(&[]);
        read.1.facts.set_availability(0, availability);
        evaluated(&read, bottlerocket(), None)
    };
    for availability in [Availability::NotServed, Availability::Ready] {
        let state = evaluated_with(availability);
        assert_eq!(state.phase, Phase::Completed);
        assert!(state.overlays.is_empty() && state.updating.message.is_empty());
    }
    let state = evaluated_with(Availability::Rejected("forbidden".into()));
    assert_eq!(state.phase, Phase::Completed);
    let message = &*state.updating.message;
    assert!(
        message.contains("bottlerocketshadows cannot be read: forbidden"),
        "{message}"
    );
}
