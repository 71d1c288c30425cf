//! Image mode: the operating system image that a pool builds for its nodes.
//!
//! A MachineOSConfig says that a pool has its own image, and has the last one that was built. For each rendered config
//! of the pool a MachineOSBuild builds another one, and the nodes get config and image together, once it is built.
//! Releases before MachineOSConfigs had the image in an annotation of the pool.
//!
//! Source: openshift/machine-config-operator `pkg/controller/node/node_controller.go`,
//! `pkg/controller/common/layered_node_state.go`, `pkg/controller/build/constants/constants.go`; openshift/api
//! `machineconfiguration/v1/types_machineosconfig.go`, `types_machineosbuild.go`.

use std::sync::Arc;

use serde::Deserialize;

use super::evidence::MachineConfigFacts;
use super::kinds::{GROUP, IMAGE_LIMIT, MachineConfigPool};
use crate::domain::fact::{Fact, Keys, KindSpec, Need, Object, Parsed};
use crate::domain::facts::{Unavailable, View};
use crate::domain::text;
use crate::providers::condition::RawCondition;

/// Index of MachineOSConfigs by their pool.
const POOL: &str = "machineConfigPool";
/// Index of MachineOSBuilds by their MachineOSConfig.
const OS_CONFIG: &str = "machineOSConfig";
/// Index of nodes that are updated to another image, by their config, and by config and image.
const IMAGE_ROLLOUT: &str = "imageRollout";
/// Annotation of a MachineOSConfig with its current build.
const CURRENT_BUILD: &str = "machineconfiguration.openshift.io/current-machine-os-build";
/// Longest name of an object.
const NAME_LIMIT: usize = 253;

/// The image that a pool wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PoolImage {
    /// None of its own, as far as is known.
    None,
    /// This one.
    Built(Arc<str>),
    /// One that is not built yet.
    Building,
    /// One that could not be built, and why.
    Failed(Box<str>),
    /// Another one than the node has: other nodes with the same config are updated to it.
    Other,
}

impl PoolImage {
    /// Whether a node with the desired image `image` does not have the image of its pool.
    pub(super) fn is_missing(&self, image: Option<&Arc<str>>) -> bool {
        match self {
            Self::None => false,
            Self::Built(wanted) => image != Some(wanted),
            Self::Building | Self::Failed(_) | Self::Other => true,
        }
    }

    /// The image of a pool, and what cannot be read of it. Without MachineOSConfigs, the annotation of the pool or
    /// the other nodes show it, as far as they do.
    pub(super) fn of(
        pool: &MachineConfigPool,
        node: &MachineConfigFacts,
        view: &View<'_>,
    ) -> (Self, Option<Unavailable>) {
        let mut missing = None;
        if view.serves::<MachineOsConfig>() {
            match of_objects(pool, view) {
                Ok(found) => return found,
                // Only a node in image mode is known to need it.
                Err(error) => missing = Some(error).filter(|_| node.is_in_image_mode()),
            }
        }
        let image = match &pool.image {
            Some(image) => Self::Built(Arc::clone(image)),
            None if others_differ(node, view) => Self::Other,
            None => Self::None,
        };
        (image, missing)
    }
}

fn of_objects(
    pool: &MachineConfigPool,
    view: &View<'_>,
) -> Result<(PoolImage, Option<Unavailable>), Unavailable> {
    let configs = view.find::<MachineOsConfig>(POOL, &pool.id.reference.name)?;
    let Some(config) = configs.first() else {
        return Ok((PoolImage::None, None));
    };
    let (build, missing) = match current_build(config, pool, view) {
        Ok(build) => (build, None),
        Err(error) => (None, Some(error)),
    };
    let last = || match &config.image {
        Some(image) => PoolImage::Built(Arc::clone(image)),
        None => PoolImage::Building,
    };
    let image = match build.map(|build| &build.state) {
        None | Some(BuildState::Succeeded(None)) => last(),
        Some(BuildState::Succeeded(Some(image))) => PoolImage::Built(Arc::clone(image)),
        Some(BuildState::Running) => PoolImage::Building,
        Some(BuildState::Failed(why)) => PoolImage::Failed(why.clone()),
    };
    Ok((image, missing))
}

/// The build for the rendered config of the pool: the one that the MachineOSConfig names, else any.
fn current_build<'a>(
    config: &MachineOsConfig,
    pool: &MachineConfigPool,
    view: &View<'a>,
) -> Result<Option<&'a MachineOsBuild>, Unavailable> {
    if !view.serves::<MachineOsBuild>() {
        return Ok(None);
    }
    let is_for_pool =
        |build: &&MachineOsBuild| pool.configuration.as_deref() == Some(&*build.configuration);
    if let Some(name) = &config.build
        && let Some(build) = view.get::<MachineOsBuild>(name)?.filter(is_for_pool)
    {
        return Ok(Some(build));
    }
    let builds = view.find::<MachineOsBuild>(OS_CONFIG, &config.name)?;
    Ok(builds.into_iter().find(is_for_pool))
}

/// Adds the keys by which nodes are counted that are updated to another image.
pub(super) fn node_keys(node: &MachineConfigFacts, keys: &mut Keys) {
    if let Some(config) = &node.desired_config
        && node.desired_image != node.current_image
    {
        keys.add(IMAGE_ROLLOUT, config);
        keys.add(IMAGE_ROLLOUT, &with_image(config, node));
    }
}

/// Whether other nodes with the same config are updated to another image than this node has.
fn others_differ(node: &MachineConfigFacts, view: &View<'_>) -> bool {
    let Some(config) = &node.desired_config else {
        return false;
    };
    let all = view.count_nodes(IMAGE_ROLLOUT, config);
    all > 0 && all > view.count_nodes(IMAGE_ROLLOUT, &with_image(config, node))
}

/// A key of a config and an image: no name has a line break.
fn with_image(config: &str, node: &MachineConfigFacts) -> String {
    format!(
        "{config}\n{}",
        node.desired_image.as_deref().unwrap_or_default()
    )
}

/// A MachineOSConfig: its pool has an image of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MachineOsConfig {
    /// Its name.
    pub name: Box<str>,
    /// `spec.machineConfigPool.name`.
    pub pool: Box<str>,
    /// `status.currentImagePullSpec`: the last image that was built.
    pub image: Option<Arc<str>>,
    /// Name of its current MachineOSBuild.
    pub build: Option<Box<str>>,
}

/// A MachineOSBuild: it builds an image for one rendered config.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MachineOsBuild {
    /// `spec.machineOSConfig.name`.
    pub os_config: Box<str>,
    /// `spec.machineConfig.name`: the rendered config.
    pub configuration: Box<str>,
    /// How far it is.
    pub state: BuildState,
}

/// How far a build is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BuildState {
    /// It has not ended, or was interrupted to be replaced by another one.
    Running,
    /// `status.digestedImagePushSpec`: the image.
    Succeeded(Option<Arc<str>>),
    /// Why it failed.
    Failed(Box<str>),
}

#[derive(Deserialize, Default)]
struct Reference {
    #[serde(default)]
    name: String,
}

#[derive(Deserialize)]
struct ConfigObject {
    #[serde(default)]
    spec: ConfigSpec,
    #[serde(default)]
    status: ConfigStatus,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct ConfigSpec {
    machine_config_pool: Reference,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct ConfigStatus {
    current_image_pull_spec: Option<String>,
}

#[derive(Deserialize)]
struct BuildObject {
    #[serde(default)]
    spec: BuildSpec,
    #[serde(default)]
    status: Option<BuildStatus>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct BuildSpec {
    #[serde(rename = "machineOSConfig")]
    machine_os_config: Reference,
    machine_config: Reference,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct BuildStatus {
    conditions: Option<Vec<RawCondition>>,
    digested_image_push_spec: Option<String>,
}

impl BuildStatus {
    fn state(self) -> BuildState {
        let conditions = self.conditions.unwrap_or_default();
        let holds = |type_: &str| {
            let mut conditions = conditions.iter();
            conditions.find(|condition| condition.is(type_, "True"))
        };
        if let Some(failed) = holds("Failed") {
            BuildState::Failed(text::summary(failed.message()).into())
        } else if holds("Succeeded").is_some() {
            BuildState::Succeeded(image(self.digested_image_push_spec.as_deref()))
        } else {
            BuildState::Running
        }
    }
}

fn image(text: Option<&str>) -> Option<Arc<str>> {
    text::word(text?, IMAGE_LIMIT).map(Arc::from)
}

impl Fact for MachineOsConfig {
    const KIND: KindSpec =
        KindSpec::new(GROUP, &["v1"], "MachineOSConfig", "machineosconfigs").need(Need::Optional);

    fn parse(object: &Object<'_>) -> Parsed<Self> {
        let config = match object.read::<ConfigObject>() {
            Ok(config) => config,
            Err(error) => return Parsed::Unreadable(error),
        };
        let build = object.meta.annotation(CURRENT_BUILD);
        Parsed::Fact(Self {
            name: object.meta.name.as_str().into(),
            pool: config.spec.machine_config_pool.name.into(),
            image: image(config.status.current_image_pull_spec.as_deref()),
            build: build.and_then(|name| Some(text::word(name, NAME_LIMIT)?.into())),
        })
    }

    fn index(&self, keys: &mut Keys) {
        keys.add(POOL, &self.pool);
    }
}

impl Fact for MachineOsBuild {
    const KIND: KindSpec =
        KindSpec::new(GROUP, &["v1"], "MachineOSBuild", "machineosbuilds").need(Need::Optional);

    fn parse(object: &Object<'_>) -> Parsed<Self> {
        let build = match object.read::<BuildObject>() {
            Ok(build) => build,
            Err(error) => return Parsed::Unreadable(error),
        };
        Parsed::Fact(Self {
            os_config: build.spec.machine_os_config.name.into(),
            configuration: build.spec.machine_config.name.into(),
            state: build.status.unwrap_or_default().state(),
        })
    }

    fn index(&self, keys: &mut Keys) {
        keys.add(OS_CONFIG, &self.os_config);
    }
}
