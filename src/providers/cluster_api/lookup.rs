//! Finds the objects of a node.
//!
//! Only objects of the node's own Cluster count: a management cluster also has the objects of other clusters, whose
//! names and provider IDs may be the same.

use super::evidence::{ClusterApiNode, OwnerKind};
use super::kinds::{
    Cluster, KubeadmControlPlane, Machine, MachineDeployment, MachinePool, PROVIDER_ID, Template,
    Templated,
};
use crate::domain::facts::{Unavailable, View};

/// The Machine of a node.
pub(super) enum Found<'a> {
    One(&'a Machine),
    None,
    /// The objects contradict each other; how.
    Conflict(String),
}

/// The Machine that the Node named `name` says it belongs to, or that has its provider ID.
pub(super) fn machine<'a>(
    node: &ClusterApiNode,
    name: &str,
    view: &View<'a>,
) -> Result<Found<'a>, Unavailable> {
    if !view.serves::<Machine>() {
        return Ok(Found::None);
    }
    let id = &*node.provider_id;
    let mut found: Vec<&Machine> = if id.is_empty() {
        Vec::new()
    } else {
        view.find::<Machine>(PROVIDER_ID, id)?
    };
    if !node.machine.is_empty() && !node.namespace.is_empty() {
        let key = format!("{}/{}", node.namespace, node.machine);
        let named = view.get::<Machine>(&key)?;
        let is_new = |named: &&Machine| !found.iter().any(|found| found.key == named.key);
        found.extend(named.filter(is_new));
    }
    found.retain(|machine| is_same(&machine.cluster, &node.cluster));
    Ok(match found.as_slice() {
        [] => Found::None,
        [machine] => match contradiction(machine, id, name) {
            None => Found::One(machine),
            Some(why) => Found::Conflict(why),
        },
        several => {
            let keys: Vec<&str> = several.iter().map(|machine| &*machine.key).collect();
            Found::Conflict(format!(
                "Several Machines claim the node: {}",
                keys.join(", ")
            ))
        }
    })
}

/// Whether two objects may belong to the same Cluster; not all name theirs.
fn is_same(a: &str, b: &str) -> bool {
    a.is_empty() || b.is_empty() || a == b
}

fn contradiction(machine: &Machine, id: &str, name: &str) -> Option<String> {
    let Machine {
        key,
        provider_id,
        node,
        ..
    } = machine;
    if !id.is_empty() && !provider_id.is_empty() && **provider_id != *id {
        Some(format!(
            "The node names Machine {key}, which has the provider ID {provider_id}, but its own is {id}"
        ))
    } else if !node.is_empty() && **node != *name {
        Some(format!(
            "Machine {key} has the provider ID of the node, but belongs to Node {node}"
        ))
    } else {
        None
    }
}

/// The object with the template of a node: its MachineDeployment, MachinePool or control plane of kubeadm.
pub(super) fn template<'a>(
    node: &ClusterApiNode,
    machine: Option<&Machine>,
    view: &View<'a>,
) -> Result<Option<&'a Template>, Unavailable> {
    let namespace = machine.and_then(|machine| machine.key.split_once('/'));
    let namespace = namespace.map_or(&*node.namespace, |(namespace, _)| namespace);
    let key = |name: &str| format!("{namespace}/{name}");
    let found = if let Some(name) = deployment(node, machine) {
        get::<MachineDeployment>(&key(name), view)?
    } else {
        match owner(node, machine) {
            (OwnerKind::MachinePool, name) => get::<MachinePool>(&key(name), view)?,
            (OwnerKind::KubeadmControlPlane, name) => get::<KubeadmControlPlane>(&key(name), view)?,
            (
                OwnerKind::None
                | OwnerKind::MachineSet
                | OwnerKind::ControlPlane
                | OwnerKind::Other,
                _,
            ) => None,
        }
    };
    Ok(found.filter(|template| is_same(&template.cluster, &node.cluster)))
}

fn get<'a, F: Templated>(key: &str, view: &View<'a>) -> Result<Option<&'a Template>, Unavailable> {
    if !view.serves::<F>() {
        return Ok(None);
    }
    Ok(view.get::<F>(key)?.map(F::template))
}

/// The MachineDeployment of a node. Without the Machine, the owner on the Node remains: a MachineSet, a new one for
/// each rollout, whose name is that of the MachineDeployment, a dash and a hash.
pub(super) fn deployment<'a>(
    node: &'a ClusterApiNode,
    machine: Option<&'a Machine>,
) -> Option<&'a str> {
    if let Some(machine) = machine {
        return machine.deployment.as_deref();
    }
    let (name, _) = node.owner_name.rsplit_once('-')?;
    (node.owner_kind == OwnerKind::MachineSet && !name.is_empty()).then_some(name)
}

/// What controls the Machine of a node. The Node has the whole name, a label of the Machine may have a hash.
pub(super) fn owner<'a>(
    node: &'a ClusterApiNode,
    machine: Option<&'a Machine>,
) -> (OwnerKind, &'a str) {
    let by_label = machine.and_then(|machine| machine.owner.as_ref());
    match (node.owner_kind, by_label) {
        (OwnerKind::None, Some((kind, name))) => (*kind, &**name),
        (kind, _) => (kind, &*node.owner_name),
    }
}

/// The Cluster of this key.
pub(super) fn cluster<'a>(key: &str, view: &View<'a>) -> Result<Option<&'a Cluster>, Unavailable> {
    if key.is_empty() || !view.serves::<Cluster>() {
        return Ok(None);
    }
    view.get::<Cluster>(key)
}

/// What was read, and why it could not be.
pub(in crate::providers) fn split<T>(
    read: Result<Option<T>, Unavailable>,
) -> (Option<T>, Option<Unavailable>) {
    match read {
        Ok(found) => (found, None),
        Err(error) => (None, Some(error)),
    }
}
