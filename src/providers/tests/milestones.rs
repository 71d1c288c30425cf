//! The milestones of a node.

use super::*;
use crate::api::insight::{InsightStatus as _, Reported};
use crate::api::types::CordonerKind;
use crate::domain::cordon::{CordonedBy, Cordoner};
use crate::domain::fixtures::NodeBuilder;
use crate::domain::milestones::Milestone::{
    DrainStarted, NodeDegraded, UpdateCompleted, UpdateStarted,
};
use crate::domain::milestones::{Milestone, reported_after, since};
use crate::domain::stalled::{Stall, StallReason};
use crate::providers::fixtures::{NEW, OLD, worker};

/// A node with successive states.
struct Node {
    state: NodeState,
}

impl Node {
    fn first(node: NodeBuilder) -> Self {
        let state = evaluated(node, None, 0);
        Self { state }
    }

    fn then(mut self, node: NodeBuilder, now: i64) -> Self {
        let past = History::from(&self.state);
        self.state = evaluated(node, Some(&past), now);
        self
    }

    /// What its insight reports now.
    fn reported(&self) -> Reported {
        project(&self.state).reported().unwrap()
    }

    fn passed(&self, reported: Reported) -> Vec<(Milestone, i64)> {
        let seconds = |at: Timestamp| at.as_second();
        since(reported, &self.state)
            .into_iter()
            .map(|(milestone, when)| (milestone, seconds(when) - seconds(at(0))))
            .collect()
    }
}

fn evaluated(node: NodeBuilder, past: Option<&History>, now: i64) -> NodeState {
    let (node, cluster) = (node.build(), openshift([pool("worker", NEW)]));
    next_state(&only(OpenShift::chosen()), &node, &cluster, past, at(now))
}

fn draining() -> NodeBuilder {
    worker(OLD, NEW).cordoned()
}

fn step(daemon: DaemonState) -> NodeBuilder {
    worker(OLD, NEW).daemon(daemon)
}

fn done() -> NodeBuilder {
    worker(NEW, NEW)
}

#[test]
fn start_drain_and_completion_of_an_update_are_each_reported_once() {
    let idle = Node::first(worker(OLD, OLD));
    let reported = idle.reported();
    assert_eq!(idle.passed(reported), []);
    let node = idle.then(draining(), 10);
    assert_eq!(
        node.passed(reported),
        [(UpdateStarted, 10), (DrainStarted, 10)]
    );
    let reported = node.reported();
    assert_eq!(node.passed(reported), [], "already reported");
    let node = node.then(step(DaemonState::Rebooting), 20);
    assert_eq!(node.passed(reported), [], "a reboot is no milestone");
    let reported = node.reported();
    let node = node.then(done(), 30);
    assert_eq!(node.passed(reported), [(UpdateCompleted, 30)]);
}

#[test]
fn milestones_between_two_writes_are_reported_with_their_times() {
    let idle = Node::first(worker(OLD, OLD));
    let reported = idle.reported();
    let node = idle
        .then(draining(), 10)
        .then(step(DaemonState::Rebooting), 20)
        .then(done(), 30);
    assert_eq!(
        node.passed(reported),
        [
            (UpdateStarted, 10),
            (DrainStarted, 10),
            (UpdateCompleted, 30)
        ]
    );
}

#[test]
fn two_phases_that_begin_in_the_same_second_are_both_reported() {
    let node = Node::first(worker(OLD, OLD)).then(draining(), 10);
    let reported = node.reported();
    let node = node.then(done(), 10);
    assert_eq!(node.passed(reported), [(UpdateCompleted, 10)]);
}

#[test]
fn a_node_first_seen_during_its_update_has_no_start() {
    let node = Node::first(draining());
    assert_eq!(node.passed(node.reported()), []);
    let reported = node.reported();
    let node = node.then(done(), 30);
    assert_eq!(node.passed(reported), [(UpdateCompleted, 30)]);
}

#[test]
fn a_pending_node_whose_target_is_reverted_was_not_updated() {
    let node = Node::first(worker(OLD, OLD)).then(worker(OLD, NEW), 10);
    let reported = node.reported();
    let node = node.then(worker(OLD, OLD), 20);
    assert_eq!(node.passed(reported), []);
}

#[test]
fn a_degraded_node_is_reported_once_even_if_its_reason_changes() {
    let idle = Node::first(worker(OLD, OLD));
    let reported = idle.reported();
    let node = idle.then(step(DaemonState::Degraded).reason("no disk"), 10);
    assert!(node.passed(reported).contains(&(NodeDegraded, 10)));
    let reported = node.reported();
    let node = node.then(step(DaemonState::Degraded).reason("no space"), 20);
    assert_eq!(node.passed(reported), []);
}

#[test]
fn after_an_edit_of_the_insight_only_newer_milestones_are_reported() {
    let node = Node::first(worker(OLD, OLD))
        .then(draining(), 10)
        .then(done(), 30);
    let edited = Reported {
        phase: Phase::Paused,
        phase_start: at(20),
        degraded: false,
        stall: None,
        foreign_cordon: false,
    };
    assert_eq!(node.passed(edited), [(UpdateCompleted, 30)]);
}

#[test]
fn a_step_that_stalls_and_continues_is_reported_once_each() {
    use Milestone::{DrainBlocked, DrainUnblocked, UpdateContinues, UpdateStalled};
    let stalled = |reason, since| {
        let mut node = Node::first(worker(OLD, OLD)).then(draining(), 10);
        node.state.stall = Some(Box::new(Stall {
            reason,
            message: "PodDisruptionBudget shop/web needs 1 of 1 pods".into(),
            since: at(since),
        }));
        node
    };
    let free = Node::first(worker(OLD, OLD)).then(draining(), 10);
    let (blocked, slow) = (
        stalled(StallReason::DrainBlocked, 700),
        stalled(StallReason::DrainSlow, 910),
    );
    let failed = stalled(StallReason::PlatformFailed, 20);
    for (before, after, expected) in [
        (&free, &free, None),
        (&free, &blocked, Some((DrainBlocked, 700))),
        (&blocked, &blocked, None),
        (&blocked, &free, Some((DrainUnblocked, 10))),
        (&free, &slow, Some((UpdateStalled, 910))),
        (&slow, &slow, None),
        (&slow, &free, Some((UpdateContinues, 10))),
        (&slow, &blocked, Some((DrainBlocked, 700))),
        (&free, &failed, None),
        (&failed, &free, None),
    ] {
        let passed = after.passed(before.reported());
        assert_eq!(passed, Vec::from_iter(expected));
    }
    let text = DrainBlocked.text(&blocked.state);
    assert_eq!(text, "PodDisruptionBudget shop/web needs 1 of 1 pods");
}

#[test]
fn a_foreign_cordon_of_an_outdated_node_is_reported_once_and_one_of_another_node_is_not() {
    let cordoned = |mut node: Node, is_foreign| {
        node.state.cordoned_by = Some(Box::new(CordonedBy {
            by: Cordoner::new(CordonerKind::Person, "kubectl"),
            since: Some(at(5)),
            is_foreign,
        }));
        node
    };
    // It was cordoned before the rollout began.
    let early = cordoned(Node::first(worker(NEW, NEW)), true);
    let reported = early.reported();
    let outdated = cordoned(early.then(worker(OLD, NEW), 30), true);
    let (waiting, current) = (
        || Node::first(worker(OLD, NEW)),
        || Node::first(worker(NEW, NEW)),
    );
    let free = waiting().reported();
    let foreign = cordoned(waiting(), true);
    assert_eq!(foreign.passed(free), [(Milestone::ForeignCordon, 5)]);
    assert_eq!(foreign.passed(foreign.reported()), []);
    let is_cordon = |passed: &(Milestone, i64)| passed.0 == Milestone::ForeignCordon;
    let passed = outdated.passed(reported);
    assert_eq!(passed.into_iter().filter(is_cordon).count(), 1);
    let again = reported_after(at(0), outdated.reported(), &outdated.state);
    assert!(
        again
            .iter()
            .all(|(milestone, _)| *milestone != Milestone::ForeignCordon)
    );
    let text = Milestone::ForeignCordon.text(&foreign.state);
    assert!(text.starts_with("kubectl cordoned the node"), "{text}");
    assert_eq!(cordoned(waiting(), false).passed(free), []);
    let free = current().reported();
    assert_eq!(cordoned(current(), true).passed(free), []);
}

#[test]
fn recent_milestones_can_be_reported_again_but_not_the_first_state() {
    let again = |node: &Node, reported, after| {
        reported_after(at(after), reported, &node.state)
            .into_iter()
            .map(|(milestone, when)| (milestone, when.as_second() - at(0).as_second()))
            .collect::<Vec<_>>()
    };
    let first = Node::first(draining());
    assert_eq!(again(&first, first.reported(), 0), [], "the first state");
    let node = Node::first(worker(OLD, OLD)).then(draining(), 10);
    let reported = node.reported();
    let started = [(UpdateStarted, 10), (DrainStarted, 10)];
    assert_eq!(again(&node, reported, 0), started);
    assert_eq!(again(&node, reported, 11), [], "too old");
    let node = node.then(done(), 30);
    assert_eq!(
        again(&node, reported, 0),
        started,
        "the completion is not written yet"
    );
    let completed = [started[0], started[1], (UpdateCompleted, 30)];
    assert_eq!(again(&node, node.reported(), 0), completed);
    let text = UpdateStarted.text(&node.state);
    assert_eq!(text, "An update of the node has started");
}
