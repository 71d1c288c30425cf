//! The upgrades of tuppr, with the fields that matter. Each is indexed by the nodes that it names.

use jiff::Timestamp;
use serde::Deserialize;

use super::SUSPEND;
use crate::domain::fact::{Fact, Keys, KindSpec, Need, Object, Parsed};
use crate::domain::text;

const GROUP: &str = "tuppr.home-operations.com";
/// Index of upgrades by the nodes that they name.
pub const NODE: &str = "node";

/// An upgrade of Talos.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TalosUpgrade(pub Upgrade);

/// An upgrade of Kubernetes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KubernetesUpgrade(pub Upgrade);

/// What both kinds of upgrades report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upgrade {
    /// Its kind and name.
    pub name: Box<str>,
    /// `spec.talos.version`; empty for Kubernetes.
    pub version: Box<str>,
    /// `status.phase`.
    pub phase: UpgradePhase,
    /// A user has suspended it.
    pub is_suspended: bool,
    /// `status.currentNodes`.
    pub current: Box<[Box<str>]>,
    /// `status.failedNodes`: name and error of each.
    pub failed: Box<[(Box<str>, Box<str>)]>,
    /// `status.rebootingNodes`: name and deadline of each.
    pub rebooting: Box<[(Box<str>, Option<Timestamp>)]>,
}

/// `status.phase`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UpgradePhase {
    /// It has not begun.
    Pending,
    /// The health of the cluster is checked.
    HealthChecking,
    /// A hook runs before a node is upgraded.
    PreHook,
    /// A node is being drained.
    Draining,
    /// A node is being upgraded.
    Upgrading,
    /// A node reboots.
    Rebooting,
    /// A hook runs after a node was upgraded.
    PostHook,
    /// All nodes are upgraded.
    Completed,
    /// It has failed.
    Failed,
    /// It waits for its maintenance window.
    MaintenanceWindow,
    /// A phase that is not known here.
    Other(Box<str>),
}

impl UpgradePhase {
    /// An upgrade without a phase has not begun.
    fn parse(text: &str) -> Self {
        match text {
            "" | "Pending" => Self::Pending,
            "HealthChecking" => Self::HealthChecking,
            "PreHook" => Self::PreHook,
            "Draining" => Self::Draining,
            "Upgrading" => Self::Upgrading,
            "Rebooting" => Self::Rebooting,
            "PostHook" => Self::PostHook,
            "Completed" => Self::Completed,
            "Failed" => Self::Failed,
            "MaintenanceWindow" => Self::MaintenanceWindow,
            other => Self::Other(text::name(other)),
        }
    }
}

#[derive(Deserialize)]
struct UpgradeObject {
    #[serde(default)]
    spec: UpgradeSpec,
    #[serde(default)]
    status: UpgradeStatus,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct UpgradeSpec {
    talos: Option<TalosSpec>,
}

#[derive(Deserialize)]
struct TalosSpec {
    #[serde(default)]
    version: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct UpgradeStatus {
    phase: Option<String>,
    current_nodes: Option<Vec<String>>,
    failed_nodes: Option<Vec<FailedNode>>,
    rebooting_nodes: Option<Vec<RebootingNode>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FailedNode {
    node_name: String,
    #[serde(default)]
    last_error: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RebootingNode {
    node_name: String,
    #[serde(default)]
    deadline: Option<String>,
}

impl FailedNode {
    /// Name and error.
    fn read(self) -> (Box<str>, Box<str>) {
        let error = self.last_error.unwrap_or_default();
        (self.node_name.into(), text::message(&error).into())
    }
}

impl RebootingNode {
    /// Name and deadline, and why the deadline cannot be read.
    fn read(self) -> ((Box<str>, Option<Timestamp>), Option<String>) {
        let name = self.node_name.into_boxed_str();
        match self.deadline.map(|text| text.parse::<Timestamp>()) {
            None => ((name, None), None),
            Some(Ok(deadline)) => ((name, Some(deadline)), None),
            Some(Err(error)) => {
                let error = format!("The deadline of node {name} cannot be read: {error}");
                ((name, None), Some(error))
            }
        }
    }
}

impl Upgrade {
    /// Reads an upgrade, and why a part of it cannot be read.
    fn read(object: &Object<'_>, kind: &str) -> Result<(Self, Option<String>), String> {
        let UpgradeObject { spec, status } = object.read::<UpgradeObject>()?;
        let meta = object.meta;
        let version = spec.talos.and_then(|talos| talos.version);
        let current = status.current_nodes.into_iter().flatten();
        let failed = status.failed_nodes.into_iter().flatten();
        let rebooting = status.rebooting_nodes.into_iter().flatten();
        let (rebooting, errors): (Vec<_>, Vec<_>) = rebooting.map(RebootingNode::read).unzip();
        let upgrade = Self {
            name: format!("{kind} {}", meta.name).into(),
            version: text::name(&version.unwrap_or_default()),
            phase: UpgradePhase::parse(&status.phase.unwrap_or_default()),
            is_suspended: is_suspended(meta.annotation(SUSPEND)),
            current: current.map(String::into_boxed_str).collect(),
            failed: failed.map(FailedNode::read).collect(),
            rebooting: rebooting.into_boxed_slice(),
        };
        Ok((upgrade, errors.into_iter().flatten().next()))
    }

    fn index(&self, keys: &mut Keys) {
        let mut names: Vec<&str> = self.current.iter().map(AsRef::as_ref).collect();
        names.extend(self.failed.iter().map(|(name, _)| &**name));
        names.extend(self.rebooting.iter().map(|(name, _)| &**name));
        names.sort_unstable();
        names.dedup();
        for name in names {
            keys.add(NODE, name);
        }
    }

    /// Whether the upgrade is held back.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.is_suspended || self.phase == UpgradePhase::MaintenanceWindow
    }
}

/// Whether the value of the annotation [`SUSPEND`] holds upgrades back.
pub(super) fn is_suspended(annotation: Option<&str>) -> bool {
    annotation.is_some_and(|value| value != "false")
}

fn parse<F: Fact>(object: &Object<'_>, fact: fn(Upgrade) -> F) -> Parsed<F> {
    match Upgrade::read(object, F::KIND.kind) {
        Ok((upgrade, None)) => Parsed::Fact(fact(upgrade)),
        Ok((upgrade, Some(error))) => Parsed::Flawed(fact(upgrade), error),
        Err(error) => Parsed::Unreadable(error),
    }
}

/// A kind of upgrades.
pub trait Upgrades: Fact {
    /// What it reports.
    fn upgrade(&self) -> &Upgrade;
}

impl Upgrades for TalosUpgrade {
    fn upgrade(&self) -> &Upgrade {
        &self.0
    }
}

impl Upgrades for KubernetesUpgrade {
    fn upgrade(&self) -> &Upgrade {
        &self.0
    }
}

impl Fact for TalosUpgrade {
    const KIND: KindSpec =
        KindSpec::new(GROUP, &["v1alpha1"], "TalosUpgrade", "talosupgrades").need(Need::Optional);

    fn parse(object: &Object<'_>) -> Parsed<Self> {
        parse(object, Self)
    }

    fn index(&self, keys: &mut Keys) {
        self.0.index(keys);
    }
}

impl Fact for KubernetesUpgrade {
    const KIND: KindSpec = KindSpec::new(
        GROUP,
        &["v1alpha1"],
        "KubernetesUpgrade",
        "kubernetesupgrades",
    )
    .need(Need::Optional);

    fn parse(object: &Object<'_>) -> Parsed<Self> {
        parse(object, Self)
    }

    fn index(&self, keys: &mut Keys) {
        self.0.index(keys);
    }
}
