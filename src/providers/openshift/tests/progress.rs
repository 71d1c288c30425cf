//! The steps of a MachineConfigNode.

use serde_json::json;

use super::*;
use crate::domain::fixtures::node;
use crate::domain::state::REBOOTED;
use crate::providers::fixtures::{NEW, OLD, openshift, pool, worker};
use crate::providers::openshift::progress::{Failure, UpdateStep};

/// A MachineConfigNode of an update to `desired`; conditions as type, status and second.
fn object(desired: &str, conditions: &[(&str, &str, i64)]) -> Value {
    let conditions: Vec<Value> = conditions
        .iter()
        .map(|(type_, status, second)| {
            json!({
                "type": type_, "status": status, "reason": type_,
                "message": format!("{type_} of the node"),
                "lastTransitionTime": at(*second).to_string(),
            })
        })
        .collect();
    json!({
        "apiVersion": "machineconfiguration.openshift.io/v1", "kind": "MachineConfigNode",
        "metadata": {"name": "worker-0"},
        "spec": {
            "node": {"name": "worker-0"}, "pool": {"name": "worker"},
            "configVersion": {"desired": desired},
        },
        "status": {
            "configVersion": {"current": OLD, "desired": desired}, "conditions": conditions,
        },
    })
}

fn world(object: &Value) -> World {
    let mut world = World::new(&openshift([pool("worker", NEW)]));
    world.put::<MachineConfigNode>(object);
    world
}

fn working() -> NodeBuilder {
    worker(OLD, NEW).daemon(DaemonState::Working)
}

/// Each step of an update with a reboot, in its order, with the phase and the reason while it is the last one.
const STEPS: [(&str, &str, Phase, &str); 13] = [
    ("UpdatePrepared", "Unknown", Phase::Updating, "Preparing"),
    ("UpdatePrepared", "True", Phase::Updating, "Preparing"),
    ("Cordoned", "True", Phase::Draining, "Cordoned"),
    ("Drained", "Unknown", Phase::Draining, "Draining"),
    ("Drained", "True", Phase::Updating, "Drained"),
    (
        "ImagePulledFromRegistry",
        "Unknown",
        Phase::Updating,
        "PullingImage",
    ),
    ("AppliedFilesAndOS", "Unknown", Phase::Updating, "Applying"),
    ("AppliedFilesAndOS", "True", Phase::Updating, "Applied"),
    ("RebootedNode", "Unknown", Phase::Rebooting, "Rebooting"),
    ("RebootedNode", "True", Phase::Updating, REBOOTED),
    ("Resumed", "True", Phase::Updating, "Resumed"),
    ("UpdateComplete", "True", Phase::Updating, "Completing"),
    ("Uncordoned", "True", Phase::Updating, "Uncordoned"),
];

#[test]
fn the_step_that_was_written_last_is_the_phase_and_the_update_began_with_the_first() {
    for index in 0..STEPS.len() {
        let mut written: Vec<(&str, &str, i64)> = vec![("Updated", "False", -600)];
        for (place, (type_, status, ..)) in STEPS[..=index].iter().enumerate() {
            written.retain(|(before, ..)| before != type_);
            written.push((type_, status, i64::try_from(place).unwrap() - 500));
        }
        // The order of the list says nothing.
        written.reverse();
        let state = world(&object(NEW, &written)).state_of(working());
        let (_, _, phase, reason) = STEPS[index];
        assert_eq!((state.phase, state.updating.reason), (phase, reason));
        assert_eq!(state.kind, Some(UpdateKind::Version));
        let first = if index == 0 { -500 } else { -499 };
        assert_eq!(state.updating.since, at(first), "{reason}");
        assert!(state.updating.message.contains(NEW), "{:?}", state.updating);
    }
}

#[test]
fn steps_that_were_written_in_the_same_second_are_in_their_order() {
    let written = [
        ("UpdateExecuted", "True", -100),
        ("AppliedFilesAndOS", "True", -100),
        ("Drained", "True", -200),
    ];
    let seen = world(&object(NEW, &written)).seen(working());
    assert_eq!(seen.1, "Applied");
}

#[test]
fn after_an_aborted_attempt_the_new_one_is_what_was_written_last() {
    let written = [
        ("RebootedNode", "True", -400),
        ("AppliedFilesAndOS", "True", -500),
        ("Drained", "Unknown", -100),
    ];
    let seen = world(&object(NEW, &written)).seen(working());
    assert_eq!((seen.0, seen.1), (Phase::Draining, "Draining"));
}

#[test]
fn a_node_that_is_not_retargeted_has_no_step() {
    let written = [("AppliedFilesAndOS", "Unknown", -100)];
    let world = world(&object(NEW, &written));
    assert_eq!(world.seen(worker(NEW, NEW)).0, Phase::Completed);
    assert_eq!(world.seen(worker(OLD, OLD)).0, Phase::Pending);
}

#[test]
fn without_a_step_of_this_update_the_annotations_decide() {
    let at_rest = object(
        NEW,
        &[("Updated", "True", -600), ("Resumed", "False", -600)],
    );
    let of_another = object(
        "rendered-worker-other",
        &[("RebootedNode", "Unknown", -100)],
    );
    for object in [at_rest, of_another] {
        let world = world(&object);
        assert_eq!(world.seen(working()).1, "Updating");
        // The daemon has not begun.
        assert_eq!(world.seen(worker(OLD, NEW)).0, Phase::Draining);
    }
    // The daemon has not accepted the update yet.
    let mut early = object(NEW, &[("UpdatePrepared", "Unknown", -5)]);
    early["status"]["configVersion"]["desired"] = "not-yet-set".into();
    assert_eq!(world(&early).seen(working()).1, "Preparing");
    let none = World::new(&openshift([pool("worker", NEW)]));
    assert_eq!(none.seen(working()).1, "Updating");
}

#[test]
fn annotations_that_are_ahead_of_the_object_decide() {
    let before = world(&object(NEW, &[("UpdatePrepared", "True", -100)]));
    let drain = before.state_of(working().drain_requested());
    assert_eq!(
        (drain.phase, drain.updating.since),
        (Phase::Draining, at(-100))
    );
    let rebooting = |node: NodeBuilder| node.machine_config(|facts| facts.reboot_announced = true);
    assert_eq!(before.seen(rebooting(working())).0, Phase::Rebooting);
    // The node is back, and the annotation is not emptied yet.
    let after = world(&object(NEW, &[("RebootedNode", "True", -100)]));
    assert_eq!(after.seen(rebooting(working())).1, REBOOTED);
}

#[test]
fn a_failed_node_is_degraded_since_the_object_says_so_and_for_its_reason_if_the_node_has_none() {
    let written = [
        ("AppliedFilesAndOS", "Unknown", -300),
        ("NodeDegraded", "True", -100),
    ];
    let world = world(&object(NEW, &written));
    let failed = worker(OLD, NEW).daemon(DaemonState::Degraded);
    let state = world.state_of(failed.clone());
    assert_eq!(state.phase, Phase::Updating);
    assert_eq!(state.degraded.since, at(-100));
    assert_eq!(&*state.degraded.message, "NodeDegraded of the node");
    let state = world.state_of(failed.reason("disk full"));
    assert_eq!(&*state.degraded.message, "disk full");
}

#[test]
fn a_degraded_object_of_a_node_that_works_is_named_and_the_node_is_not_degraded() {
    let written = [
        ("AppliedFilesAndOS", "Unknown", -300),
        ("NodeDegraded", "True", -100),
    ];
    let state = world(&object(NEW, &written)).state_of(working());
    assert_eq!(state.degraded.status, ConditionStatus::False);
    assert!(
        state.updating.message.contains("NodeDegraded of the node"),
        "{:?}",
        state.updating
    );
}

#[test]
fn without_permission_a_node_that_is_being_updated_says_so_and_no_other() {
    let mut world = World::new(&openshift([pool("worker", NEW)]));
    world.reject::<MachineConfigNode>();
    let state = world.state_of(working());
    assert_eq!(state.phase, Phase::Updating);
    let message = &state.updating.message;
    assert!(
        message.ends_with("machineconfignodes cannot be read: forbidden"),
        "{message}"
    );
    assert_eq!(&*world.state_of(worker(NEW, NEW)).updating.message, "");
    world.set::<MachineConfigNode>(Availability::NotServed);
    let message = world.state_of(working()).updating.message;
    assert!(!message.contains("machineconfignodes"), "{message}");
}

#[test]
fn junk_in_a_machine_config_node_is_no_step() {
    for (type_, status) in [
        ("Dancing", "True"),
        ("RebootedNode", "Perhaps"),
        ("RebootedNode", ""),
        ("", ""),
    ] {
        let seen = world(&object(NEW, &[(type_, status, -100)])).seen(working());
        assert_eq!(seen.1, "Updating", "{type_} {status}");
    }
    let mut undated = object(NEW, &[("RebootedNode", "Unknown", 0)]);
    undated["status"]["conditions"][0]["lastTransitionTime"] = "yesterday".into();
    let state = world(&undated).state_of(working());
    assert_eq!(
        (state.phase, state.updating.since),
        (Phase::Rebooting, at(0))
    );
    let unreadable = json!({"metadata": {"name": "a"}, "status": {"conditions": "none"}});
    assert!(matches!(
        parse::<MachineConfigNode>(&unreadable),
        Parsed::Unreadable(_)
    ));
    let empty = json!({"metadata": {"name": "a"}});
    assert_eq!(
        parse::<MachineConfigNode>(&empty),
        Parsed::Fact(MachineConfigNode {
            target: None,
            accepted: None,
            step: None,
            since: None,
            failure: None,
        })
    );
}

#[test]
fn a_machine_config_node_is_parsed_to_what_matters() {
    let written = [("Drained", "True", -50), ("NodeDegraded", "True", -10)];
    let Parsed::Fact(found) = parse::<MachineConfigNode>(&object(NEW, &written)) else {
        panic!("it is readable");
    };
    assert_eq!(found.target.as_deref(), Some(NEW));
    assert_eq!(found.step, Some(UpdateStep::Drained));
    assert_eq!(found.since, Some(at(-50)));
    let failure = Failure {
        since: Some(at(-10)),
        message: "NodeDegraded of the node".into(),
    };
    assert_eq!(found.failure, Some(failure));
}

#[test]
fn another_node_with_a_machine_config_node_changes_nothing() {
    let world = world(&object(NEW, &[("RebootedNode", "Unknown", -100)]));
    let other = node("worker-1")
        .role("worker")
        .current(OLD)
        .desired(NEW)
        .daemon(DaemonState::Working);
    assert_eq!(world.seen(other).0, Phase::Updating);
}
