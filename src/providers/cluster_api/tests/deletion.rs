//! Machines that are being deleted: replaced, or removed.

use super::*;
use crate::domain::interruption::Interruption;

#[test]
fn the_deletion_of_an_outdated_machine_passes_every_step() {
    for (reason, phase) in [
        ("WaitingForPreDrainHook", Phase::Draining),
        ("DrainingNode", Phase::Draining),
        ("WaitingForVolumeDetach", Phase::Updating),
        ("WaitingForPreTerminateHook", Phase::Updating),
        ("WaitingForInfrastructureDeletion", Phase::Updating),
        ("WaitingForBootstrapDeletion", Phase::Updating),
        ("DeletingNode", Phase::Updating),
        ("DeletionCompleted", Phase::Updating),
    ] {
        let deleting = ("Deleting", "True", reason, "more about it");
        let outdated = deleted(machine(OLD, &[OUTDATED, deleting]));
        for object in [outdated.clone(), v1beta1(outdated, &[])] {
            let state = state(joined(OLD).cordoned(), &object);
            assert_eq!(
                summary(&state),
                (phase, Some(UpdateKind::Version), reason),
                "{reason}"
            );
            let message = &state.updating.message;
            assert!(message.ends_with(": more about it"), "{message}");
            let cordon = state.cordoned_by.unwrap();
            assert_eq!(cordon.by, Cordoner::updater("cluster-api"));
            assert!(!cordon.is_foreign);
        }
    }
}

#[test]
fn a_deletion_that_has_just_begun_is_about_to_drain_the_node() {
    let not_yet = ("Deleting", "False", "NotDeleting", "");
    let started = ("Deleting", "True", "Deleting", "Deletion started");
    for conditions in [&[OUTDATED][..], &[OUTDATED, not_yet], &[OUTDATED, started]] {
        let object = deleted(machine(OLD, conditions));
        let found = state(joined(OLD), &object);
        assert_eq!(
            (found.phase, found.updating.reason),
            (Phase::Draining, "Deleting")
        );
        let annotation = "machine.cluster.x-k8s.io/exclude-node-draining";
        let found = state(joined(OLD), &with_annotation(object, annotation, ""));
        assert_eq!(found.phase, Phase::Updating);
    }
}

#[test]
fn an_unknown_reason_is_updating_and_in_the_message() {
    for reason in ["WaitingForFullMoon", "InternalError"] {
        let deleting = ("Deleting", "True", reason, "see the log");
        let state = state(joined(OLD), &deleted(machine(OLD, &[OUTDATED, deleting])));
        assert_eq!(state.phase, Phase::Updating);
        let message = &state.updating.message;
        assert!(
            message.contains(reason) && message.contains("see the log"),
            "{message}"
        );
    }
}

const BLOCKED: &str = "Drain not completed yet (started at 2026-09-21T14:12:20Z):\n\
    * Pod shop/db-0: cannot evict pod as it would violate the pod's disruption budget.";

#[test]
fn the_message_of_a_drain_has_its_limit_and_what_holds_it_up() {
    let draining = ("Deleting", "True", "DrainingNode", BLOCKED);
    let object = deleted(machine(OLD, &[OUTDATED, draining]));
    let message = state(joined(OLD), &object).updating.message;
    assert_eq!(
        &*message,
        "Cluster API drains the node, without a time limit: Drain not completed yet (started at \
         2026-09-21T14:12:20Z): * Pod shop/db-0: cannot evict pod as it would violate the pod's disruption budget."
    );

    let mut limited = object.clone();
    limited["spec"]["deletion"] = json!({"nodeDrainTimeoutSeconds": 600});
    limited["status"]["deletion"] = json!({"nodeDrainStartTime": at(-60).to_string()});
    let mut before = v1beta1(object.clone(), &[]);
    before["spec"]["nodeDrainTimeout"] = "10m0s".into();
    before["status"]["deletion"] = limited["status"]["deletion"].clone();
    // The start was the time of this condition before there was a field for it.
    let old = ("DrainingSucceeded", "False", "Draining", BLOCKED);
    let mut oldest = v1beta1(deleted(machine(OLD, &[OUTDATED])), &[old]);
    oldest["spec"]["nodeDrainTimeout"] = "10m0s".into();
    let end = format!("until {} at the latest: Drain not", at(540));
    for object in [limited.clone(), before, oldest] {
        let message = state(joined(OLD), &object).updating.message;
        assert!(message.contains(&end), "{message}");
    }
    limited["status"]["deletion"] = Value::Null;
    let message = state(joined(OLD), &limited).updating.message;
    assert!(
        message.starts_with("Cluster API drains the node: Drain"),
        "{message}"
    );
}

#[test]
fn a_limit_of_zero_is_none_and_the_detachment_of_volumes_has_its_own() {
    let waiting = ("Deleting", "True", "WaitingForVolumeDetach", "");
    let mut object = deleted(machine(OLD, &[OUTDATED, waiting]));
    object["spec"]["deletion"] =
        json!({"nodeDrainTimeoutSeconds": 600, "nodeVolumeDetachTimeoutSeconds": 0});
    object["status"]["deletion"] = json!({
        "nodeDrainStartTime": at(-600).to_string(),
        "waitForNodeVolumeDetachStartTime": at(-60).to_string(),
    });
    let message = state(joined(OLD), &object).updating.message;
    assert!(message.ends_with(", without a time limit"), "{message}");
    object["spec"]["deletion"]["nodeVolumeDetachTimeoutSeconds"] = 300.into();
    let message = state(joined(OLD), &object).updating.message;
    let end = format!("until {} at the latest", at(240));
    assert!(message.ends_with(&end), "{message}");
}

#[test]
fn versions_before_the_condition_deleting_report_the_steps_by_their_own_conditions() {
    let done = |name: &'static str| (name, "True", "", "");
    let hook = (
        "PreDrainDeleteHookSucceeded",
        "False",
        "WaitingExternalHook",
        "",
    );
    let draining = (
        "DrainingSucceeded",
        "False",
        "Draining",
        "Draining the node",
    );
    let failing = ("DrainingSucceeded", "False", "DrainingFailed", "too many");
    let volumes = (
        "VolumeDetachSucceeded",
        "False",
        "WaitingForVolumeDetach",
        "",
    );
    let last = (
        "PreTerminateDeleteHookSucceeded",
        "False",
        "WaitingExternalHook",
        "",
    );
    for (conditions, reason, phase) in [
        (&[][..], "Deleting", Phase::Draining),
        (&[hook], "WaitingForPreDrainHook", Phase::Draining),
        (&[draining], "DrainingNode", Phase::Draining),
        (&[failing], "DrainingNode", Phase::Draining),
        (
            &[done("DrainingSucceeded"), volumes],
            "WaitingForVolumeDetach",
            Phase::Updating,
        ),
        (
            &[done("DrainingSucceeded"), last],
            "WaitingForPreTerminateHook",
            Phase::Updating,
        ),
        (
            &[
                done("DrainingSucceeded"),
                done("PreTerminateDeleteHookSucceeded"),
            ],
            "WaitingForInfrastructureDeletion",
            Phase::Updating,
        ),
    ] {
        let object = v1beta1(deleted(machine(OLD, &[])), conditions);
        let state = state(joined(OLD), &object);
        assert_eq!(
            (state.phase, state.updating.reason),
            (phase, reason),
            "{conditions:?}"
        );
    }
}

#[test]
fn a_machine_that_is_up_to_date_is_removed_and_not_updated() {
    let draining = ("Deleting", "True", "DrainingNode", "");
    let unhealthy = ("HealthCheckSucceeded", "False", "UnhealthyNode", "");
    let remediated = ("OwnerRemediated", "False", "WaitingForRemediation", "");
    let object = |more: &[_]| {
        let conditions: Vec<_> = [UP_TO_DATE, draining].iter().chain(more).copied().collect();
        deleted(machine(NEW, &conditions))
    };
    let annotated = |key| with_annotation(object(&[]), key, "");
    for (object, what) in [
        (object(&[]), "is being deleted"),
        (object(&[unhealthy]), "unhealthy"),
        (object(&[remediated]), "unhealthy"),
        (annotated("cluster.x-k8s.io/remediate-machine"), "unhealthy"),
        (annotated("cluster.x-k8s.io/delete-machine"), "scales down"),
    ] {
        let state = state(joined(NEW).cordoned(), &object);
        assert_eq!(summary(&state), (Phase::Completed, None, "BeingRemoved"));
        let message = &state.updating.message;
        assert!(
            message.contains(what) && message.ends_with("; this is no update"),
            "{message}"
        );
        assert!(state.cordoned_by.unwrap().is_foreign);
    }
}

#[test]
fn an_outdated_node_that_the_autoscaler_removes_stays_pending() {
    let draining = ("Deleting", "True", "DrainingNode", "");
    let object = deleted(machine(OLD, &[OUTDATED, draining]));
    let object = with_annotation(object, "cluster.x-k8s.io/delete-machine", "");
    let scaled_down = joined(OLD).interrupted(Interruption::ClusterAutoscaler);
    let found = state(scaled_down, &object);
    let version = Some(UpdateKind::Version);
    assert_eq!(summary(&found), (Phase::Pending, version, "BeingRemoved"));
    // A rollout deletes annotated Machines first.
    assert_eq!(state(joined(OLD), &object).phase, Phase::Draining);
    // A Machine that is still changing is what its owner wants.
    let changing = ("UpToDate", "False", "Updating", "");
    let object = deleted(machine(NEW, &[changing, draining]));
    assert_eq!(state(joined(OLD), &object).updating.reason, "BeingRemoved");
}
