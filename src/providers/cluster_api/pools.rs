//! Pools: their identity, with and without objects, and what their objects say.
//!
//! A pool is named by its object without the namespace. All nodes of a cluster belong to one Cluster, and a Cluster has
//! all its objects in one namespace, so the name is unique among the pools of the nodes; objects of Clusters that no
//! node names are no pools here. So the name is the same whether or not the objects can be read.

use std::sync::Arc;

use super::CLUSTER;
use super::evidence::{ClusterApiNode, OwnerKind};
use super::kinds::{
    CONTROL_PLANE_GROUP, Cluster, GROUP, KubeadmControlPlane, Machine, MachineDeployment,
    MachinePool, NAME, Template, Templated, Topology,
};
use super::lookup::{self, split};
use crate::api::types::{DesiredVersionSource, PoolRef, Scope};
use crate::domain::facts::{Availability, Unavailable, View};
use crate::domain::pool::{PoolFacts, PoolId, PoolOwner};
use crate::domain::state::Desired;
use crate::domain::version;

/// What a pool is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Resource {
    MachineDeployment,
    /// A MachineSet without a MachineDeployment.
    MachineSet,
    MachinePool,
    KubeadmControlPlane,
    /// The control plane of another provider.
    ControlPlane,
    /// Machines with another owner.
    MachineGroup,
    /// Machines without an owner, as one pool.
    Standalone,
}

impl Resource {
    const fn plural(self) -> &'static str {
        match self {
            Self::MachineDeployment => "machinedeployments",
            Self::MachineSet => "machinesets",
            Self::MachinePool => "machinepools",
            Self::KubeadmControlPlane => "kubeadmcontrolplanes",
            Self::ControlPlane => "controlplanes",
            Self::MachineGroup => "machinegroups",
            Self::Standalone => "machines",
        }
    }

    fn id(self, name: &str) -> PoolId {
        let group = match self {
            Self::KubeadmControlPlane => CONTROL_PLANE_GROUP,
            Self::MachineDeployment
            | Self::MachineSet
            | Self::MachinePool
            | Self::ControlPlane
            | Self::MachineGroup
            | Self::Standalone => GROUP,
        };
        let scope = match self {
            Self::KubeadmControlPlane | Self::ControlPlane => Scope::ControlPlane,
            Self::MachineDeployment
            | Self::MachineSet
            | Self::MachinePool
            | Self::MachineGroup
            | Self::Standalone => Scope::WorkerPool,
        };
        let reference = PoolRef {
            group: group.into(),
            resource: self.plural().into(),
            name: if name.is_empty() { "-" } else { name }.into(),
        };
        if self == Self::Standalone {
            return PoolId {
                name: "standalone.machines".into(),
                reference,
                scope,
            };
        }
        PoolId::named(reference, scope)
    }
}

/// The pool of a node.
pub(super) fn of(node: &ClusterApiNode, machine: Option<&Machine>) -> PoolId {
    if let Some(deployment) = lookup::deployment(node, machine) {
        return Resource::MachineDeployment.id(deployment);
    }
    let (kind, name) = lookup::owner(node, machine);
    match kind {
        OwnerKind::MachineSet => Resource::MachineSet.id(name),
        OwnerKind::MachinePool => Resource::MachinePool.id(name),
        OwnerKind::KubeadmControlPlane => Resource::KubeadmControlPlane.id(name),
        OwnerKind::ControlPlane => Resource::ControlPlane.id(name),
        OwnerKind::Other => Resource::MachineGroup.id(name),
        OwnerKind::None => Resource::Standalone.id(""),
    }
}

/// The objects that are pools of this cluster. A kind that may not be read has none.
pub(super) fn list(view: &View<'_>) -> Result<Vec<Arc<PoolId>>, Unavailable> {
    let mut pools = Vec::new();
    add::<MachineDeployment>(Resource::MachineDeployment, view, &mut pools)?;
    add::<MachinePool>(Resource::MachinePool, view, &mut pools)?;
    add::<KubeadmControlPlane>(Resource::KubeadmControlPlane, view, &mut pools)?;
    Ok(pools)
}

fn add<F: Templated>(
    resource: Resource,
    view: &View<'_>,
    pools: &mut Vec<Arc<PoolId>>,
) -> Result<(), Unavailable> {
    let objects = match view.all::<F>() {
        Ok(objects) => objects,
        Err(error) => {
            return match &error.availability {
                Availability::Listing => Err(error),
                Availability::NotServed | Availability::Ready | Availability::Rejected(_) => Ok(()),
            };
        }
    };
    let templates = objects.map(F::template);
    let here = templates.filter(|template| is_here(template, view));
    pools.extend(here.map(|template| Arc::new(resource.id(&template.name))));
    Ok(())
}

/// Whether a node of this cluster names the Cluster of the object.
fn is_here(template: &Template, view: &View<'_>) -> bool {
    !template.cluster.is_empty() && view.count_nodes(CLUSTER, &template.cluster) > 0
}

/// What the object of a pool says.
///
/// It does not own the insight of the pool: the insight has no namespace, and Kubernetes ignores an owner that has one.
pub(super) fn describe(reference: &PoolRef, view: &View<'_>) -> PoolFacts {
    let name = &reference.name;
    let found = match reference.resource.as_str() {
        "machinedeployments" => find::<MachineDeployment>(name, view),
        "machinepools" => find::<MachinePool>(name, view),
        "kubeadmcontrolplanes" => find::<KubeadmControlPlane>(name, view),
        _ => Ok(None),
    };
    let (template, missing) = split(found);
    let Some(template) = template else {
        return PoolFacts {
            missing,
            ..PoolFacts::default()
        };
    };
    let (cluster, missing) = split(lookup::cluster(&template.cluster, view));
    let wait = waits_for(template, cluster);
    let desired = wait.map(|wait| &wait.topology.version);
    let desired = desired.or(template.version.as_ref());
    let is_paused = cluster.is_some_and(|cluster| cluster.is_paused);
    PoolFacts {
        paused: is_paused || template.paused.is_some() || wait.is_some_and(|wait| wait.is_held),
        desired: desired.map(|version| Desired {
            version: Arc::clone(version),
            source: DesiredVersionSource::Provider,
        }),
        configured_version: template.version.clone(),
        owner: PoolOwner::None,
        missing,
    }
}

/// The object of this name that belongs to the cluster of the nodes.
fn find<'a, F: Templated>(
    name: &str,
    view: &View<'a>,
) -> Result<Option<&'a Template>, Unavailable> {
    if !view.serves::<F>() {
        return Ok(None);
    }
    let found = view.find::<F>(NAME, name)?.into_iter().map(F::template);
    Ok(found.into_iter().find(|template| is_here(template, view)))
}

/// A pool that its Cluster has not updated yet.
#[derive(Clone, Copy)]
pub(super) struct Wait<'a> {
    pub(super) topology: &'a Topology,
    /// A user holds it back.
    pub(super) is_held: bool,
}

/// Whether the Cluster manages the pool itself and wants another version than the pool has.
pub(super) fn waits_for<'a>(template: &Template, cluster: Option<&'a Cluster>) -> Option<Wait<'a>> {
    let place = template.topology.as_ref()?;
    let topology = cluster?.topology.as_ref()?;
    let is_met = version::meets(template.version.as_ref()?, &topology.version);
    (!is_met).then(|| Wait {
        topology,
        is_held: topology.held.contains(place),
    })
}
