//! The four kinds of a cluster dump: where they are served and which file contains them.

use std::fmt;

use kube::core::{ApiResource, GroupVersionKind};

/// A kind of a dump, in the order of loading: nodes come after everything that their evaluation
/// depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// `OpenShift`'s rendered and source configurations.
    MachineConfig,
    /// `OpenShift`'s pools.
    MachineConfigPool,
    /// `OpenShift`'s version and its history.
    ClusterVersion,
    /// The nodes.
    Node,
}

impl Kind {
    /// Every kind, in the order of loading.
    pub const ALL: [Self; 4] = [
        Self::MachineConfig,
        Self::MachineConfigPool,
        Self::ClusterVersion,
        Self::Node,
    ];

    /// The kind as in a manifest.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::MachineConfig => "MachineConfig",
            Self::MachineConfigPool => "MachineConfigPool",
            Self::ClusterVersion => "ClusterVersion",
            Self::Node => "Node",
        }
    }

    /// The kind of that name.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// The file of a dump that holds this kind.
    #[must_use]
    pub fn file(self) -> &'static str {
        match self {
            Self::MachineConfig => "mc.yaml",
            Self::MachineConfigPool => "mcp.yaml",
            Self::ClusterVersion => "cv.yaml",
            Self::Node => "node.yaml",
        }
    }

    /// `group/version` as in a manifest.
    #[must_use]
    pub fn api_version(self) -> &'static str {
        match self {
            Self::MachineConfig | Self::MachineConfigPool => "machineconfiguration.openshift.io/v1",
            Self::ClusterVersion => "config.openshift.io/v1",
            Self::Node => "v1",
        }
    }

    /// The plural, as in a URL.
    #[must_use]
    pub fn plural(self) -> &'static str {
        match self {
            Self::MachineConfig => "machineconfigs",
            Self::MachineConfigPool => "machineconfigpools",
            Self::ClusterVersion => "clusterversions",
            Self::Node => "nodes",
        }
    }

    /// The name of its CRD; Node has none.
    #[must_use]
    pub fn crd(self) -> Option<String> {
        let (group, _) = self.api_version().split_once('/')?;
        Some(format!("{}.{group}", self.plural()))
    }

    /// Whether it has a status subresource; `MachineConfig` has none.
    #[must_use]
    pub fn has_status(self) -> bool {
        self != Self::MachineConfig
    }

    /// What a dynamic client needs to know.
    #[must_use]
    pub fn resource(self) -> ApiResource {
        let (group, version) = self
            .api_version()
            .split_once('/')
            .unwrap_or(("", self.api_version()));
        let kind = GroupVersionKind::gvk(group, version, self.name());
        ApiResource::from_gvk_with_plural(&kind, self.plural())
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
