//! The parts of a Node that matter to an update, parsed once when the object is received.
//!
//! What every provider reads is a field of [`NodeFacts`]. What only one provider reads, such as its own annotations,
//! is its evidence, in its own type. Equal facts give the same evaluation, so a kubelet heartbeat causes none.

use std::any::Any;
use std::sync::Arc;

use jiff::Timestamp;

use super::erased::{Erased, downcast};
use super::labels::Labels;
use super::rows::Rows;
use super::text;
use crate::api::types::ConditionStatus;

/// Longest version that is stored.
const NAME_LIMIT: usize = 512;
/// Longest boot ID that is stored. A status can hold it, so it compares equal after a restart of the operator.
const BOOT_ID_LIMIT: usize = 253;
const UNSCHEDULABLE_TAINT: &str = "node.kubernetes.io/unschedulable";
const AUTOSCALER_TAINT: &str = "ToBeDeletedByClusterAutoscaler";

/// A Node without the parts that never matter: images, volumes, managed fields, addresses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeObject {
    /// `metadata.name`.
    pub name: Arc<str>,
    /// `metadata.uid`.
    pub uid: Arc<str>,
    /// `metadata.labels`.
    pub labels: Labels,
    /// `metadata.annotations`.
    pub annotations: Labels,
    /// `metadata.ownerReferences`: API version, kind and name of each.
    pub owners: Rows<3>,
    /// `metadata.deletionTimestamp` is set.
    pub deleting: bool,
    /// `spec.providerID`; empty when there is none.
    pub provider_id: Box<str>,
    /// `spec.unschedulable`.
    pub unschedulable: bool,
    /// `spec.taints`: key, value, effect and time of each.
    pub taints: Rows<4>,
    /// `status.nodeInfo.kubeletVersion`; empty when there is none.
    pub kubelet_version: Box<str>,
    /// `status.nodeInfo.bootID`; empty when there is none.
    pub boot_id: Box<str>,
    /// `status.conditions`: type, status, reason, transition time and message of each.
    pub conditions: Rows<5>,
}

impl NodeObject {
    /// Value and time of the taint with this key and effect.
    #[must_use]
    pub fn taint(&self, key: &str, effect: &str) -> Option<(&str, Option<Timestamp>)> {
        let mut taints = self.taints.iter();
        let [_, value, _, since] = taints.find(|[of, _, has, _]| *of == key && *has == effect)?;
        Some((value, since.parse().ok()))
    }
}

/// What one provider reads from a Node.
pub type Evidence = Arc<dyn Erased>;

/// The parts of a Node that matter to an update.
#[derive(Debug, Clone)]
pub struct NodeFacts {
    /// `metadata.name`.
    pub name: Arc<str>,
    /// `metadata.uid`: a different UID is a different node, even with the same name.
    pub uid: Arc<str>,
    /// `metadata.labels`.
    pub labels: Labels,
    /// `metadata.deletionTimestamp` is set.
    pub deleting: bool,
    /// `spec.unschedulable`, with the time of its taint if known.
    pub cordoned: Option<Cordon>,
    /// `status.nodeInfo.kubeletVersion`.
    pub kubelet_version: Option<Arc<str>>,
    /// `status.nodeInfo.bootID`.
    pub boot_id: Option<Arc<str>>,
    /// The conditions that matter.
    pub conditions: NodeConditions,
    /// Set when the node is removed for another reason than an update.
    pub removal: Option<Removal>,
    /// What providers read from the Node, each in its own type.
    pub evidence: Box<[Evidence]>,
}

impl NodeFacts {
    /// The facts of a Node, with the evidence of the providers.
    #[must_use]
    pub fn new(node: NodeObject, evidence: Vec<Evidence>) -> Self {
        let taint = |key: &str| node.taints.find(key);
        let since = |[_, _, _, since]: [&str; 4]| since.parse().ok();
        Self {
            deleting: node.deleting,
            cordoned: node.unschedulable.then(|| Cordon {
                since: taint(UNSCHEDULABLE_TAINT).and_then(since),
            }),
            kubelet_version: text::word(&node.kubelet_version, NAME_LIMIT).map(Arc::from),
            boot_id: text::word(&node.boot_id, BOOT_ID_LIMIT).map(Arc::from),
            conditions: NodeConditions::of(&node.conditions),
            removal: taint(AUTOSCALER_TAINT).map(|_| Removal::ClusterAutoscaler),
            evidence: evidence.into_boxed_slice(),
            name: node.name,
            uid: node.uid,
            labels: node.labels,
        }
    }

    /// The evidence of one provider, by its type.
    #[must_use]
    pub fn evidence<E: Any>(&self) -> Option<&E> {
        self.evidence.iter().find_map(|each| downcast(&**each))
    }
}

impl PartialEq for NodeFacts {
    fn eq(&self, other: &Self) -> bool {
        let Self {
            name,
            uid,
            labels,
            deleting,
            cordoned,
            kubelet_version,
            boot_id,
            conditions,
            removal,
            evidence,
        } = self;
        let is_same = |(a, b): (&Evidence, &Evidence)| a.is_same(&**b);
        *name == other.name
            && *uid == other.uid
            && *labels == other.labels
            && *deleting == other.deleting
            && *cordoned == other.cordoned
            && *kubelet_version == other.kubelet_version
            && *boot_id == other.boot_id
            && *conditions == other.conditions
            && *removal == other.removal
            && evidence.len() == other.evidence.len()
            && evidence.iter().zip(&other.evidence).all(is_same)
    }
}

/// The node is cordoned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cordon {
    /// Since when, if known.
    pub since: Option<Timestamp>,
}

/// A condition of the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeCondition {
    /// Its status.
    pub status: ConditionStatus,
    /// Since when.
    pub since: Option<Timestamp>,
    /// Why; empty when not reported.
    pub message: Box<str>,
}

impl NodeCondition {
    /// Whether the condition exists and is True.
    #[must_use]
    pub fn is_true(condition: Option<&Self>) -> bool {
        condition.is_some_and(|condition| condition.status == ConditionStatus::True)
    }
}

/// The conditions of a node that matter to an update.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NodeConditions {
    /// The kubelet takes pods.
    pub ready: Option<NodeCondition>,
    /// The disk is full.
    pub disk_pressure: Option<NodeCondition>,
    /// The network is not set up.
    pub network_unavailable: Option<NodeCondition>,
    /// KEP-5683: pods are being evicted.
    pub drain_in_progress: Option<NodeCondition>,
    /// KEP-5683: pods were evicted.
    pub drained: Option<NodeCondition>,
    /// KEP-5683: maintenance is planned.
    pub maintenance_planned: Option<NodeCondition>,
    /// KEP-5683: maintenance is in progress.
    pub maintenance_in_progress: Option<NodeCondition>,
    /// KEP-5683: the machine is shutting down.
    pub graceful_shutdown_in_progress: Option<NodeCondition>,
}

impl NodeConditions {
    /// Reads rows of type, status, reason, transition time and message.
    fn of(rows: &Rows<5>) -> Self {
        let mut conditions = Self::default();
        for [type_, status, _, since, message] in rows.iter() {
            let slot = match type_ {
                "Ready" => &mut conditions.ready,
                "DiskPressure" => &mut conditions.disk_pressure,
                "NetworkUnavailable" => &mut conditions.network_unavailable,
                "DrainInProgress" => &mut conditions.drain_in_progress,
                "Drained" => &mut conditions.drained,
                "MaintenancePlanned" => &mut conditions.maintenance_planned,
                "MaintenanceInProgress" => &mut conditions.maintenance_in_progress,
                "GracefulNodeShutdownInProgress" => &mut conditions.graceful_shutdown_in_progress,
                _ => continue,
            };
            let status = match status {
                "True" => ConditionStatus::True,
                "False" => ConditionStatus::False,
                _ => ConditionStatus::Unknown,
            };
            // The message of a healthy condition ("kubelet has no disk pressure") is never shown.
            let is_healthy = status == ConditionStatus::from(type_ == "Ready");
            let message = if is_healthy {
                String::new()
            } else {
                text::summary(message)
            };
            *slot = Some(NodeCondition {
                status,
                since: since.parse().ok(),
                message: message.into_boxed_str(),
            });
        }
        conditions
    }
}

/// Why the node is removed, other than by an update.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removal {
    /// The cluster autoscaler scales down: taint `ToBeDeletedByClusterAutoscaler`.
    ClusterAutoscaler,
}
