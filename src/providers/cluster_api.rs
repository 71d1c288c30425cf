//! Cluster API, also as Tanzu and Rancher use it: it replaces the machines of a MachineDeployment, a control plane or a
//! MachinePool.
//!
//! Each node has a Machine, which reports whether it is what its owner wants, and how far its deletion is: Cluster API
//! makes a new Machine, waits for its node, and deletes an old one, which drains the node, detaches its volumes and
//! terminates the machine. The objects are in a management cluster, which is usually another one. Without them, the
//! annotations and taints of the Node remain: Cluster API taints the nodes of an older revision of a MachineDeployment,
//! cordons and drains them, and deletes a Node only after its machine is gone.
//!
//! Source: kubernetes-sigs/cluster-api `util/annotations/helpers.go`, `core/reconcilers/machine`,
//! `core/reconcilers/machinedeployment/mdutil/util.go`, `core/reconcilers/machinepool`,
//! `controlplane/kubeadm/pkg/filters.go`; rancher/rancher `pkg/capr/planner/config.go`.

use std::borrow::Cow;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use self::evidence::{ClusterApiNode, OwnerKind};
use self::kinds::{Cluster, KubeadmControlPlane, Machine, MachineDeployment, MachinePool};
use self::lookup::Found;
use super::inferred::{CordonSign, Rules};
use super::settings::Settings;
use super::{Claim, Provider, Subject, evidence};
use crate::api::types::ProviderName;
use crate::domain::drain::Drainer;
use crate::domain::fact::{Keys, Kind};
use crate::domain::facts::{Unavailable, View};
use crate::domain::node::{Evidence, NodeFacts, NodeObject};
use crate::domain::pool::{Membership, PoolFacts, PoolId};
use crate::domain::state::Evaluation;
use crate::domain::version::{Precision, Version};

mod deletion;
mod evaluate;
pub mod evidence;
pub mod kinds;
mod lookup;
mod pools;
mod waiting;

pub(super) use lookup::split;

/// Evidence of a machine.
pub const MACHINE_MARK: &str = "annotation cluster.x-k8s.io/machine";
/// Evidence of a MachinePool, which may be a node group of a cloud.
pub const MACHINE_POOL_MARK: &str = "annotation cluster.x-k8s.io/owner-kind=MachinePool";
/// Index of nodes by their Cluster, as `namespace/name`.
const CLUSTER: &str = "cluster.x-k8s.io/cluster";
/// The label of nodes that Rancher provisions. It updates them in place, unless the template of their machine changes.
const RANCHER: &str = "rke.cattle.io/machine";
/// Index of the nodes that Rancher provisions by their pool, as far as the Node shows it.
const RANCHER_POOL: &str = "rke.cattle.io/pool";
/// The label with the release of a node in a cluster of Tanzu or vSphere: image and Kubernetes, for all its life.
const TANZU_RELEASE: &str = "run.tanzu.vmware.com/tkr";

/// A drained machine detaches its volumes and is deleted; Cluster API itself reports a drain after 15 minutes.
const RULES: Rules = Rules {
    precision: Precision::Minor,
    replaces: true,
    cordon: CordonSign::DrainInRollout,
    limit: SignedDuration::from_mins(30),
};

/// The release that the MachinePool of a node wants, where the object can be read. A MachinePool may be a node group of
/// a cloud, whose provider evaluates the node.
///
/// # Errors
/// When the kind is served, and cannot be read.
pub(super) fn release(node: &NodeFacts, view: &View<'_>) -> Result<Option<Arc<str>>, Unavailable> {
    let shown = node.evidence::<ClusterApiNode>();
    let Some(shown) = shown.filter(|shown| shown.owner_kind == OwnerKind::MachinePool) else {
        return Ok(None);
    };
    let template = lookup::template(shown, None, view)?;
    let version = template.and_then(|template| template.version.as_ref());
    Ok(version
        .filter(|version| Version::parse(version).is_some())
        .cloned())
}

/// Cluster API.
#[derive(Debug, Clone)]
pub struct ClusterApi {
    settings: Settings,
}

impl ClusterApi {
    /// Its name in insights.
    pub const NAME: ProviderName = ProviderName::new("ClusterAPI");

    /// The provider with these settings.
    #[must_use]
    pub fn new(settings: &Settings) -> Self {
        Self {
            settings: settings.clone(),
        }
    }
}

impl Provider for ClusterApi {
    fn name(&self) -> ProviderName {
        Self::NAME
    }

    fn kinds(&self) -> Vec<Kind> {
        vec![
            Kind::of::<Machine>(),
            Kind::of::<MachineDeployment>(),
            Kind::of::<MachinePool>(),
            Kind::of::<Cluster>(),
            Kind::of::<KubeadmControlPlane>(),
        ]
    }

    fn evidence(&self, node: &NodeObject) -> Option<Evidence> {
        evidence(ClusterApiNode::of(node))
    }

    /// The Cluster: only its objects are pools of this cluster.
    fn node_keys(&self, node: &NodeFacts, keys: &mut Keys) {
        let Some(shown) = node.evidence::<ClusterApiNode>() else {
            return;
        };
        if !shown.cluster.is_empty() {
            keys.add(CLUSTER, &shown.cluster);
        }
        if node.labels.contains(RANCHER) {
            keys.add(RANCHER_POOL, &pools::of(shown, None).name);
        }
    }

    fn claim(&self, node: &NodeFacts, _: &View<'_>) -> Claim {
        match node.evidence::<ClusterApiNode>() {
            None => Claim::None,
            Some(found) if found.owner_kind == OwnerKind::MachinePool => {
                Claim::Evidence(MACHINE_POOL_MARK)
            }
            Some(_) => Claim::Evidence(MACHINE_MARK),
        }
    }

    /// The pool is known without the Machine as well.
    fn pool(&self, node: &NodeFacts, view: &View<'_>) -> Result<Membership, Unavailable> {
        let Some(shown) = node.evidence::<ClusterApiNode>() else {
            return Ok(Membership::None);
        };
        let machine = match lookup::machine(shown, &node.name, view) {
            Ok(Found::One(machine)) => Some(machine),
            Ok(Found::None | Found::Conflict(_)) | Err(_) => None,
        };
        Ok(Membership::Pool(Arc::new(pools::of(shown, machine))))
    }

    fn image<'a>(&self, node: &'a NodeFacts) -> Option<Cow<'a, str>> {
        node.labels.get(TANZU_RELEASE).map(Cow::Borrowed)
    }

    fn drainer(&self) -> Drainer {
        Drainer::ClusterApi
    }

    fn evaluate(&self, node: &Subject<'_>, view: &View<'_>) -> Result<Evaluation, Unavailable> {
        Ok(evaluate::evaluate(&self.settings, node, view))
    }

    /// Rancher updates its nodes in place.
    fn replaces(&self, pool: &PoolId, view: &View<'_>) -> bool {
        view.count_nodes(RANCHER_POOL, &pool.name) == 0
    }

    fn pools(&self, view: &View<'_>) -> Result<Vec<Arc<PoolId>>, Unavailable> {
        pools::list(view)
    }

    fn describe(
        &self,
        pool: &PoolId,
        view: &View<'_>,
        _: Timestamp,
    ) -> Result<PoolFacts, Unavailable> {
        Ok(pools::describe(&pool.reference, view))
    }
}

#[cfg(test)]
mod tests;
