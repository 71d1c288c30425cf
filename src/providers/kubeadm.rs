//! kubeadm, also as kubespray uses it: nodes are updated in place, by hand or by a script.
//!
//! `kubeadm upgrade apply` writes the new version to a ConfigMap once it has updated the first control plane; the
//! kubelets follow, node by node. The ConfigMap is the only sure mark of kubeadm: newer versions remove their
//! annotation from the nodes.
//!
//! Source: kubernetes/kubernetes `cmd/kubeadm/app/phases/uploadconfig/uploadconfig.go`.

use std::sync::Arc;

use serde::Deserialize;

use super::inferred::{IN_PLACE, Signs, evaluate};
use super::settings::Settings;
use super::{Claim, Provider, Subject};
use crate::api::types::{DesiredVersionSource, ProviderName};
use crate::domain::fact::{Fact, Kind, KindSpec, Need, Object, Parsed, Select};
use crate::domain::facts::{Unavailable, View};
use crate::domain::node::NodeFacts;
use crate::domain::pool::Membership;
use crate::domain::state::{Desired, Evaluation};
use crate::domain::text;

/// Namespace and name of the ConfigMap.
const OBJECT: (&str, &str) = ("kube-system", "kubeadm-config");

/// kubeadm.
#[derive(Debug, Clone)]
pub struct Kubeadm(Settings);

impl Kubeadm {
    /// The provider with these settings.
    #[must_use]
    pub fn new(settings: &Settings) -> Self {
        Self(settings.clone())
    }
}

/// The configuration of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KubeadmConfig {
    /// `kubernetesVersion`, if there is one.
    pub version: Option<Arc<str>>,
}

impl Fact for KubeadmConfig {
    const KIND: KindSpec = KindSpec::new("", &["v1"], "ConfigMap", "configmaps")
        .namespaced()
        .named("kubeadm-config")
        .select(Select::Object {
            namespace: OBJECT.0,
            name: OBJECT.1,
        })
        .need(Need::Optional)
        .only_where_found();

    fn parse(object: &Object<'_>) -> Parsed<Self> {
        #[derive(Deserialize)]
        struct Raw {
            #[serde(default)]
            data: Data,
        }
        #[derive(Deserialize, Default)]
        struct Data {
            #[serde(default, rename = "ClusterConfiguration")]
            configuration: Option<String>,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Configuration {
            #[serde(default)]
            kubernetes_version: Option<String>,
        }
        let raw: Raw = match object.read() {
            Ok(raw) => raw,
            Err(error) => return Parsed::Unreadable(error),
        };
        let Some(configuration) = raw.data.configuration else {
            return Parsed::Ignored;
        };
        match serde_saphyr::from_str::<Configuration>(&configuration) {
            Ok(found) => Parsed::Fact(Self {
                version: found
                    .kubernetes_version
                    .as_deref()
                    .and_then(|version| text::word(version, 253))
                    .map(|version| Arc::from(&*version)),
            }),
            Err(error) => Parsed::Flawed(
                Self { version: None },
                format!("data.ClusterConfiguration is no valid YAML: {error}"),
            ),
        }
    }
}

impl Provider for Kubeadm {
    fn name(&self) -> ProviderName {
        ProviderName::new("kubeadm")
    }

    fn kinds(&self) -> Vec<Kind> {
        vec![Kind::of::<KubeadmConfig>()]
    }

    /// Where the ConfigMap cannot be read, plain Kubernetes evaluates the nodes.
    fn claim(&self, _: &NodeFacts, view: &View<'_>) -> Claim {
        match config(view) {
            Ok(Some(_)) => Claim::Otherwise,
            Ok(None) | Err(_) => Claim::None,
        }
    }

    fn pool(&self, node: &NodeFacts, view: &View<'_>) -> Result<Membership, Unavailable> {
        Ok(Membership::Pool(Arc::new(self.0.pool(&node.labels, view))))
    }

    fn evaluate(&self, node: &Subject<'_>, view: &View<'_>) -> Result<Evaluation, Unavailable> {
        let version = config(view)?.and_then(|config| config.version.clone());
        let signs = Signs {
            desired: version.map(|version| Desired {
                version,
                source: DesiredVersionSource::Provider,
            }),
            ..Signs::default()
        };
        Ok(evaluate(&self.0, &IN_PLACE, node, signs, view))
    }
}

fn config<'a>(view: &View<'a>) -> Result<Option<&'a KubeadmConfig>, Unavailable> {
    if !view.serves::<KubeadmConfig>() {
        return Ok(None);
    }
    view.get(&format!("{}/{}", OBJECT.0, OBJECT.1))
}

#[cfg(test)]
mod tests;
