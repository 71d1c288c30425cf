//! Plain Kubernetes: what every node reports, with any updater.
//!
//! A plain cluster has no "this node is being updated", so it is inferred from what any updater does: it cordons a
//! node, the node stops reporting, returns with another boot ID and kubelet version, and is uncordoned; or the node
//! is deleted and replaced. The cordon or removal of a node that is not outdated is no update.

use std::cmp::Ordering;
use std::sync::Arc;

use super::{Claim, Provider, Subject};
use crate::api::types::{ConditionStatus, DesiredVersionSource, Phase, ProviderName, UpdateKind};
use crate::domain::availability::{availability, runs_control_plane};
use crate::domain::facts::{Unavailable, View};
use crate::domain::labels::Labels;
use crate::domain::node::{NodeCondition, NodeFacts, Removal};
use crate::domain::pool::{Membership, PoolId};
use crate::domain::pool_name::LabelKey;
use crate::domain::state::{Desired, Evaluation, Finding, History, REBOOTED};
use crate::domain::version;

/// Labels that name a node's pool, in order of precedence. Source: the documentation of each vendor.
pub const WELL_KNOWN_POOL_LABELS: [&str; 5] = [
    "eks.amazonaws.com/nodegroup",
    "karpenter.sh/nodepool",
    "cloud.google.com/gke-nodepool",
    "kubernetes.azure.com/agentpool",
    "kops.k8s.io/instancegroup",
];

/// Labels that only one updater sets on its nodes.
const MARKS: [(&str, &str); 4] = [
    ("eks.amazonaws.com/nodegroup", EKS),
    ("kubernetes.azure.com/agentpool", AKS),
    ("cloud.google.com/gke-nodepool", GKE),
    ("kops.k8s.io/instancegroup", KOPS),
];
/// Evidence of an EKS managed node group.
pub const EKS: &str = "label eks.amazonaws.com/nodegroup";
/// Evidence of AKS.
pub const AKS: &str = "label kubernetes.azure.com/agentpool";
/// Evidence of GKE.
pub const GKE: &str = "label cloud.google.com/gke-nodepool";
/// Evidence of kOps.
pub const KOPS: &str = "label kops.k8s.io/instancegroup";

const ROLE_PREFIX: &str = "node-role.kubernetes.io/";

/// Plain Kubernetes: every node that no other provider claims.
#[derive(Debug, Clone)]
pub struct Kubernetes {
    pool_labels: Vec<LabelKey>,
    target_version: Option<Arc<str>>,
}

impl Kubernetes {
    /// Its name in insights.
    pub const NAME: ProviderName = ProviderName::new("Kubernetes");

    /// The provider, with the labels that name a pool (first match wins) and the user's target version, if any.
    #[must_use]
    pub fn new(pool_labels: &[String], target_version: Option<&str>) -> Self {
        Self {
            pool_labels: LabelKey::all(pool_labels),
            target_version: target_version.map(Arc::from),
        }
    }

    /// The user's target, else the newest version in the pool that is newer than the node's, else the API server's
    /// version if the node is not ahead of it.
    fn desired(&self, pool: &PoolId, node: &NodeFacts, view: &View<'_>) -> Option<Desired> {
        let desired = |version, source| Desired { version, source };
        if let Some(target) = &self.target_version {
            return Some(desired(
                Arc::clone(target),
                DesiredVersionSource::UserTarget,
            ));
        }
        let own = node.kubelet_version.as_deref();
        if let Some(newest) = own.and_then(|own| view.newer_in_pool(&pool.name, own)) {
            return Some(desired(newest, DesiredVersionSource::NewestInPool));
        }
        upper_bound(own, view)
    }
}

/// The version of the API server, if the node is not ahead of it.
pub(super) fn upper_bound(own: Option<&str>, view: &View<'_>) -> Option<Desired> {
    let api_server = view.api_server_version()?;
    let is_ahead =
        own.is_some_and(|own| version::compare(own, api_server) == Some(Ordering::Greater));
    (!is_ahead).then(|| Desired {
        version: Arc::clone(api_server),
        source: DesiredVersionSource::ApiServer,
    })
}

impl Provider for Kubernetes {
    fn name(&self) -> ProviderName {
        Self::NAME
    }

    /// Labels of known updaters count as evidence, so that a node with two of them is detected as a conflict.
    fn claim(&self, node: &NodeFacts, _: &View<'_>) -> Claim {
        let mut marks = MARKS.iter();
        marks
            .find(|(label, _)| node.labels.contains(label))
            .map_or(Claim::Otherwise, |(_, mark)| Claim::Evidence(mark))
    }

    fn pool(&self, node: &NodeFacts, _: &View<'_>) -> Result<Membership, Unavailable> {
        let by_label = self.pool_labels.iter().find_map(|label| {
            let value = node
                .labels
                .get(label.as_str())
                .filter(|value| !value.is_empty())?;
            Some(PoolId::label(label, value))
        });
        Ok(Membership::Pool(Arc::new(
            by_label.unwrap_or_else(|| PoolId::role(role(&node.labels))),
        )))
    }

    fn evaluate(&self, node: &Subject<'_>, view: &View<'_>) -> Result<Evaluation, Unavailable> {
        let Subject {
            facts, pool, past, ..
        } = *node;
        let desired = self.desired(pool, facts, view);
        let step = step(facts, desired.as_ref(), past);
        let is_inferred = step.is_inferred();
        Ok(Evaluation {
            phase: step.phase,
            kind: step.kind,
            version: facts.kubelet_version.clone(),
            desired,
            updating: Finding::updating(step.phase, step.reason, step.message),
            available: availability(facts).unwrap_or_else(|| Finding::as_expected(true)),
            degraded: Finding::as_expected(false),
            again_at: None,
            is_inferred,
        })
    }
}

/// The role that groups nodes without a pool label: control plane, else the first role by name except `worker`, else
/// `worker`.
fn role(labels: &Labels) -> &str {
    if runs_control_plane(labels) {
        return "control-plane";
    }
    labels
        .iter()
        .filter_map(|(key, _)| key.strip_prefix(ROLE_PREFIX))
        .filter(|role| !role.is_empty() && *role != "worker")
        .min()
        .unwrap_or("worker")
}

struct Step {
    phase: Phase,
    kind: Option<UpdateKind>,
    reason: &'static str,
    message: String,
}

impl Step {
    /// Whether the step is inferred from a cordon or a restart, not from a condition or a deletion.
    fn is_inferred(&self) -> bool {
        matches!(
            self.reason,
            "Draining" | "Updating" | "Rebooting" | REBOOTED
        ) && self.phase.is_in_progress()
    }
}

/// The first step that applies.
fn step(node: &NodeFacts, desired: Option<&Desired>, past: Option<&History>) -> Step {
    let Some(version) = &node.kubelet_version else {
        return Step {
            phase: Phase::Unknown,
            kind: None,
            reason: "VersionUnknown",
            message:
                "The node does not report its kubelet version: it has not joined the cluster yet"
                    .to_owned(),
        };
    };
    let outdated = desired.is_some_and(|desired| is_outdated(version, desired));
    let kind = if outdated {
        UpdateKind::Version
    } else {
        kind_so_far(past).unwrap_or(UpdateKind::Reboot)
    };
    if let Some(step) = maintenance(node, outdated, kind) {
        step
    } else if node.deleting {
        deletion(node, outdated)
    } else if let Some(step) = in_place(node, version, outdated, kind, past) {
        step
    } else if outdated {
        Step {
            phase: Phase::Pending,
            kind: Some(UpdateKind::Version),
            reason: "Pending",
            message: waiting(node).to_owned(),
        }
    } else {
        let only_rebooted = has_rebooted(node, past)
            && kind_so_far(past).is_none_or(|kind| kind == UpdateKind::Reboot);
        Step {
            phase: Phase::Completed,
            kind: None,
            reason: if only_rebooted { REBOOTED } else { "Updated" },
            message: leaving(node),
        }
    }
}

/// An outdated node that is deleted is being replaced, unless the cluster scales down.
fn deletion(node: &NodeFacts, outdated: bool) -> Step {
    let (phase, kind, reason, message) = match (outdated, node.removal) {
        (true, None) => (
            Phase::Draining,
            Some(UpdateKind::Replacement),
            "BeingReplaced",
            "The outdated node is being deleted".to_owned(),
        ),
        (true, Some(_)) => (
            Phase::Pending,
            Some(UpdateKind::Version),
            "BeingDeleted",
            waiting(node).to_owned(),
        ),
        (false, _) => (Phase::Completed, None, "BeingDeleted", leaving(node)),
    };
    Step {
        phase,
        kind,
        reason,
        message,
    }
}

/// The step of an in-place update, if one is in progress: an updater cordons the node first and uncordons it at the
/// end.
fn in_place(
    node: &NodeFacts,
    version: &str,
    outdated: bool,
    kind: UpdateKind,
    past: Option<&History>,
) -> Option<Step> {
    if node.removal.is_some() {
        return None;
    }
    let ready = node
        .conditions
        .ready
        .as_ref()
        .is_none_or(|ready| ready.status == ConditionStatus::True);
    let was_updating = past.is_some_and(|past| past.phase.is_in_progress());
    let touched = was_updating || boot_changed(node, past);
    let so_far = kind_so_far(past).unwrap_or(kind);
    // A node registers before it is ready: the restart must be remembered until then.
    let is_back = boot_changed(node, past) || (was_updating && has_rebooted(node, past));
    let restart = if is_back { REBOOTED } else { "Rebooting" };
    let (phase, kind, reason, message) = match (node.cordoned.is_some(), ready) {
        (true, false) => {
            let kind = if outdated { kind } else { so_far };
            (
                Phase::Rebooting,
                kind,
                restart,
                "The cordoned node does not report: it restarts".to_owned(),
            )
        }
        (true, true) if outdated => {
            let message = "The outdated node is cordoned: its workloads are moved away".to_owned();
            (Phase::Draining, UpdateKind::Version, "Draining", message)
        }
        (true, true) if touched => {
            let reason = if is_back { REBOOTED } else { "Updating" };
            (
                Phase::Updating,
                so_far,
                reason,
                format!("The node runs {version} and waits to be uncordoned"),
            )
        }
        (false, false) if touched => (
            Phase::Rebooting,
            so_far,
            restart,
            "The node does not report: it restarts".to_owned(),
        ),
        (true | false, true) | (false, false) => return None,
    };
    Some(Step {
        phase,
        kind: Some(kind),
        reason,
        message,
    })
}

/// Whether the boot ID has changed since the last evaluation.
fn boot_changed(node: &NodeFacts, past: Option<&History>) -> bool {
    let before = past.and_then(|past| past.boot_id.as_ref());
    matches!((before, &node.boot_id), (Some(before), Some(now)) if before != now)
}

/// Whether the last change of the node is a restart.
fn has_rebooted(node: &NodeFacts, past: Option<&History>) -> bool {
    boot_changed(node, past) || past.is_some_and(|past| past.rebooted)
}

/// Why an outdated node is not updated yet.
fn waiting(node: &NodeFacts) -> &'static str {
    if NodeCondition::is_true(node.conditions.maintenance_planned.as_ref()) {
        "The node is outdated and its maintenance is planned"
    } else if node.removal.is_some() {
        "The node is outdated, and the cluster autoscaler removes it"
    } else {
        "The node is outdated and waits for its turn"
    }
}

/// The kind of the update in progress.
fn kind_so_far(past: Option<&History>) -> Option<UpdateKind> {
    past.filter(|past| past.phase.is_in_progress())
        .and_then(|past| past.kind)
}

/// The step by the vendor-neutral conditions of KEP-5683, if one is in progress.
fn maintenance(node: &NodeFacts, outdated: bool, kind: UpdateKind) -> Option<Step> {
    let conditions = &node.conditions;
    let holds = |condition: &Option<NodeCondition>| NodeCondition::is_true(condition.as_ref());
    let (phase, reason, message) = if holds(&conditions.graceful_shutdown_in_progress) {
        (
            Phase::Rebooting,
            "GracefulNodeShutdownInProgress",
            "The machine shuts down",
        )
    } else if holds(&conditions.drain_in_progress) {
        (
            Phase::Draining,
            "DrainInProgress",
            "The node is being drained",
        )
    } else if holds(&conditions.maintenance_in_progress) {
        (
            Phase::Updating,
            "MaintenanceInProgress",
            "Maintenance of the node is in progress",
        )
    } else if holds(&conditions.drained) && (outdated || holds(&conditions.maintenance_planned)) {
        (Phase::Updating, "Drained", "The node is drained")
    } else {
        return None;
    };
    Some(Step {
        phase,
        kind: Some(kind),
        reason,
        message: message.to_owned(),
    })
}

/// Explains a removal that is no update.
fn leaving(node: &NodeFacts) -> String {
    match (node.removal, node.deleting) {
        (Some(Removal::ClusterAutoscaler), _) => {
            "The cluster autoscaler removes the node; this is no update".to_owned()
        }
        (None, true) => "The node is being deleted; this is no update".to_owned(),
        (None, false) => String::new(),
    }
}

/// Whether the node does not run the desired version. The user's target has to be met exactly, downgrades included;
/// other sources only ever name a newer version.
fn is_outdated(version: &str, desired: &Desired) -> bool {
    match desired.source {
        DesiredVersionSource::UserTarget
        | DesiredVersionSource::ClusterVersion
        | DesiredVersionSource::Provider => !version::meets(version, &desired.version),
        DesiredVersionSource::NewestInPool => {
            version::compare(version, &desired.version) == Some(Ordering::Less)
        }
        DesiredVersionSource::ApiServer => version::is_behind_api_server(version, &desired.version),
    }
}

#[cfg(test)]
mod tests;
