//! What nodes and pools have that would hold up an update, without regard to their pods.

use std::sync::Arc;

use super::survey::{Candidate, Key, Problem};
use super::{Reason, Severity};
use crate::api::pool::VersionSkew;
use crate::api::types::ConditionStatus;
use crate::domain::drain::cause;
use crate::domain::node::NodeFacts;
use crate::domain::skew::skew;
use crate::domain::state::NodeState;

/// The node is not ready.
pub(super) fn not_ready(node: &NodeFacts) -> Option<Problem> {
    if node.is_ready() {
        return None;
    }
    let ready = node.conditions.ready.as_ref()?;
    if ready.status != ConditionStatus::False {
        let cause = cause::unreachable(node);
        return Some(Problem {
            key: Key::of_drain(Severity::Blocker, cause.key),
            message: cause.message,
            otherwise: None,
        });
    }
    let since = ready
        .since
        .map_or(String::new(), |since| format!(" since {since:.0}"));
    let why = if ready.message.is_empty() {
        String::new()
    } else {
        format!(" ({})", ready.message)
    };
    let message = format!(
        "Node {} has not been ready{since}{why}, so its pods may not end and it counts as unavailable: repair it before the update",
        node.name
    );
    Some(Problem {
        key: Key {
            severity: Severity::Blocker,
            reason: Reason::NodeNotReady,
            kind: "Node".into(),
            namespace: "".into(),
            name: Arc::clone(&node.name),
        },
        message,
        otherwise: None,
    })
}

/// The pool of the node is paused.
pub(super) fn paused(candidate: &Candidate) -> Option<Problem> {
    let pool = candidate.state.pool.as_ref()?;
    candidate.is_paused.then(|| {
        let name = &pool.name;
        let message = format!(
            "Pool {name} is paused or allows no disruption now, so none of its nodes is updated: resume it, or wait until it allows one"
        );
        Problem {
            key: of_pool(Reason::PoolPaused, name),
            message,
            otherwise: None,
        }
    })
}

/// Whether the kubelet of the node is too far from the API server, or would be after its next minor version.
pub(super) fn is_skewed(node: &Arc<NodeState>, api_server: Option<&str>) -> bool {
    let skew = skew(std::slice::from_ref(node), api_server);
    skew.is_some_and(|skew| !skew.supported || !skew.supported_after_next_minor)
}

/// The version skew of nodes of the same pool; `None` without a pool.
pub(super) fn skewed(nodes: &[Arc<NodeState>], api_server: Option<&str>) -> Option<Problem> {
    let pool = nodes.first()?.pool_name()?;
    let server = api_server.unwrap_or_default();
    let VersionSkew {
        oldest_kubelet: oldest,
        minors_behind: behind,
        supported,
        supported_after_next_minor: _,
        newer_kubelet,
    } = skew(nodes, api_server)?;
    let message = if let Some(newest) = newer_kubelet {
        format!(
            "Kubelet {newest} in pool {pool} is newer than the API server ({server}), which Kubernetes does not support: update the API server first"
        )
    } else if supported {
        format!(
            "Kubelet {oldest} in pool {pool} is {behind} minor versions behind the API server ({server}), as many as Kubernetes supports: update the nodes before the API server"
        )
    } else {
        format!(
            "Kubelet {oldest} in pool {pool} is {behind} minor versions behind the API server ({server}), more than Kubernetes supports: update the nodes now, and the API server no further before"
        )
    };
    Some(Problem {
        key: of_pool(Reason::VersionSkew, &pool),
        message,
        otherwise: None,
    })
}

/// A warning about a pool, by the name of its insight.
fn of_pool(reason: Reason, name: &Arc<str>) -> Key {
    Key {
        severity: Severity::Warning,
        reason,
        kind: "Pool".into(),
        namespace: "".into(),
        name: Arc::clone(name),
    }
}
