//! `PoolProgressInsight` (ppi): one object per pool.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::insight::{Column, Insight, InsightStatus, desired_version_has_a_source};
use super::node::DrainBlocker;
use super::types::{
    Condition, DesiredVersionSource, EstimatedCompletion, Phase, PoolRef, ProviderName, Scope,
};

/// How far the update of one pool is.
pub type PoolProgressInsight = Insight<PoolProgressInsightStatus>;

/// What is known about the update of the pool.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [desired_version_has_a_source()]))]
pub struct PoolProgressInsightStatus {
    /// Name of the pool, as its owner knows it.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Where the pool comes from.
    pub pool_ref: PoolRef,
    /// Who updates the pool's nodes.
    pub provider: ProviderName,
    /// Whether the pool runs the control plane.
    pub scope: Scope,
    /// The pool in one word.
    pub assessment: Assessment,
    /// Updated nodes of all nodes, as in `22/59`; during a rollout, of the nodes that it began with.
    #[schemars(length(min = 3, max = 41), regex(pattern = r"^[0-9]+/[0-9]+$"))]
    pub progress: String,
    /// The same in percent, rounded down: 100 only when every node is updated.
    #[schemars(range(min = 0, max = 100))]
    pub completion_percent: i32,
    /// Counts of nodes.
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub summaries: Vec<Summary>,
    /// Version that most outdated nodes run; of all nodes when none is outdated. Absent when it is
    /// not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub version: Option<String>,
    /// Desired version of the nodes; absent when it is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub desired_version: Option<String>,
    /// Where the desired version was read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub desired_version_source: Option<DesiredVersionSource>,
    /// The rollout in progress; absent when there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<Rollout>,
    /// The last rollouts that ended, as far as they were observed, newest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 5), extend("x-kubernetes-list-type" = "atomic"))]
    pub last_rollouts: Vec<EndedRollout>,
    /// When the rollout is expected to be complete; absent when there is none, and while that is not known, as while
    /// the pool is paused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub estimated_completion: Option<EstimatedCompletion>,
    /// How long the steps of updates took in this pool, encoded: estimates are made from it. It is here so that a
    /// restart loses nothing, and not for people: the timelines of the nodes have the durations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub learned_durations: Option<String>,
    /// Drains of the pool's nodes that are held up; absent when there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blocked_drains: Option<BlockedDrains>,
    /// How far the kubelets of the pool are behind the API server; absent when it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version_skew: Option<VersionSkew>,
    /// Generation of this object that the status belongs to; for tools that wait for an object.
    #[schemars(range(min = 0))]
    pub observed_generation: i64,
    /// Updating and Healthy; Ready, Reconciling and Stalled for tools that wait for an object.
    #[schemars(length(max = 8), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// An update of the pool's nodes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Rollout {
    /// When it began, as far as was observed.
    pub start_time: Timestamp,
    /// Version that most nodes ran; absent when it is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub from_version: Option<String>,
    /// Desired version; absent when it is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub to_version: Option<String>,
    /// How many nodes it began with, without those that were removed meanwhile.
    #[schemars(range(min = 0))]
    pub nodes: i32,
    /// How many of them are updated or replaced.
    #[schemars(range(min = 0))]
    pub done: i32,
    /// Nodes that are being updated or replaced.
    #[schemars(range(min = 0))]
    pub in_progress: i32,
    /// Outdated nodes that wait.
    #[schemars(range(min = 0))]
    pub waiting: i32,
    /// How often a node has become Degraded.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub failures: i32,
    /// When a node last became Degraded; absent when none has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failure_time: Option<Timestamp>,
    /// The node whose update took longest, of those that are updated; absent when there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slowest_node: Option<SlowestNode>,
}

/// The node whose update took longest.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SlowestNode {
    /// Name of the node.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// How long its update took, in seconds.
    #[schemars(range(min = 0))]
    pub duration_seconds: i32,
    /// The phase in which it was for longest.
    pub phase: Phase,
}

/// An update of the pool's nodes that ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EndedRollout {
    /// When it began, as far as was observed.
    pub start_time: Timestamp,
    /// When no node was outdated any more.
    pub end_time: Timestamp,
    /// Version that most nodes ran; absent when it is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub from_version: Option<String>,
    /// Desired version; absent when it is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub to_version: Option<String>,
    /// How many nodes it began with.
    #[schemars(range(min = 0))]
    pub nodes: i32,
    /// How often a node became Degraded.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub failures: i32,
    /// The node whose update took longest; absent when that was not observed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slowest_node: Option<SlowestNode>,
}

/// Drains that are held up.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BlockedDrains {
    /// How many nodes have a drain that something holds up.
    #[schemars(range(min = 1))]
    pub nodes: i32,
    /// The node with the worst blocker.
    #[schemars(length(min = 1, max = 253))]
    pub worst_node: String,
    /// The worst blocker: the one that needs a human first, and has held for the longest.
    pub worst: DrainBlocker,
}

/// How far kubelets are behind the API server. Kubernetes supports kubelets that are up to three minor versions older
/// than the API server, and none that is newer.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VersionSkew {
    /// The oldest kubelet.
    #[schemars(length(min = 1, max = 253))]
    pub oldest_kubelet: String,
    /// How many minor versions it is behind the API server; negative when it is newer.
    pub minors_behind: i32,
    /// Whether Kubernetes supports every kubelet of the pool with this API server.
    pub supported: bool,
    /// Whether it would still do so after the next minor version of the API server.
    pub supported_after_next_minor: bool,
    /// The newest kubelet, where one is newer than the API server.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub newer_kubelet: Option<String>,
}

/// A pool in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Assessment {
    /// Every outdated node waits for its turn.
    Pending,
    /// Nodes are being updated, or some are and the next batch has not begun.
    Progressing,
    /// Every node is up to date.
    Completed,
    /// Updating at least one node failed.
    Degraded,
    /// The pool has outdated nodes, and is paused, or each of them is held back.
    Excluded,
}

impl Assessment {
    /// All values.
    pub const ALL: [Self; 5] = [
        Self::Pending,
        Self::Progressing,
        Self::Completed,
        Self::Degraded,
        Self::Excluded,
    ];

    /// The name in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Progressing => "Progressing",
            Self::Completed => "Completed",
            Self::Degraded => "Degraded",
            Self::Excluded => "Excluded",
        }
    }
}

/// A count of nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct Summary {
    /// What is counted.
    #[serde(rename = "type")]
    pub type_: SummaryType,
    /// How many nodes.
    #[schemars(range(min = 0))]
    pub count: i32,
}

/// What is counted. A node may be counted in several.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum SummaryType {
    /// Every node of the pool.
    Total,
    /// Accepts workloads.
    Available,
    /// Being updated right now; includes Draining.
    Progressing,
    /// Known to be outdated.
    Outdated,
    /// Being drained.
    Draining,
    /// Outdated, and left out because the pool is paused.
    Excluded,
    /// Updating it failed.
    Degraded,
}

/// Names of the conditions of a pool.
pub mod condition {
    /// Nodes of the pool are being updated.
    pub const UPDATING: &str = "Updating";
    /// No node of the pool is degraded.
    pub const HEALTHY: &str = "Healthy";
    /// Every node is up to date (kstatus, `kubectl wait`).
    pub const READY: &str = "Ready";
    /// The update is not complete (kstatus).
    pub const RECONCILING: &str = "Reconciling";
    /// The update cannot continue by itself (kstatus).
    pub const STALLED: &str = "Stalled";
}

impl InsightStatus for PoolProgressInsightStatus {
    const KIND: &'static str = "PoolProgressInsight";
    const PLURAL: &'static str = "poolprogressinsights";
    const SINGULAR: &'static str = "poolprogressinsight";
    const SHORT_NAMES: &'static [&'static str] = &["ppi", "poolinsight", "poolinsights"];
    const SELECTABLE: &'static [&'static str] = &[".status.assessment"];
    // Without `-o wide` and while nothing is estimated, a row has at most 80 characters as long as the insight's name
    // has at most 22, the pool at most 9,999 nodes, and each version at most 8 characters; held by the same test as the
    // columns of nodes.
    const COLUMNS: &'static [Column] = &[
        Column::new("Assessment", "string", ".status.assessment"),
        Column::new("Progress", "string", ".status.progress"),
        Column::new("Percent", "integer", ".status.completionPercent"),
        Column::new("Version", "string", ".status.version"),
        Column::new("Desired", "string", ".status.desiredVersion"),
        Column::new("ETA", "string", ".status.estimatedCompletion.time"),
        Column::wide(
            "Available",
            "integer",
            r#".status.summaries[?(@.type=="Available")].count"#,
        ),
        Column::wide(
            "Progressing",
            "integer",
            r#".status.summaries[?(@.type=="Progressing")].count"#,
        ),
        Column::wide(
            "Draining",
            "integer",
            r#".status.summaries[?(@.type=="Draining")].count"#,
        ),
        Column::wide(
            "Excluded",
            "integer",
            r#".status.summaries[?(@.type=="Excluded")].count"#,
        ),
        Column::wide(
            "Degraded",
            "integer",
            r#".status.summaries[?(@.type=="Degraded")].count"#,
        ),
        Column::wide("Age", "date", ".metadata.creationTimestamp"),
        Column::wide(
            "Message",
            "string",
            r#".status.conditions[?(@.type=="Updating")].message"#,
        ),
    ];
    const DESCRIPTION: &'static str = "PoolProgressInsight reports how far the update of one pool of nodes is. It is written by node-insights; editing it changes nothing.";
}
