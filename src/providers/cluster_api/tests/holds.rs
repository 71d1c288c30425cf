//! What keeps outdated nodes from being updated.

use super::*;

const PAUSED: &str = "cluster.x-k8s.io/paused";

fn paused_world(change: impl FnOnce(&mut World)) -> World {
    let mut world = World::with(&machine(OLD, &[OUTDATED]));
    change(&mut world);
    world
}

#[test]
fn an_outdated_node_is_paused_by_its_cluster_its_deployment_or_its_machine() {
    let with_spec = || {
        let mut paused = deployment(NEW);
        paused["spec"]["paused"] = true.into();
        paused
    };
    let annotated = |value| with_annotation(deployment(NEW), PAUSED, value);
    let object = |value| with_annotation(machine(OLD, &[OUTDATED]), PAUSED, value);
    for (world, what) in [
        (
            paused_world(|world| world.put::<super::Cluster>(&cluster(true))),
            "The Cluster is paused",
        ),
        (
            paused_world(|world| world.put::<MachineDeployment>(&with_spec())),
            "MachineDeployment prod-md-0 is paused (spec.paused)",
        ),
        (
            paused_world(|world| world.put::<MachineDeployment>(&annotated(""))),
            "MachineDeployment prod-md-0 is paused (annotation cluster.x-k8s.io/paused)",
        ),
        (
            paused_world(|world| world.put::<Machine>(&object("true"))),
            "Machine clusters/prod-md-0-7x2kq-bn4rt is paused",
        ),
    ] {
        let state = world.state_of(joined(OLD));
        let version = Some(UpdateKind::Version);
        assert_eq!(summary(&state), (Phase::Paused, version, "Paused"));
        let message = &state.updating.message;
        assert!(message.starts_with(what), "{message}");
    }
    for world in [
        paused_world(|world| world.put::<MachineDeployment>(&annotated("false"))),
        paused_world(|world| world.put::<Machine>(&object("false"))),
    ] {
        assert_eq!(world.state_of(joined(OLD)).phase, Phase::Pending);
    }
}

#[test]
fn a_drain_does_not_go_on_while_it_is_paused_and_a_current_node_is_not_paused() {
    let draining = ("Deleting", "True", "DrainingNode", "");
    let object = deleted(machine(OLD, &[OUTDATED, draining]));
    let mut world = World::with(&object);
    assert_eq!(world.state_of(joined(OLD)).phase, Phase::Draining);
    world.put::<super::Cluster>(&cluster(true));
    assert_eq!(world.state_of(joined(OLD)).phase, Phase::Paused);
    world.put::<Machine>(&machine(NEW, &[UP_TO_DATE]));
    assert_eq!(world.state_of(joined(NEW)).phase, Phase::Completed);
}

#[test]
fn a_version_that_is_changed_while_the_cluster_is_paused_pauses_its_nodes() {
    let mut world = World::with(&machine(OLD, &[UP_TO_DATE]));
    world.put::<super::Cluster>(&cluster(true));
    let state = world.state_of(joined(OLD));
    let version = Some(UpdateKind::Version);
    assert_eq!(summary(&state), (Phase::Paused, version, "Paused"));
    assert_eq!(desired(&state).unwrap().0, NEW);
}

#[test]
fn the_annotation_on_the_cluster_pauses_no_node() {
    let annotated = with_annotation(cluster(false), PAUSED, "true");
    let world = paused_world(|world| world.put::<super::Cluster>(&annotated));
    assert_eq!(world.state_of(joined(OLD)).phase, Phase::Pending);
}

#[test]
fn without_the_cluster_the_machine_reports_that_it_is_paused() {
    let paused = (
        "Paused",
        "True",
        "Paused",
        "* Cluster spec.paused is set to true",
    );
    let mut world = World::with(&machine(OLD, &[OUTDATED, paused]));
    assert_eq!(world.state_of(joined(OLD)).phase, Phase::Pending);
    world.reject("clusters");
    let state = world.state_of(joined(OLD));
    assert_eq!(state.phase, Phase::Paused);
    let message = &state.updating.message;
    assert!(
        message.ends_with(" | clusters cannot be read: forbidden"),
        "{message}"
    );
}

#[test]
fn with_the_strategy_on_delete_a_user_has_to_delete_the_machine() {
    let mut modern = deployment(NEW);
    modern["spec"]["rollout"]["strategy"] = json!({"type": "OnDelete"});
    let mut before = deployment(NEW);
    before["spec"]["rollout"] = Value::Null;
    before["spec"]["strategy"] = json!({"type": "OnDelete"});
    for deployment in [modern, before] {
        let mut world = World::with(&machine(OLD, &[OUTDATED]));
        world.put::<MachineDeployment>(&deployment);
        let state = world.state_of(joined(OLD));
        let version = Some(UpdateKind::Version);
        assert_eq!(summary(&state), (Phase::Pending, version, "OnDelete"));
        let message = &state.updating.message;
        assert!(
            message.ends_with("a user has to delete Machine clusters/prod-md-0-7x2kq-bn4rt"),
            "{message}"
        );
        let draining = ("Deleting", "True", "DrainingNode", "");
        world.put::<Machine>(&deleted(machine(OLD, &[OUTDATED, draining])));
        assert_eq!(world.state_of(joined(OLD)).phase, Phase::Draining);
    }
}

fn scheduled(after: i64, machine: &Value) -> NodeState {
    let mut modern = deployment(NEW);
    modern["spec"]["rollout"]["after"] = at(after).to_string().into();
    let mut before = deployment(NEW);
    before["spec"]["rolloutAfter"] = at(after).to_string().into();
    let states = [modern, before].map(|deployment| {
        let mut world = World::with(machine);
        world.put::<MachineDeployment>(&deployment);
        world.state_of(joined(NEW))
    });
    assert_eq!(states[0], states[1]);
    let [state, _] = states;
    state
}

#[test]
fn a_machine_that_is_older_than_rollout_after_is_pending_until_then() {
    let replacement = Some(UpdateKind::Replacement);
    let state = scheduled(3_600, &machine(NEW, &[UP_TO_DATE]));
    assert_eq!(
        summary(&state),
        (Phase::Pending, replacement, "RolloutAfter")
    );
    assert_eq!(state.again_at, Some(at(3_600)));
    assert!(state.updating.message.contains(&at(3_600).to_string()));

    let state = scheduled(-60, &machine(NEW, &[UP_TO_DATE]));
    assert_eq!(summary(&state), (Phase::Pending, replacement, "Pending"));
    assert_eq!(state.again_at, None);

    // A younger Machine is the result of that rollout.
    let state = scheduled(-90_000, &machine(NEW, &[UP_TO_DATE]));
    assert_eq!(state.phase, Phase::Completed);

    // A change of the template does not wait for the time.
    let state = scheduled(3_600, &machine(OLD, &[OUTDATED]));
    assert_eq!(state.updating.reason, "Pending");
    assert_eq!(state.again_at, Some(at(3_600)));
}

#[test]
fn a_deployment_that_cannot_create_machines_is_in_the_message() {
    let mut blocked = deployment(NEW);
    let why =
        "Scaling up from 3 to 4 replicas is blocked because DockerMachineTemplate does not exist";
    let scaling = condition(("ScalingUp", "True", "ScalingUp", why));
    blocked["status"]["conditions"] = json!([scaling]);
    let world = paused_world(|world| world.put::<MachineDeployment>(&blocked));
    let message = world.state_of(joined(OLD)).updating.message;
    assert!(
        message.ends_with(&format!("; MachineDeployment prod-md-0: {why}")),
        "{message}"
    );
    let busy = condition((
        "ScalingUp",
        "True",
        "ScalingUp",
        "Scaling up from 3 to 4 replicas",
    ));
    blocked["status"]["conditions"] = json!([busy]);
    let world = paused_world(|world| world.put::<MachineDeployment>(&blocked));
    let message = world.state_of(joined(OLD)).updating.message;
    assert!(message.ends_with("waits for its turn"), "{message}");
}

/// A Cluster with a topology, in which `annotation` is on the MachineDeployment at this place.
fn topology(version: &str, annotation: Option<(usize, &str)>) -> Value {
    let mut cluster = cluster(false);
    cluster["spec"]["topology"] = json!({
        "classRef": {"name": "quick-start"}, "version": version,
        "workers": {"machineDeployments": [
            {"class": "default", "name": "first"}, {"class": "default", "name": "md-0"},
        ]},
    });
    if let Some((place, annotation)) = annotation {
        let groups = &mut cluster["spec"]["topology"]["workers"]["machineDeployments"];
        groups[place]["metadata"] = json!({"annotations": {annotation: ""}});
    }
    cluster
}

fn owned_by_topology() -> Value {
    let mut owned = deployment(OLD);
    owned["metadata"]["labels"] = json!({
        "topology.cluster.x-k8s.io/owned": "", "topology.cluster.x-k8s.io/deployment-name": "md-0",
    });
    owned
}

#[test]
fn a_pool_of_a_topology_waits_until_the_cluster_updates_it_or_is_held_back() {
    let defer = "topology.cluster.x-k8s.io/defer-upgrade";
    let hold = "topology.cluster.x-k8s.io/hold-upgrade-sequence";
    for (annotation, phase, reason) in [
        (None, Phase::Pending, "WaitingForTopology"),
        (Some((1, defer)), Phase::Paused, "UpgradeHeld"),
        (Some((0, defer)), Phase::Pending, "WaitingForTopology"),
        (Some((1, hold)), Phase::Paused, "UpgradeHeld"),
        // It holds back all that follow.
        (Some((0, hold)), Phase::Paused, "UpgradeHeld"),
    ] {
        let mut world = World::with(&machine(OLD, &[UP_TO_DATE]));
        world.put::<super::Cluster>(&topology(NEW, annotation));
        world.put::<MachineDeployment>(&owned_by_topology());
        world.count(joined(OLD));
        let state = world.state_of(joined(OLD));
        let version = Some(UpdateKind::Version);
        assert_eq!(summary(&state), (phase, version, reason), "{annotation:?}");
        assert_eq!(desired(&state).unwrap().0, NEW);
        let pool = world.describe(state.pool.as_ref().unwrap());
        assert_eq!(pool.paused, phase == Phase::Paused);
        assert_eq!(&*pool.desired.unwrap().version, NEW);
        assert_eq!(pool.configured_version.as_deref(), Some(OLD));
    }
    let mut world = World::with(&machine(OLD, &[UP_TO_DATE]));
    world.put::<super::Cluster>(&topology(OLD, None));
    world.put::<MachineDeployment>(&owned_by_topology());
    assert_eq!(world.state_of(joined(OLD)).phase, Phase::Completed);
    // What the topology does not own has its own version.
    world.put::<super::Cluster>(&topology(NEW, None));
    world.put::<MachineDeployment>(&deployment(OLD));
    assert_eq!(world.state_of(joined(OLD)).phase, Phase::Completed);
}
