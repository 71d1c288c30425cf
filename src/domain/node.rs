//! The parts of a Node that matter to an update, parsed once when the object is received.
//!
//! What every provider reads is a field of [`NodeFacts`]. What only one provider reads, such as its own annotations,
//! is its evidence, in its own type. Equal facts give the same evaluation, so a kubelet heartbeat causes none.

use std::any::Any;
use std::sync::Arc;

use jiff::Timestamp;

use super::cordon::Cordon;
use super::erased::{Erased, downcast};
use super::eta::Machine;
use super::interruption::Interruption;
use super::labels::Labels;
use super::rows::Rows;
use super::shared::shared;
use super::text;
use crate::api::types::ConditionStatus;

/// Longest version that is stored.
const NAME_LIMIT: usize = 512;
/// Longest boot ID that is stored. A status can hold it, so it compares equal after a restart of the operator.
const BOOT_ID_LIMIT: usize = 253;

/// A Node without the parts that never matter: images, volumes, managed fields, addresses.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
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
    /// `metadata.creationTimestamp`.
    pub created: Option<Timestamp>,
    /// `metadata.deletionTimestamp` is set.
    pub deleting: bool,
    /// The field manager of `spec.unschedulable` in `metadata.managedFields`; empty when there is none.
    pub cordon_manager: Box<str>,
    /// When that field manager last wrote to the Node; empty when there is none.
    pub cordon_time: Box<str>,
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
    /// `status.nodeInfo.osImage`; empty when there is none.
    pub os_image: Box<str>,
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
    /// `metadata.creationTimestamp`.
    pub created: Option<Timestamp>,
    /// `metadata.deletionTimestamp` is set.
    pub deleting: bool,
    /// `spec.unschedulable`, since when and by whom.
    pub cordoned: Option<Box<Cordon>>,
    /// `status.nodeInfo.kubeletVersion`.
    pub kubelet_version: Option<Arc<str>>,
    /// `status.nodeInfo.bootID`.
    pub boot_id: Option<Arc<str>>,
    /// The conditions that matter.
    pub conditions: NodeConditions,
    /// What else than an update acts on the node.
    pub interruption: Option<Interruption>,
    /// The class of its machine, if its provider ID says so.
    pub machine: Option<Machine>,
    /// What providers read from the Node, each in its own type.
    pub evidence: Box<[Evidence]>,
}

impl NodeFacts {
    /// The facts of a Node, with the evidence of the providers.
    #[must_use]
    pub fn new(node: NodeObject, evidence: Vec<Evidence>) -> Self {
        Self {
            created: node.created,
            deleting: node.deleting,
            cordoned: Cordon::of(&node).map(Box::new),
            kubelet_version: text::word(&node.kubelet_version, NAME_LIMIT)
                .map(|version| shared(&version)),
            boot_id: text::word(&node.boot_id, BOOT_ID_LIMIT).map(Arc::from),
            conditions: NodeConditions::of(&node.conditions),
            interruption: Interruption::of(&node),
            machine: Machine::of(&node.provider_id),
            evidence: evidence.into_boxed_slice(),
            name: node.name,
            uid: node.uid,
            labels: node.labels,
        }
    }

    /// Whether the node is ready. A node without the condition counts as ready.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        let ready = self.conditions.ready.as_ref();
        ready.is_none_or(|ready| ready.status == ConditionStatus::True)
    }

    /// Since when the node has not been ready, if it is not.
    #[must_use]
    pub fn unready_since(&self) -> Option<Timestamp> {
        let ready = self.conditions.ready.as_ref()?;
        (ready.status != ConditionStatus::True).then_some(ready.since?)
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
            created,
            deleting,
            cordoned,
            kubelet_version,
            boot_id,
            conditions,
            interruption,
            machine,
            evidence,
        } = self;
        let is_same = |(a, b): (&Evidence, &Evidence)| a.is_same(&**b);
        *name == other.name
            && *uid == other.uid
            && *labels == other.labels
            && *created == other.created
            && *deleting == other.deleting
            && *cordoned == other.cordoned
            && *kubelet_version == other.kubelet_version
            && *boot_id == other.boot_id
            && *conditions == other.conditions
            && *interruption == other.interruption
            && *machine == other.machine
            && evidence.len() == other.evidence.len()
            && evidence.iter().zip(&other.evidence).all(is_same)
    }
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

/// The conditions of a node that matter to an update.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NodeConditions {
    /// The kubelet takes pods.
    pub ready: Option<NodeCondition>,
    /// The disk is full, or it is not known; absent when all is well.
    pub disk_pressure: Option<Box<NodeCondition>>,
    /// The network is not set up, or it is not known; absent when all is well.
    pub network_unavailable: Option<Box<NodeCondition>>,
    /// The conditions of KEP-5683.
    pub lifecycle: LifecycleConditions,
}

/// The conditions of KEP-5683 that are True.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "five conditions of a Node, each of which is True or not"
)]
pub struct LifecycleConditions {
    /// Pods are being evicted.
    pub drain_in_progress: bool,
    /// Pods were evicted.
    pub drained: bool,
    /// Maintenance is planned.
    pub maintenance_planned: bool,
    /// Maintenance is in progress.
    pub maintenance_in_progress: bool,
    /// The machine is shutting down.
    pub graceful_shutdown_in_progress: bool,
}

impl LifecycleConditions {
    fn get_mut(&mut self, name: &str) -> Option<&mut bool> {
        match name {
            "DrainInProgress" => Some(&mut self.drain_in_progress),
            "Drained" => Some(&mut self.drained),
            "MaintenancePlanned" => Some(&mut self.maintenance_planned),
            "MaintenanceInProgress" => Some(&mut self.maintenance_in_progress),
            "GracefulNodeShutdownInProgress" => Some(&mut self.graceful_shutdown_in_progress),
            _ => None,
        }
    }
}

impl NodeConditions {
    /// Reads rows of type, status, reason, transition time and message.
    fn of(rows: &Rows<5>) -> Self {
        let mut conditions = Self::default();
        for [type_, status, _, since, message] in rows.iter() {
            if let Some(is_true) = conditions.lifecycle.get_mut(type_) {
                *is_true = status == "True";
            }
            let slot = match type_ {
                "Ready" => None,
                "DiskPressure" => Some(&mut conditions.disk_pressure),
                "NetworkUnavailable" => Some(&mut conditions.network_unavailable),
                _ => continue,
            };
            let status = match status {
                "True" => ConditionStatus::True,
                "False" => ConditionStatus::False,
                _ => ConditionStatus::Unknown,
            };
            // The message of a healthy condition ("kubelet has no disk pressure") is never shown.
            let is_healthy = status == ConditionStatus::from(slot.is_none());
            let message = if is_healthy {
                String::new()
            } else {
                text::summary(message)
            };
            let condition = NodeCondition {
                status,
                since: since.parse().ok(),
                message: message.into_boxed_str(),
            };
            match slot {
                None => conditions.ready = Some(condition),
                Some(slot) => *slot = (!is_healthy).then(|| Box::new(condition)),
            }
        }
        conditions
    }
}
