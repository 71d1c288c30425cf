//! What would hold up the drain of each node if it began now, and what else would hold up its update.
//!
//! ```text
//!  nodes ──► Survey ──► nodes and pools: not ready, paused, version skew ──┐
//!  budgets ─► Survey                                                       ├─► groups by object ─► Report
//!  pods ───► Survey ──► causes of a drain, and what the drain costs ───────┘
//! ```
//!
//! The causes, their messages and what to do about them are those of [`drain`], for a drain that has not
//! begun. Pods are passed one by one and not stored, so a cluster of any size fits.
//!
//! Not seen: admission webhooks, volumes that do not detach, and whether the other nodes have room.

mod nodes;
mod pods;
mod survey;

use std::sync::Arc;

pub use self::survey::{Candidate, Survey};
use super::drain;

/// Nodes that a finding names; the others are counted.
const NODES: usize = 5;

/// Whether a drain can go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// It cannot, until somebody does something.
    Blocker,
    /// It can: it costs something, or it waits for something that ends by itself.
    Warning,
}

impl Severity {
    /// Its name, in CamelCase.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Blocker => "Blocker",
            Self::Warning => "Warning",
        }
    }
}

/// Why a drain would be held up, or what it would cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// What holds up drains in progress as well; a pod without a controller, and local data, may also be just lost.
    Drain(drain::Reason),
    /// The node is not ready, and its kubelet says so.
    NodeNotReady,
    /// The workload has one pod, so it is interrupted.
    SingleReplica,
    /// The pool is paused.
    PoolPaused,
    /// The kubelet is too far from the API server.
    VersionSkew,
}

impl Reason {
    /// All reasons that a report can have.
    pub const ALL: [Self; 18] = [
        Self::Drain(drain::Reason::NodeUnreachable),
        Self::NodeNotReady,
        Self::Drain(drain::Reason::FinalizerHolds),
        Self::Drain(drain::Reason::TerminatingPastGrace),
        Self::Drain(drain::Reason::DoNotDisrupt),
        Self::Drain(drain::Reason::WaitsForCompletion),
        Self::Drain(drain::Reason::MultipleBudgets),
        Self::Drain(drain::Reason::BudgetSyncFailed),
        Self::Drain(drain::Reason::BudgetStale),
        Self::Drain(drain::Reason::BudgetUnmanagedPods),
        Self::Drain(drain::Reason::BudgetNeverAllows),
        Self::Drain(drain::Reason::BudgetUnhealthy),
        Self::Drain(drain::Reason::BudgetExhausted),
        Self::Drain(drain::Reason::UnmanagedPod),
        Self::Drain(drain::Reason::LocalStorage),
        Self::SingleReplica,
        Self::PoolPaused,
        Self::VersionSkew,
    ];

    /// Its name, in CamelCase.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Drain(reason) => reason.as_str(),
            Self::NodeNotReady => "NodeNotReady",
            Self::SingleReplica => "SingleReplica",
            Self::PoolPaused => "PoolPaused",
            Self::VersionSkew => "VersionSkew",
        }
    }
}

/// Something that would hold up drains, or that they would cost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Whether drains can go on.
    pub severity: Severity,
    /// What it is.
    pub reason: Reason,
    /// The kind of its object.
    pub kind: Arc<str>,
    /// The namespace of its object; empty for a node or a pool.
    pub namespace: Arc<str>,
    /// The name of its object.
    pub name: Arc<str>,
    /// How many nodes it concerns.
    pub count: usize,
    /// The first of them, by name.
    pub nodes: Box<[Arc<str>]>,
    /// What it is and what to do about it.
    pub message: Box<str>,
}

impl Finding {
    /// Its object, as in `PodDisruptionBudget shop/web`.
    #[must_use]
    pub fn object(&self) -> String {
        let Self {
            kind,
            namespace,
            name,
            ..
        } = self;
        if namespace.is_empty() {
            format!("{kind} {name}")
        } else {
            format!("{kind} {namespace}/{name}")
        }
    }
}

/// What was found in the nodes that were looked at.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// Nodes that were looked at.
    pub nodes: usize,
    /// Nodes with a blocker.
    pub blocked: usize,
    /// The most important first: blockers, then what concerns the most nodes, then by name.
    pub findings: Vec<Finding>,
}

impl Report {
    /// How many findings are of this severity.
    #[must_use]
    pub fn count(&self, severity: Severity) -> usize {
        let findings = self.findings.iter();
        findings
            .filter(|finding| finding.severity == severity)
            .count()
    }
}

#[cfg(test)]
mod tests;
