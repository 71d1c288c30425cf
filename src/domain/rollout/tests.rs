//! How far a rollout is, while nodes come and go.

use super::*;
use crate::api::types::ConditionStatus;
use crate::domain::fixtures::at;
use crate::domain::pool::PoolState;
use crate::domain::pool_status::project;
use crate::domain::pool_status::tests::{node, view};
use crate::domain::state::{Desired, JOINING};

mod record;

const OLD: &str = "v1.31.2";
const NEW: &str = "v1.32.0";

/// Replays the statuses of a pool.
struct Pool {
    replaces: bool,
    nodes: Vec<NodeState>,
    removed: usize,
    awaited: usize,
    source: DesiredVersionSource,
    last: Option<(PoolProgressInsightStatus, usize)>,
    now: i64,
}

impl Pool {
    fn new(replaces: bool, count: usize) -> Self {
        let mut pool = Self {
            replaces,
            nodes: Vec::new(),
            removed: 0,
            awaited: 0,
            source: DesiredVersionSource::Provider,
            last: None,
            now: 0,
        };
        for index in 0..count {
            pool.join(&format!("old-{index}"), Phase::Completed, OLD, -1000);
        }
        pool
    }

    fn with_one_of_four_replaced() -> Self {
        let mut pool = Self::new(true, 4);
        pool.order(DesiredVersionSource::Provider);
        assert_eq!(pool.progress(), "0/4");
        pool.enter("old-0", Phase::Draining);
        pool.leave("old-0");
        assert_eq!(pool.progress(), "1/4");
        pool
    }

    fn join(&mut self, name: &str, phase: Phase, version: &str, created: i64) {
        let node = NodeState {
            name: name.into(),
            version: Some(version.into()),
            created: Some(at(created)),
            ..node(phase)
        };
        self.nodes.push(node);
    }

    fn leave(&mut self, name: &str) {
        self.nodes.retain(|node| &*node.name != name);
    }

    /// Every old node is outdated.
    fn order(&mut self, source: DesiredVersionSource) {
        self.source = source;
        for node in &mut self.nodes {
            if node.version.as_deref() == Some(OLD) {
                node.phase = Phase::Pending;
            }
        }
    }

    fn enter(&mut self, name: &str, phase: Phase) {
        let node = self.nodes.iter_mut().find(|node| &*node.name == name);
        let node = node.unwrap();
        node.phase = phase;
        if phase == Phase::Completed {
            node.version = Some(NEW.into());
        }
    }

    fn status(&mut self) -> PoolProgressInsightStatus {
        self.now += 10;
        let is_ordered = self.nodes.iter().any(NodeState::is_outdated);
        let nodes = self.nodes.iter().cloned().map(|node| NodeState {
            desired: Some(Desired {
                version: if is_ordered || self.last.is_some() {
                    NEW
                } else {
                    OLD
                }
                .into(),
                source: self.source,
            }),
            is_only_behind: self.source == DesiredVersionSource::ApiServer,
            ..node
        });
        let view = view(nodes);
        let view = PoolView {
            state: Arc::new(PoolState {
                replaces: self.replaces,
                ..PoolState::clone(&view.state)
            }),
            awaited: self.awaited,
            removed: self.removed,
            ..view
        };
        let before = self.last.as_ref().map_or(0, |(_, removed)| *removed);
        let removed = self.removed - before;
        let past = self.last.as_ref().map(|(status, _)| status);
        let status = project(&view, past, removed, 1, at(self.now));
        self.last = Some((status.clone(), self.removed));
        status
    }

    fn progress(&mut self) -> String {
        self.status().progress
    }
}

#[test]
fn an_update_in_place_counts_the_nodes_that_it_began_with() {
    let mut pool = Pool::new(false, 3);
    assert_eq!(pool.status().rollout, None);
    pool.order(DesiredVersionSource::ClusterVersion);
    let begun = pool.status().rollout.unwrap();
    assert_eq!((begun.nodes, begun.done, begun.waiting), (3, 0, 3));
    assert_eq!(begun.start_time, at(20));
    assert_eq!(begun.from_version.as_deref(), Some(OLD));
    assert_eq!(begun.to_version.as_deref(), Some(NEW));
    pool.enter("old-0", Phase::Draining);
    let rollout = pool.status().rollout.unwrap();
    assert_eq!(
        (rollout.done, rollout.in_progress, rollout.waiting),
        (0, 1, 2)
    );
    for index in 0..3 {
        pool.enter(&format!("old-{index}"), Phase::Completed);
        let status = pool.status();
        assert_eq!(status.progress, format!("{}/3", index + 1));
    }
    let (status, _) = pool.last.clone().unwrap();
    assert_eq!(status.rollout, None);
    let ended = status.last_rollouts[0].clone();
    assert_eq!(
        (ended.start_time, ended.end_time, ended.nodes),
        (at(20), at(60), 3)
    );
    assert_eq!(ended.to_version.as_deref(), Some(NEW));
}

#[test]
fn surge_nodes_are_not_done_nodes_and_a_drained_node_that_disappears_is_done() {
    let mut pool = Pool::new(true, 2);
    pool.status();
    pool.join("new-0", Phase::Completed, NEW, 15);
    pool.order(DesiredVersionSource::NewestInPool);
    let begun = pool.status();
    assert_eq!(begun.progress, "0/2");
    // The first new node shows when the rollout began.
    assert_eq!(begun.rollout.unwrap().start_time, at(15));
    pool.enter("old-0", Phase::Draining);
    pool.join("new-1", Phase::Completed, NEW, 25);
    assert_eq!(pool.progress(), "0/2");
    pool.leave("old-0");
    assert_eq!(pool.progress(), "1/2");
    // The end of the surge removes a new node, which changes nothing.
    pool.leave("new-1");
    assert_eq!(pool.progress(), "1/2");
    pool.enter("old-1", Phase::Updating);
    pool.leave("old-1");
    let ended = pool.status();
    assert_eq!(ended.last_rollouts[0].nodes, 2);
    assert_eq!(
        (ended.progress.as_str(), ended.completion_percent),
        ("1/1", 100)
    );
}

#[test]
fn an_outdated_node_that_is_removed_untouched_is_no_progress() {
    let mut pool = Pool::with_one_of_four_replaced();
    pool.leave("old-1");
    pool.removed += 1;
    assert_eq!(pool.progress(), "1/3");
    // It is counted once.
    assert_eq!(pool.progress(), "1/3");
}

#[test]
fn nodes_that_become_outdated_one_by_one_are_none_that_are_done_before() {
    let mut pool = Pool::new(true, 4);
    pool.status();
    pool.source = DesiredVersionSource::Provider;
    for outdated in 1..=3 {
        pool.enter(&format!("old-{outdated}"), Phase::Pending);
        assert_eq!(pool.progress(), format!("0/{outdated}"));
    }
    pool.enter("old-1", Phase::Draining);
    pool.leave("old-1");
    assert_eq!(pool.progress(), "1/3");
    // A node whose state is unknown for a while is neither.
    pool.enter("old-0", Phase::Unknown);
    assert_eq!(pool.progress(), "1/3");
    pool.enter("old-0", Phase::Completed);
    assert_eq!(pool.progress(), "1/3");
}

#[test]
fn an_outdated_node_that_joined_late_and_is_removed_takes_nothing_from_those_that_are_done() {
    let mut pool = Pool::with_one_of_four_replaced();
    pool.join("late", Phase::Pending, OLD, 1000);
    assert_eq!(pool.progress(), "1/4");
    pool.leave("late");
    pool.removed += 1;
    assert_eq!(pool.progress(), "1/4");
}

#[test]
fn a_node_that_joins_late_is_no_new_rollout_and_changes_no_count() {
    let mut pool = Pool::new(false, 2);
    pool.order(DesiredVersionSource::Provider);
    pool.enter("old-0", Phase::Completed);
    assert_eq!(pool.progress(), "1/2");
    pool.join("late", Phase::Pending, OLD, 1000);
    let status = pool.status();
    assert_eq!(status.progress, "1/2");
    assert_eq!(status.rollout.as_ref().unwrap().waiting, 2);
    pool.enter("old-1", Phase::Completed);
    // The late node is still outdated: the rollout is not over.
    let status = pool.status();
    assert_eq!(
        (status.progress.as_str(), status.completion_percent),
        ("1/2", 50)
    );
    pool.enter("late", Phase::Completed);
    assert_eq!(pool.status().last_rollouts[0].nodes, 2);
}

#[test]
fn nodes_updated_in_place_that_are_gone_are_none_of_the_rollout() {
    let mut pool = Pool::new(false, 3);
    pool.order(DesiredVersionSource::Provider);
    pool.enter("old-0", Phase::Completed);
    assert_eq!(pool.progress(), "1/3");
    // Another node of that name joins; that the first one was deleted was never observed.
    pool.leave("old-0");
    pool.join("old-0", Phase::Pending, OLD, 1000);
    assert_eq!(pool.progress(), "0/2");
    assert_eq!(pool.progress(), "0/2");
    let mut replaced = Pool::new(true, 3);
    replaced.order(DesiredVersionSource::Provider);
    assert_eq!(replaced.progress(), "0/3");
    replaced.leave("old-0");
    assert_eq!(replaced.progress(), "1/3");
}

#[test]
fn a_node_that_is_outdated_again_is_counted_back() {
    let mut pool = Pool::new(false, 2);
    pool.order(DesiredVersionSource::Provider);
    pool.enter("old-0", Phase::Completed);
    assert_eq!(pool.progress(), "1/2");
    pool.enter("old-0", Phase::Pending);
    assert_eq!(pool.progress(), "0/2");
}

#[test]
fn another_desired_version_is_another_rollout() {
    let mut pool = Pool::new(false, 2);
    pool.order(DesiredVersionSource::Provider);
    pool.enter("old-0", Phase::Completed);
    let before = pool.status();
    let mut past = before.clone();
    past.rollout.as_mut().unwrap().to_version = Some("v1.31.9".into());
    pool.last = Some((past, 0));
    let rollout = pool.status().rollout.unwrap();
    assert_eq!(rollout.to_version.as_deref(), Some(NEW));
    assert!(rollout.start_time > before.rollout.unwrap().start_time);
}

#[test]
fn the_version_of_the_api_server_orders_nothing_until_a_node_is_touched() {
    let mut pool = Pool::new(false, 2);
    pool.order(DesiredVersionSource::ApiServer);
    let status = pool.status();
    assert_eq!((status.rollout, status.progress.as_str()), (None, "0/2"));
    assert_eq!(status.assessment, crate::api::pool::Assessment::Pending);
    pool.enter("old-0", Phase::Draining);
    assert!(pool.status().rollout.is_some());
    pool.enter("old-0", Phase::Completed);
    let status = pool.status();
    assert_eq!(status.progress, "1/2");
    // Nothing is in progress, and nothing orders more.
    assert_eq!(status.assessment, crate::api::pool::Assessment::Pending);
}

#[test]
fn a_source_that_cannot_be_read_neither_ends_a_rollout_nor_takes_progress_back() {
    let mut pool = Pool::new(true, 3);
    pool.order(DesiredVersionSource::Provider);
    assert_eq!(pool.progress(), "0/3");
    pool.enter("old-0", Phase::Completed);
    assert_eq!(pool.progress(), "1/3");
    for node in &mut pool.nodes {
        node.phase = Phase::Unknown;
    }
    let status = pool.status();
    assert_eq!(status.progress, "1/3");
    assert!(status.rollout.is_some() && status.last_rollouts.is_empty());
}

#[test]
fn a_node_that_is_awaited_under_its_name_is_in_progress() {
    let mut pool = Pool::new(true, 2);
    pool.order(DesiredVersionSource::Provider);
    pool.enter("old-0", Phase::Draining);
    assert_eq!(pool.progress(), "0/2");
    pool.leave("old-0");
    pool.awaited = 1;
    let status = pool.status();
    assert_eq!(status.progress, "0/2");
    assert_eq!(status.rollout.unwrap().in_progress, 1);
}

#[test]
fn a_joining_node_is_not_counted() {
    let mut pool = Pool::new(true, 2);
    pool.join("new", Phase::Unknown, OLD, 5);
    let joining = pool.nodes.last_mut().unwrap();
    joining.updating.reason = JOINING;
    joining.updating.status = ConditionStatus::Unknown;
    let status = pool.status();
    assert_eq!(
        (status.progress.as_str(), status.completion_percent),
        ("2/2", 100)
    );
    assert_eq!(status.assessment, crate::api::pool::Assessment::Completed);
}

#[test]
fn a_reboot_is_no_rollout() {
    let mut pool = Pool::new(false, 2);
    pool.enter("old-0", Phase::Rebooting);
    pool.nodes[0].kind = Some(UpdateKind::Reboot);
    let status = pool.status();
    assert_eq!((status.rollout, status.progress.as_str()), (None, "1/2"));
}

mod random {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(500))]

        /// A replacement with any surge, in any order, with removals and restarts of the operator.
        #[test]
        fn progress_never_goes_back_nor_beyond_the_end(
            count in 1usize..8,
            steps in prop::collection::vec((0usize..8, 0u8..6), 1..60),
        ) {
            let mut pool = Pool::new(true, count);
            pool.status();
            pool.order(DesiredVersionSource::Provider);
            let mut before = pool.status();
            for (index, (which, what)) in steps.into_iter().enumerate() {
                let name = format!("old-{which}");
                let phase = pool.nodes.iter().find(|node| *node.name == *name).map(|node| node.phase);
                match (what, phase) {
                    (0, _) => pool.join(&format!("new-{index}"), Phase::Completed, NEW, pool.now),
                    (1, Some(Phase::Pending)) => pool.enter(&name, Phase::Draining),
                    (2, Some(Phase::Draining)) => pool.enter(&name, Phase::Updating),
                    (3, Some(Phase::Draining | Phase::Updating)) => pool.leave(&name),
                    (4, Some(Phase::Pending)) => {
                        pool.leave(&name);
                        pool.removed += 1;
                    }
                    _ => pool.leave(&format!("new-{which}")),
                }
                let status = pool.status();
                let (Some(past), Some(now)) = (&before.rollout, &status.rollout) else {
                    break;
                };
                prop_assert!(now.done >= past.done && now.nodes <= past.nodes);
                prop_assert!(now.done < now.nodes, "{now:?}");
                prop_assert!(status.completion_percent >= before.completion_percent);
                before = status;
            }
        }
    }
}
