//! The objects that are pools: they hold the template of their machines, and replace machines that differ from it.

use std::sync::Arc;

use jiff::Timestamp;
use serde::Deserialize;

use super::{
    CONTROL_PLANE_GROUP, Conditions, GROUP, NAME, VERSIONS, cluster_of, is_paused, version,
};
use crate::domain::fact::{Fact, Keys, KindSpec, Need, Object, Parsed};
use crate::domain::text;

/// What an object wants of its machines, and whether and when it replaces them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    /// Its kind.
    pub kind: &'static str,
    /// Its name.
    pub name: Arc<str>,
    /// `namespace/name` of its Cluster; empty when it names none.
    pub cluster: Box<str>,
    /// The Kubernetes version of its machines.
    pub version: Option<Arc<str>>,
    /// What pauses it, if it is paused.
    pub paused: Option<&'static str>,
    /// The strategy `OnDelete`: a machine is replaced once a user deletes it.
    pub is_on_delete: bool,
    /// `rollout.after`: machines that are older than this time are replaced then, even if nothing else changes.
    pub rollout_after: Option<Timestamp>,
    /// Why it cannot create machines.
    pub problem: Option<Box<str>>,
    /// Which part of the Cluster's topology it is, if any: `machinedeployments/name`, `machinepools/name` or
    /// `controlplane`.
    pub topology: Option<Box<str>>,
}

/// A kind with a template.
pub trait Templated: Fact {
    /// The template.
    fn template(&self) -> &Template;
}

/// A MachineDeployment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MachineDeployment(pub Template);

/// A MachinePool. The cloud makes its machines; conditions about them say nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MachinePool(pub Template);

/// A control plane of kubeadm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KubeadmControlPlane(pub Template);

#[derive(Deserialize)]
struct RawObject {
    spec: Option<Spec>,
    status: Option<Conditions>,
}

/// The fields of all three kinds, in both versions.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    cluster_name: Option<String>,
    paused: Option<bool>,
    version: Option<String>,
    template: Option<RawTemplate>,
    rollout: Option<Rollout>,
    rollout_after: Option<String>,
    strategy: Option<Strategy>,
}

#[derive(Deserialize)]
struct RawTemplate {
    spec: Option<MachineSpec>,
}

#[derive(Deserialize)]
struct MachineSpec {
    version: Option<String>,
}

#[derive(Deserialize)]
struct Rollout {
    after: Option<String>,
    strategy: Option<Strategy>,
}

#[derive(Deserialize)]
struct Strategy {
    #[serde(rename = "type")]
    type_: Option<String>,
}

impl Spec {
    fn version(&self) -> Option<&str> {
        let template = self.template.as_ref();
        let machine = template.and_then(|template| template.spec.as_ref());
        let of_machine = machine.and_then(|machine| machine.version.as_deref());
        of_machine.or(self.version.as_deref())
    }

    fn after(&self) -> Option<&str> {
        let rollout = self.rollout.as_ref();
        let after = rollout.and_then(|rollout| rollout.after.as_deref());
        after.or(self.rollout_after.as_deref())
    }

    fn is_on_delete(&self) -> bool {
        let rollout = self.rollout.as_ref();
        let strategy = rollout.and_then(|rollout| rollout.strategy.as_ref());
        let strategy = strategy.or(self.strategy.as_ref());
        strategy.and_then(|strategy| strategy.type_.as_deref()) == Some("OnDelete")
    }
}

fn parse<F: Templated>(object: &Object<'_>, wrap: fn(Template) -> F) -> Parsed<F> {
    let raw = match object.read::<RawObject>() {
        Ok(raw) => raw,
        Err(error) => return Parsed::Unreadable(error),
    };
    let meta = object.meta;
    let spec = raw.spec.unwrap_or_default();
    let paused = if spec.paused == Some(true) {
        Some("spec.paused")
    } else {
        is_paused(meta).then_some("annotation cluster.x-k8s.io/paused")
    };
    let after = spec.after().map(|text| (text, text.parse().ok()));
    let template = Template {
        kind: F::KIND.kind,
        name: meta.name.as_str().into(),
        cluster: cluster_of(meta, spec.cluster_name.as_deref()),
        version: version(spec.version()),
        paused,
        is_on_delete: spec.is_on_delete(),
        rollout_after: after.and_then(|(_, after)| after),
        problem: problem(&raw.status.unwrap_or_default()),
        topology: topology(object, F::KIND.plural),
    };
    match after {
        Some((text, None)) => {
            let text = text::summary(text);
            let error = format!("The time of its rollout cannot be read: {text:?}");
            Parsed::Flawed(wrap(template), error)
        }
        Some((_, Some(_))) | None => Parsed::Fact(wrap(template)),
    }
}

/// Without the templates of bootstrap and infrastructure there are no new machines, so none is replaced.
fn problem(conditions: &Conditions) -> Option<Box<str>> {
    let scaling = conditions.find("ScalingUp")?;
    let message = scaling.message();
    message
        .contains("blocked")
        .then(|| text::summary(message).into())
}

fn topology(object: &Object<'_>, plural: &str) -> Option<Box<str>> {
    let meta = object.meta;
    meta.label("topology.cluster.x-k8s.io/owned")?;
    let name = meta.label("topology.cluster.x-k8s.io/deployment-name");
    let name = name.or_else(|| meta.label("topology.cluster.x-k8s.io/pool-name"));
    Some(name.map_or("controlplane".into(), |name| {
        format!("{plural}/{name}").into()
    }))
}

impl Templated for MachineDeployment {
    fn template(&self) -> &Template {
        &self.0
    }
}

impl Fact for MachineDeployment {
    const KIND: KindSpec =
        KindSpec::new(GROUP, VERSIONS, "MachineDeployment", "machinedeployments")
            .namespaced()
            .need(Need::Optional);

    fn parse(object: &Object<'_>) -> Parsed<Self> {
        parse(object, Self)
    }

    fn index(&self, keys: &mut Keys) {
        keys.add(NAME, &self.0.name);
    }
}

impl Templated for MachinePool {
    fn template(&self) -> &Template {
        &self.0
    }
}

impl Fact for MachinePool {
    const KIND: KindSpec = KindSpec::new(GROUP, VERSIONS, "MachinePool", "machinepools")
        .namespaced()
        .need(Need::Optional);

    fn parse(object: &Object<'_>) -> Parsed<Self> {
        parse(object, Self)
    }

    fn index(&self, keys: &mut Keys) {
        keys.add(NAME, &self.0.name);
    }
}

impl Templated for KubeadmControlPlane {
    fn template(&self) -> &Template {
        &self.0
    }
}

impl Fact for KubeadmControlPlane {
    const KIND: KindSpec = KindSpec::new(
        CONTROL_PLANE_GROUP,
        VERSIONS,
        "KubeadmControlPlane",
        "kubeadmcontrolplanes",
    )
    .namespaced()
    .need(Need::Optional);

    fn parse(object: &Object<'_>) -> Parsed<Self> {
        parse(object, Self)
    }

    fn index(&self, keys: &mut Keys) {
        keys.add(NAME, &self.0.name);
    }
}
