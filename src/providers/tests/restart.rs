//! A restart of the operator does not change evaluations.

use super::*;
use crate::api::node::condition;
use crate::domain::stalled::{Stall, StallReason};

/// Texts without invalid characters, few enough that two nodes often agree.
fn plain() -> impl Strategy<Value = String> + Clone {
    prop::sample::select(vec!["v1.31.2", "v1.32.0", "v1.33.0-rc.1", "a", "b"])
        .prop_map(str::to_owned)
}

fn cluster(version: &str, is_paused: bool) -> ClusterFacts {
    let pools = ["master", "worker", "infra"].map(|name| pool(name, "a"));
    let mut cluster = openshift(if is_paused { pools.map(paused) } else { pools });
    cluster
        .release_versions
        .extend([("a".into(), version.into()), ("b".into(), "a".into())]);
    cluster.cluster_version = Some("a".into());
    cluster.api_server_version = Some(version.into());
    cluster
}

/// The history of a restarted process: the status, as the API server returns it.
fn from_api(state: &NodeState) -> History {
    let json = serde_json::to_string(&project(state)).unwrap();
    History::from_status(&serde_json::from_str::<NodeProgressInsightStatus>(&json).unwrap())
}

proptest! {
    #[test]
    fn a_restarted_process_reports_what_the_previous_one_would_have_reported(
        seen in prop::collection::vec((facts(plain(), plain()), moment()), 2..12),
        version in plain(),
        is_paused in any::<bool>(),
    ) {
        let cluster = cluster(&version, is_paused);
        for providers in each_alone(&version) {
            let mut before: Option<NodeState> = None;
            for (node, now) in &seen {
                let retained = before.as_ref().map(History::from);
                let state = next_state(&providers, node, &cluster, retained.as_ref(), *now);
                let restored = before.as_ref().map(from_api);
                let restarted = next_state(&providers, node, &cluster, restored.as_ref(), *now);
                let mut expected = project(&state);
                let is_slow = |stall: &Stall| stall.reason >= StallReason::DrainSlow;
                let was_slow = before.and_then(|before| before.stall).is_some_and(|stall| is_slow(&stall));
                // No step becomes slow within ten minutes of a start.
                if !was_slow && restarted.stall.is_none() && state.stall.as_deref().is_some_and(is_slow) {
                    expected.conditions.retain(|each| each.type_ != condition::STALLED);
                }
                prop_assert_eq!(project(&restarted), expected);
                before = Some(state);
            }
        }
    }

    #[test]
    fn an_unchanged_node_that_is_evaluated_again_before_it_is_due_keeps_its_state_and_times(
        seen in prop::collection::vec(facts(plain(), plain()), 1..6),
        version in plain(),
        is_paused in any::<bool>(),
    ) {
        let cluster = cluster(&version, is_paused);
        for providers in each_alone(&version) {
            let mut past = None;
            for (minute, node) in (0..).zip(&seen) {
                let state = next_state(&providers, node, &cluster, past.as_ref(), at(60 * minute));
                let history = History::from(&state);
                let later = at(60 * minute + 30);
                if state.again_at.is_none_or(|due| later < due) {
                    let again = next_state(&providers, node, &cluster, Some(&history), later);
                    prop_assert_eq!(&again, &state);
                }
                past = Some(history);
            }
        }
    }

    #[test]
    fn no_time_is_in_the_future_and_times_of_unchanged_statuses_stay(
        seen in prop::collection::vec(facts(plain(), plain()), 1..12),
        version in plain(),
    ) {
        let cluster = cluster(&version, false);
        for providers in each_alone(&version) {
            let mut before: Option<NodeState> = None;
            for (minute, node) in (0..).zip(&seen) {
                let now = at(60 * minute);
                let past = before.as_ref().map(History::from);
                let state = next_state(&providers, node, &cluster, past.as_ref(), now);
                let of = |state: &NodeState| [&state.updating, &state.available, &state.degraded]
                    .map(|condition| (condition.status, condition.since));
                prop_assert!(of(&state).iter().all(|(_, since)| *since <= now));
                prop_assert!(state.phase_start <= now);
                if let Some(before) = &before {
                    for (old, new) in of(before).into_iter().zip(of(&state)) {
                        prop_assert!(old.0 != new.0 || old.1 == new.1, "{:?} {:?}", old, new);
                    }
                    let moved = before.phase_start != state.phase_start;
                    prop_assert_eq!(moved, before.phase != state.phase);
                }
                let last = state.timeline.last().unwrap();
                prop_assert_eq!((last.phase, last.start_time), (state.phase, state.phase_start));
                before = Some(state);
            }
        }
    }
}

#[test]
fn a_long_boot_id_is_the_same_boot_after_a_restart_of_the_operator() {
    let object = NodeObject {
        boot_id: "b".repeat(300).into(),
        ..NodeObject::default()
    };
    let node = NodeFacts {
        boot_id: NodeFacts::new(object, Vec::new()).boot_id,
        ..node("n").build()
    };
    let providers = only(OpenShift::chosen());
    let state = next_state(&providers, &node, &openshift([]), None, at(0));
    let restored = History::from_status(&project(&state));
    assert_eq!(restored, History::from(&state));
}
