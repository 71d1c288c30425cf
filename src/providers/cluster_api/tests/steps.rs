//! The steps of nodes whose Machine is not being deleted.

use super::*;

const PROVIDER: DesiredVersionSource = DesiredVersionSource::Provider;

#[test]
fn a_node_whose_machine_is_up_to_date_is_completed_with_the_version_of_its_template() {
    let state = state(joined(NEW), &machine(NEW, &[UP_TO_DATE]));
    assert_eq!(summary(&state), (Phase::Completed, None, "Updated"));
    assert_eq!(desired(&state), Some((NEW, PROVIDER)));
    assert_eq!(state.provider, ClusterApi::NAME);
    assert_eq!(
        state.pool_name().as_deref(),
        Some("prod-md-0.machinedeployments")
    );
}

#[test]
fn a_node_whose_machine_is_not_up_to_date_is_pending_with_what_differs() {
    for object in [
        machine(OLD, &[OUTDATED]),
        v1beta1(machine(OLD, &[OUTDATED]), &[("Ready", "True", "", "")]),
    ] {
        let state = state(joined(OLD), &object);
        let version = Some(UpdateKind::Version);
        assert_eq!(summary(&state), (Phase::Pending, version, "Pending"));
        assert_eq!(desired(&state), Some((NEW, PROVIDER)));
        assert_eq!(
            &*state.updating.message,
            "The node is outdated (Version v1.34.2, v1.35.4 required; KubeadmConfig is not up-to-date) \
             and waits for its turn"
        );
    }
}

#[test]
fn the_message_of_up_to_date_decides_the_kind() {
    for (message, kind) in [
        ("* Version v1.34.2, v1.35.4 required", UpdateKind::Version),
        (
            "* DockerMachine is not up-to-date\n* Version v1.34.2, v1.35.4 required",
            UpdateKind::Version,
        ),
        (
            "* KubeadmConfig is not up-to-date",
            UpdateKind::Configuration,
        ),
        ("* RKE2Config is not up-to-date", UpdateKind::Configuration),
        ("* AWSMachine is not up-to-date", UpdateKind::Image),
        (
            "* KubeadmConfig is not up-to-date\n* AWSMachine is not up-to-date",
            UpdateKind::Image,
        ),
        (
            "* MachineDeployment spec.rolloutAfter expired",
            UpdateKind::Replacement,
        ),
        (
            "* KubeadmControlPlane spec.rolloutAfter expired",
            UpdateKind::Replacement,
        ),
        ("* Certificates will expire soon", UpdateKind::Replacement),
        ("* Failure domain a, b required", UpdateKind::Replacement),
        // As before lines began with an asterisk.
        (
            "Version v1.34.2, v1.35.4 required; KubeadmConfig is not up-to-date",
            UpdateKind::Version,
        ),
    ] {
        let outdated = ("UpToDate", "False", "NotUpToDate", message);
        let state = state(joined(NEW), &machine(NEW, &[outdated]));
        assert_eq!(state.kind, Some(kind), "{message}");
    }
    // Without a known line, the versions decide.
    let outdated = ("UpToDate", "False", "NotUpToDate", "* something else");
    for (version, kind) in [(OLD, UpdateKind::Version), (NEW, UpdateKind::Configuration)] {
        let state = state(joined(version), &machine(version, &[outdated]));
        assert_eq!(state.kind, Some(kind), "{version}");
    }
}

#[test]
fn a_kubelet_that_does_not_match_its_machine_yet_is_updating() {
    let changing = (
        "UpToDate",
        "False",
        "Updating",
        "* Node.status.nodeInfo.kubeletVersion v1.34.2, v1.35.4 required",
    );
    let found = state(joined(OLD), &machine(NEW, &[changing]));
    let version = Some(UpdateKind::Version);
    assert_eq!(summary(&found), (Phase::Updating, version, "Updating"));
    assert!(found.updating.message.contains("v1.34.2, v1.35.4 required"));
    // The condition compares texts, so a suffix of the vendor never matches.
    let suffixed = state(joined("v1.35.4-eks-94953ac"), &machine(NEW, &[changing]));
    assert_eq!(suffixed.phase, Phase::Completed);
    let mut without = machine(NEW, &[changing]);
    without["spec"]["version"] = Value::Null;
    assert_eq!(state(joined(NEW), &without).phase, Phase::Completed);
}

#[test]
fn it_is_unknown_whether_a_machine_with_an_unknown_condition_is_up_to_date() {
    let unclear = ("UpToDate", "Unknown", "InternalError", "see the log");
    let state = state(joined(NEW), &machine(NEW, &[unclear]));
    assert_eq!(summary(&state), (Phase::Unknown, None, "UpToDateUnknown"));
    assert!(state.updating.message.contains("see the log"));
}

#[test]
fn a_node_in_an_update_in_place_is_updating_and_degraded_if_it_fails() {
    let progress = (
        "UpToDate",
        "False",
        "Updating",
        "* In-place update in progress",
    );
    let running = (
        "Updating",
        "True",
        "InPlaceUpdating",
        "In-place update in progress: 2/3",
    );
    let failed = (
        "Updating",
        "True",
        "InPlaceUpdateFailed",
        "UpdateMachine hook failed",
    );
    let found = state(joined(OLD), &machine(NEW, &[progress, running]));
    let version = Some(UpdateKind::Version);
    assert_eq!(
        summary(&found),
        (Phase::Updating, version, "InPlaceUpdating")
    );
    assert!(found.updating.message.contains("2/3"));
    assert_eq!(found.degraded.status, ConditionStatus::False);

    let found = state(joined(OLD), &machine(NEW, &[progress, failed]));
    assert_eq!(
        summary(&found),
        (Phase::Updating, version, "InPlaceUpdateFailed")
    );
    assert_eq!(
        (found.degraded.status, found.degraded.reason),
        (ConditionStatus::True, "InPlaceUpdateFailed")
    );
    assert!(found.degraded.message.contains("hook failed"));

    let annotation = "in-place-updates.internal.cluster.x-k8s.io/update-in-progress";
    let marked = with_annotation(machine(NEW, &[UP_TO_DATE]), annotation, "");
    let found = state(joined(NEW), &marked);
    let configuration = Some(UpdateKind::Configuration);
    assert_eq!(
        summary(&found),
        (Phase::Updating, configuration, "InPlaceUpdating")
    );
    let done = ("Updating", "False", "NotUpdating", "");
    let found = state(joined(NEW), &machine(NEW, &[UP_TO_DATE, done]));
    assert_eq!(found.phase, Phase::Completed);
}

#[test]
fn without_up_to_date_the_template_of_the_deployment_decides() {
    let found = state(joined(OLD), &v1beta1(machine(OLD, &[]), &[]));
    let version = Some(UpdateKind::Version);
    assert_eq!(summary(&found), (Phase::Pending, version, "Pending"));
    assert_eq!(
        state(joined(NEW), &machine(NEW, &[])).phase,
        Phase::Completed
    );
    // Another configuration is only visible by the taint.
    let tainted = shown(NEW, |shown| shown.is_outdated = true);
    let found = state(tainted, &machine(NEW, &[]));
    let configuration = Some(UpdateKind::Configuration);
    assert_eq!(summary(&found), (Phase::Pending, configuration, "Pending"));
}

#[test]
fn a_standalone_machine_has_the_desired_version_of_its_node() {
    let mut alone = machine(NEW, &[]);
    alone["metadata"]["labels"] = json!({"cluster.x-k8s.io/cluster-name": "prod"});
    let node = |version| shown(version, |shown| shown.owner_kind = OwnerKind::None);
    let found = state(node(OLD), &alone);
    assert_eq!(summary(&found).0, Phase::Pending);
    assert_eq!(desired(&found), Some((NEW, PROVIDER)));
    assert_eq!(found.pool_name().as_deref(), Some("standalone.machines"));
    let found = state(node(NEW), &alone);
    assert_eq!(found.phase, Phase::Completed);
    assert_eq!(desired(&found), Some((NEW, PROVIDER)));
}

#[test]
fn the_control_plane_of_kubeadm_has_the_desired_version_of_its_nodes() {
    let mut object = machine(OLD, &[OUTDATED]);
    object["metadata"]["labels"] = json!({"cluster.x-k8s.io/control-plane": ""});
    let mut world = World::with(&object);
    world.put::<KubeadmControlPlane>(&control_plane(NEW));
    let node = shown(OLD, |shown| {
        shown.owner_kind = OwnerKind::KubeadmControlPlane;
        shown.owner_name = "prod-cp".into();
    });
    let found = world.state_of(node);
    assert_eq!(found.phase, Phase::Pending);
    assert_eq!(desired(&found), Some((NEW, PROVIDER)));
    assert_eq!(found.scope, crate::api::types::Scope::ControlPlane);
}

#[test]
fn nodes_of_a_machine_pool_are_compared_with_its_template_whatever_up_to_date_says() {
    let mut world = World::new();
    world.put::<MachinePool>(&machine_pool(NEW));
    let found = world.state_of(pooled(OLD));
    let version = Some(UpdateKind::Version);
    assert_eq!(summary(&found), (Phase::Pending, version, "Pending"));
    assert_eq!(desired(&found), Some((NEW, PROVIDER)));
    assert_eq!(found.pool_name().as_deref(), Some("prod-mp-0.machinepools"));
    assert_eq!(
        world.state_of(pooled("v1.35.4-eks-1")).phase,
        Phase::Completed
    );
    let drained = world.state_of(pooled(OLD).cordoned());
    assert_eq!(drained.phase, Phase::Draining);

    // With Machines, the condition is True until they are deleted.
    let mut object = machine(OLD, &[UP_TO_DATE]);
    object["metadata"]["labels"] = json!({"cluster.x-k8s.io/pool-name": "prod-mp-0"});
    world.put::<Machine>(&object);
    assert_eq!(summary(&world.state_of(pooled(OLD))).0, Phase::Pending);
    assert_eq!(world.state_of(pooled(NEW)).phase, Phase::Completed);
    let fiction = (
        "UpToDate",
        "False",
        "NotUpToDate",
        "Machine is being deleted",
    );
    let terminating = ("Deleting", "True", "WaitingForInfrastructureDeletion", "");
    let mut leaving = deleted(machine(OLD, &[fiction, terminating]));
    leaving["metadata"]["labels"] = object["metadata"]["labels"].clone();
    world.put::<Machine>(&leaving);
    let found = world.state_of(pooled(OLD));
    assert_eq!(
        summary(&found),
        (Phase::Updating, version, "WaitingForInfrastructureDeletion")
    );
    let found = world.state_of(pooled(NEW));
    assert_eq!(summary(&found), (Phase::Completed, None, "BeingRemoved"));
}

#[test]
fn a_node_that_is_not_initialized_is_joining() {
    let new = shown(NEW, |shown| shown.is_new = true);
    let found = state(new.clone(), &machine(NEW, &[UP_TO_DATE]));
    assert_eq!(summary(&found), (Phase::Unknown, None, "Joining"));
    assert_eq!(
        summary(&World::empty().state_of(new)),
        (Phase::Unknown, None, "Joining")
    );
    let unready = joined(NEW).created(-5).with(|conditions| {
        let message = "container runtime network not ready";
        conditions.ready = Some(fixtures::condition(ConditionStatus::False, message, -4));
    });
    let found = state(unready, &machine(NEW, &[UP_TO_DATE]));
    assert_eq!(summary(&found), (Phase::Unknown, None, "Joining"));
}

#[test]
fn a_node_of_rancher_is_updated_in_place_unless_its_machine_is_replaced() {
    let rancher = |version| joined(version).label("rke.cattle.io/machine", "uid");
    let mut world = World::with(&machine(NEW, &[UP_TO_DATE]));
    let found = world.state_of(rancher(OLD));
    let version = Some(UpdateKind::Version);
    assert_eq!(summary(&found), (Phase::Pending, version, "Pending"));
    assert_eq!(
        world.state_of(rancher(OLD).cordoned()).phase,
        Phase::Draining
    );
    let silent = rancher(OLD).cordoned().not_ready(-60);
    assert_eq!(world.state_of(silent).phase, Phase::Rebooting);
    assert_eq!(world.state_of(rancher(NEW)).phase, Phase::Completed);
    // A Machine without a version is never what this condition wants.
    let changing = (
        "UpToDate",
        "False",
        "Updating",
        "* kubeletVersion v1.35.4,  required",
    );
    let mut without = machine(NEW, &[changing]);
    without["spec"]["version"] = Value::Null;
    world.put::<Machine>(&without);
    assert_eq!(world.state_of(rancher(NEW)).phase, Phase::Completed);

    let draining = ("Deleting", "True", "DrainingNode", "");
    world.put::<Machine>(&deleted(machine(OLD, &[OUTDATED, draining])));
    assert_eq!(world.state_of(rancher(OLD)).updating.reason, "DrainingNode");
}
