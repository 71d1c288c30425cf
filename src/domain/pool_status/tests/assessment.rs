//! The assessment of a pool, and its counts.

use super::*;
use crate::domain::drain::fixtures::blocker;
use crate::domain::drain::{Drain, Reason};
use crate::domain::facts::{Availability, Unavailable};
use crate::domain::stalled::Stall;
use ConditionStatus::{False, True};

fn paused(view: PoolView) -> PoolView {
    with(view, |facts| facts.paused = true)
}

#[test]
fn a_kind_that_cannot_be_read_is_reported_in_the_conditions_and_changes_no_count() {
    let complete = of(&[(1, Phase::Completed), (2, Phase::Pending)]);
    let partial = with(complete.clone(), |facts| {
        facts.missing = Some(Unavailable {
            kind: "nodepools",
            availability: Availability::Rejected("forbidden".into()),
        });
    });
    let (complete, partial) = (status(&complete), status(&partial));
    for type_ in ["Updating", "Ready", "Reconciling"] {
        assert_eq!(
            message(&partial, type_),
            format!(
                "{} | nodepools cannot be read: forbidden",
                message(&complete, type_)
            )
        );
    }
    assert_eq!(partial.progress, complete.progress);
    assert_eq!(partial.assessment, complete.assessment);
}

#[test]
fn an_empty_pool_whose_config_is_current_is_completed() {
    let empty = with(view([]), |facts| {
        facts.desired = Some(desired(NEW));
        facts.configured_version = Some(NEW.into());
    });
    for view in [empty.clone(), paused(empty)] {
        let status = status(&view);
        assert_eq!(status.assessment, Assessment::Completed);
        assert_eq!((&*status.progress, status.completion_percent), ("0/0", 100));
        assert_eq!(condition_of(&status, "Updating"), (False, "NoNodes"));
        assert_eq!(condition_of(&status, "Ready"), (True, "NoNodes"));
        assert_eq!(status.version.as_deref(), Some(NEW));
    }
}

#[test]
fn an_empty_pool_whose_config_is_not_current_is_not_completed() {
    for configured in [Some(OLD.into()), None] {
        let empty = with(view([]), |facts| {
            facts.desired = Some(desired(NEW));
            facts.configured_version = configured;
        });
        let status = status(&empty);
        assert_eq!(status.assessment, Assessment::Pending);
        assert_eq!(status.completion_percent, 0);
        assert_eq!(condition_of(&status, "Ready").0, False);
    }
}

#[test]
fn a_pool_whose_outdated_nodes_are_all_held_back_is_excluded_without_being_paused() {
    let held = status(&of(&[(2, Phase::Completed), (1, Phase::Paused)]));
    assert_eq!(held.assessment, Assessment::Excluded);
    let updating = held.conditions.iter().find(|each| each.type_ == "Updating");
    let message = &updating.unwrap().message;
    assert_eq!(
        message,
        "1 of 3 nodes stay outdated: each of them is held back"
    );
    let waiting = status(&of(&[(1, Phase::Pending), (1, Phase::Paused)]));
    assert_eq!(waiting.assessment, Assessment::Progressing);
}

#[test]
fn a_pool_is_completed_when_every_node_is_updated_paused_or_not() {
    let done = of(&[(3, Phase::Completed)]);
    for view in [done.clone(), paused(done)] {
        let status = status(&view);
        assert_eq!(status.assessment, Assessment::Completed);
        assert_eq!((&*status.progress, status.completion_percent), ("3/3", 100));
    }
}

#[test]
fn an_updated_pool_with_a_degraded_node_is_completed_and_not_healthy() {
    let status = status(&view([degraded("a", Phase::Completed)]));
    assert_eq!(status.assessment, Assessment::Completed);
    assert_eq!(condition_of(&status, "Healthy"), (False, "NodesDegraded"));
}

#[test]
fn one_degraded_node_makes_an_outdated_pool_degraded_even_if_paused() {
    let nodes = [degraded("a", Phase::Updating), node(Phase::Paused)];
    let status = status(&paused(view(nodes)));
    assert_eq!(status.assessment, Assessment::Degraded);
}

#[test]
fn a_paused_pool_with_outdated_nodes_is_excluded() {
    let view = paused(of(&[(2, Phase::Paused), (1, Phase::Completed)]));
    let status = status(&view);
    assert_eq!(status.assessment, Assessment::Excluded);
    assert_eq!(condition_of(&status, "Updating"), (False, "Paused"));
    assert!(message(&status, "Updating").contains("2 of 3"));
}

#[test]
fn a_pool_is_pending_only_while_all_nodes_are() {
    assert_eq!(
        status(&of(&[(3, Phase::Pending)])).assessment,
        Assessment::Pending
    );
    for other in [Phase::Draining, Phase::Unknown, Phase::Completed] {
        let mixed = of(&[(3, Phase::Pending), (1, other)]);
        assert_eq!(
            status(&mixed).assessment,
            Assessment::Progressing,
            "{other}"
        );
    }
}

#[test]
fn a_partly_updated_pool_between_two_batches_is_progressing() {
    let status = status(&of(&[(2, Phase::Completed), (2, Phase::Pending)]));
    assert_eq!(status.assessment, Assessment::Progressing);
    assert_eq!(condition_of(&status, "Updating"), (True, "Progressing"));
    assert_eq!(count(&status, SummaryType::Progressing), 0);
}

#[test]
fn percentages_come_from_counts_and_are_rounded_down() {
    for (updated, total, percent) in [
        (22, 59, 37),
        (2, 3, 66),
        (999, 1000, 99),
        (0, 7, 0),
        (1, 1000, 0),
    ] {
        let status = status(&of(&[
            (updated, Phase::Completed),
            (total - updated, Phase::Updating),
        ]));
        assert_eq!(status.progress, format!("{updated}/{total}"));
        assert_eq!(status.completion_percent, percent, "{}", status.progress);
    }
}

#[test]
fn three_thousand_nodes_are_counted_correctly() {
    let mut view = of(&[
        (1000, Phase::Completed),
        (500, Phase::Pending),
        (400, Phase::Draining),
        (300, Phase::Updating),
        (200, Phase::Rebooting),
        (350, Phase::Paused),
        (245, Phase::Unknown),
    ]);
    let mut failed = degraded("a", Phase::Updating);
    failed.available = condition(false, "");
    view.nodes.extend((0..5).map(|_| Arc::new(failed.clone())));
    let status = status(&view);
    let counts = [
        SummaryType::Total,
        SummaryType::Available,
        SummaryType::Progressing,
        SummaryType::Outdated,
        SummaryType::Draining,
        SummaryType::Excluded,
        SummaryType::Degraded,
    ]
    .map(|type_| count(&status, type_));
    assert_eq!(counts, [3000, 2995, 905, 1755, 400, 350, 5]);
    assert_eq!(status.progress, "1000/3000");
    assert_eq!(SCHEMA.problems(&status), Vec::<String>::new());
}

#[test]
fn the_condition_names_the_first_five_degraded_nodes_in_order_and_counts_the_rest() {
    let names = ["g", "b", "d", "a", "f", "c", "e"];
    let status = status(&view(names.map(|name| degraded(name, Phase::Updating))));
    assert_eq!(
        message(&status, "Healthy"),
        "7 degraded: a: cause of a | b: cause of b | c: cause of c | d: cause of d \
         | e: cause of e | and 2 more"
    );
}

#[test]
fn the_kstatus_conditions_are_ready_reconciling_or_stalled() {
    let kstatus = |view: &PoolView| {
        let status = status(view);
        ["Ready", "Reconciling", "Stalled"].map(|type_| condition_of(&status, type_).0)
    };
    assert_eq!(kstatus(&of(&[(1, Phase::Completed)])), [True, False, False]);
    let going_on = of(&[(1, Phase::Completed), (1, Phase::Updating)]);
    assert_eq!(kstatus(&going_on), [False, True, False]);
    assert_eq!(kstatus(&of(&[(1, Phase::Pending)])), [False, True, False]);
    let stuck = view([degraded("a", Phase::Updating)]);
    assert_eq!(kstatus(&stuck), [False, False, True]);
    let excluded = paused(of(&[(1, Phase::Paused)]));
    assert_eq!(kstatus(&excluded), [False, False, False]);
    let done = view([degraded("a", Phase::Completed)]);
    assert_eq!(
        kstatus(&done),
        [True, False, False],
        "done, though not healthy"
    );
}

#[test]
fn the_message_of_a_pool_counts_drains_that_are_held_up_and_quotes_the_worst() {
    let blocked = |name: &str| NodeState {
        name: name.into(),
        drain: Some(Box::new(Drain {
            blockers: Box::new([blocker(Reason::BudgetNeverAllows, at(0))]),
            ..Drain::default()
        })),
        ..node(Phase::Draining)
    };
    let free = status(&view([node(Phase::Draining)]));
    assert_eq!(free.blocked_drains, None);
    assert!(!message(&free, "Updating").contains("held up"));
    let held_up = status(&view([blocked("b"), blocked("a"), node(Phase::Pending)]));
    assert_eq!(held_up.blocked_drains.as_ref().unwrap().nodes, 2);
    let text = message(&held_up, "Updating");
    let expected = "0/3 nodes updated, 2 in progress, 1 pending | drains held up: 2, the worst on a: PodDisruptionBudget shop/web needs 1 of 1 pods";
    assert_eq!(text, expected);
}

#[test]
fn a_pool_stalls_when_every_node_in_progress_has_and_names_the_first() {
    let stalled = |name: &str, reason, since| NodeState {
        name: name.into(),
        stall: Some(Box::new(Stall {
            reason,
            message: format!("{name} waits").into(),
            since: at(since),
        })),
        ..node(Phase::Draining)
    };
    let slow = || stalled("a", StallReason::DrainSlow, 10);
    let blocked = || stalled("b", StallReason::DrainBlocked, 20);
    let pending = || node(Phase::Pending);
    let moving = status(&view([slow(), node(Phase::Rebooting), pending()]));
    assert_eq!(condition_of(&moving, "Stalled"), (False, "AsExpected"));
    assert_eq!(condition_of(&moving, "Reconciling").0, True);
    let stuck = status(&view([slow(), blocked(), pending()]));
    assert_eq!(stuck.assessment, Assessment::Progressing);
    assert_eq!(condition_of(&stuck, "Stalled"), (True, "NodesStalled"));
    assert_eq!(
        message(&stuck, "Stalled"),
        "nodes stalled: 2, first b: b waits"
    );
    assert_eq!(condition_of(&stuck, "Reconciling").0, False);
    let failed = status(&view([slow(), degraded("c", Phase::Updating)]));
    assert_eq!(condition_of(&failed, "Stalled"), (True, "NodesDegraded"));
}

#[test]
fn the_version_is_the_most_common_of_the_outdated_nodes_else_of_all() {
    let running = |version: &str, phase| NodeState {
        version: Some(version.into()),
        ..node(phase)
    };
    let rolling = view([
        running("4.13.9", Phase::Pending),
        running(OLD, Phase::Pending),
        running(OLD, Phase::Draining),
        running(NEW, Phase::Completed),
        running(NEW, Phase::Completed),
        running(NEW, Phase::Completed),
    ]);
    assert_eq!(status(&rolling).version.as_deref(), Some(OLD));
    let tied = view([
        running(OLD, Phase::Pending),
        running("4.13.9", Phase::Pending),
    ]);
    assert_eq!(status(&tied).version.as_deref(), Some("4.13.9"));
    let done = view([running(NEW, Phase::Completed)]);
    assert_eq!(status(&done).version.as_deref(), Some(NEW));
}

#[test]
fn the_desired_version_of_the_pool_precedes_those_of_its_nodes() {
    let own = with(of(&[(2, Phase::Pending)]), |facts| {
        facts.desired = Some(desired("4.16.0"));
    });
    assert_eq!(status(&own).desired_version.as_deref(), Some("4.16.0"));
    let wants = |version: &str, phase| NodeState {
        desired: Some(Desired {
            source: DesiredVersionSource::NewestInPool,
            ..desired(version)
        }),
        ..node(phase)
    };
    let nodes = view([
        wants("v1.32.0", Phase::Pending),
        wants("v1.33.0", Phase::Completed),
        wants("v1.33.0", Phase::Completed),
    ]);
    let status = status(&nodes);
    assert_eq!(status.desired_version.as_deref(), Some("v1.32.0"));
    assert_eq!(
        status.desired_version_source,
        Some(DesiredVersionSource::NewestInPool)
    );
}

#[test]
fn a_pool_of_control_plane_nodes_has_the_control_plane_scope() {
    let master = || NodeState {
        scope: Scope::ControlPlane,
        ..node(Phase::Completed)
    };
    assert_eq!(status(&view([master()])).scope, Scope::ControlPlane);
    let mixed = view([master(), node(Phase::Completed)]);
    assert_eq!(status(&mixed).scope, Scope::WorkerPool);
}

fn any_node() -> impl Strategy<Value = NodeState> {
    let versions = prop::sample::select(vec![OLD, NEW, "4.13.9"]);
    (
        prop::sample::select(Phase::ALL.to_vec()),
        (versions.clone(), versions),
        (any::<bool>(), prop::bool::weighted(0.1)),
        "[a-c]",
    )
        .prop_map(|(phase, (version, wanted), (up, failed), name)| NodeState {
            name: name.into(),
            version: Some(version.into()),
            desired: Some(desired(wanted)),
            available: condition(up, ""),
            degraded: condition(failed, "why"),
            ..node(phase)
        })
}

proptest! {
    #[test]
    fn the_status_does_not_depend_on_the_order_of_the_nodes_and_fits_the_schema(
        nodes in prop::collection::vec((any_node(), any::<u64>()), 0..30),
        is_paused in any::<bool>(),
    ) {
        let pause = |view| with(view, |facts| facts.paused = is_paused);
        let listed = pause(view(nodes.iter().map(|(node, _)| node.clone())));
        let mut ranked = nodes;
        ranked.sort_by_key(|(_, rank)| *rank);
        let shuffled = pause(view(ranked.into_iter().map(|(node, _)| node)));
        let status = status(&listed);
        prop_assert_eq!(&super::status(&shuffled), &status);
        let problems = SCHEMA.problems(&status);
        prop_assert!(problems.is_empty(), "{:?}", problems);
        let all = listed.nodes.iter().all(|node| node.phase == Phase::Completed);
        prop_assert_eq!(status.completion_percent == 100, all);
    }
}
