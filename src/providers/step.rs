//! The step of a node's update, and the evaluation that follows from it.

use std::borrow::Cow;

use jiff::Timestamp;

use crate::api::types::{Phase, UpdateKind};
use crate::domain::availability::availability;
use crate::domain::cordon::{CordonedBy, Cordoner};
use crate::domain::facts::Unavailable;
use crate::domain::node::NodeFacts;
use crate::domain::state::{Desired, Evaluation, Finding};

/// The step of a node's update, and why.
#[derive(Debug, Clone)]
pub struct Step {
    /// Phase of the update.
    pub phase: Phase,
    /// What the update changes; `None` when there is no update.
    pub kind: Option<UpdateKind>,
    /// Why, in CamelCase.
    pub reason: &'static str,
    /// Why, for people.
    pub message: Cow<'static, str>,
    /// When to evaluate the node again if nothing changes.
    pub again_at: Option<Timestamp>,
    /// The step is inferred from what any updater does, such as a cordon.
    pub is_inferred: bool,
    /// Details that are unknown because a kind cannot be read.
    pub missing: Vec<Unavailable>,
    /// Why updating the node failed.
    pub failure: Option<Finding>,
    /// Why the node is unavailable although the Node reports nothing.
    pub unavailable: Option<Finding>,
    /// Who cordoned the node, where the Node does not show it.
    pub cordoner: Option<Cordoner>,
    /// Whether the cordon is part of the update; by default while a step is in progress.
    pub is_own_cordon: Option<bool>,
    /// The node is outdated only because it is behind the API server, which orders nothing.
    pub is_only_behind: bool,
}

impl Step {
    /// A step of an update.
    pub fn new(
        phase: Phase,
        kind: impl Into<Option<UpdateKind>>,
        reason: &'static str,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            phase,
            kind: kind.into(),
            reason,
            message: message.into(),
            again_at: None,
            is_inferred: false,
            missing: Vec::new(),
            failure: None,
            unavailable: None,
            cordoner: None,
            is_own_cordon: None,
            is_only_behind: false,
        }
    }

    /// The node is up to date.
    #[must_use]
    pub fn completed() -> Self {
        Self::new(Phase::Completed, None, "Updated", "")
    }

    /// It is not known whether the node is up to date.
    pub fn unknown(reason: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Phase::Unknown, None, reason, message)
    }

    /// The same, inferred.
    #[must_use]
    pub fn inferred(self) -> Self {
        Self {
            is_inferred: true,
            ..self
        }
    }

    /// The same, to be evaluated again at this time.
    #[must_use]
    pub fn again_at(self, time: Option<Timestamp>) -> Self {
        Self {
            again_at: time,
            ..self
        }
    }

    /// The same; updating the node failed.
    #[must_use]
    pub fn failed(self, reason: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            failure: Some(Finding::new(true, reason, message)),
            ..self
        }
    }

    /// The same, with who cordoned the node.
    #[must_use]
    pub fn cordoned_by(self, cordoner: Cordoner) -> Self {
        Self {
            cordoner: Some(cordoner),
            ..self
        }
    }

    /// The evaluation of a node in this step.
    #[must_use]
    pub fn evaluation(self, node: &NodeFacts, desired: Option<Desired>) -> Evaluation {
        let updating = Finding::updating(self.phase, self.reason, self.message);
        let is_own = self.is_own_cordon.unwrap_or(self.phase.is_in_progress());
        Evaluation {
            phase: self.phase,
            kind: self.kind,
            version: node.kubelet_version.clone(),
            desired,
            updating: self.missing.into_iter().fold(updating, Finding::and),
            available: availability(node)
                .or(self.unavailable)
                .unwrap_or_else(|| Finding::as_expected(true)),
            degraded: self.failure.unwrap_or_else(|| Finding::as_expected(false)),
            again_at: self.again_at,
            is_inferred: self.is_inferred,
            is_only_behind: self.is_only_behind,
            drain: None,
            cordoned_by: cordoned_by(node, is_own).map(|cordon| match self.cordoner {
                Some(by) => CordonedBy { by, ..cordon },
                None => cordon,
            }),
        }
    }

    /// The evaluation of a node that is in this step of an overlay, whatever its provider found.
    #[must_use]
    pub fn refine(self, node: &NodeFacts, until_now: &Evaluation) -> Evaluation {
        // The end of an inferred step changes nothing that is left of it.
        let other = until_now.again_at.filter(|_| !until_now.is_inferred);
        let again_at = self.again_at;
        let has_failed = self.failure.is_some();
        let refined = self.evaluation(node, until_now.desired.clone());
        Evaluation {
            version: until_now.version.clone(),
            available: until_now.available.clone(),
            degraded: if has_failed {
                refined.degraded
            } else {
                until_now.degraded.clone()
            },
            again_at: again_at.into_iter().chain(other).min(),
            ..refined
        }
    }
}

/// Who cordoned the node, as the Node shows it; `is_own` says that the cordon is part of its update.
#[must_use]
pub fn cordoned_by(node: &NodeFacts, is_own: bool) -> Option<CordonedBy> {
    let cordon = node.cordoned.as_ref()?;
    Some(CordonedBy {
        by: cordon.by.clone(),
        since: cordon.since,
        is_foreign: !is_own,
    })
}
