//! Machines: one for each node, except in MachinePools, most of which have none.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;

use super::{
    Conditions, GROUP, NAME_LIMIT, PROVIDER_ID, VERSIONS, cluster_of, is_paused, moment, version,
};
use crate::api::types::{ConditionStatus, UpdateKind};
use crate::domain::fact::{Fact, Keys, KindSpec, Meta, Need, Object, Parsed};
use crate::domain::text;
use crate::providers::cluster_api::evidence::OwnerKind;
use crate::providers::condition::RawCondition;

const IN_PLACE: &str = "in-place-updates.internal.cluster.x-k8s.io/update-in-progress";
const NO_DRAIN: &str = "machine.cluster.x-k8s.io/exclude-node-draining";

/// A Machine: a node from its creation to the end of its machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// `namespace/name`.
    pub key: Arc<str>,
    /// `namespace/name` of its Cluster; empty when it names none.
    pub cluster: Box<str>,
    /// `spec.providerID`; empty before the machine exists.
    pub provider_id: Box<str>,
    /// `status.nodeRef.name`; empty before the Node has joined.
    pub node: Box<str>,
    /// `spec.version`.
    pub version: Option<Arc<str>>,
    /// When it was created.
    pub created: Option<Timestamp>,
    /// The MachineDeployment, by label.
    pub deployment: Option<Box<str>>,
    /// What else controls it, by label; the name may be a hash.
    pub owner: Option<(OwnerKind, Box<str>)>,
    /// Its controller does not process it: the annotation.
    pub is_paused: bool,
    /// Its controller reports that it does not process it, whatever the cause: the condition.
    pub reports_paused: bool,
    /// Whether it is what its owner wants; standalone Machines and old versions do not report it.
    pub up_to_date: Option<UpToDate>,
    /// The update in place, if there is one.
    pub in_place: Option<InPlace>,
    /// Why it may be removed without an update.
    pub removal: Option<Removal>,
    /// How far its deletion is, if it is being deleted.
    pub deletion: Option<Deletion>,
}

/// The condition `UpToDate`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpToDate {
    /// Its status.
    pub status: ConditionStatus,
    /// Its reason.
    pub reason: Box<str>,
    /// What differs from the template, as far as the message has it.
    pub kind: Option<UpdateKind>,
    /// Its message, in one line.
    pub message: Box<str>,
}

/// An update in place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InPlace {
    /// It is in progress; the message.
    Running(Box<str>),
    /// It failed; the message.
    Failed(Box<str>),
}

/// Why a Machine may be removed without an update.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removal {
    /// A user or the autoscaler has chosen it for the next scale-down.
    ScaleDown,
    /// It is unhealthy.
    Remediation,
}

/// How far the deletion of a Machine is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deletion {
    /// The reason of the condition `Deleting`; empty before the first step.
    pub reason: Box<str>,
    /// Its message, in one line.
    pub message: Box<str>,
    /// The time limit of the step.
    pub limit: TimeLimit,
    /// Its node is not drained: the annotation.
    pub skips_drain: bool,
}

/// The time limit of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeLimit {
    /// The step has none.
    None,
    /// Until this time.
    Until(Timestamp),
    /// There is one, but the step has not begun.
    NotStarted,
}

#[derive(Deserialize)]
struct RawMachine {
    spec: Option<Spec>,
    status: Option<Status>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    cluster_name: Option<String>,
    #[serde(rename = "providerID")]
    provider_id: Option<String>,
    version: Option<String>,
    deletion: Option<Limits>,
    node_drain_timeout: Option<String>,
    node_volume_detach_timeout: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Limits {
    node_drain_timeout_seconds: Option<i64>,
    node_volume_detach_timeout_seconds: Option<i64>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    node_ref: Option<NodeRef>,
    deletion: Option<Starts>,
    #[serde(flatten)]
    conditions: Conditions,
}

#[derive(Deserialize)]
struct NodeRef {
    name: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Starts {
    node_drain_start_time: Option<String>,
    wait_for_node_volume_detach_start_time: Option<String>,
}

impl Fact for Machine {
    const KIND: KindSpec = KindSpec::new(GROUP, VERSIONS, "Machine", "machines")
        .namespaced()
        .need(Need::Optional);

    fn parse(object: &Object<'_>) -> Parsed<Self> {
        let raw = match object.read::<RawMachine>() {
            Ok(raw) => raw,
            Err(error) => return Parsed::Unreadable(error),
        };
        let meta = object.meta;
        let (spec, status) = (raw.spec.unwrap_or_default(), raw.status.unwrap_or_default());
        let limits = limits(&spec);
        let conditions = &status.conditions;
        let is_deleting = meta.is_deleting();
        let machine = Self {
            key: meta.key(),
            cluster: cluster_of(meta, spec.cluster_name.as_deref()),
            provider_id: spec.provider_id.as_deref().unwrap_or_default().into(),
            node: status
                .node_ref
                .as_ref()
                .and_then(|node| node.name.as_deref())
                .unwrap_or_default()
                .into(),
            version: version(spec.version.as_deref()),
            created: meta.created(),
            deployment: meta
                .label("cluster.x-k8s.io/deployment-name")
                .and_then(name),
            owner: owner(meta),
            is_paused: is_paused(meta),
            reports_paused: conditions.is_true("Paused"),
            up_to_date: up_to_date(conditions),
            in_place: in_place(meta, conditions),
            removal: removal(meta, conditions),
            deletion: is_deleting.then(|| {
                let limits = limits.as_ref().copied().unwrap_or_default();
                deletion(meta, &status, limits)
            }),
        };
        match limits {
            Ok(_) => Parsed::Fact(machine),
            Err(error) => Parsed::Flawed(machine, error),
        }
    }

    fn index(&self, keys: &mut Keys) {
        if !self.provider_id.is_empty() {
            keys.add(PROVIDER_ID, &self.provider_id);
        }
    }
}

fn name(text: &str) -> Option<Box<str>> {
    text::word(text, NAME_LIMIT).map(Box::from)
}

fn owner(meta: &Meta) -> Option<(OwnerKind, Box<str>)> {
    let labels = [
        ("set-name", OwnerKind::MachineSet),
        ("pool-name", OwnerKind::MachinePool),
        ("control-plane-name", OwnerKind::ControlPlane),
    ];
    labels.into_iter().find_map(|(label, kind)| {
        let value = meta.label(&format!("cluster.x-k8s.io/{label}"))?;
        Some((kind, name(value)?))
    })
}

fn up_to_date(conditions: &Conditions) -> Option<UpToDate> {
    let condition = conditions.find("UpToDate")?;
    let lines = || {
        let lines = condition.message().split(['\n', ';']);
        let lines = lines.map(|line| line.trim().trim_start_matches("* "));
        lines.filter(|line| !line.is_empty())
    };
    let text: Vec<&str> = lines().collect();
    Some(UpToDate {
        status: condition.status(),
        reason: name(condition.reason()).unwrap_or_default(),
        kind: lines().filter_map(change).min_by_key(|kind| rank(*kind)),
        message: text::summary(&text.join("; ")).into(),
    })
}

/// What a line of the message of `UpToDate` says.
fn change(line: &str) -> Option<UpdateKind> {
    if line.starts_with("Version ") {
        Some(UpdateKind::Version)
    } else if line.contains("Machine is not up-to-date") {
        Some(UpdateKind::Image)
    } else if line.contains("Config is not up-to-date") || line.starts_with("spec.bootstrap") {
        Some(UpdateKind::Configuration)
    } else if line.contains("rolloutAfter expired")
        || line.contains("Certificates will expire soon")
        || line.starts_with("Failure domain ")
    {
        Some(UpdateKind::Replacement)
    } else {
        None
    }
}

/// Of several changes, the one with the lowest rank is shown.
fn rank(kind: UpdateKind) -> u8 {
    match kind {
        UpdateKind::Version => 0,
        UpdateKind::Image => 1,
        UpdateKind::Configuration => 2,
        UpdateKind::Replacement => 3,
        UpdateKind::Reboot => 4,
    }
}

/// The annotation is set before the condition, and removed before it.
fn in_place(meta: &Meta, conditions: &Conditions) -> Option<InPlace> {
    let updating = conditions.find("Updating");
    let updating = updating.filter(|updating| updating.is_true());
    let message = || {
        let message = updating.map(|updating| text::summary(updating.message()));
        message.unwrap_or_default().into()
    };
    match updating.map(RawCondition::reason) {
        Some("InPlaceUpdateFailed") => Some(InPlace::Failed(message())),
        Some(_) => Some(InPlace::Running(message())),
        None => meta
            .annotation(IN_PLACE)
            .map(|_| InPlace::Running(message())),
    }
}

fn removal(meta: &Meta, conditions: &Conditions) -> Option<Removal> {
    let annotation = |key: &str| meta.annotation(&format!("cluster.x-k8s.io/{key}"));
    if annotation("remediate-machine").is_some()
        || conditions.is_false("HealthCheckSucceeded")
        || conditions.is_false("OwnerRemediated")
    {
        Some(Removal::Remediation)
    } else {
        annotation("delete-machine").map(|_| Removal::ScaleDown)
    }
}

/// The limits of the drain and of the detachment of volumes; zero means none.
type TimeLimits = (Option<SignedDuration>, Option<SignedDuration>);

fn limits(spec: &Spec) -> Result<TimeLimits, String> {
    let deletion = spec.deletion.as_ref();
    let limit = |seconds: Option<i64>, text: Option<&str>| {
        let limit = match (seconds, text) {
            (Some(seconds), _) => Some(SignedDuration::from_secs(seconds)),
            (None, Some(text)) => Some(text.parse().map_err(|_| {
                let text = text::summary(text);
                format!("A time limit of its deletion cannot be read: {text:?}")
            })?),
            (None, None) => None,
        };
        Ok::<_, String>(limit.filter(SignedDuration::is_positive))
    };
    Ok((
        limit(
            deletion.and_then(|limits| limits.node_drain_timeout_seconds),
            spec.node_drain_timeout.as_deref(),
        )?,
        limit(
            deletion.and_then(|limits| limits.node_volume_detach_timeout_seconds),
            spec.node_volume_detach_timeout.as_deref(),
        )?,
    ))
}

fn deletion(meta: &Meta, status: &Status, (drain, volumes): TimeLimits) -> Deletion {
    let conditions = &status.conditions;
    let reported = conditions
        .find("Deleting")
        .filter(|condition| condition.is_true())
        .map(|condition| (condition.reason(), condition.message()));
    let (reason, message) = reported.unwrap_or_else(|| before_conditions(conditions));
    let starts = status.deletion.as_ref();
    // Before the start was a field, the old condition had its time.
    let start = |field: Option<&String>, condition: &str| {
        let condition = conditions.find(condition);
        let condition = condition.filter(|condition| condition.is_false());
        match field {
            Some(text) => moment(Some(text)),
            None => condition?.since(),
        }
    };
    let (limit, start) = match reason {
        "DrainingNode" => (
            drain,
            start(
                starts.and_then(|starts| starts.node_drain_start_time.as_ref()),
                "DrainingSucceeded",
            ),
        ),
        "WaitingForVolumeDetach" => (
            volumes,
            start(
                starts.and_then(|starts| starts.wait_for_node_volume_detach_start_time.as_ref()),
                "VolumeDetachSucceeded",
            ),
        ),
        _ => (None, None),
    };
    let end = limit.map(|limit| start.and_then(|start| start.checked_add(limit).ok()));
    Deletion {
        reason: name(reason).unwrap_or_default(),
        message: text::summary(message).into(),
        limit: match end {
            None => TimeLimit::None,
            Some(None) => TimeLimit::NotStarted,
            Some(Some(end)) => TimeLimit::Until(end),
        },
        skips_drain: meta.annotation(NO_DRAIN).is_some(),
    }
}

/// The step of a deletion by the conditions of versions before `Deleting`: each is False while its step takes time, and
/// True afterwards.
fn before_conditions(conditions: &Conditions) -> (&'static str, &str) {
    let steps = [
        ("PreDrainDeleteHookSucceeded", "WaitingForPreDrainHook"),
        ("DrainingSucceeded", "DrainingNode"),
        ("VolumeDetachSucceeded", "WaitingForVolumeDetach"),
        (
            "PreTerminateDeleteHookSucceeded",
            "WaitingForPreTerminateHook",
        ),
    ];
    let mut open = steps.iter().filter_map(|(condition, reason)| {
        let found = conditions.find(condition)?;
        found.is_false().then(|| (*reason, found.message()))
    });
    open.next().unwrap_or_else(|| {
        let is_drained = conditions.is_true("DrainingSucceeded")
            || conditions.is_true("PreTerminateDeleteHookSucceeded");
        if is_drained {
            ("WaitingForInfrastructureDeletion", "")
        } else {
            ("", "")
        }
    })
}
