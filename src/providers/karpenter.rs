//! Karpenter: it replaces nodes, on AWS, on AKS with node auto provisioning and in EKS Auto Mode.
//!
//! Karpenter reports what is outdated by the condition `Drifted` of the NodeClaim; nothing is recomputed here. It
//! taints a node to replace it, waits until the replacement is initialized, and then deletes the NodeClaim, which
//! drains the node, detaches its volumes and terminates the instance; `spec.unschedulable` is never set. Removal of
//! empty or underutilized nodes, expiry and deletion by users are distinguished from updates.
//!
//! Sources: kubernetes-sigs/karpenter `pkg/controllers/{disruption,node/termination,nodeclaim}`,
//! aws/karpenter-provider-aws and Azure/karpenter-provider-azure `pkg/cloudprovider/drift.go`.

use std::sync::Arc;

use self::evidence::KarpenterNode;
use self::kinds::{AksNodeClass, NodeClaim, NodePool, PROVIDER_ID};
use super::{Claim, Provider, Subject, evidence};
use super::{aks, cluster_api, gke, kops};
use crate::api::types::{DesiredVersionSource, PoolRef, ProviderName, Scope};
use crate::domain::drain::Drainer;
use crate::domain::drain::method::Method;
use crate::domain::fact::{Keys, Kind};
use crate::domain::facts::{Unavailable, View};
use crate::domain::node::{Evidence, NodeFacts, NodeObject};
use crate::domain::pool::{Membership, PoolFacts, PoolId, PoolOwner};
use crate::domain::pool_name::LabelKey;
use crate::domain::state::{Desired, Evaluation};
use jiff::Timestamp;

pub mod budget;
mod evaluate;
pub mod evidence;
pub mod kinds;

/// The node label whose value is the NodePool.
pub const NODE_POOL_LABEL: &str = "karpenter.sh/nodepool";

/// Karpenter.
#[derive(Debug, Clone)]
pub struct Karpenter {
    label: LabelKey,
    standalone: Arc<PoolId>,
}

impl Karpenter {
    /// Its name in insights.
    pub const NAME: ProviderName = ProviderName::new("Karpenter");

    /// The provider; `pool_labels` are the other labels that name pools, so that names do not collide.
    #[must_use]
    pub fn new(pool_labels: &[String]) -> Self {
        let mut labels = pool_labels.to_vec();
        labels.insert(0, NODE_POOL_LABEL.to_owned());
        let reference = PoolRef {
            group: kinds::GROUP.into(),
            resource: NodeClaim::PLURAL.into(),
            name: "-".into(),
        };
        let standalone = PoolId {
            name: "standalone.nodeclaims".into(),
            reference,
            scope: Scope::WorkerPool,
        };
        Self {
            label: LabelKey::all(&labels).swap_remove(0),
            standalone: Arc::new(standalone),
        }
    }

    fn pool_of(&self, name: &str) -> PoolId {
        PoolId::label(&self.label, name)
    }
}

impl Provider for Karpenter {
    fn name(&self) -> ProviderName {
        Self::NAME
    }

    fn kinds(&self) -> Vec<Kind> {
        vec![
            Kind::of::<NodeClaim>(),
            Kind::of::<NodePool>(),
            Kind::of::<AksNodeClass>(),
        ]
    }

    fn evidence(&self, node: &NodeObject) -> Option<Evidence> {
        evidence(KarpenterNode::of(node))
    }

    /// The provider ID: two nodes with the same one are a conflict.
    fn node_keys(&self, node: &NodeFacts, keys: &mut Keys) {
        if let Some(node) = node.evidence::<KarpenterNode>()
            && !node.provider_id.is_empty()
        {
            keys.add(PROVIDER_ID, &node.provider_id);
        }
    }

    fn claim(&self, node: &NodeFacts, _: &View<'_>) -> Claim {
        if node.evidence::<KarpenterNode>().is_none() {
            Claim::None
        } else if node.labels.contains(NODE_POOL_LABEL) {
            Claim::Evidence("label karpenter.sh/nodepool")
        } else {
            Claim::Evidence("owner NodeClaim")
        }
    }

    /// Karpenter runs on clusters of these, which label its nodes as well.
    fn coexists_with(&self) -> &'static [&'static str] {
        &[
            kops::MARK,
            aks::MARK,
            gke::MARK,
            cluster_api::MACHINE_MARK,
            cluster_api::MACHINE_POOL_MARK,
        ]
    }

    /// NodeClaims without a NodePool form their own pool.
    fn pool(&self, node: &NodeFacts, _: &View<'_>) -> Result<Membership, Unavailable> {
        let name = node.labels.get(NODE_POOL_LABEL).unwrap_or_default();
        Ok(Membership::Pool(if name.is_empty() {
            Arc::clone(&self.standalone)
        } else {
            Arc::new(self.pool_of(name))
        }))
    }

    fn drainer(&self) -> Drainer {
        Drainer::Karpenter
    }

    fn method(&self, node: &NodeFacts, view: &View<'_>) -> Option<Method> {
        Some(Method {
            removal: evaluate::removal(node, view),
            ..Method::of(self.drainer())
        })
    }

    fn evaluate(&self, node: &Subject<'_>, view: &View<'_>) -> Result<Evaluation, Unavailable> {
        evaluate::evaluate(node, view)
    }

    fn replaces(&self, _: &PoolId, _: &View<'_>) -> bool {
        true
    }

    fn pools(&self, view: &View<'_>) -> Result<Vec<Arc<PoolId>>, Unavailable> {
        if !view.serves::<NodePool>() {
            return Ok(Vec::new());
        }
        let pools = view.all::<NodePool>()?;
        Ok(pools
            .map(|pool| Arc::new(self.pool_of(&pool.name)))
            .collect())
    }

    fn describe(
        &self,
        pool: &PoolId,
        view: &View<'_>,
        now: Timestamp,
    ) -> Result<PoolFacts, Unavailable> {
        if !view.serves::<NodePool>() {
            return Ok(PoolFacts::default());
        }
        // Without the NodePool or its class, the nodes are still counted.
        let pool = match view.get::<NodePool>(&pool.reference.name) {
            Ok(Some(pool)) => pool,
            Ok(None) => return Ok(PoolFacts::default()),
            Err(error) => {
                return Ok(PoolFacts {
                    owner: PoolOwner::Unknown,
                    missing: Some(error),
                    ..PoolFacts::default()
                });
            }
        };
        let (desired, missing) = split(target(pool.node_class.as_ref(), view));
        Ok(PoolFacts {
            paused: budget::blocked(&pool.budgets, now).is_blocked,
            desired,
            configured_version: None,
            owner: PoolOwner::Object(pool.owner()),
            missing,
        })
    }
}

/// What was read, and why it could not be.
fn split<T>(read: Result<Option<T>, Unavailable>) -> (Option<T>, Option<Unavailable>) {
    match read {
        Ok(found) => (found, None),
        Err(error) => (None, Some(error)),
    }
}

/// The desired version of a node class. Only AKS node classes have one; other classes may pin an image.
fn target(
    class: Option<&kinds::NodeClassRef>,
    view: &View<'_>,
) -> Result<Option<Desired>, Unavailable> {
    let Some(class) = class.filter(|class| &*class.kind == "AKSNodeClass") else {
        return Ok(None);
    };
    if !view.serves::<AksNodeClass>() {
        return Ok(None);
    }
    let found = view.get::<AksNodeClass>(&class.name)?;
    Ok(found.map(|class| Desired {
        version: Arc::clone(&class.version),
        source: DesiredVersionSource::Provider,
    }))
}

#[cfg(test)]
mod tests;
