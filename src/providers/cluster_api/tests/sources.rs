//! Missing, unreadable and contradictory objects.

use super::*;
use crate::api::types::CordonerKind;

fn tainted(version: &str) -> NodeBuilder {
    shown(version, |shown| shown.is_outdated = true)
}

/// Without the kinds, with objects of other clusters only, and without the permission to read them.
fn without_objects() -> [World; 3] {
    let mut unserved = World::empty();
    for plural in [
        "machines",
        "machinedeployments",
        "machinepools",
        "clusters",
        "kubeadmcontrolplanes",
    ] {
        unserved.set(plural, Availability::NotServed);
    }
    let mut elsewhere = World::empty();
    let mut foreign = deployment("v1.30.0");
    foreign["spec"]["clusterName"] = "dev".into();
    elsewhere.put::<MachineDeployment>(&foreign);
    let mut foreign = machine("v1.30.0", &[OUTDATED]);
    foreign["spec"]["clusterName"] = "dev".into();
    elsewhere.put::<Machine>(&foreign);
    let mut rejected = World::with(&machine(OLD, &[UP_TO_DATE]));
    for plural in ["machines", "machinedeployments", "clusters"] {
        rejected.reject(plural);
    }
    [unserved, elsewhere, rejected]
}

#[test]
fn without_objects_the_taints_remain() {
    let configuration = Some(UpdateKind::Configuration);
    let version = Some(UpdateKind::Version);
    for world in without_objects() {
        let seen = |node| summary(&world.state_of(node));
        let current = "v1.36.1";
        assert_eq!(seen(joined(current)).0, Phase::Completed);
        assert_eq!(
            seen(tainted(current)),
            (Phase::Pending, configuration, "Pending")
        );
        assert_eq!(
            seen(tainted(current).cordoned()),
            (Phase::Draining, configuration, "Draining")
        );
        assert_eq!(
            seen(tainted(OLD).cordoned()),
            (Phase::Draining, version, "Draining")
        );
        assert_eq!(
            seen(tainted(current).cordoned().not_ready(-60)),
            (Phase::Updating, configuration, "Terminating")
        );
        // Behind the API server, which is a limit and no order.
        assert_eq!(seen(joined(OLD).cordoned()).0, Phase::Pending);
    }
}

#[test]
fn the_cordon_of_another_tool_is_no_drain_of_a_tainted_node() {
    let autoscaler = Cordoner::new(CordonerKind::Autoscaler, "cluster-autoscaler");
    for node in [
        tainted(OLD).cordoned_by(autoscaler, -60),
        tainted(OLD).cordoned().removed_by_autoscaler(),
    ] {
        assert_eq!(World::empty().state_of(node).phase, Phase::Pending);
    }
    let [unserved, ..] = without_objects();
    let state = unserved.state_of(tainted(OLD).cordoned());
    assert_eq!(
        &*state.updating.message,
        "The outdated node is cordoned: Cluster API drains it"
    );
}

#[test]
fn what_cannot_be_read_is_in_the_message_where_it_is_needed() {
    let [unserved, elsewhere, rejected] = without_objects();
    for world in [unserved, elsewhere] {
        assert_eq!(&*world.state_of(joined("v1.36.1")).updating.message, "");
    }
    let message = rejected.state_of(joined("v1.36.1")).updating.message;
    assert_eq!(
        &*message,
        "machines cannot be read: forbidden | clusters cannot be read: forbidden | \
         machinedeployments cannot be read: forbidden"
    );
    let mut world = World::with(&machine(OLD, &[OUTDATED]));
    world.reject("machinedeployments");
    let state = world.state_of(joined(OLD));
    assert_eq!(state.phase, Phase::Pending);
    assert_eq!(state.desired, None, "the Machine has the old version");
    let message = &state.updating.message;
    assert!(
        message.ends_with(" | machinedeployments cannot be read: forbidden"),
        "{message}"
    );
    // Where the Machine is not here, its owner is not either.
    let [_, mut elsewhere, _] = without_objects();
    elsewhere.reject("machinedeployments");
    assert_eq!(&*elsewhere.state_of(joined("v1.36.1")).updating.message, "");
    // No node of a MachineDeployment needs these.
    let mut world = World::with(&machine(NEW, &[UP_TO_DATE]));
    world.reject("machinepools");
    world.reject("kubeadmcontrolplanes");
    assert_eq!(&*world.state_of(joined(NEW)).updating.message, "");
}

#[test]
fn without_machines_the_template_has_the_desired_version() {
    let mut world = World::new();
    world.reject("machines");
    let state = world.state_of(joined(OLD));
    assert_eq!(state.phase, Phase::Pending);
    assert_eq!(desired(&state).unwrap().0, NEW);
    assert_eq!(
        world.state_of(joined(OLD).cordoned()).phase,
        Phase::Draining
    );
    assert_eq!(world.state_of(joined(NEW)).phase, Phase::Completed);
}

#[test]
fn a_machine_is_found_by_its_name_or_by_its_provider_id() {
    let by_id = |node: &mut ClusterApiNode| node.machine = Box::default();
    let by_name = |node: &mut ClusterApiNode| node.provider_id = Box::default();
    let object = machine(OLD, &[OUTDATED]);
    assert_eq!(state(shown(OLD, by_id), &object).phase, Phase::Pending);
    assert_eq!(state(shown(OLD, by_name), &object).phase, Phase::Pending);
    let mut new = object;
    new["spec"]["providerID"] = Value::Null;
    assert_eq!(state(joined(OLD), &new).phase, Phase::Pending);
}

#[test]
fn contradictory_machines_are_unknown_and_named() {
    let named = |name: &str, namespace: &str, cluster: &str| {
        let mut object = machine(OLD, &[OUTDATED]);
        object["metadata"]["name"] = name.into();
        object["metadata"]["namespace"] = namespace.into();
        object["spec"]["clusterName"] = cluster.into();
        object
    };
    let mut world = World::with(&machine(OLD, &[OUTDATED]));
    world.put::<Machine>(&named("twin", "clusters", "prod"));
    let state = world.state_of(joined(OLD));
    assert_eq!(summary(&state), (Phase::Unknown, None, "MachineConflict"));
    assert_eq!(
        &*state.updating.message,
        "Several Machines claim the node: clusters/prod-md-0-7x2kq-bn4rt, clusters/twin"
    );
    // Machines of other clusters may have the same provider ID.
    let mut world = World::with(&machine(OLD, &[OUTDATED]));
    world.put::<Machine>(&named("other", "others", "prod"));
    assert_eq!(world.state_of(joined(OLD)).phase, Phase::Pending);

    let mut elsewhere = machine(OLD, &[OUTDATED]);
    elsewhere["spec"]["providerID"] = "docker:////other".into();
    let mut renamed = machine(OLD, &[OUTDATED]);
    renamed["status"]["nodeRef"]["name"] = "other".into();
    for (object, what) in [(elsewhere, "docker:////other"), (renamed, "Node other")] {
        let state = super::state(joined(OLD), &object);
        assert_eq!(state.updating.reason, "MachineConflict");
        assert!(
            state.updating.message.contains(what),
            "{:?}",
            state.updating
        );
    }
}

#[test]
fn a_node_whose_machine_is_gone_is_unknown_where_its_cluster_is() {
    let state = World::new().state_of(joined(OLD));
    assert_eq!(summary(&state), (Phase::Unknown, None, "NoMachine"));
    assert!(
        state
            .updating
            .message
            .contains("clusters/prod-md-0-7x2kq-bn4rt")
    );
    let state = World::new().state_of(joined(OLD).deleting());
    assert_eq!(summary(&state), (Phase::Completed, None, "BeingDeleted"));
    // A MachinePool may have none.
    assert_ne!(
        World::new().state_of(pooled(OLD)).updating.reason,
        "NoMachine"
    );
}

#[test]
fn a_version_that_cannot_be_read_is_unknown() {
    let mut world = World::new();
    world.put::<MachinePool>(&machine_pool("latest"));
    let state = world.state_of(pooled(OLD));
    assert_eq!(summary(&state), (Phase::Unknown, None, "VersionUnknown"));
    assert!(state.updating.message.ends_with("latest"));
}

#[test]
fn junk_is_unreadable_or_flawed_and_causes_no_panic() {
    for object in [
        json!({"spec": 1}),
        json!({"status": {"conditions": [1]}}),
        json!({"spec": {"version": {}}}),
        json!([]),
    ] {
        assert!(
            matches!(read::<Machine>(&object), Parsed::Unreadable(_)),
            "{object}"
        );
    }
    for object in [
        json!({"spec": {"template": 1}}),
        json!({"spec": {"paused": "yes"}}),
    ] {
        let found = read::<MachineDeployment>(&object);
        assert!(matches!(found, Parsed::Unreadable(_)), "{object}");
    }
    assert!(matches!(
        read::<super::Cluster>(&json!({"spec": {"paused": []}})),
        Parsed::Unreadable(_)
    ));
    let nulls = json!({
        "metadata": {"name": "x", "labels": null, "annotations": null},
        "spec": {"clusterName": null, "providerID": null, "deletion": null, "rollout": null, "topology": null},
        "status": {"conditions": null, "nodeRef": null, "deletion": null, "v1beta2": null},
    });
    assert_eq!(&*parsed::<Machine>(&nulls).cluster, "");
    assert_eq!(parsed::<MachineDeployment>(&nulls).0.version, None);
    assert_eq!(parsed::<super::Cluster>(&nulls), super::Cluster::default());
    assert_eq!(parsed::<Machine>(&json!({})).deletion, None);

    let mut odd = v1beta1(machine(OLD, &[OUTDATED]), &[]);
    odd["spec"]["nodeDrainTimeout"] = "a while".into();
    let Parsed::Flawed(fact, why) = read::<Machine>(&odd) else {
        panic!("the rest can be read");
    };
    assert!(
        fact.up_to_date.is_some() && why.contains("a while"),
        "{why}"
    );
    let mut odd = deployment(NEW);
    odd["spec"]["rollout"]["after"] = "tonight".into();
    let Parsed::Flawed(fact, why) = read::<MachineDeployment>(&odd) else {
        panic!("the rest can be read");
    };
    assert_eq!(fact.0.version.as_deref(), Some(NEW));
    assert!(why.contains("tonight"), "{why}");
}
