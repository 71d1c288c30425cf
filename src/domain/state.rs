//! The state of a node: an evaluation with the times of its conditions.

mod history;

use std::borrow::Cow;
use std::fmt::Display;
use std::sync::Arc;

use jiff::Timestamp;

pub use self::history::{History, Since};
use super::cordon::CordonedBy;
use super::drain::Drain;
use super::eta::{Machine, passes};
use super::node::NodeFacts;
use super::outlook::Outlook;
use super::pool::PoolId;
use super::stalled::{self, Assessed, Progress, Stall, Step};
use super::text;
use crate::api::node::TimelineEntry;
use crate::api::types::{
    ConditionStatus, DesiredVersionSource, Phase, ProviderName, Scope, UpdateKind,
};

/// Phase changes stored per node: three or four updates. The insight shows fewer.
pub const TIMELINE_LIMIT: usize = 16;

/// Reason of the Updating condition after an observed reboot. It stays until something else happens, so that it
/// survives a restart of the operator.
pub const REBOOTED: &str = "Rebooted";

/// Reason of the Updating condition of a node whose pods were seen to leave. It stays until the drain is over, so that
/// it survives a restart of the operator.
pub const PODS_LEAVING: &str = "PodsLeaving";

/// Reason of the Updating condition of a node that has not been ready yet. It is not counted in its pool.
pub const JOINING: &str = "Joining";

/// The result of a provider for a node, without times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evaluation {
    /// Phase of the update.
    pub phase: Phase,
    /// What the update changes.
    pub kind: Option<UpdateKind>,
    /// Version that the node runs.
    pub version: Option<Arc<str>>,
    /// Desired version of the node.
    pub desired: Option<Desired>,
    /// The Updating condition.
    pub updating: Finding,
    /// The Available condition.
    pub available: Finding,
    /// The Degraded condition.
    pub degraded: Finding,
    /// When to evaluate the node again if nothing changes, because the result depends on the time.
    pub again_at: Option<Timestamp>,
    /// The step is inferred from what any updater does, such as a cordon: overlays may replace it.
    pub is_inferred: bool,
    /// Who cordoned the node, if it is cordoned.
    pub cordoned_by: Option<CordonedBy>,
    /// The node is outdated only because it is behind the API server, which orders nothing.
    pub is_only_behind: bool,
    /// Its drain, once that takes longer than most.
    pub drain: Option<Box<Drain>>,
}

/// The desired version of a node, and its source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Desired {
    /// The version.
    pub version: Arc<str>,
    /// Where it was read.
    pub source: DesiredVersionSource,
}

/// A condition without its time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Whether it holds.
    pub status: ConditionStatus,
    /// Why, in CamelCase.
    pub reason: &'static str,
    /// Why, for people.
    pub message: Cow<'static, str>,
    /// Since when, if the cluster has a time.
    pub since: Option<Timestamp>,
}

impl Finding {
    /// A finding without a time.
    pub fn new(
        status: impl Into<ConditionStatus>,
        reason: &'static str,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            status: status.into(),
            reason,
            message: message.into(),
            since: None,
        }
    }

    /// The Updating condition of a node in this phase.
    pub fn updating(
        phase: Phase,
        reason: &'static str,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        let status = match phase {
            Phase::Unknown => ConditionStatus::Unknown,
            phase => phase.is_in_progress().into(),
        };
        Self::new(status, reason, message)
    }

    /// The same, with more in the message.
    #[must_use]
    pub fn and(mut self, more: impl Display) -> Self {
        self.message = if self.message.is_empty() {
            more.to_string()
        } else {
            format!("{} | {more}", self.message)
        }
        .into();
        self
    }

    /// A finding with the reason `AsExpected`.
    #[must_use]
    pub fn as_expected(status: bool) -> Self {
        Self::new(status, "AsExpected", "")
    }
}

/// A condition with its time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeStateCondition {
    /// Whether it holds.
    pub status: ConditionStatus,
    /// Why, in CamelCase.
    pub reason: &'static str,
    /// Why, for people.
    pub message: Box<str>,
    /// Since when.
    pub since: Timestamp,
}

/// Everything that is known about the update of one node. Equal states look the same to users. Times change only
/// together with their conditions, so they do not affect the comparison.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeState {
    /// Name of the node.
    pub name: Arc<str>,
    /// UID of the node.
    pub uid: Arc<str>,
    /// Its pool.
    pub pool: Option<Arc<PoolId>>,
    /// Its provider.
    pub provider: ProviderName,
    /// The overlays that refined the evaluation.
    pub overlays: Box<[ProviderName]>,
    /// Whether it runs the control plane.
    pub scope: Scope,
    /// Phase of the update.
    pub phase: Phase,
    /// Since when.
    pub phase_start: Timestamp,
    /// What the update changes.
    pub kind: Option<UpdateKind>,
    /// Version that the node runs.
    pub version: Option<Arc<str>>,
    /// Desired version of the node.
    pub desired: Option<Desired>,
    /// The Updating condition.
    pub updating: NodeStateCondition,
    /// The Available condition.
    pub available: NodeStateCondition,
    /// The Degraded condition.
    pub degraded: NodeStateCondition,
    /// The last phases, oldest first.
    pub timeline: Box<[TimelineEntry]>,
    /// The boot that the state belongs to.
    pub boot_id: Option<Arc<str>>,
    /// When to evaluate the node again if nothing changes.
    pub again_at: Option<Timestamp>,
    /// Who cordoned the node, if it is cordoned.
    pub cordoned_by: Option<Box<CordonedBy>>,
    /// When the Node was created.
    pub created: Option<Timestamp>,
    /// Its kubelet.
    pub kubelet: Option<Arc<str>>,
    /// It is outdated only because it is behind the API server, which orders nothing.
    pub is_only_behind: bool,
    /// Its drain, once that takes longer than most.
    pub drain: Option<Box<Drain>>,
    /// Its update has stalled.
    pub stall: Option<Box<Stall>>,
    /// The last progress of its update.
    pub progress: Option<Box<Progress>>,
    /// The class of its machine, if it is known.
    pub machine: Option<Machine>,
    /// What is expected of the step that it is in.
    pub outlook: Option<Box<Outlook>>,
}

/// Provider, overlays, pool and scope of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Belonging {
    /// Its provider.
    pub provider: ProviderName,
    /// The overlays that refined the evaluation.
    pub overlays: Box<[ProviderName]>,
    /// Its pool.
    pub pool: Option<Arc<PoolId>>,
    /// Whether it runs the control plane.
    pub scope: Scope,
}

impl NodeState {
    /// The state for `evaluation`. Times of unchanged conditions are retained from `past`; a new time is the one
    /// that the cluster reports, else `now`.
    #[must_use]
    pub fn new(
        evaluation: Evaluation,
        node: &NodeFacts,
        belonging: Belonging,
        past: Option<&History>,
        now: Timestamp,
    ) -> Self {
        let same = past.filter(|past| past.phase == evaluation.phase);
        let phase_start = same.map_or(now, |past| past.phase_start);
        let step = Step {
            evaluation: &evaluation,
            boot_id: node.boot_id.as_ref(),
            start: phase_start,
            progress: same.and_then(|past| past.progress.as_deref()),
            stall: same.and_then(|past| past.stall.as_deref()),
            limit: same.and_then(|past| past.outlook.as_deref()?.step?.limit),
        };
        let Assessed {
            stall,
            progress,
            again,
        } = stalled::assess(step, now);
        let Evaluation {
            phase,
            kind,
            version,
            desired,
            updating,
            available,
            degraded,
            again_at,
            is_inferred: _,
            cordoned_by,
            is_only_behind,
            drain,
        } = evaluation;
        let Belonging {
            provider,
            overlays,
            pool,
            scope,
        } = belonging;
        Self {
            name: Arc::clone(&node.name),
            uid: Arc::clone(&node.uid),
            pool,
            provider,
            overlays,
            scope,
            phase,
            phase_start,
            kind,
            version,
            desired,
            updating: dated(updating, past.map(|past| past.updating), now),
            available: dated(available, past.map(|past| past.available), now),
            degraded: dated(degraded, past.map(|past| past.degraded), now),
            timeline: timeline(past, TimelineEntry::entered(phase, phase_start)),
            boot_id: node.boot_id.clone(),
            again_at: again_at.into_iter().chain(again).min(),
            cordoned_by: cordoned_by.map(Box::new),
            created: node.created,
            kubelet: node.kubelet_version.clone(),
            is_only_behind,
            drain,
            stall,
            progress,
            machine: node.machine,
            outlook: None,
        }
    }

    /// The same, with what is expected of it.
    #[must_use]
    pub fn expecting(mut self, outlook: Option<Outlook>, now: Timestamp) -> Self {
        let passes = outlook.as_ref().and_then(|outlook| {
            let at = passes(&outlook.published.as_ref()?.estimate);
            Some(at).filter(|at| *at > now)
        });
        let slow = outlook.as_ref().and_then(|outlook| {
            let at = self.phase_start.checked_add(outlook.step?.limit?).ok()?;
            Some(at).filter(|at| *at > now)
        });
        let all = self.again_at.into_iter().chain(passes).chain(slow);
        self.again_at = all.min();
        self.outlook = outlook.map(Box::new);
        self
    }

    /// Name of the insight of the node's pool.
    #[must_use]
    pub fn pool_name(&self) -> Option<Arc<str>> {
        self.pool.as_ref().map(|pool| Arc::clone(&pool.name))
    }

    /// Whether the node has not been ready yet.
    #[must_use]
    pub fn is_joining(&self) -> bool {
        self.phase == Phase::Unknown && self.updating.reason == JOINING
    }

    /// Whether the node is known to be outdated.
    #[must_use]
    pub const fn is_outdated(&self) -> bool {
        self.phase.is_outdated()
    }
}

fn dated(finding: Finding, past: Option<Since>, now: Timestamp) -> NodeStateCondition {
    let Finding {
        status,
        reason,
        message,
        since,
    } = finding;
    let since = match past {
        Some(past) if past.status == status => past.since,
        // A clock that is ahead must not put the transition into the future.
        Some(_) | None => since.map_or(now, |since| since.min(now)),
    };
    NodeStateCondition {
        status,
        reason,
        // Messages quote names from outside.
        message: text::message(&message).into(),
        since,
    }
}

fn timeline(past: Option<&History>, entry: TimelineEntry) -> Box<[TimelineEntry]> {
    let before = past.map_or(&[][..], |past| &past.timeline);
    let is_known = before.last().is_some_and(|last| last.is_same(&entry));
    let new = (!is_known).then_some(entry);
    let retained = TIMELINE_LIMIT - usize::from(new.is_some());
    let from = before.len().saturating_sub(retained);
    let mut timeline: Vec<TimelineEntry> = before[from..].to_vec();
    if let (Some(new), Some(last)) = (new, timeline.last_mut()) {
        let outlook = past.and_then(|past| past.outlook.as_ref());
        let usual = outlook.and_then(|outlook| Some(outlook.step?.usual));
        *last = last.ended(new.start_time, usual);
    }
    timeline.extend(new);
    timeline.into_boxed_slice()
}
