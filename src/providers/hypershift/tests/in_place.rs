//! Nodes that are updated in place.

use super::*;

/// Configs are hashes.
const A: &str = "3d4f9a1c";
const B: &str = "9b2e7c05";

/// A node whose desired config is B.
fn retargeted(state: &str) -> Hosted {
    Hosted::new(OLD).configs(A, B, state)
}

fn draining() -> Hosted {
    retargeted("Working").daemon(&[
        ("desiredDrain", "drain-b"),
        ("lastAppliedDrain", "uncordon-a"),
    ])
}

/// The API server has been updated before.
fn guest() -> Guest {
    Guest::new(NEW)
}

#[test]
fn an_update_in_place_passes_every_step_and_keeps_its_kind() {
    let drained = [("desiredDrain", "drain-b"), ("lastAppliedDrain", "drain-b")];
    let rebooting = [("post-config-action", "Rebooting")];
    let uncordon = [
        ("desiredDrain", "uncordon-b"),
        ("lastAppliedDrain", "drain-b"),
    ];
    let uncordoned = [
        ("desiredDrain", "uncordon-b"),
        ("lastAppliedDrain", "uncordon-b"),
    ];
    let before = Hosted::new(OLD).configs(A, A, "Done");
    let applying = retargeted("Working").daemon(&drained).cordoned();
    let away = applying.clone().daemon(&rebooting);
    let back = away.clone().with(|node| {
        node.kubelet_version = NEW.into();
        node.boot_id = "two".into();
    });
    let asking = back.clone().configs(B, B, "Done").daemon(&uncordon);
    let done = asking
        .clone()
        .daemon(&uncordoned)
        .with(|node| node.unschedulable = false);
    let steps = [
        (before, Phase::Pending, "Pending"),
        (retargeted("Done"), Phase::Updating, "Updating"),
        (draining().cordoned(), Phase::Draining, "Draining"),
        (applying, Phase::Updating, "Updating"),
        (away.clone(), Phase::Rebooting, "Rebooting"),
        (away.not_ready(-30), Phase::Rebooting, "Rebooting"),
        // Nothing empties the annotation, so it ends with the update.
        (back, Phase::Rebooting, "Rebooting"),
        (asking, Phase::Updating, "Uncordoning"),
        (done, Phase::Completed, "Updated"),
    ];
    let guest = guest();
    let mut past: Option<NodeState> = None;
    for (node, phase, reason) in steps {
        let state = guest.state_after(node, past.as_ref());
        assert_eq!((state.phase, state.updating.reason), (phase, reason));
        let kind = (phase != Phase::Completed).then_some(UpdateKind::Version);
        assert_eq!(state.kind, kind, "{reason}");
        past = Some(state);
    }
    let done = past.unwrap();
    assert_eq!(done.version.as_deref(), Some(NEW));
    assert_eq!(done.available.status, ConditionStatus::True);
}

#[test]
fn the_first_update_of_a_node_begins_without_a_current_config() {
    let first = Hosted::new(NEW).daemon(&[("desiredConfig", B)]);
    assert_eq!(
        guest().seen(first),
        (Phase::Updating, "Updating", Some(UpdateKind::Configuration))
    );
}

#[test]
fn a_node_that_is_not_ready_while_its_configs_differ_reboots() {
    let state = guest().state_of(retargeted("Working").not_ready(-300));
    assert_eq!(state.phase, Phase::Rebooting);
    let since = at(-300);
    let message = &state.updating.message;
    assert!(
        message.contains(&format!("ready since {since}")),
        "{message}"
    );
}

#[test]
fn a_post_config_action_that_is_left_over_means_nothing_while_the_configs_are_equal() {
    let done = Hosted::new(NEW)
        .configs(B, B, "Done")
        .daemon(&[("post-config-action", "Rebooting")]);
    assert_eq!(guest().seen(done.clone()).0, Phase::Completed);
    assert_eq!(guest().seen(done.not_ready(-30)).0, Phase::Completed);
}

#[test]
fn an_updated_node_is_in_progress_until_its_daemon_is_done_and_it_is_uncordoned() {
    let working = Hosted::new(NEW).configs(B, B, "Working");
    assert_eq!(guest().seen(working).1, "Completing");
    let asking = Hosted::new(NEW)
        .configs(B, B, "Done")
        .daemon(&[
            ("desiredDrain", "uncordon-b"),
            ("lastAppliedDrain", "drain-b"),
        ])
        .cordoned();
    let state = guest().state_of(asking);
    assert_eq!(state.updating.reason, "Uncordoning");
    let cordon = state.cordoned_by.unwrap();
    assert_eq!(
        (cordon.by.kind, cordon.is_foreign),
        (CordonerKind::Updater, false)
    );
}

#[test]
fn equal_configs_are_outdated_only_by_the_kubelet() {
    let rest = |kubelet| Hosted::new(kubelet).configs(A, A, "Done");
    assert_eq!(
        guest().seen(rest(OLD)),
        (Phase::Pending, "Pending", Some(UpdateKind::Version))
    );
    assert_eq!(guest().seen(rest(NEW)), (Phase::Completed, "Updated", None));
    let silent = guest().state_of(rest(OLD).not_ready(-7200));
    assert_eq!(silent.phase, Phase::Pending);
    assert!(silent.updating.message.contains("not been ready since"));
    // Nothing has asked for a drain: the cordon is a user's.
    let state = guest().youngest(NEW).state_of(rest(OLD).cordoned());
    assert_eq!(state.phase, Phase::Pending);
    assert!(state.cordoned_by.unwrap().is_foreign);
}

#[test]
fn a_degraded_node_says_why_and_stops_the_nodes_of_its_pool_that_wait() {
    let degraded = || retargeted("Degraded").daemon(&[("reason", "disk full\nno space")]);
    let guest = guest().and(degraded());
    let state = guest.state_of(degraded());
    assert_eq!(state.phase, Phase::Updating);
    assert_eq!(state.degraded.status, ConditionStatus::True);
    assert_eq!(&*state.degraded.message, "disk full\nno space");

    let waiting = Hosted::new(OLD).configs(A, A, "Done");
    assert_eq!(guest.seen(waiting.clone()).1, "PoolDegraded");
    // Also one that was never updated.
    assert_eq!(guest.seen(Hosted::new(OLD)).1, "PoolDegraded");
    let mut labels = waiting.clone();
    labels.object.labels = Labels::new([(NODE_POOL_LABEL, "others")]);
    assert_eq!(guest.seen(labels).1, "Pending", "another pool goes on");
    let current = Hosted::new(NEW).configs(B, B, "Done");
    assert_eq!(guest.seen(current).0, Phase::Completed);
}

#[test]
fn a_degraded_node_that_runs_its_config_is_degraded_and_nothing_else() {
    let drifted = Hosted::new(NEW)
        .configs(B, B, "Degraded")
        .daemon(&[("reason", "unexpected on-disk state")]);
    let state = guest().state_of(drifted);
    assert_eq!(state.phase, Phase::Completed);
    assert_eq!(state.degraded.status, ConditionStatus::True);
}

#[test]
fn a_node_is_unavailable_while_its_daemon_works_on_it() {
    let state = guest().state_of(retargeted("Working"));
    assert_eq!(
        (state.available.status, state.available.reason),
        (ConditionStatus::False, "Processing")
    );
    let state = guest().state_of(draining().cordoned());
    assert_eq!(state.available.reason, "Unschedulable");
}

#[test]
fn a_config_without_a_known_state_of_the_daemon_is_unknown() {
    for state in ["", "Dancing"] {
        let odd = Hosted::new(NEW).configs(B, B, state);
        let found = guest().state_of(odd);
        assert_eq!(
            (found.phase, found.updating.reason),
            (Phase::Unknown, "DaemonStateUnknown")
        );
    }
}

#[test]
fn a_node_that_was_never_updated_is_current_unless_its_kubelet_is_behind() {
    let neighbour = Hosted::new(NEW).configs(B, B, "Done");
    let guest = guest().and(neighbour).youngest(NEW);
    assert_eq!(guest.seen(Hosted::new(NEW)).0, Phase::Completed);
    assert_eq!(guest.seen(Hosted::new(OLD)).0, Phase::Pending);
    // In a pool that is updated in place, a cordon that nothing asked for is no drain.
    assert_eq!(guest.seen(Hosted::new(OLD).cordoned()).0, Phase::Pending);
}

#[test]
fn a_node_that_is_deleted_is_replaced_or_removed() {
    let deleted = |kubelet| {
        let node = Hosted::new(kubelet).configs(A, A, "Done");
        node.with(|node| node.deleting = true)
    };
    assert_eq!(guest().seen(deleted(OLD)).1, "BeingReplaced");
    assert_eq!(guest().seen(deleted(NEW)).1, "BeingDeleted");
}

#[test]
fn huge_annotations_and_versions_that_cannot_be_read_panic_nowhere() {
    let huge = "ä\u{7}".repeat(20_000);
    for node in [
        Hosted::new(&huge).configs(&huge, "b", "Working"),
        Hosted::new("latest").configs("a", &huge, &huge),
        Hosted::new("").configs(&huge, &huge, "Done"),
        Hosted::new(&huge).daemon(&[("desiredDrain", &huge), ("state", "Degraded")]),
    ] {
        let state = guest().state_of(node);
        assert!(state.updating.message.chars().count() <= 32_768);
    }
}
