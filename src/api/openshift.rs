//! The OpenShift kinds that we read, cut down to the fields that we read.
//!
//! MachineConfigs are read as metadata only: a body is up to 186 KB, and the release version that we
//! want from it is an annotation.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// API group of the Machine Config Operator.
pub const MACHINE_CONFIG_GROUP: &str = "machineconfiguration.openshift.io";
/// Resource of [`MachineConfigPool`].
pub const MACHINE_CONFIG_POOLS: &str = "machineconfigpools";
/// The one ClusterVersion of a cluster.
pub const CLUSTER_VERSION_NAME: &str = "version";

/// Spec of a `MachineConfigPool`.
#[derive(CustomResource, Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "machineconfiguration.openshift.io",
    version = "v1",
    kind = "MachineConfigPool"
)]
#[serde(rename_all = "camelCase")]
pub struct MachineConfigPoolSpec {
    /// Nodes of the pool; nil or empty matches nothing here.
    #[serde(default)]
    pub node_selector: Option<LabelSelector>,
    /// Whether changes to the pool's nodes are stopped.
    #[serde(default)]
    pub paused: Option<bool>,
    /// The rendered configuration that the pool's nodes shall run.
    #[serde(default)]
    pub configuration: Option<ConfigurationRef>,
}

/// Names a rendered MachineConfig.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
pub struct ConfigurationRef {
    /// Name of the MachineConfig.
    #[serde(default)]
    pub name: Option<String>,
}

/// Spec of a `MachineConfig`: nothing of it is read.
#[derive(CustomResource, Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "machineconfiguration.openshift.io",
    version = "v1",
    kind = "MachineConfig"
)]
pub struct MachineConfigSpec {}

/// Spec of the `ClusterVersion`: nothing of it is read.
#[derive(CustomResource, Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "config.openshift.io",
    version = "v1",
    kind = "ClusterVersion",
    status = "ClusterVersionStatus"
)]
pub struct ClusterVersionSpec {}

/// Status of the `ClusterVersion`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
pub struct ClusterVersionStatus {
    /// Updates, newest first.
    #[serde(default)]
    pub history: Option<Vec<UpdateHistory>>,
}

/// One update of the cluster.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
pub struct UpdateHistory {
    /// Version that the cluster was updated to.
    #[serde(default)]
    pub version: Option<String>,
}
