//! The drains of a pool that something holds up.

use std::borrow::Cow;
use std::sync::Arc;

use super::drain::Blocker;
use super::state::NodeState;
use super::text;
use crate::api::pool::BlockedDrains;

/// How many drains of these nodes are held up, and the worst one; `None` when none is.
#[must_use]
pub fn blocked_drains(nodes: &[Arc<NodeState>]) -> Option<BlockedDrains> {
    let blocked = || nodes.iter().filter_map(|node| Some((node, first(node)?)));
    let (node, worst) = blocked().min_by_key(|(node, blocker)| (blocker.rank(), &node.name))?;
    Some(BlockedDrains {
        nodes: i32::try_from(blocked().count()).unwrap_or(i32::MAX),
        worst_node: text::word(&node.name, 253).map(Cow::into_owned)?,
        worst: worst.report(),
    })
}

/// What holds the drain of a node up, most of all.
#[must_use]
pub fn first(node: &NodeState) -> Option<&Blocker> {
    node.drain.as_ref()?.blockers.first()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::types::Phase;
    use crate::domain::drain::fixtures::blocker;
    use crate::domain::drain::{Drain, Reason};
    use crate::domain::fixtures::at;
    use crate::domain::pool_status::tests::node;

    fn draining(name: &str, blockers: &[(Reason, i64, bool)]) -> Arc<NodeState> {
        let blockers = blockers.iter().map(|(reason, since, is_symptom)| Blocker {
            is_symptom: *is_symptom,
            ..blocker(*reason, at(*since))
        });
        Arc::new(NodeState {
            name: name.into(),
            drain: Some(Box::new(Drain {
                blockers: blockers.collect(),
                ..Drain::default()
            })),
            ..node(Phase::Draining)
        })
    }

    fn found(nodes: &[Arc<NodeState>]) -> Option<(i32, String, String)> {
        let found = blocked_drains(nodes)?;
        Some((found.nodes, found.worst_node, found.worst.reason))
    }

    #[test]
    fn the_worst_is_the_one_that_needs_a_human_first_and_then_the_longest() {
        let free = draining("free", &[]);
        assert_eq!(
            found(&[Arc::new(node(Phase::Pending)), Arc::clone(&free)]),
            None
        );
        let waits = draining("a", &[(Reason::BudgetExhausted, 0, false)]);
        let never = draining("c", &[(Reason::BudgetNeverAllows, 60, false)]);
        let longer = draining("d", &[(Reason::MultipleBudgets, 50, false)]);
        let symptom = draining("b", &[(Reason::BudgetNeverAllows, 1, true)]);
        let worst = |nodes: &[&Arc<NodeState>]| {
            let nodes: Vec<_> = nodes.iter().copied().cloned().collect();
            found(&nodes).map(|(count, node, _)| (count, node))
        };
        assert_eq!(worst(&[&free, &waits]), Some((1, "a".into())));
        assert_eq!(worst(&[&waits, &symptom]), Some((2, "a".into())));
        assert_eq!(worst(&[&symptom, &waits, &never]), Some((3, "c".into())));
        assert_eq!(
            worst(&[&waits, &never, &longer, &free]),
            Some((3, "d".into()))
        );
    }
}
