//! Pods that a drain moves away, of nodes whose cordon does not say whether they are drained.
//!
//! A drain leaves pods of DaemonSets, static pods and finished pods alone, so they say nothing.
//!
//! Source: kubernetes/kubectl `pkg/drain/filters.go`.

use serde::Deserialize;

use crate::domain::fact::{Fact, Keys, KindSpec, Need, ON_NODE, Object, Parsed, Select};
use crate::domain::facts::{Unavailable, View};

/// The annotation of the mirror of a static pod.
const MIRROR: &str = "kubernetes.io/config.mirror";

/// A pod that a drain moves away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod {
    /// The node that it is on.
    pub node: Box<str>,
    /// It is being deleted.
    pub is_leaving: bool,
}

#[derive(Deserialize)]
struct RawPod {
    metadata: RawMetadata,
    spec: RawSpec,
    status: Option<RawStatus>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawMetadata {
    owner_references: Option<Vec<RawOwner>>,
}

#[derive(Deserialize)]
struct RawOwner {
    kind: String,
    controller: Option<bool>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawSpec {
    node_name: Option<String>,
}

#[derive(Deserialize)]
struct RawStatus {
    phase: Option<String>,
}

impl RawPod {
    /// Whether a drain moves the pod away.
    fn is_movable(&self) -> bool {
        let owners = self.metadata.owner_references.iter().flatten();
        let mut controllers = owners.filter(|owner| owner.controller == Some(true));
        let phase = self
            .status
            .as_ref()
            .and_then(|status| status.phase.as_deref());
        !controllers.any(|owner| owner.kind == "DaemonSet")
            && !matches!(phase, Some("Succeeded" | "Failed"))
    }
}

impl Fact for Pod {
    const KIND: KindSpec = KindSpec::new("", &["v1"], "Pod", "pods")
        .namespaced()
        .select(Select::OnNode)
        .need(Need::Optional);

    fn parse(object: &Object<'_>) -> Parsed<Self> {
        let raw: RawPod = match object.read() {
            Ok(raw) => raw,
            Err(error) => return Parsed::Unreadable(error),
        };
        let is_movable = raw.is_movable() && object.meta.annotation(MIRROR).is_none();
        match raw.spec.node_name {
            Some(node) if is_movable => Parsed::Fact(Self {
                node: node.into(),
                is_leaving: object.meta.is_deleting(),
            }),
            Some(_) | None => Parsed::Ignored,
        }
    }

    fn index(&self, keys: &mut Keys) {
        keys.add(ON_NODE, &self.node);
    }
}

/// Whether pods are leaving a node; `false` until its pods are known.
///
/// # Errors
/// When pods cannot be read.
pub fn are_leaving(node: &str, view: &View<'_>) -> Result<bool, Unavailable> {
    if !view.serves::<Pod>() {
        return Ok(false);
    }
    let pods = view.on_node::<Pod>(node)?;
    Ok(pods.into_iter().flatten().any(|pod| pod.is_leaving))
}

#[cfg(test)]
mod tests;
