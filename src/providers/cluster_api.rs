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

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use self::evidence::{ClusterApiNode, OwnerKind};
use self::kinds::{Cluster, KubeadmControlPlane, Machine, MachineDeployment, MachinePool};
use self::lookup::Found;
use super::inferred::{CordonSign, Rules};
use super::settings::Settings;
use super::{Claim, Provider, Subject, evidence};
use crate::api::types::ProviderName;
use crate::domain::fact::{Keys, Kind};
use crate::domain::facts::{Unavailable, View};
use crate::domain::node::{Evidence, NodeFacts, NodeObject};
use crate::domain::pool::{Membership, PoolFacts, PoolId};
use crate::domain::state::Evaluation;
use crate::domain::version::Precision;

mod deletion;
mod evaluate;
pub mod evidence;
pub mod kinds;
mod lookup;
mod pools;
mod waiting;

/// Evidence of a machine.
pub const MACHINE_MARK: &str = "annotation cluster.x-k8s.io/machine";
/// Evidence of a MachinePool, which may be a node group of a cloud.
pub const MACHINE_POOL_MARK: &str = "annotation cluster.x-k8s.io/owner-kind=MachinePool";
/// Index of nodes by their Cluster, as `namespace/name`.
const CLUSTER: &str = "cluster.x-k8s.io/cluster";

/// A drained machine detaches its volumes and is deleted; Cluster API itself reports a drain after 15 minutes.
const RULES: Rules = Rules {
    precision: Precision::Minor,
    replaces: true,
    cordon: CordonSign::DrainInRollout,
    limit: SignedDuration::from_mins(30),
};

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
        if let Some(node) = node.evidence::<ClusterApiNode>()
            && !node.cluster.is_empty()
        {
            keys.add(CLUSTER, &node.cluster);
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

    fn evaluate(&self, node: &Subject<'_>, view: &View<'_>) -> Result<Evaluation, Unavailable> {
        Ok(evaluate::evaluate(&self.settings, node, view))
    }

    fn replaces(&self) -> bool {
        true
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
