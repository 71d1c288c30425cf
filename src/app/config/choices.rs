//! The values that flags accept, and how they are parsed.

use std::path::PathBuf;
use std::str::FromStr;

use clap::ValueEnum;

use crate::kubernetes::{lease, pod, sync_status};
use crate::providers;

/// What may update the nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Platform {
    /// The provider that claims each Node; OpenShift where its APIs are served
    Auto,
    /// Only OpenShift's Machine Config Operator
    Openshift,
    /// Every provider except OpenShift
    Kubernetes,
}

impl From<Platform> for providers::Platform {
    fn from(platform: Platform) -> Self {
        match platform {
            Platform::Auto => Self::Any,
            Platform::Openshift => Self::OpenShift,
            Platform::Kubernetes => Self::Kubernetes,
        }
    }
}

/// The output format of findings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people
    Table,
    /// For programs
    Json,
}

/// Where states are stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StateBackendChoice {
    /// In memory.
    Memory,
    /// In memory; what cannot be evaluated again is persisted in this file.
    File(PathBuf),
}

impl FromStr for StateBackendChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            None if text == "memory" => Ok(Self::Memory),
            Some(("file", path)) if !path.is_empty() => Ok(Self::File(path.into())),
            _ => Err("it is 'memory', or 'file:' and a path, as in file:/var/lib/node-insights/state.redb".to_owned()),
        }
    }
}

/// Where the status of the last compare is persisted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SyncStatusPlace {
    /// In a pod a ConfigMap, otherwise a file.
    Auto,
    /// In this file.
    File(PathBuf),
    /// In this ConfigMap.
    ConfigMap {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
}

impl SyncStatusPlace {
    /// Namespace and name of the ConfigMap, if the status is in one.
    #[must_use]
    pub fn config_map(&self) -> Option<(String, String)> {
        match self {
            Self::Auto => Some((pod::namespace()?, sync_status::NAME.to_owned())),
            Self::File(_) => None,
            Self::ConfigMap { namespace, name } => Some((namespace.clone(), name.clone())),
        }
    }
}

impl FromStr for SyncStatusPlace {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let place = match text.split_once(':') {
            None if text == "auto" => Some(Self::Auto),
            Some(("file", path)) if !path.is_empty() => Some(Self::File(path.into())),
            Some(("configmap", object)) => object
                .split_once('/')
                .filter(|(namespace, name)| !namespace.is_empty() && !name.is_empty())
                .map(|(namespace, name)| Self::ConfigMap {
                    namespace: namespace.to_owned(),
                    name: name.to_owned(),
                }),
            _ => None,
        };
        place.ok_or_else(|| "it is 'auto', 'file:' and a path, or 'configmap:' and a namespace and a name, as in configmap:node-insights/sync-status".to_owned())
    }
}

/// Whether the port with metrics and operations speaks HTTPS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TlsChoice {
    /// In a pod with a certificate generated at the start, otherwise not.
    Auto,
    /// It does not.
    Off,
    /// With a certificate generated at the start.
    SelfSigned,
    /// With the certificate in this folder.
    Files(PathBuf),
}

impl FromStr for TlsChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "off" => Ok(Self::Off),
            "self-signed" => Ok(Self::SelfSigned),
            // Without this, a mistyped word would be taken for a folder.
            path if path.contains('/') => Ok(Self::Files(path.into())),
            _ => Err("it is 'auto', 'off', 'self-signed', or the path of a folder, as in /etc/node-insights/tls".to_owned()),
        }
    }
}

/// The lease for the election of the replica that writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeaseChoice {
    /// In a pod one in its namespace, otherwise none.
    Auto,
    /// None: this is the only replica.
    Off,
    /// This one.
    Lease {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
}

impl LeaseChoice {
    /// Namespace and name of the lease, if there is one.
    #[must_use]
    pub fn object(&self) -> Option<(String, String)> {
        match self {
            Self::Auto => Some((pod::namespace()?, lease::NAME.to_owned())),
            Self::Off => None,
            Self::Lease { namespace, name } => Some((namespace.clone(), name.clone())),
        }
    }
}

impl FromStr for LeaseChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('/') {
            None if text == "auto" => Ok(Self::Auto),
            None if text == "off" => Ok(Self::Off),
            Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() => {
                Ok(Self::Lease {
                    namespace: namespace.to_owned(),
                    name: name.to_owned(),
                })
            }
            _ => Err(
                "it is 'auto', 'off', or a namespace and a name, as in node-insights/node-insights"
                    .to_owned(),
            ),
        }
    }
}
