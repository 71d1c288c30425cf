//! The kinds of OpenShift, with the fields that matter.
//!
//! MachineConfigs are read as metadata only: a body has up to 186 KB, and the release version is an annotation.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde::Deserialize;

use crate::api::types::{PoolRef, Scope};
use crate::domain::fact::{Fact, KindSpec, Meta, Object, Parsed, Select};
use crate::domain::labels::Selector;
use crate::domain::pool::{Owner, PoolId};
use crate::domain::text;

/// API group of the Machine Config Operator.
pub(super) const GROUP: &str = "machineconfiguration.openshift.io";
/// Resource of [`MachineConfigPool`].
const MACHINE_CONFIG_POOLS: &str = "machineconfigpools";
/// The one ClusterVersion of a cluster.
pub const CLUSTER_VERSION_NAME: &str = "version";
/// Annotation of a rendered MachineConfig with its release.
const RELEASE_VERSION: &str = "machineconfiguration.openshift.io/release-image-version";
/// Label of a pool in image mode, and the annotation with its image, in releases without MachineOSConfigs.
const LAYERED: &str = "machineconfiguration.openshift.io/layering-enabled";
const LAYERED_IMAGE: &str = "machineconfiguration.openshift.io/newestImageEquivalentConfig";
/// Longest version that is stored, as in the API.
const VERSION_LIMIT: usize = 253;
/// Longest name of an image, as in the API.
pub(super) const IMAGE_LIMIT: usize = 512;

/// A MachineConfigPool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MachineConfigPool {
    /// Identity of the pool.
    pub id: Arc<PoolId>,
    /// `metadata.uid`.
    pub uid: Arc<str>,
    /// `spec.paused`.
    pub paused: bool,
    /// `spec.configuration.name`: the desired rendered MachineConfig of the pool.
    pub configuration: Option<Arc<str>>,
    /// The desired image of the pool, where an annotation has it.
    pub image: Option<Arc<str>>,
    /// `spec.nodeSelector`; `None` matches nothing.
    pub selector: Option<Selector>,
}

impl MachineConfigPool {
    /// Identity of the MachineConfigPool of this name.
    #[must_use]
    pub fn pool(name: &str) -> PoolId {
        let reference = PoolRef {
            group: GROUP.into(),
            resource: MACHINE_CONFIG_POOLS.into(),
            name: name.into(),
        };
        let scope = if name == super::MASTER {
            Scope::ControlPlane
        } else {
            Scope::WorkerPool
        };
        PoolId::object(reference, scope)
    }

    /// The owner of the pool's insight.
    #[must_use]
    pub fn owner(&self) -> Owner {
        Owner {
            api_version: format!("{GROUP}/v1").into(),
            kind: Self::KIND.kind.into(),
            name: self.id.reference.name.as_str().into(),
            uid: Arc::clone(&self.uid),
        }
    }
}

#[derive(Deserialize)]
struct PoolObject {
    #[serde(default)]
    spec: PoolSpec,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct PoolSpec {
    node_selector: Option<LabelSelector>,
    paused: Option<bool>,
    configuration: Option<ConfigurationRef>,
}

#[derive(Deserialize)]
struct ConfigurationRef {
    name: Option<String>,
}

impl Fact for MachineConfigPool {
    const KIND: KindSpec = KindSpec::new(GROUP, &["v1"], "MachineConfigPool", MACHINE_CONFIG_POOLS);

    /// A pool with an invalid selector has no nodes.
    fn parse(object: &Object<'_>) -> Parsed<Self> {
        let spec = match object.read::<PoolObject>() {
            Ok(pool) => pool.spec,
            Err(error) => return Parsed::Unreadable(error),
        };
        let configuration = spec
            .configuration
            .and_then(|configuration| configuration.name);
        let pool = |selector| Self {
            id: Arc::new(Self::pool(&object.meta.name)),
            uid: object.meta.uid.as_str().into(),
            paused: spec.paused.unwrap_or_default(),
            configuration: configuration
                .as_deref()
                .filter(|name| !name.is_empty())
                .map(Arc::from),
            image: layered_image(object.meta),
            selector,
        };
        match Selector::parse(spec.node_selector.as_ref()) {
            Ok(selector) => Parsed::Fact(pool(selector)),
            Err(error) => Parsed::Flawed(pool(None), error.to_string()),
        }
    }
}

fn layered_image(meta: &Meta) -> Option<Arc<str>> {
    meta.label(LAYERED)?;
    text::word(meta.annotation(LAYERED_IMAGE)?, IMAGE_LIMIT).map(Arc::from)
}

/// A rendered MachineConfig with a release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MachineConfig {
    /// Version of its release.
    pub release_version: Arc<str>,
}

impl Fact for MachineConfig {
    const KIND: KindSpec =
        KindSpec::new(GROUP, &["v1"], "MachineConfig", "machineconfigs").metadata_only();

    fn parse(object: &Object<'_>) -> Parsed<Self> {
        let version = object.meta.annotation(RELEASE_VERSION);
        match version.and_then(|version| text::word(version, VERSION_LIMIT)) {
            Some(version) => Parsed::Fact(Self {
                release_version: Arc::from(version),
            }),
            None => Parsed::Ignored,
        }
    }
}

/// The ClusterVersion, once it has a desired version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterVersion {
    /// The desired version, also while it is being rolled out.
    pub version: Arc<str>,
}

#[derive(Deserialize)]
struct ClusterVersionObject {
    status: Option<ClusterVersionStatus>,
}

#[derive(Deserialize)]
struct ClusterVersionStatus {
    /// Updates, newest first.
    history: Option<Vec<UpdateHistory>>,
}

#[derive(Deserialize)]
struct UpdateHistory {
    version: Option<String>,
}

impl Fact for ClusterVersion {
    const KIND: KindSpec = KindSpec::new(
        "config.openshift.io",
        &["v1"],
        "ClusterVersion",
        "clusterversions",
    )
    .select(Select::Named(CLUSTER_VERSION_NAME));

    fn parse(object: &Object<'_>) -> Parsed<Self> {
        let cluster = match object.read::<ClusterVersionObject>() {
            Ok(cluster) => cluster,
            Err(error) => return Parsed::Unreadable(error),
        };
        let history = cluster.status.and_then(|status| status.history);
        let newest = history.and_then(|history| history.into_iter().next());
        let version = newest.and_then(|newest| newest.version).unwrap_or_default();
        match text::word(&version, VERSION_LIMIT) {
            Some(version) => Parsed::Fact(Self {
                version: Arc::from(version),
            }),
            None => Parsed::Ignored,
        }
    }
}
