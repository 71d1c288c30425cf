//! What both insight kinds share: references, enums, conditions.

use std::borrow::Cow;
use std::fmt;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Longest message of a condition, in characters; what the Kubernetes condition type allows.
pub const MESSAGE_LIMIT: usize = 32_768;
/// Longest `status.message`, in characters: a line that still reads well in a table.
pub const SUMMARY_LIMIT: usize = 200;
/// Phase changes in a status. An update of one node has four to six phases, so the last update is shown completely;
/// the state backend stores more.
pub const TIMELINE_LIMIT: usize = 8;

/// Where a pool comes from.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PoolRef {
    /// API group of the pool object, or the prefix of the node label that names the pool.
    #[schemars(length(max = 253))]
    pub group: String,
    /// Resource of the pool object (`machineconfigpools`), or the name of the node label
    /// (`nodegroup`), or `role` where nodes are grouped by their role.
    #[schemars(length(min = 1, max = 253))]
    pub resource: String,
    /// Name of the pool as its owner knows it.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// Name of a provider or an overlay, as in `Karpenter`.
#[derive(
    Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(transparent)]
pub struct ProviderName(
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[A-Za-z][A-Za-z0-9-]*$"))]
    Cow<'static, str>,
);

impl ProviderName {
    /// The name of a provider: letters, digits and dashes, a letter first.
    #[must_use]
    pub const fn new(name: &'static str) -> Self {
        Self(Cow::Borrowed(name))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ProviderName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Which part of the cluster a node or pool serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Scope {
    /// Runs the control plane.
    ControlPlane,
    /// Runs workloads.
    WorkerPool,
}

/// How far the update of a node is.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
pub enum Phase {
    /// Outdated, and waiting for its turn.
    Pending,
    /// Its turn has come: workloads are being moved away.
    Draining,
    /// Files, operating system or kubelet are being changed.
    Updating,
    /// The machine restarts.
    Rebooting,
    /// Outdated, and held back until a user changes it: the pool is paused, or the node must not be disrupted.
    Paused,
    /// Up to date.
    Completed,
    /// Not known; the Updating condition has the reason.
    Unknown,
}

impl Phase {
    /// Every phase, in the order of an update.
    pub const ALL: [Self; 7] = [
        Self::Pending,
        Self::Draining,
        Self::Updating,
        Self::Rebooting,
        Self::Paused,
        Self::Completed,
        Self::Unknown,
    ];

    /// The name in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Draining => "Draining",
            Self::Updating => "Updating",
            Self::Rebooting => "Rebooting",
            Self::Paused => "Paused",
            Self::Completed => "Completed",
            Self::Unknown => "Unknown",
        }
    }

    /// Whether the node is being updated right now.
    #[must_use]
    pub const fn is_in_progress(self) -> bool {
        match self {
            Self::Draining | Self::Updating | Self::Rebooting => true,
            Self::Pending | Self::Paused | Self::Completed | Self::Unknown => false,
        }
    }

    /// Whether the node is known to be outdated.
    #[must_use]
    pub const fn is_outdated(self) -> bool {
        match self {
            Self::Pending | Self::Draining | Self::Updating | Self::Rebooting | Self::Paused => {
                true
            }
            Self::Completed | Self::Unknown => false,
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What the update changes.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub enum UpdateKind {
    /// To another version.
    Version,
    /// To another configuration of the same version.
    Configuration,
    /// To another operating system image.
    Image,
    /// A restart that changes nothing else.
    Reboot,
    /// The node is replaced by another one.
    Replacement,
}

/// What cordoned a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum CordonerKind {
    /// A tool that updates nodes.
    Updater,
    /// A tool that adds and removes nodes.
    Autoscaler,
    /// A user, by a command or a web console; a script or a tool that runs kubectl looks the same.
    Person,
    /// Another program.
    Controller,
    /// It is not known.
    Unknown,
}

/// Where the desired version was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum DesiredVersionSource {
    /// `status.history[0].version` of OpenShift's ClusterVersion.
    ClusterVersion,
    /// The operator's `--target-version`.
    UserTarget,
    /// The newest kubelet in the same pool.
    NewestInPool,
    /// The version of the API server.
    ApiServer,
    /// An object of the provider, as a node class of Karpenter.
    Provider,
}

/// Status of a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum ConditionStatus {
    /// The condition holds.
    True,
    /// The condition does not hold.
    False,
    /// It is not known.
    Unknown,
}

impl From<bool> for ConditionStatus {
    fn from(holds: bool) -> Self {
        if holds { Self::True } else { Self::False }
    }
}

/// When an update is expected to be complete. The times are absolute and rewritten only when they change much.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EstimatedCompletion {
    /// The update is as likely to be complete before as after.
    pub time: Timestamp,
    /// The update is complete by then with a probability of 90 %.
    pub latest: Timestamp,
    /// Where the durations are from.
    pub basis: EstimateBasis,
    /// How many updated nodes of the pool they are from; those of earlier rollouts count less.
    #[schemars(range(min = 0))]
    pub samples: i32,
    /// How far the estimate can be relied on.
    pub confidence: Confidence,
    /// How many nodes it leaves out, as their drains are blocked until someone acts; absent when there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub nodes_left_out: Option<i32>,
}

/// Where the durations of an estimate are from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum EstimateBasis {
    /// This pool.
    PoolHistory,
    /// Other pools of the same provider.
    ProviderHistory,
    /// Constants of the provider.
    PlatformConstant,
}

/// How far an estimate can be relied on.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub enum Confidence {
    /// Fewer than 3 nodes of the pool were observed.
    Low,
    /// Fewer than 10 were, or it is not certain how many nodes are updated at once.
    Medium,
    /// At least 10 were.
    High,
}

/// A Kubernetes condition.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// Name of the condition, in CamelCase.
    #[serde(rename = "type")]
    #[schemars(length(min = 1, max = 316))]
    pub type_: String,
    /// Whether it holds.
    pub status: ConditionStatus,
    /// Since when it has had this status.
    pub last_transition_time: Timestamp,
    /// Why, for machines: CamelCase.
    #[schemars(
        length(min = 1, max = 1024),
        regex(pattern = r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$")
    )]
    pub reason: String,
    /// Why, for people; may be empty.
    #[schemars(length(max = 32768))]
    pub message: String,
}
