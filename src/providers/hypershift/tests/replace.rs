//! Nodes that are replaced.

use super::*;

fn guest() -> Guest {
    Guest::new(NEW)
}

#[test]
fn the_taint_of_an_older_revision_makes_a_node_outdated_whatever_its_version() {
    assert_eq!(
        guest().seen(Hosted::new(NEW).outdated()),
        (Phase::Pending, "Pending", Some(UpdateKind::Configuration))
    );
    assert_eq!(
        guest().seen(Hosted::new(OLD).outdated()),
        (Phase::Pending, "Pending", Some(UpdateKind::Version))
    );
}

#[test]
fn an_outdated_node_is_drained_and_terminated() {
    let outdated = || Hosted::new(OLD).outdated();
    assert_eq!(
        guest().seen(outdated().cordoned()),
        (Phase::Draining, "Draining", Some(UpdateKind::Version))
    );
    let silent = guest().state_of(outdated().cordoned().not_ready(-60));
    assert_eq!(
        (silent.phase, silent.updating.reason),
        (Phase::Updating, "Terminating")
    );
    assert_eq!(silent.again_at, Some(at(-60) + REPLACED.limit));
    let deleted = outdated().with(|node| node.deleting = true);
    assert_eq!(
        guest().seen(deleted),
        (
            Phase::Updating,
            "BeingReplaced",
            Some(UpdateKind::Replacement)
        )
    );
}

#[test]
fn a_new_node_is_joining_until_it_is_initialized() {
    let mut joining = Hosted::new(NEW);
    let key = "node.cluster.x-k8s.io/uninitialized";
    joining.taints.push([key, "", "NoSchedule", ""]);
    let state = guest().state_of(joining);
    assert_eq!(
        (state.phase, state.updating.reason),
        (Phase::Unknown, JOINING)
    );
}

#[test]
fn the_cordon_of_a_current_node_is_no_update() {
    let state = guest().state_of(Hosted::new(NEW).cordoned());
    assert_eq!((state.phase, state.kind), (Phase::Completed, None));
    assert!(state.cordoned_by.unwrap().is_foreign);
}

#[test]
fn an_outdated_revision_is_replaced_also_beside_nodes_that_were_updated_in_place() {
    let neighbour = Hosted::new(NEW).configs("b", "b", "Done");
    let guest = guest().and(neighbour);
    let drained = Hosted::new(OLD).outdated().cordoned();
    assert_eq!(guest.seen(drained).0, Phase::Draining);
}
