//! The object of both insight kinds: cluster-scoped, with a status only.
//!
//! The struct is generic over the status and not derived, because the derive of kube requires a `spec`.

use std::borrow::Cow;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::types::Phase;

/// API group of both insight kinds.
pub const GROUP: &str = "nodeinsights.dev";
/// Version of both insight kinds.
pub const VERSION: &str = "v1alpha1";
/// Group and version, as in `apiVersion`.
pub const API_VERSION: &str = "nodeinsights.dev/v1alpha1";

/// The differences between the insight kinds: names, and the columns of `kubectl get`.
pub trait InsightStatus:
    Clone + std::fmt::Debug + PartialEq + JsonSchema + Send + Sync + 'static
{
    /// Kind, in CamelCase.
    const KIND: &'static str;
    /// Plural name, as in the URL.
    const PLURAL: &'static str;
    /// Singular name.
    const SINGULAR: &'static str;
    /// Short names that `kubectl get` accepts.
    const SHORT_NAMES: &'static [&'static str];
    /// Fields that a `--field-selector` may name, as JSON paths.
    const SELECTABLE: &'static [&'static str];
    /// The columns of `kubectl get`, in order.
    const COLUMNS: &'static [Column];
    /// Description of the kind, for `kubectl explain`.
    const DESCRIPTION: &'static str;

    /// The reported progress of a node; `None` for other kinds.
    fn reported(&self) -> Option<Reported> {
        None
    }
}

/// The progress of a node that an insight reports, from which milestones are derived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reported {
    /// The phase.
    pub phase: Phase,
    /// Since when.
    pub phase_start: Timestamp,
    /// Whether the node was degraded.
    pub degraded: bool,
    /// How its update had stalled, if it had; failures that the updater reports count as degraded only.
    pub stall: Option<ReportedStall>,
    /// Whether it was outdated and cordoned, and not for its update.
    pub foreign_cordon: bool,
}

/// How an update has stalled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReportedStall {
    /// Its drain is blocked.
    DrainBlocked,
    /// In another way.
    Other,
}

/// A CRD validation rule: a desired version always has a source.
pub(super) fn desired_version_has_a_source() -> Value {
    json!({
        "rule": "has(self.desiredVersion) == has(self.desiredVersionSource)",
        "message": "desiredVersion and desiredVersionSource must be there together"
    })
}

/// One column of `kubectl get`.
#[derive(Debug, Clone, Copy)]
pub struct Column {
    /// Heading; kubectl prints it in capitals.
    pub name: &'static str,
    /// `string`, `integer` or `date`.
    pub kind: &'static str,
    /// Where the value is in the object.
    pub path: &'static str,
    /// Shown with `-o wide` only.
    pub wide: bool,
}

impl Column {
    /// A column that is always shown.
    #[must_use]
    pub const fn new(name: &'static str, kind: &'static str, path: &'static str) -> Self {
        Self {
            name,
            kind,
            path,
            wide: false,
        }
    }

    /// A column for `-o wide`.
    #[must_use]
    pub const fn wide(name: &'static str, kind: &'static str, path: &'static str) -> Self {
        Self {
            name,
            kind,
            path,
            wide: true,
        }
    }
}

/// An insight object of either kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Insight<S> {
    /// Always [`API_VERSION`].
    #[serde(default)]
    pub api_version: String,
    /// [`InsightStatus::KIND`].
    #[serde(default)]
    pub kind: String,
    /// Standard object metadata.
    pub metadata: ObjectMeta,
    /// What is known about the node or pool; absent for a moment after the object was created.
    #[serde(default = "none", skip_serializing_if = "Option::is_none")]
    pub status: Option<S>,
}

/// The default of serde would require `S: Default`.
fn none<S>() -> Option<S> {
    None
}

impl<S: InsightStatus> Resource for Insight<S> {
    type DynamicType = ();
    type Scope = kube::core::ClusterResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        S::KIND.into()
    }
    fn group((): &()) -> Cow<'_, str> {
        GROUP.into()
    }
    fn version((): &()) -> Cow<'_, str> {
        VERSION.into()
    }
    fn plural((): &()) -> Cow<'_, str> {
        S::PLURAL.into()
    }
    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }
    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}
