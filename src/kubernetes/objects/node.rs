//! A Node as JSON, and what of it is a fact.

use std::sync::Arc;

use jiff::Timestamp;
use serde::Deserialize;

use super::WatchedNode;
use super::meta::{RawMeta, Text, Texts};
use crate::api::types::ConditionStatus;
use crate::domain::facts::{
    Cordon, DaemonState, MachineConfigFacts, NodeCondition, NodeConditions, NodeFacts, Removal,
    drain_requested,
};
use crate::domain::labels::Labels;
use crate::domain::text;

/// Longest annotation that is kept as a name (of a config, an image, a version).
const NAME_LIMIT: usize = 512;
/// Longest boot ID that is kept: what a status can hold, so that it is the same boot after a restart.
const BOOT_ID_LIMIT: usize = 253;
const UNSCHEDULABLE_TAINT: &str = "node.kubernetes.io/unschedulable";
const MACHINE_CONFIG_PREFIX: &str = "machineconfiguration.openshift.io/";
const AUTOSCALER_TAINT: &str = "ToBeDeletedByClusterAutoscaler";

#[derive(Deserialize)]
pub(super) struct RawNode<'a> {
    #[serde(borrow)]
    metadata: RawMeta<'a>,
    #[serde(default, borrow)]
    spec: Option<RawSpec<'a>>,
    #[serde(default, borrow)]
    status: Option<RawStatus<'a>>,
}

#[derive(Deserialize, Default)]
struct RawSpec<'a> {
    #[serde(default)]
    unschedulable: Option<bool>,
    #[serde(default, borrow)]
    taints: Option<Vec<RawTaint<'a>>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawTaint<'a> {
    #[serde(default, borrow)]
    key: Text<'a>,
    #[serde(default, borrow)]
    time_added: Option<Text<'a>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct RawStatus<'a> {
    #[serde(default, borrow)]
    conditions: Option<Vec<RawCondition<'a>>>,
    #[serde(default, borrow)]
    node_info: Option<RawNodeInfo<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawCondition<'a> {
    #[serde(default, borrow, rename = "type")]
    type_: Text<'a>,
    #[serde(default, borrow)]
    status: Text<'a>,
    #[serde(default, borrow)]
    last_transition_time: Option<Text<'a>>,
    #[serde(default, borrow)]
    message: Option<Text<'a>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct RawNodeInfo<'a> {
    #[serde(default, borrow)]
    kubelet_version: Option<Text<'a>>,
    #[serde(default, borrow, rename = "bootID")]
    boot_id: Option<Text<'a>>,
}

impl From<RawNode<'_>> for WatchedNode {
    fn from(raw: RawNode<'_>) -> Self {
        let metadata = raw.metadata.to_object_meta();
        let (spec, status) = (raw.spec.unwrap_or_default(), raw.status.unwrap_or_default());
        let info = status.node_info.unwrap_or_default();
        let annotations = raw.metadata.annotations.unwrap_or_default();
        let labels = raw.metadata.labels.unwrap_or_default();
        let taints = spec.taints.unwrap_or_default();
        let cordoned = spec.unschedulable.unwrap_or_default().then(|| Cordon {
            since: taints
                .iter()
                .find(|taint| &*taint.key == UNSCHEDULABLE_TAINT)
                .and_then(|taint| time(taint.time_added.as_deref())),
        });
        let facts = NodeFacts {
            name: Arc::from(&*raw.metadata.name),
            uid: Arc::from(&*raw.metadata.uid),
            labels: Labels::new(labels.iter().map(|(key, value)| (&**key, &**value))),
            deleting: raw.metadata.deletion_timestamp.is_some(),
            cordoned,
            kubelet_version: info.kubelet_version.as_deref().and_then(name),
            boot_id: info
                .boot_id
                .and_then(|id| text::word(&id, BOOT_ID_LIMIT).map(Arc::from)),
            conditions: conditions(status.conditions.unwrap_or_default()),
            machine_config: machine_config(&annotations),
            removal: taints
                .iter()
                .any(|taint| &*taint.key == AUTOSCALER_TAINT)
                .then_some(Removal::ClusterAutoscaler),
        };
        Self { metadata, facts }
    }
}

fn name(text: &str) -> Option<Arc<str>> {
    text::word(text, NAME_LIMIT).map(Arc::from)
}

fn time(text: Option<&str>) -> Option<Timestamp> {
    text?.parse().ok()
}

fn conditions(raw: Vec<RawCondition<'_>>) -> NodeConditions {
    let mut conditions = NodeConditions::default();
    for RawCondition {
        type_,
        status,
        last_transition_time,
        message,
    } in raw
    {
        let slot = match &*type_ {
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
        let status = match &*status {
            "True" => ConditionStatus::True,
            "False" => ConditionStatus::False,
            _ => ConditionStatus::Unknown,
        };
        // What a healthy kubelet says of itself ("kubelet has no disk pressure") is never shown.
        let is_healthy = status
            == if &*type_ == "Ready" {
                ConditionStatus::True
            } else {
                ConditionStatus::False
            };
        let message = if is_healthy {
            String::new()
        } else {
            text::summary(message.as_deref().unwrap_or_default())
        };
        *slot = Some(NodeCondition {
            status,
            since: time(last_transition_time.as_deref()),
            message: message.into_boxed_str(),
        });
    }
    conditions
}

fn machine_config(annotations: &Texts<'_>) -> MachineConfigFacts {
    let mut facts = MachineConfigFacts::default();
    let (mut desired_drain, mut last_applied_drain) = (None, None);
    for (key, value) in annotations {
        match key.strip_prefix(MACHINE_CONFIG_PREFIX) {
            Some("currentConfig") => facts.current_config = name(value),
            Some("desiredConfig") => facts.desired_config = name(value),
            Some("currentImage") => facts.current_image = name(value),
            Some("desiredImage") => facts.desired_image = name(value),
            Some("state") => facts.state = DaemonState::parse(value),
            Some("reason") => {
                let reason = text::message(value);
                facts.reason = (!reason.is_empty()).then(|| reason.into());
            }
            Some("desiredDrain") => desired_drain = Some(&**value),
            Some("lastAppliedDrain") => last_applied_drain = Some(&**value),
            _ => {}
        }
    }
    facts.drain_requested = drain_requested(desired_drain, last_applied_drain);
    facts
}
