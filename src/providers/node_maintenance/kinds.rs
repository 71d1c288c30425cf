//! The maintenance of a node, with the fields that matter.

use serde::Deserialize;

use crate::domain::fact::{Fact, Keys, KindSpec, Need, Object, Parsed};
use crate::domain::text;

/// Index of maintenances by the name of their node.
pub const NODE: &str = "node";
/// Failed renewals of the lease of the node after which the operator gives up.
const LEASE_ERRORS: i64 = 3;
/// How many of the pods that remain are named: a message that names more is not read.
const NAMED_PODS: usize = 3;

/// A `NodeMaintenance`: the request of a user to free a node of its pods.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Maintenance {
    /// Its name.
    pub name: Box<str>,
    /// Name of the node.
    pub node: Box<str>,
    /// Why, as the user says; empty when the user does not.
    pub reason: Box<str>,
    /// How far it is.
    pub phase: MaintenancePhase,
    /// The object is being deleted, which ends the maintenance.
    pub is_ending: bool,
    /// The operator has lost the lease of the node: it is about to release the node, and to report that it failed.
    pub is_giving_up: bool,
    /// Percentage of the pods that are gone.
    pub progress: u8,
    /// Some of the pods that remain, by namespace and name.
    pub pods: Vec<Box<str>>,
    /// How many pods remain besides.
    pub more_pods: usize,
    /// The last error, in one line; empty when there is none.
    pub last_error: Box<str>,
}

/// How far a maintenance is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MaintenancePhase {
    /// It has not begun.
    None,
    /// The pods are being evicted.
    Running,
    /// The pods are gone; the maintenance goes on.
    Succeeded,
    /// It failed, and the node is uncordoned.
    Failed,
    /// Another phase, which this version does not know.
    Other(Box<str>),
}

#[derive(Deserialize)]
struct RawMaintenance {
    #[serde(default)]
    spec: RawSpec,
    #[serde(default)]
    status: Option<RawStatus>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct RawSpec {
    node_name: String,
    reason: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct RawStatus {
    phase: Option<String>,
    drain_progress: i64,
    error_on_lease_count: i64,
    last_error: Option<String>,
    /// Names without namespaces, of older versions.
    pending_pods: Option<Vec<String>>,
    pending_pods_refs: Option<Vec<RawPod>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawPod {
    name: String,
    namespace: String,
}

impl RawStatus {
    /// The pods that remain, sorted.
    fn pods(&mut self) -> Vec<String> {
        let refs = self.pending_pods_refs.take().unwrap_or_default();
        let mut pods: Vec<String> = if refs.is_empty() {
            self.pending_pods.take().unwrap_or_default()
        } else {
            let full_name = |pod: RawPod| format!("{}/{}", pod.namespace, pod.name);
            refs.into_iter().map(full_name).collect()
        };
        pods.sort_unstable();
        pods
    }
}

impl Fact for Maintenance {
    const KIND: KindSpec = KindSpec::new(
        "nodemaintenance.medik8s.io",
        &["v1beta1"],
        "NodeMaintenance",
        "nodemaintenances",
    )
    .need(Need::Optional);

    fn parse(object: &Object<'_>) -> Parsed<Self> {
        let RawMaintenance { spec, status } = match object.read() {
            Ok(maintenance) => maintenance,
            Err(error) => return Parsed::Unreadable(error),
        };
        if spec.node_name.is_empty() {
            return Parsed::Unreadable("spec.nodeName names no node".to_owned());
        }
        let line = |text: Option<String>| text::summary(&text.unwrap_or_default()).into();
        let mut status = status.unwrap_or_default();
        let pods = status.pods();
        Parsed::Fact(Self {
            name: text::name(&object.meta.name),
            node: spec.node_name.into(),
            reason: line(spec.reason),
            phase: match status.phase.as_deref().unwrap_or_default() {
                "" => MaintenancePhase::None,
                "Running" => MaintenancePhase::Running,
                "Succeeded" => MaintenancePhase::Succeeded,
                "Failed" => MaintenancePhase::Failed,
                other => MaintenancePhase::Other(text::name(other)),
            },
            is_ending: object.meta.is_deleting(),
            is_giving_up: status.error_on_lease_count > LEASE_ERRORS,
            progress: u8::try_from(status.drain_progress.clamp(0, 100)).unwrap_or_default(),
            more_pods: pods.len().saturating_sub(NAMED_PODS),
            pods: pods
                .iter()
                .take(NAMED_PODS)
                .map(|pod| text::name(pod))
                .collect(),
            last_error: line(status.last_error),
        })
    }

    fn index(&self, keys: &mut Keys) {
        keys.add(NODE, &self.node);
    }
}
