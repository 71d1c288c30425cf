//! What holds the drain of a node up: its pods, their budgets, and whoever drains the node.
//!
//! Most drains end within a minute, so nothing is asked before that. Then each pod that has to go has at most one cause
//! ([`cause`]), the first that applies and has held for long enough; causes with the same object are one blocker, the
//! one that needs a human first comes first ([`assess()`]).
//!
//! Sources: kubernetes/kubernetes `pkg/registry/core/pod/storage/eviction.go`, `pkg/controller/disruption/disruption.go`;
//! kubernetes/kubectl `pkg/drain/filters.go`; kubernetes-sigs/karpenter `pkg/controllers/node/termination`;
//! kubernetes-sigs/cluster-api `core/reconcilers/machine/drain`.

pub mod assess;
pub mod budget;
pub(in crate::domain) mod cause;
pub mod method;
pub mod pod;
mod report;
mod steady;

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

pub use self::assess::assess;
use self::pod::{DrainLabel, Pod, Stage};

/// Most drains end before this.
pub const GATE: SignedDuration = SignedDuration::from_secs(60);
/// Pods and budgets are read a little earlier, so that what holds the drain up is known by then.
pub const READ: SignedDuration = SignedDuration::from_secs(55);
/// Karpenter does not wait for a pod whose grace has been over for longer than this.
const FORGOTTEN: SignedDuration = SignedDuration::from_mins(1);

/// Who drains a node: which of its pods have to go, and how often it tries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Drainer {
    /// A tool with the drain of kubectl, as most have it.
    #[default]
    Kubectl,
    /// The Machine Config Operator: the same, but it may try only every five minutes.
    MachineConfigOperator,
    /// Cluster API.
    ClusterApi,
    /// Karpenter, which drains pods of DaemonSets as well.
    Karpenter,
    /// Talos, which leaves pods without a controller.
    Talos,
    /// The update operator of Flatcar, which leaves the pods of `kube-system` as well.
    Flatcar,
    /// The system-upgrade-controller, whose drain does not begin while there are pods that its Plan does not allow to
    /// lose.
    SystemUpgrade {
        /// It deletes pods without a controller.
        is_forced: bool,
        /// It deletes pods with an `emptyDir`.
        loses_local_data: bool,
    },
}

impl Drainer {
    /// Whether the pod has to leave the node.
    #[must_use]
    pub fn must_go(self, pod: &Pod, now: Timestamp) -> bool {
        let is_finished = pod.stage == Stage::Finished;
        let is_of_daemon_set = pod.is_of_daemon_set();
        match self {
            Self::Kubectl | Self::MachineConfigOperator => !is_of_daemon_set || is_finished,
            Self::ClusterApi => !is_of_daemon_set && pod.drain != DrainLabel::Skip,
            Self::Talos => !is_of_daemon_set && pod.controller.is_some(),
            Self::Flatcar => (!is_of_daemon_set || is_finished) && &*pod.namespace != "kube-system",
            Self::SystemUpgrade { .. } => {
                (!is_of_daemon_set || is_finished)
                    && pod.labels.get("upgrade.cattle.io/controller").is_none()
            }
            Self::Karpenter => {
                let is_over =
                    |deletion: &pod::Deletion| now.duration_since(deletion.ends) > FORGOTTEN;
                !is_finished
                    && !pod.tolerates.disruption
                    && !pod.deletion.as_ref().is_some_and(is_over)
            }
        }
    }

    /// Whether the drain does not begin while there is a pod without a controller.
    #[must_use]
    pub const fn stops_at_unmanaged(self) -> bool {
        matches!(self, Self::SystemUpgrade { is_forced, .. } if !is_forced)
    }

    /// Whether the drain does not begin while there is a pod with an `emptyDir`.
    #[must_use]
    pub const fn stops_at_local_data(self) -> bool {
        matches!(self, Self::SystemUpgrade { loses_local_data, .. } if !loses_local_data)
    }

    /// For how long nothing must have spoken against an eviction before it counts as denied.
    const fn patience(self) -> SignedDuration {
        match self {
            Self::MachineConfigOperator => SignedDuration::from_mins(6),
            Self::Kubectl
            | Self::ClusterApi
            | Self::Karpenter
            | Self::Talos
            | Self::Flatcar
            | Self::SystemUpgrade { .. } => SignedDuration::from_mins(1),
        }
    }
}

/// The drain of a node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Drain {
    /// Pods that have to go; `None` until they are known.
    pub pods_left: Option<usize>,
    /// What holds it up, most blocking first.
    pub blockers: Box<[Blocker]>,
    /// How many more there are.
    pub omitted: usize,
    /// The most pods that had to go.
    pub most: usize,
    /// Causes, shown or not, and since when each of them holds.
    pub causes: Box<[(Key, Timestamp)]>,
    /// When what is shown changed last; `None` after a start of the process.
    pub shown: Option<Timestamp>,
    /// For how long blockers that need a human, and are gone, have held it up.
    pub blocked: SignedDuration,
}

impl Drain {
    /// Since when something that needs a human holds it up.
    #[must_use]
    pub fn blocked_since(&self) -> Option<Timestamp> {
        let blockers = self.blockers.iter();
        let of_humans = blockers.filter(|blocker| blocker.needs_human());
        of_humans.map(|blocker| blocker.since).min()
    }

    /// For how long in all something that needs a human has held it up.
    #[must_use]
    pub fn blocked_until(&self, now: Timestamp) -> SignedDuration {
        let ongoing = self
            .blocked_since()
            .map(|since| now.duration_since(since).max(SignedDuration::ZERO));
        self.blocked + ongoing.unwrap_or_default()
    }
}

/// Something that holds a drain up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blocker {
    /// The cause, and its object.
    pub key: Key,
    /// What it is, and what to do about it.
    pub message: Box<str>,
    /// The first pods that it holds up.
    pub pods: Box<[Box<str>]>,
    /// How many pods it holds up.
    pub count: usize,
    /// Since when.
    pub since: Timestamp,
    /// When it was last gone: one that comes and goes stays for a moment.
    pub gone: Option<Timestamp>,
    /// It is a consequence of what else holds drains up.
    pub is_symptom: bool,
}

impl Blocker {
    /// How it is ranked: the smallest needs a human first, and has held for the longest.
    #[must_use]
    pub fn rank(&self) -> impl Ord + use<> {
        let class = if self.is_symptom {
            Class::Symptom
        } else {
            self.key.reason.class()
        };
        (class, self.since)
    }

    /// Whether nothing but a human ends it.
    #[must_use]
    pub fn needs_human(&self) -> bool {
        !self.is_symptom && self.key.reason.class() == Class::Human
    }

    /// Whether probably nothing but a human ends it.
    #[must_use]
    pub fn probably_needs_human(&self) -> bool {
        !self.is_symptom && self.key.reason.class() <= Class::Likely
    }
}

/// A cause and its object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// The cause.
    pub reason: Reason,
    /// The kind of the object.
    pub kind: Arc<str>,
    /// Its namespace; empty for a Node.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
}

impl Key {
    /// Whether both are about the same object.
    fn is_about(&self, other: &Self) -> bool {
        (&self.kind, &self.namespace, &self.name) == (&other.kind, &other.namespace, &other.name)
    }
}

/// Why a pod does not go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// The kubelet does not report, so pods cannot confirm their end.
    NodeUnreachable,
    /// The pod has ended, and a finalizer keeps it.
    FinalizerHolds,
    /// The pod should have ended.
    TerminatingPastGrace,
    /// The pod may still take its time.
    TerminatingInGrace,
    /// The pod is marked for Karpenter.
    DoNotDisrupt,
    /// The pod has no controller, and the drain does not begin with one of those.
    UnmanagedPod,
    /// The pod has local data, and the drain does not begin with one of those.
    LocalStorage,
    /// The pod is left to finish.
    WaitsForCompletion,
    /// A virtual machine migrates.
    WaitsForMigration,
    /// An operator moves the pod.
    WaitsForOperator,
    /// A pod that does not run is not deleted.
    NotDeleted,
    /// Two budgets for one pod: the API server rejects every eviction.
    MultipleBudgets,
    /// The budget cannot be calculated.
    BudgetSyncFailed,
    /// The disruption controller has not seen the budget as it is.
    BudgetStale,
    /// The budget counts no controller.
    BudgetUnmanagedPods,
    /// The budget needs all its pods.
    BudgetNeverAllows,
    /// The budget needs pods that are not ready.
    BudgetUnhealthy,
    /// The budget waits for a replacement.
    BudgetExhausted,
    /// New pods come back to the node.
    ReturnsToNode,
    /// Nothing visible speaks against the eviction.
    EvictionDenied,
    /// Nothing holds the drain up, and the next attempt follows.
    RetryWait,
    /// Pods are left, and no cause is visible.
    Unknown,
}

/// How much a human is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    /// Nothing else ends it.
    Human,
    /// Probably nothing else ends it.
    Likely,
    /// It ends by itself.
    Ends,
    /// A consequence of another cause.
    Symptom,
    /// Nothing is known.
    Unknown,
}

impl Reason {
    /// All reasons.
    pub const ALL: [Self; 22] = [
        Self::NodeUnreachable,
        Self::FinalizerHolds,
        Self::TerminatingPastGrace,
        Self::TerminatingInGrace,
        Self::DoNotDisrupt,
        Self::UnmanagedPod,
        Self::LocalStorage,
        Self::WaitsForCompletion,
        Self::WaitsForMigration,
        Self::WaitsForOperator,
        Self::NotDeleted,
        Self::MultipleBudgets,
        Self::BudgetSyncFailed,
        Self::BudgetStale,
        Self::BudgetUnmanagedPods,
        Self::BudgetNeverAllows,
        Self::BudgetUnhealthy,
        Self::BudgetExhausted,
        Self::ReturnsToNode,
        Self::EvictionDenied,
        Self::RetryWait,
        Self::Unknown,
    ];

    /// Its name, in CamelCase.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NodeUnreachable => "NodeUnreachable",
            Self::FinalizerHolds => "FinalizerHolds",
            Self::TerminatingPastGrace => "TerminatingPastGrace",
            Self::TerminatingInGrace => "TerminatingInGrace",
            Self::DoNotDisrupt => "DoNotDisrupt",
            Self::UnmanagedPod => "UnmanagedPod",
            Self::LocalStorage => "LocalStorage",
            Self::WaitsForCompletion => "WaitsForCompletion",
            Self::WaitsForMigration => "WaitsForMigration",
            Self::WaitsForOperator => "WaitsForOperator",
            Self::NotDeleted => "NotDeleted",
            Self::MultipleBudgets => "MultipleBudgets",
            Self::BudgetSyncFailed => "BudgetSyncFailed",
            Self::BudgetStale => "BudgetStale",
            Self::BudgetUnmanagedPods => "BudgetUnmanagedPods",
            Self::BudgetNeverAllows => "BudgetNeverAllows",
            Self::BudgetUnhealthy => "BudgetUnhealthy",
            Self::BudgetExhausted => "BudgetExhausted",
            Self::ReturnsToNode => "ReturnsToNode",
            Self::EvictionDenied => "EvictionDenied",
            Self::RetryWait => "RetryWait",
            Self::Unknown => "Unknown",
        }
    }

    /// The reason of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == name)
    }

    /// Whether it is concluded rather than seen.
    #[must_use]
    pub const fn is_inferred(self) -> bool {
        matches!(
            self,
            Self::EvictionDenied | Self::ReturnsToNode | Self::RetryWait
        )
    }

    /// Whether it comes and goes with each pod that is replaced.
    const fn flickers(self) -> bool {
        matches!(self, Self::BudgetExhausted | Self::ReturnsToNode)
    }

    const fn class(self) -> Class {
        match self {
            Self::MultipleBudgets
            | Self::BudgetNeverAllows
            | Self::BudgetSyncFailed
            | Self::BudgetUnmanagedPods
            | Self::UnmanagedPod
            | Self::LocalStorage
            | Self::DoNotDisrupt => Class::Human,
            Self::FinalizerHolds
            | Self::TerminatingPastGrace
            | Self::NodeUnreachable
            | Self::BudgetUnhealthy
            | Self::ReturnsToNode
            | Self::EvictionDenied
            | Self::BudgetStale
            | Self::NotDeleted => Class::Likely,
            Self::WaitsForMigration
            | Self::WaitsForOperator
            | Self::WaitsForCompletion
            | Self::TerminatingInGrace
            | Self::RetryWait
            | Self::BudgetExhausted => Class::Ends,
            Self::Unknown => Class::Unknown,
        }
    }
}

#[cfg(test)]
pub(crate) mod fixtures;
#[cfg(test)]
mod tests;
