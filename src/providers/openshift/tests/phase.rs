//! Updated, updating, waiting, or unknown.

use super::*;
use crate::domain::fixtures::{NodeBuilder, node};
use crate::providers::fixtures::{
    NEW, NEW_VERSION, OLD, OLD_VERSION, openshift, paused, pool, worker,
};

const LAYERED: &str = "quay.io/os@sha256:new";
const PLAIN: &str = "quay.io/os@sha256:old";

/// Pool `worker` and the cluster have the desired config [`NEW`] and its version.
fn updating_cluster() -> ClusterFacts {
    openshift([pool("worker", NEW)])
}

fn seen(node: NodeBuilder, cluster: &ClusterFacts) -> (Phase, &'static str, Option<UpdateKind>) {
    let state = first_state(&node.build(), cluster);
    let expected = match state.phase {
        Phase::Unknown => ConditionStatus::Unknown,
        phase => phase.is_in_progress().into(),
    };
    assert_eq!(state.updating.status, expected, "{:?}", state.updating);
    (state.phase, state.updating.reason, state.kind)
}

// 1. It is unknown.

#[test]
fn a_node_without_current_and_desired_config_is_unknown() {
    let joining = node("n").role("worker");
    assert_eq!(
        seen(joining, &updating_cluster()),
        (Phase::Unknown, "NotManaged", None)
    );
}

#[test]
fn a_node_on_the_pools_config_of_unknown_version_is_unknown() {
    let mut cluster = updating_cluster();
    cluster.release_versions.remove(NEW);
    assert_eq!(
        seen(worker(NEW, NEW), &cluster),
        (Phase::Unknown, "VersionUnknown", None)
    );
    // Also with another desired config: the first case that applies decides.
    assert_eq!(
        seen(worker(NEW, OLD).daemon(DaemonState::Working), &cluster).0,
        Phase::Unknown
    );
}

#[test]
fn without_a_target_version_a_node_on_its_pools_config_is_unknown() {
    let mut cluster = updating_cluster();
    cluster.cluster_version = None;
    assert_eq!(
        seen(worker(NEW, NEW), &cluster),
        (Phase::Unknown, "TargetVersionUnknown", None)
    );
}

// 2. It is updated.

#[test]
fn a_node_on_the_target_version_and_the_pools_config_is_updated() {
    let state = first_state(&worker(NEW, NEW).build(), &updating_cluster());
    assert_eq!(
        (state.phase, state.kind, state.updating.reason),
        (Phase::Completed, None, "Updated")
    );
    assert_eq!(state.version.as_deref(), Some(NEW_VERSION));
    let desired = state.desired.unwrap();
    assert_eq!(&*desired.version, NEW_VERSION);
    assert_eq!(desired.source, DesiredVersionSource::ClusterVersion);
}

#[test]
fn a_node_that_runs_what_its_pool_wants_and_has_another_desired_config_is_being_updated() {
    let mut cluster = updating_cluster();
    cluster
        .release_versions
        .insert("rendered-worker-reverted".into(), NEW_VERSION.into());
    let leaving = |desired| worker(NEW, desired).daemon(DaemonState::Working);
    assert_eq!(
        seen(leaving("rendered-worker-reverted"), &cluster),
        (Phase::Updating, "Updating", Some(UpdateKind::Configuration))
    );
    // The config of another release.
    assert_eq!(
        seen(leaving(OLD), &cluster),
        (Phase::Updating, "Updating", Some(UpdateKind::Version))
    );
}

#[test]
fn a_node_without_a_desired_config_is_evaluated_by_version_only() {
    let mut cluster = updating_cluster();
    cluster
        .release_versions
        .insert("rendered-worker-other".into(), NEW_VERSION.into());
    let at_target = node("n").role("worker").current("rendered-worker-other");
    assert_eq!(seen(at_target, &cluster).0, Phase::Completed);
    let behind = node("n").role("worker").current(OLD);
    assert_eq!(
        seen(behind, &cluster),
        (Phase::Pending, "Pending", Some(UpdateKind::Version))
    );
}

#[test]
fn in_image_mode_a_node_is_updated_only_when_it_runs_the_desired_image_too() {
    let cluster = updating_cluster();
    let done = worker(NEW, NEW).images(LAYERED, LAYERED);
    assert_eq!(seen(done, &cluster).0, Phase::Completed);
    let rolling = worker(NEW, NEW)
        .images(PLAIN, LAYERED)
        .daemon(DaemonState::Working);
    assert_eq!(
        seen(rolling, &cluster),
        (Phase::Updating, "Updating", Some(UpdateKind::Image))
    );
}

#[test]
fn a_node_that_enters_image_mode_without_a_current_image_is_being_updated() {
    let node = worker(NEW, NEW)
        .daemon(DaemonState::Working)
        .machine_config(|facts| facts.desired_image = Some(LAYERED.into()));
    let state = first_state(&node.build(), &updating_cluster());
    assert_eq!(
        (state.phase, state.kind),
        (Phase::Updating, Some(UpdateKind::Image))
    );
    assert!(state.updating.message.contains(LAYERED));
}

// 3. It is being updated.

#[test]
fn a_retargeted_node_is_draining_until_the_daemon_has_begun() {
    let state = first_state(&worker(OLD, NEW).build(), &updating_cluster());
    assert_eq!(
        (state.phase, state.kind),
        (Phase::Draining, Some(UpdateKind::Version))
    );
    assert_eq!(state.version.as_deref(), Some(OLD_VERSION));
    assert!(state.updating.message.contains(NEW));
}

#[test]
fn a_requested_drain_is_draining_in_every_daemon_state() {
    for daemon in [
        DaemonState::Done,
        DaemonState::Working,
        DaemonState::Rebooting,
        DaemonState::Degraded,
        DaemonState::Other,
    ] {
        let draining = worker(OLD, NEW).daemon(daemon).drain_requested();
        assert_eq!(
            seen(draining, &updating_cluster()).0,
            Phase::Draining,
            "{daemon:?}"
        );
    }
}

#[test]
fn after_the_drain_the_daemon_state_decides_the_step() {
    for (daemon, phase) in [
        (DaemonState::Working, Phase::Updating),
        (DaemonState::Rebooting, Phase::Rebooting),
        (DaemonState::Degraded, Phase::Updating),
        (DaemonState::Unreconcilable, Phase::Updating),
        (DaemonState::Other, Phase::Updating),
    ] {
        let node = worker(OLD, NEW).daemon(daemon);
        assert_eq!(seen(node, &updating_cluster()).0, phase, "{daemon:?}");
    }
}

#[test]
fn a_node_reboots_from_the_post_config_action_until_it_is_emptied() {
    let working = || worker(OLD, NEW).daemon(DaemonState::Working);
    let announced = |node: NodeBuilder| node.machine_config(|facts| facts.reboot_announced = true);
    let cluster = updating_cluster();
    assert_eq!(
        seen(announced(working()), &cluster),
        (Phase::Rebooting, "Rebooting", Some(UpdateKind::Version))
    );
    assert_eq!(
        seen(announced(working()).not_ready(0), &cluster).0,
        Phase::Rebooting
    );
    assert_eq!(seen(working(), &cluster).0, Phase::Updating);
    // Before the daemon has begun, the annotation can only be a leftover.
    assert_eq!(
        seen(announced(worker(OLD, NEW)), &cluster).0,
        Phase::Draining
    );
}

#[test]
fn a_post_config_action_that_is_left_over_means_nothing_on_a_node_that_is_not_retargeted() {
    let leftover = |node: NodeBuilder| node.machine_config(|facts| facts.reboot_announced = true);
    let cluster = updating_cluster();
    assert_eq!(
        seen(leftover(worker(NEW, NEW)), &cluster).0,
        Phase::Completed
    );
    assert_eq!(seen(leftover(worker(OLD, OLD)), &cluster).0, Phase::Pending);
}

#[test]
fn a_retargeted_node_whose_old_machine_config_is_deleted_is_still_being_updated() {
    let mut cluster = updating_cluster();
    cluster.release_versions.remove(OLD);
    let state = first_state(
        &worker(OLD, NEW).daemon(DaemonState::Rebooting).build(),
        &cluster,
    );
    assert_eq!((state.phase, state.version), (Phase::Rebooting, None));
}

#[test]
fn a_retargeted_node_is_being_updated_when_the_pool_has_a_newer_config() {
    let cluster = openshift([pool("worker", "rendered-worker-newest")]);
    let node = worker(OLD, NEW).daemon(DaemonState::Working);
    assert_eq!(
        seen(node, &cluster),
        (Phase::Updating, "Updating", Some(UpdateKind::Version))
    );
}

#[test]
fn a_retargeted_node_is_being_updated_also_while_the_target_is_not_known() {
    let mut cluster = updating_cluster();
    cluster.cluster_version = None;
    let node = worker(OLD, NEW).daemon(DaemonState::Working);
    assert_eq!(seen(node, &cluster).0, Phase::Updating);
}

#[test]
fn a_retargeted_node_of_a_paused_pool_is_being_updated_not_paused() {
    let cluster = openshift([paused(pool("worker", NEW))]);
    let node = worker(OLD, NEW).daemon(DaemonState::Working);
    assert_eq!(seen(node, &cluster).0, Phase::Updating);
}

#[test]
fn a_node_that_has_no_current_config_yet_is_not_retargeted() {
    let joining = node("n").role("worker").desired(NEW);
    assert_eq!(seen(joining, &updating_cluster()).0, Phase::Pending);
}

// 4. It waits.

#[test]
fn an_outdated_node_that_is_not_retargeted_is_pending() {
    assert_eq!(
        seen(worker(OLD, OLD), &updating_cluster()),
        (Phase::Pending, "Pending", Some(UpdateKind::Version))
    );
}

#[test]
fn an_outdated_node_of_a_paused_pool_is_paused() {
    let cluster = openshift([paused(pool("worker", NEW))]);
    assert_eq!(
        seen(worker(OLD, OLD), &cluster),
        (Phase::Paused, "Paused", Some(UpdateKind::Version))
    );
    assert_eq!(seen(worker(NEW, NEW), &cluster).0, Phase::Completed);
}

#[test]
fn a_drain_annotation_on_a_node_that_is_not_retargeted_does_not_make_it_draining() {
    let node = worker(OLD, OLD).drain_requested();
    assert_eq!(seen(node, &updating_cluster()).0, Phase::Pending);
}

#[test]
fn a_node_at_the_target_version_that_is_not_on_the_pools_config_is_pending_for_its_configuration() {
    let mut cluster = openshift([pool("worker", "rendered-worker-tuned")]);
    cluster
        .release_versions
        .insert("rendered-worker-tuned".into(), NEW_VERSION.into());
    assert_eq!(
        seen(worker(NEW, NEW), &cluster),
        (Phase::Pending, "Pending", Some(UpdateKind::Configuration))
    );
    let rolling = worker(NEW, "rendered-worker-tuned").daemon(DaemonState::Working);
    assert_eq!(
        seen(rolling, &cluster),
        (Phase::Updating, "Updating", Some(UpdateKind::Configuration))
    );
}

#[test]
fn in_a_multi_arch_migration_nodes_that_are_not_retargeted_yet_are_pending() {
    // The same version twice in the history, with another image: the pool has another config of that version.
    let mut cluster = openshift([pool("worker", "rendered-worker-multi")]);
    cluster
        .release_versions
        .insert("rendered-worker-multi".into(), NEW_VERSION.into());
    let state = first_state(&worker(NEW, NEW).build(), &cluster);
    assert_eq!(state.phase, Phase::Pending);
    assert_eq!(state.version, state.desired.map(|desired| desired.version));
}

#[test]
fn a_pool_without_a_configuration_has_no_updated_managed_node() {
    let mut empty = pool("worker", NEW);
    empty.configuration = None;
    assert_eq!(
        seen(worker(NEW, NEW), &openshift([empty])).0,
        Phase::Pending
    );
}
