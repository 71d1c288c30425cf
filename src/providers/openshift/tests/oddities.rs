//! What is odd about a node is named, and decides no phase. And who cordoned it.

use super::*;
use crate::api::types::CordonerKind;
use crate::domain::labels::Labels;
use crate::domain::node::NodeObject;
use crate::providers::fixtures::{NEW, OLD, openshift, pool, worker};
use crate::providers::openshift::evidence::{DrainRequest, PREFIX};

fn state_of(node: NodeBuilder) -> NodeState {
    first_state(&node.build(), &openshift([pool("worker", NEW)]))
}

/// The message of a node in this phase.
fn message(node: NodeBuilder, phase: Phase) -> String {
    let state = state_of(node);
    assert_eq!(state.phase, phase, "{:?}", state.updating);
    state.updating.message.into_string()
}

#[test]
fn an_outdated_node_that_is_not_ready_or_cordoned_waits_and_says_why() {
    let plain = message(worker(OLD, OLD), Phase::Pending);
    assert_eq!(plain, "The node is outdated and waits for its turn");
    let silent = message(worker(OLD, OLD).not_ready(-7200), Phase::Pending);
    let since = at(-7200);
    assert!(
        silent.contains(&format!(
            "not been ready since {since}: only nodes that are ready"
        )),
        "{silent}"
    );
    let cordoned = message(worker(OLD, OLD).cordoned(), Phase::Pending);
    assert!(cordoned.contains("is cordoned: only nodes"), "{cordoned}");
}

#[test]
fn an_outdated_node_whose_daemon_has_failed_waits_is_degraded_and_says_so() {
    let failed = worker(OLD, OLD)
        .daemon(DaemonState::Degraded)
        .reason("unexpected on-disk state");
    let text = message(failed.clone(), Phase::Pending);
    assert!(text.contains("Machine Config Daemon has failed"), "{text}");
    let state = state_of(failed);
    assert_eq!(state.degraded.status, ConditionStatus::True);
    assert_eq!(&*state.degraded.message, "unexpected on-disk state");
}

#[test]
fn a_node_that_is_done_and_still_cordoned_by_an_update_may_have_been_edited() {
    let drained = |node: NodeBuilder| {
        node.machine_config(|facts| facts.last_request = Some(DrainRequest::Drain))
    };
    let hidden = message(drained(worker(NEW, NEW)).cordoned(), Phase::Completed);
    assert!(hidden.contains("may have been edited"), "{hidden}");
    let waiting = message(drained(worker(OLD, OLD)).cordoned(), Phase::Pending);
    assert!(waiting.contains("may have been edited"), "{waiting}");
    // A user's cordon after an update, a drained node that is uncordoned, and an update in progress are not odd.
    let uncordoned = |facts: &mut MachineConfigFacts| {
        facts.last_request = Some(DrainRequest::Uncordon);
    };
    for node in [
        worker(NEW, NEW).machine_config(uncordoned).cordoned(),
        drained(worker(NEW, NEW)),
    ] {
        assert_eq!(message(node, Phase::Completed), "");
    }
    let updating = drained(worker(OLD, NEW)).cordoned();
    let updating = message(updating.daemon(DaemonState::Working), Phase::Updating);
    assert!(!updating.contains("edited"), "{updating}");
}

/// A cordoned node whose cordon kubectl owns, with these values of `desiredDrain` and `lastAppliedDrain`.
fn cordoned(desired: &str, last: &str) -> NodeState {
    let providers = only(OpenShift::chosen());
    let annotations = [
        ("currentConfig", OLD),
        ("desiredConfig", NEW),
        ("desiredDrain", desired),
        ("lastAppliedDrain", last),
        ("state", "Working"),
    ];
    let keys = annotations.map(|(key, value)| (format!("{PREFIX}{key}"), value));
    let annotations: Vec<_> = keys.iter().map(|(key, value)| (&**key, *value)).collect();
    let facts = providers.node_facts(NodeObject {
        name: "worker-0".into(),
        labels: Labels::new([("node-role.kubernetes.io/worker", "")]),
        annotations: Labels::new(annotations),
        unschedulable: true,
        cordon_manager: "kubectl".into(),
        ..NodeObject::default()
    });
    next_state(
        &providers,
        &facts,
        &openshift([pool("worker", NEW)]),
        None,
        at(0),
    )
}

#[test]
fn the_operator_has_cordoned_a_node_from_its_drain_until_the_uncordon_is_requested() {
    let (drain, uncordon) = ("drain-new", "uncordon-new");
    for (desired, last, phase, kind, name) in [
        (
            drain,
            "uncordon-old",
            Phase::Draining,
            CordonerKind::Updater,
            "machine-config-operator",
        ),
        (
            drain,
            drain,
            Phase::Updating,
            CordonerKind::Updater,
            "machine-config-operator",
        ),
        (
            uncordon,
            drain,
            Phase::Updating,
            CordonerKind::Person,
            "kubectl",
        ),
        (
            uncordon,
            uncordon,
            Phase::Updating,
            CordonerKind::Person,
            "kubectl",
        ),
    ] {
        let state = cordoned(desired, last);
        assert_eq!(state.phase, phase);
        let by = state.cordoned_by.unwrap().by;
        assert_eq!((by.kind, &*by.name), (kind, name), "{desired} {last}");
    }
}
