//! Image mode: pools with an image of their own.

use serde_json::json;

use super::*;
use crate::providers::fixtures::{NEW, NEW_VERSION, OLD, openshift, paused, pool, worker};
use crate::providers::openshift::image::BuildState;

const BUILT: &str = "registry.example.com/os@sha256:new";
const BEFORE: &str = "registry.example.com/os@sha256:old";

/// The MachineOSConfig of pool `worker`, with the image that was built last.
fn os_config(image: Option<&str>) -> Value {
    json!({
        "apiVersion": "machineconfiguration.openshift.io/v1", "kind": "MachineOSConfig",
        "metadata": {
            "name": "layered",
            "annotations": {"machineconfiguration.openshift.io/current-machine-os-build": "layered-1"},
        },
        "spec": {
            "machineConfigPool": {"name": "worker"},
            "imageBuilder": {"imageBuilderType": "Job"},
            "renderedImagePushSpec": "registry.example.com/os:latest",
        },
        "status": {"currentImagePullSpec": image, "observedGeneration": 1},
    })
}

/// A build of that MachineOSConfig for a rendered config, with this condition.
fn build(name: &str, config: &str, condition: &str, image: Option<&str>) -> Value {
    json!({
        "apiVersion": "machineconfiguration.openshift.io/v1", "kind": "MachineOSBuild",
        "metadata": {"name": name},
        "spec": {
            "machineConfig": {"name": config}, "machineOSConfig": {"name": "layered"},
            "renderedImagePushSpec": "registry.example.com/os:latest",
        },
        "status": {
            "digestedImagePushSpec": image,
            "conditions": [
                {"type": "Prepared", "status": "True", "reason": "Prepared", "message": ""},
                {"type": condition, "status": "True", "reason": condition, "message": "no space\non disk"},
            ],
        },
    })
}

fn world(os_config: &Value, builds: &[Value]) -> World {
    let mut world = World::new(&openshift([pool("worker", NEW)]));
    world.put::<MachineOsConfig>(os_config);
    for build in builds {
        world.put::<MachineOsBuild>(build);
    }
    world
}

fn with_image(image: &str) -> NodeBuilder {
    worker(NEW, NEW).images(image, image)
}

const WAITS: (Phase, &str, Option<UpdateKind>) =
    (Phase::Pending, "Pending", Some(UpdateKind::Image));

#[test]
fn a_node_that_does_not_have_the_image_of_its_pool_is_pending_for_it() {
    let succeeded = [build("layered-1", NEW, "Succeeded", Some(BUILT))];
    for world in [
        world(&os_config(Some(BUILT)), &succeeded),
        // The MachineOSConfig follows its build.
        world(&os_config(Some(BEFORE)), &succeeded),
        world(&os_config(Some(BUILT)), &[]),
    ] {
        for node in [worker(NEW, NEW), with_image(BEFORE)] {
            assert_eq!(world.seen(node.clone()), WAITS);
            let message = world.state_of(node).updating.message;
            assert!(message.ends_with(BUILT), "{message}");
        }
        assert_eq!(
            world.seen(with_image(BUILT)),
            (Phase::Completed, "Updated", None)
        );
    }
}

#[test]
fn a_node_with_the_desired_image_is_being_updated_and_its_pool_is_not_read() {
    let mut world = world(&os_config(Some(BUILT)), &[]);
    let rolling = || {
        worker(NEW, NEW)
            .images(BEFORE, BUILT)
            .daemon(DaemonState::Working)
    };
    let updating = (Phase::Updating, "Updating", Some(UpdateKind::Image));
    assert_eq!(world.seen(rolling()), updating);
    world.reject::<MachineOsConfig>();
    assert_eq!(world.seen(rolling()), updating);
}

#[test]
fn while_the_image_is_being_built_its_nodes_wait_for_it() {
    let waits = (Phase::Pending, "WaitingForImage", Some(UpdateKind::Image));
    let never_built = world(&os_config(None), &[]);
    assert_eq!(never_built.seen(worker(NEW, NEW)), waits);
    for condition in ["Building", "Interrupted"] {
        let building = build("layered-1", NEW, condition, None);
        let world = world(&os_config(Some(BEFORE)), &[building]);
        assert_eq!(world.seen(with_image(BEFORE)), waits, "{condition}");
    }
    // A new version needs a new image as well.
    let building = build("layered-1", NEW, "Building", None);
    let world = world(&os_config(Some(BEFORE)), &[building]);
    let outdated = worker(OLD, OLD).images(BEFORE, BEFORE);
    assert_eq!(
        world.seen(outdated),
        (Phase::Pending, "WaitingForImage", Some(UpdateKind::Version))
    );
}

#[test]
fn a_failed_build_is_named_and_the_node_is_not_degraded() {
    let failed = build("layered-1", NEW, "Failed", None);
    let world = world(&os_config(Some(BEFORE)), &[failed]);
    let state = world.state_of(with_image(BEFORE));
    assert_eq!(
        (state.phase, state.updating.reason),
        (Phase::Pending, "ImageBuildFailed")
    );
    let message = &state.updating.message;
    assert!(message.ends_with("failed: no space on disk"), "{message}");
    assert_eq!(state.degraded.status, ConditionStatus::False);
}

#[test]
fn a_build_for_another_config_of_the_pool_says_nothing() {
    let other = build("layered-1", OLD, "Building", None);
    let current = build("layered-2", NEW, "Succeeded", Some(BUILT));
    let of_another = {
        let mut build = build("a-first", NEW, "Building", None);
        build["spec"]["machineOSConfig"]["name"] = "another".into();
        build
    };
    let world = world(&os_config(Some(BEFORE)), &[other, current, of_another]);
    assert_eq!(world.seen(with_image(BUILT)).0, Phase::Completed);
}

#[test]
fn the_image_of_another_pool_says_nothing() {
    let mut other = os_config(Some(BUILT));
    other["spec"]["machineConfigPool"]["name"] = "infra".into();
    let world = world(&other, &[]);
    assert_eq!(world.seen(worker(NEW, NEW)).0, Phase::Completed);
}

#[test]
fn a_node_of_a_paused_pool_that_lacks_the_image_is_paused() {
    let mut world = World::new(&openshift([paused(pool("worker", NEW))]));
    world.put::<MachineOsConfig>(&os_config(Some(BUILT)));
    assert_eq!(
        world.seen(worker(NEW, NEW)),
        (Phase::Paused, "Paused", Some(UpdateKind::Image))
    );
}

#[test]
fn where_there_are_no_machine_os_configs_the_annotation_of_the_pool_has_the_image() {
    let object = |image: &str| {
        json!({
            "metadata": {
                "name": "worker", "uid": "1",
                "labels": {"machineconfiguration.openshift.io/layering-enabled": ""},
                "annotations": {"machineconfiguration.openshift.io/newestImageEquivalentConfig": image},
            },
            "spec": {
                "configuration": {"name": NEW},
                "nodeSelector": {"matchLabels": {"node-role.kubernetes.io/worker": ""}},
            },
        })
    };
    let mut world = World::new(&openshift([]));
    world.set::<MachineOsConfig>(Availability::NotServed);
    world.put::<MachineConfigPool>(&object(BUILT));
    assert_eq!(world.seen(with_image(BEFORE)), WAITS);
    assert_eq!(world.seen(with_image(BUILT)).0, Phase::Completed);
    let mut plain = object(BUILT);
    plain["metadata"]["labels"] = json!({});
    world.put::<MachineConfigPool>(&plain);
    assert_eq!(world.seen(with_image(BEFORE)).0, Phase::Completed);
}

#[test]
fn without_machine_os_configs_a_node_waits_while_others_are_updated_to_another_image() {
    let mut world = World::new(&openshift([pool("worker", NEW)]));
    world.reject::<MachineOsConfig>();
    let updated = || with_image(BUILT);
    assert_eq!(world.seen(worker(NEW, NEW)).0, Phase::Completed);
    world.count(worker(NEW, NEW).images(BEFORE, BUILT));
    assert_eq!(world.seen(worker(NEW, NEW)), WAITS);
    assert_eq!(world.seen(with_image(BEFORE)), WAITS);
    assert_eq!(world.seen(updated()).0, Phase::Completed);
    // Nodes of other pools have other configs.
    assert_eq!(
        world.seen(worker(OLD, OLD)),
        (Phase::Pending, "Pending", Some(UpdateKind::Version))
    );
    // Only a node in image mode is known to need the kind.
    let message = world.state_of(updated()).updating.message;
    assert_eq!(&*message, "machineosconfigs cannot be read: forbidden");
    let message = world.state_of(worker(NEW, NEW)).updating.message;
    assert!(!message.contains("forbidden"), "{message}");
}

#[test]
fn without_builds_the_last_image_counts_and_the_node_says_what_is_missing() {
    let mut world = world(&os_config(Some(BUILT)), &[]);
    world.reject::<MachineOsBuild>();
    let state = world.state_of(with_image(BUILT));
    assert_eq!(state.phase, Phase::Completed);
    assert_eq!(
        &*state.updating.message,
        "machineosbuilds cannot be read: forbidden"
    );
}

#[test]
fn a_node_without_a_desired_config_is_evaluated_by_version_whatever_the_image() {
    let world = world(&os_config(Some(BUILT)), &[]);
    let node = crate::domain::fixtures::node("n")
        .role("worker")
        .current(NEW);
    let state = world.state_of(node);
    assert_eq!(
        (state.phase, state.version.as_deref()),
        (Phase::Completed, Some(NEW_VERSION))
    );
}

#[test]
fn objects_of_image_mode_are_parsed_to_what_matters() {
    let Parsed::Fact(config) = parse::<MachineOsConfig>(&os_config(Some(BUILT))) else {
        panic!("it is readable");
    };
    assert_eq!(
        (&*config.pool, config.build.as_deref()),
        ("worker", Some("layered-1"))
    );
    assert_eq!(config.image.as_deref(), Some(BUILT));
    let state = |build: &Value| match parse::<MachineOsBuild>(build) {
        Parsed::Fact(build) => build.state,
        other => panic!("{other:?}"),
    };
    let succeeded = build("a", NEW, "Succeeded", Some(BUILT));
    assert_eq!(state(&succeeded), BuildState::Succeeded(Some(BUILT.into())));
    // An image that is \u{7} only is no image; a build that has not begun has no status.
    assert_eq!(
        state(&build("a", NEW, "Succeeded", Some("\u{7}"))),
        BuildState::Succeeded(None)
    );
    let mut new = succeeded;
    new["status"] = Value::Null;
    assert_eq!(state(&new), BuildState::Running);
    let bad = json!({"metadata": {"name": "a"}, "spec": 1});
    assert!(matches!(
        parse::<MachineOsConfig>(&bad),
        Parsed::Unreadable(_)
    ));
    assert!(matches!(
        parse::<MachineOsBuild>(&bad),
        Parsed::Unreadable(_)
    ));
}
