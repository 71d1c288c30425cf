//! `NodeProgressInsight` (npi): one object per node, with its name, owned by it.

use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::insight::{
    Column, Insight, InsightStatus, Reported, ReportedStall, desired_version_has_a_source,
};
use super::types::{
    Condition, ConditionStatus, CordonerKind, DesiredVersionSource, EstimatedCompletion, Phase,
    PoolRef, ProviderName, Scope, UpdateKind,
};

/// How far the update of one node is.
pub type NodeProgressInsight = Insight<NodeProgressInsightStatus>;

/// What is known about the update of the node.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {
        "rule": "size(self.timeline) == 0 || self.timeline[size(self.timeline) - 1].phase == self.phase",
        "message": "the last phase of timeline must be phase"
    },
    desired_version_has_a_source()
]))]
pub struct NodeProgressInsightStatus {
    /// Name of the node.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The pool that the node belongs to; absent when it belongs to none, or to several that
    /// exclude each other (the Updating condition has the reason).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pool_ref: Option<PoolRef>,
    /// Who updates the node: `OpenShift`, `Karpenter`, or `Kubernetes` where nothing more is known.
    pub provider: ProviderName,
    /// Overlays that refined the status, such as `kured`; the Updating condition has their reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), extend("x-kubernetes-list-type" = "set"))]
    pub overlays: Vec<ProviderName>,
    /// Whether the node runs the control plane.
    pub scope: Scope,
    /// How far the update is.
    pub phase: Phase,
    /// Since when the node has been in this phase, as far as was observed.
    pub phase_start_time: Timestamp,
    /// What the update changes; absent when there is none, or when it is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub update_kind: Option<UpdateKind>,
    /// Version that the node runs; absent when it is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub version: Option<String>,
    /// Desired version of the node; absent when it is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub desired_version: Option<String>,
    /// Where the desired version was read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub desired_version_source: Option<DesiredVersionSource>,
    /// What holds the update up, in one line; the conditions have the full text. Absent when there
    /// is nothing to report.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 200))]
    pub message: Option<String>,
    /// Who cordoned the node; absent when it is not cordoned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cordoned_by: Option<CordonedBy>,
    /// When the update of the node is expected to be complete; absent while that is not known, as before its turn,
    /// or while its drain is blocked until someone acts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub estimated_completion: Option<EstimatedCompletion>,
    /// What holds the drain of the node up; absent unless the node has been Draining for a minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain: Option<Drain>,
    /// Boot that this status belongs to, from the node's `status.nodeInfo.bootID`; another value is a
    /// reboot.
    #[serde(rename = "bootID", skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub boot_id: Option<String>,
    /// Updating, Available and Degraded; Stalled only while the update has stalled.
    #[schemars(length(max = 8), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// The last phases, oldest first; the last one is the current phase.
    #[schemars(length(max = 8), extend("x-kubernetes-list-type" = "atomic"))]
    pub timeline: Vec<TimelineEntry>,
}

/// The drain of a node.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Drain {
    /// When it began, as far as was observed.
    pub start_time: Timestamp,
    /// How many pods have to leave the node; absent when it is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub pods_left: Option<i32>,
    /// What holds the drain up, most blocking first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 5), extend("x-kubernetes-list-type" = "atomic"))]
    pub blockers: Vec<DrainBlocker>,
    /// How many more blockers there are; absent when there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub blockers_omitted: Option<i32>,
    /// For how long blockers that only a human can remove, and that are gone, have held the drain up, in seconds;
    /// absent when there were none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub blocked_seconds: Option<i32>,
}

/// Something that holds a drain up.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DrainBlocker {
    /// Why, in CamelCase, such as `BudgetNeverAllows`.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[A-Za-z]+$"))]
    pub reason: String,
    /// Kind of the object that it is about: PodDisruptionBudget, the controller of the pods, Pod or Node.
    #[schemars(length(min = 1, max = 63))]
    pub kind: String,
    /// Namespace of the object; absent for a Node.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub namespace: Option<String>,
    /// Name of the object.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The first pods that it holds up.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 3), inner(length(min = 1, max = 253)), extend("x-kubernetes-list-type" = "atomic"))]
    pub pods: Vec<String>,
    /// How many pods it holds up.
    #[schemars(range(min = 0))]
    pub count: i32,
    /// Since when, as far as was observed.
    pub since: Timestamp,
    /// Whether it was seen, or is concluded from what was seen.
    pub certainty: Certainty,
    /// What it is, and what to do about it.
    #[schemars(length(min = 1, max = 200))]
    pub message: String,
}

/// How sure a blocker is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Certainty {
    /// The objects of the cluster show it.
    Observed,
    /// It is concluded: nothing else explains what is seen.
    Inferred,
}

/// Who cordoned a node.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CordonedBy {
    /// What it is.
    pub kind: CordonerKind,
    /// Its name, as a tool names itself or as the API server recorded it; absent when it is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub name: Option<String>,
    /// Since when, as far as the Node shows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Whether the cordon is no part of the update.
    pub foreign: bool,
}

/// A phase that the node entered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TimelineEntry {
    /// The phase.
    pub phase: Phase,
    /// When the node entered it, as far as was observed.
    pub start_time: Timestamp,
    /// How long it was in it, in seconds; absent for the current phase.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub duration_seconds: Option<i32>,
    /// How long nodes of the pool were usually in it by then, in seconds; absent for phases in which nothing is done
    /// to a node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub usual_seconds: Option<i32>,
}

impl TimelineEntry {
    /// A phase that a node enters.
    #[must_use]
    pub const fn entered(phase: Phase, start_time: Timestamp) -> Self {
        Self {
            phase,
            start_time,
            duration_seconds: None,
            usual_seconds: None,
        }
    }

    /// The phase, that ended at `end` and usually takes `usual`.
    #[must_use]
    pub fn ended(self, end: Timestamp, usual: Option<SignedDuration>) -> Self {
        let small =
            |duration: SignedDuration| i32::try_from(duration.as_secs().max(0)).unwrap_or(i32::MAX);
        Self {
            duration_seconds: Some(small(end.duration_since(self.start_time))),
            usual_seconds: usual.map(small),
            ..self
        }
    }

    /// Whether both are about the same time in the same phase.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        (self.phase, self.start_time) == (other.phase, other.start_time)
    }
}

/// Names of the conditions of a node.
pub mod condition {
    /// The node is being updated right now.
    pub const UPDATING: &str = "Updating";
    /// The node accepts workloads.
    pub const AVAILABLE: &str = "Available";
    /// Updating the node failed.
    pub const DEGRADED: &str = "Degraded";
    /// The update of the node has stalled. Present only while it has.
    pub const STALLED: &str = "Stalled";
    /// Reason of the Stalled condition: the updater reports a failure, as the condition Degraded does.
    pub const PLATFORM_FAILED: &str = "PlatformFailed";
    /// Reason of the Stalled condition: only a human can free the drain.
    pub const DRAIN_BLOCKED: &str = "DrainBlocked";
}

impl InsightStatus for NodeProgressInsightStatus {
    const KIND: &'static str = "NodeProgressInsight";
    const PLURAL: &'static str = "nodeprogressinsights";
    const SINGULAR: &'static str = "nodeprogressinsight";
    const SHORT_NAMES: &'static [&'static str] = &["npi", "nodeinsight", "nodeinsights"];
    const SELECTABLE: &'static [&'static str] = &[".status.poolRef.name", ".status.phase"];
    // Without `-o wide` and while nothing is estimated, a row has at most 80 characters as long as the node's name has
    // at most 24, its pool's 11 and each version 8: kubectl puts 3 blanks between columns, the longest phase has 9 characters, and an age
    // has at most 5 (`7d12h`) until it is two years. Names of 46 characters, as OpenShift gives on AWS, need
    // about 100. A test with the real kubectl holds this (tests/integration/kubectl.rs).
    const COLUMNS: &'static [Column] = &[
        Column::new("Pool", "string", ".status.poolRef.name"),
        Column::new("Phase", "string", ".status.phase"),
        Column::new("Since", "date", ".status.phaseStartTime"),
        Column::new("Version", "string", ".status.version"),
        Column::new("Desired", "string", ".status.desiredVersion"),
        Column::new("ETA", "string", ".status.estimatedCompletion.time"),
        Column::wide("Update", "string", ".status.updateKind"),
        Column::wide(
            "Available",
            "string",
            r#".status.conditions[?(@.type=="Available")].status"#,
        ),
        Column::wide(
            "Degraded",
            "string",
            r#".status.conditions[?(@.type=="Degraded")].status"#,
        ),
        Column::wide("Age", "date", ".metadata.creationTimestamp"),
        Column::wide("Message", "string", ".status.message"),
    ];
    const DESCRIPTION: &'static str = "NodeProgressInsight reports how far the update of one node is. It is written by node-insights; editing it changes nothing.";

    fn reported(&self) -> Option<Reported> {
        let is_true = |each: &Condition, type_: &str| {
            each.type_ == type_ && each.status == ConditionStatus::True
        };
        let mut conditions = self.conditions.iter();
        let stalled = conditions.find(|each| is_true(each, condition::STALLED));
        Some(Reported {
            phase: self.phase,
            phase_start: self.phase_start_time,
            degraded: self
                .conditions
                .iter()
                .any(|each| is_true(each, condition::DEGRADED)),
            stall: stalled.and_then(|each| match each.reason.as_str() {
                condition::PLATFORM_FAILED => None,
                condition::DRAIN_BLOCKED => Some(ReportedStall::DrainBlocked),
                _ => Some(ReportedStall::Other),
            }),
            foreign_cordon: self.phase.is_outdated()
                && self.cordoned_by.as_ref().is_some_and(|by| by.foreign),
        })
    }
}
