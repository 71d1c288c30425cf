//! What is told of a node, and what not.

use super::*;
use crate::api::insight::{InsightStatus as _, Said};
use crate::domain::fixtures::NodeBuilder;
use crate::domain::milestones::Milestone::{
    DrainStarted, NodeDegraded, UpdateCompleted, UpdateStarted,
};
use crate::domain::milestones::{Milestone, said_after, since};
use crate::providers::fixtures::{NEW, OLD, worker};

/// A node whose states follow one another.
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

    /// As its insight says it now.
    fn said(&self) -> Said {
        project(&self.state).said().unwrap()
    }

    fn passed(&self, said: Said) -> Vec<(Milestone, i64)> {
        let seconds = |at: Timestamp| at.as_second();
        since(said, &self.state)
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
fn an_update_starts_drains_and_completes_and_each_is_told_when_it_is_news() {
    let idle = Node::first(worker(OLD, OLD));
    let said = idle.said();
    assert_eq!(idle.passed(said), []);
    let node = idle.then(draining(), 10);
    assert_eq!(node.passed(said), [(UpdateStarted, 10), (DrainStarted, 10)]);
    let said = node.said();
    assert_eq!(node.passed(said), [], "it was told");
    let node = node.then(step(DaemonState::Rebooting), 20);
    assert_eq!(
        node.passed(said),
        [],
        "the insight says it, and nobody waits for it"
    );
    let said = node.said();
    let node = node.then(done(), 30);
    assert_eq!(node.passed(said), [(UpdateCompleted, 30)]);
}

#[test]
fn what_went_by_between_two_writes_is_told_with_its_time() {
    let idle = Node::first(worker(OLD, OLD));
    let said = idle.said();
    let node = idle
        .then(draining(), 10)
        .then(step(DaemonState::Rebooting), 20)
        .then(done(), 30);
    assert_eq!(
        node.passed(said),
        [
            (UpdateStarted, 10),
            (DrainStarted, 10),
            (UpdateCompleted, 30)
        ]
    );
}

#[test]
fn two_phases_that_begin_in_the_same_second_are_both_told() {
    let node = Node::first(worker(OLD, OLD)).then(draining(), 10);
    let said = node.said();
    let node = node.then(done(), 10);
    assert_eq!(node.passed(said), [(UpdateCompleted, 10)]);
}

#[test]
fn a_node_that_is_seen_in_the_middle_of_its_update_was_not_seen_starting() {
    let node = Node::first(draining());
    assert_eq!(node.passed(node.said()), []);
    let said = node.said();
    let node = node.then(done(), 30);
    assert_eq!(node.passed(said), [(UpdateCompleted, 30)]);
}

#[test]
fn a_node_whose_target_is_taken_back_before_its_turn_came_was_not_updated() {
    let node = Node::first(worker(OLD, OLD)).then(worker(OLD, NEW), 10);
    let said = node.said();
    let node = node.then(worker(OLD, OLD), 20);
    assert_eq!(node.passed(said), []);
}

#[test]
fn a_node_is_degraded_once_however_its_reason_changes() {
    let idle = Node::first(worker(OLD, OLD));
    let said = idle.said();
    let node = idle.then(step(DaemonState::Degraded).reason("no disk"), 10);
    assert!(node.passed(said).contains(&(NodeDegraded, 10)));
    let said = node.said();
    let node = node.then(step(DaemonState::Degraded).reason("no space"), 20);
    assert_eq!(node.passed(said), []);
}

#[test]
fn after_an_insight_was_edited_only_what_is_newer_is_told() {
    let node = Node::first(worker(OLD, OLD))
        .then(draining(), 10)
        .then(done(), 30);
    let edited = Said {
        phase: Phase::Paused,
        phase_start: at(20),
        degraded: false,
    };
    assert_eq!(node.passed(edited), [(UpdateCompleted, 30)]);
}

#[test]
fn what_an_insight_says_that_happened_lately_can_be_told_again_and_what_was_there_at_first_cannot()
{
    let again = |node: &Node, said, after| {
        said_after(at(after), said, &node.state)
            .into_iter()
            .map(|(milestone, when)| (milestone, when.as_second() - at(0).as_second()))
            .collect::<Vec<_>>()
    };
    let first = Node::first(draining());
    assert_eq!(again(&first, first.said(), 0), [], "it was like that");
    let node = Node::first(worker(OLD, OLD)).then(draining(), 10);
    let said = node.said();
    let started = [(UpdateStarted, 10), (DrainStarted, 10)];
    assert_eq!(again(&node, said, 0), started);
    assert_eq!(again(&node, said, 11), [], "long ago");
    let node = node.then(done(), 30);
    assert_eq!(
        again(&node, said, 0),
        started,
        "the rest is still to be written"
    );
    let completed = [started[0], started[1], (UpdateCompleted, 30)];
    assert_eq!(again(&node, node.said(), 0), completed);
    let text = UpdateStarted.text(&node.state);
    assert_eq!(text, "An update of the node has started");
}
