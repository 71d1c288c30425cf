//! When a step has stalled, and when it no longer has.

use super::*;
use crate::domain::drain::Reason;
use crate::domain::drain::fixtures::blocker;
use crate::domain::fixtures::{at, evaluation};
use crate::domain::state::Finding;

mod simulated;

const MINUTE: i64 = 60;

/// A node that entered its phase at 0.
struct Node {
    evaluation: Evaluation,
    progress: Option<Box<Progress>>,
    stall: Option<Box<Stall>>,
    again: Option<Timestamp>,
    limit: Option<SignedDuration>,
}

impl Node {
    fn new(phase: Phase) -> Self {
        let mut node = Self {
            evaluation: evaluation(phase),
            progress: None,
            stall: None,
            again: None,
            limit: None,
        };
        node.at(0);
        node
    }

    /// A node whose pool has learned this limit.
    fn with_limit(phase: Phase, minutes: i64) -> Self {
        let mut node = Self::new(phase);
        node.progress = None;
        node.limit = Some(SignedDuration::from_mins(minutes));
        node.at(0);
        node
    }

    /// The reason at that second, and since when.
    fn at(&mut self, second: i64) -> Option<(StallReason, i64)> {
        let step = Step {
            evaluation: &self.evaluation,
            boot_id: None,
            start: at(0),
            progress: self.progress.as_deref(),
            stall: self.stall.as_deref(),
            limit: self.limit,
        };
        let assessed = assess(step, at(second));
        self.stall = assessed.stall;
        self.progress = assessed.progress;
        self.again = assessed.again;
        let stall = self.stall.as_ref()?;
        Some((stall.reason, stall.since.duration_since(at(0)).as_secs()))
    }

    /// As after a start of the process, with what the insight shows.
    fn restarted(mut self) -> Self {
        let shown: Vec<Condition> = self.stall.iter().map(|stall| stall.report()).collect();
        self.stall = Stall::reported(&shown).map(Box::new);
        if let Some(progress) = &mut self.progress {
            progress.at = None;
        }
        self
    }

    fn drains(mut self, left: usize, blocked: Option<(Reason, i64)>) -> Self {
        self.set_drain(left, blocked);
        self
    }

    fn set_drain(&mut self, left: usize, blocked: Option<(Reason, i64)>) {
        let blockers = blocked.map(|(reason, since)| blocker(reason, at(since)));
        self.evaluation.drain = Some(Box::new(Drain {
            pods_left: Some(left),
            most: 10,
            blockers: blockers.into_iter().collect(),
            ..Drain::default()
        }));
    }
}

#[test]
fn a_step_without_progress_stalls_at_its_limit_and_not_before() {
    for (phase, minutes, reason) in [
        (Phase::Draining, 60, StallReason::DrainSlow),
        (Phase::Updating, 30, StallReason::UpdateSlow),
        (Phase::Rebooting, 75, StallReason::NotBack),
    ] {
        let mut node = Node::new(phase);
        let limit = minutes * MINUTE;
        assert_eq!(node.again, Some(at(limit)), "{phase}");
        assert_eq!(node.at(limit - 1), None, "{phase}");
        assert_eq!(node.at(limit), Some((reason, limit)), "{phase}");
        assert_eq!(node.at(9 * limit), Some((reason, limit)), "{phase}");
    }
}

#[test]
fn a_learned_limit_counts_in_place_of_the_constant() {
    for (minutes, phase) in [(20, Phase::Draining), (90, Phase::Rebooting)] {
        let mut node = Node::with_limit(phase, minutes);
        assert_eq!(node.again, Some(at(minutes * MINUTE)), "{phase}");
        assert_eq!(node.at(minutes * MINUTE - 1), None, "{phase}");
        assert!(node.at(minutes * MINUTE).is_some(), "{phase}");
    }
}

#[test]
fn a_new_step_of_the_updater_puts_a_stall_off_by_the_quiet_time() {
    let mut node = Node::with_limit(Phase::Updating, 40);
    node.evaluation.updating.reason = "NextStep";
    assert_eq!(node.at(39 * MINUTE), None);
    assert_eq!(node.at(49 * MINUTE - 1), None);
    let slow = Some((StallReason::UpdateSlow, 49 * MINUTE));
    assert_eq!(node.at(49 * MINUTE), slow);
}

#[test]
fn patience_is_for_drains_that_may_end_by_themselves() {
    let stalls_after = |reason| {
        let mut node = Node::with_limit(Phase::Draining, 60).drains(1, Some((reason, MINUTE)));
        (1..90).find(|minute| node.at(minute * MINUTE).is_some())
    };
    assert_eq!(stalls_after(Reason::TerminatingInGrace), Some(60));
    assert_eq!(stalls_after(Reason::TerminatingPastGrace), Some(15));
    assert_eq!(stalls_after(Reason::BudgetNeverAllows), Some(11));
}

#[test]
fn a_node_that_waits_does_not_stall() {
    for phase in [
        Phase::Pending,
        Phase::Paused,
        Phase::Completed,
        Phase::Unknown,
    ] {
        let mut node = Node::new(phase);
        assert_eq!(node.at(100 * 3600), None, "{phase}");
        assert_eq!((node.progress, node.again), (None, None), "{phase}");
    }
}

#[test]
fn progress_ends_a_stall_and_only_ten_minutes_without_it_begin_another() {
    let mut node = Node::new(Phase::Updating);
    assert!(node.at(30 * MINUTE).is_some());
    node.evaluation.updating.reason = "NextStep";
    assert_eq!(node.at(40 * MINUTE), None);
    assert_eq!(node.at(50 * MINUTE - 1), None);
    let again = Some((StallReason::UpdateSlow, 50 * MINUTE));
    assert_eq!(node.at(50 * MINUTE), again);
    node.evaluation.version = Some("v1.32.0".into());
    assert_eq!(node.at(51 * MINUTE), None);
}

#[test]
fn a_drain_whose_pods_leave_makes_progress() {
    let mut node = Node::new(Phase::Draining).drains(8, None);
    assert_eq!(node.at(59 * MINUTE), None);
    node.set_drain(7, None);
    assert_eq!(node.at(61 * MINUTE), None);
    node.set_drain(9, None);
    assert_eq!(node.at(65 * MINUTE), None, "more pods are no progress");
    let slow = Some((StallReason::DrainSlow, 71 * MINUTE));
    assert_eq!(node.at(71 * MINUTE), slow);
}

#[test]
fn a_drain_that_only_a_human_can_free_stalls_after_ten_minutes() {
    let blocked = Some((Reason::BudgetNeverAllows, MINUTE));
    let mut node = Node::new(Phase::Draining).drains(1, blocked);
    assert_eq!(node.at(2 * MINUTE), None);
    assert_eq!(node.again, Some(at(11 * MINUTE)));
    let stalled = Some((StallReason::DrainBlocked, 11 * MINUTE));
    assert_eq!(node.at(11 * MINUTE), stalled);
    let message = &node.stall.as_ref().unwrap().message;
    assert!(message.contains("shop/web"), "{message}");
    node.set_drain(1, None);
    assert_eq!(node.at(12 * MINUTE), None);
    // What ends by itself is only slow.
    let waits = Some((Reason::BudgetExhausted, MINUTE));
    let mut node = Node::new(Phase::Draining).drains(1, waits);
    assert_eq!(node.at(59 * MINUTE), None);
}

#[test]
fn a_node_that_is_cordoned_in_advance_does_not_stall_until_its_pods_leave() {
    let mut node = Node::new(Phase::Draining).drains(10, None);
    node.evaluation.is_inferred = true;
    assert_eq!(node.at(3600), None);
    node.set_drain(9, None);
    assert_eq!(node.at(3601), None, "its first pod has just left");
    assert!(node.at(3601 + 10 * MINUTE).is_some());
}

#[test]
fn a_restart_keeps_the_stall_of_a_drain_of_which_it_does_not_know_how_many_pods_have_left() {
    let mut node = Node::new(Phase::Draining).drains(9, None);
    node.evaluation.is_inferred = true;
    node.at(MINUTE);
    let stalled = Some((StallReason::DrainSlow, 60 * MINUTE));
    assert_eq!(node.at(60 * MINUTE), stalled);
    let mut node = node.restarted();
    node.evaluation.drain.as_mut().unwrap().most = 9;
    assert_eq!(node.at(61 * MINUTE), stalled);
}

#[test]
fn a_failure_that_the_updater_reports_stalls_at_once_with_its_text() {
    let mut node = Node::new(Phase::Updating);
    node.evaluation.degraded = Finding::new(true, "Failed", "no space left on device");
    assert_eq!(node.at(5), Some((StallReason::PlatformFailed, 5)));
    assert_eq!(&*node.stall.unwrap().message, "no space left on device");
}

#[test]
fn a_restart_keeps_a_stall_and_begins_none_for_ten_minutes() {
    let mut node = Node::new(Phase::Updating);
    node.at(30 * MINUTE);
    let mut node = node.restarted();
    let stalled = Some((StallReason::UpdateSlow, 30 * MINUTE));
    assert_eq!(node.at(40 * MINUTE), stalled);
    assert_eq!(node.at(41 * MINUTE), stalled);
    // Meanwhile it has made progress.
    let mut moved = Node::new(Phase::Updating);
    moved.at(30 * MINUTE);
    moved.evaluation.updating.reason = "NextStep";
    assert_eq!(moved.restarted().at(40 * MINUTE), None);
    let mut node = Node::new(Phase::Updating).restarted();
    assert_eq!(node.at(50 * MINUTE), None);
    assert_eq!(node.at(60 * MINUTE - 1), None);
    let stalled = Some((StallReason::UpdateSlow, 60 * MINUTE));
    assert_eq!(node.at(60 * MINUTE), stalled);
}
