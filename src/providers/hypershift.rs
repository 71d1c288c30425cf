//! HyperShift: nodes of a hosted cluster, whose NodePools are in a management cluster.
//!
//! A NodePool replaces its machines by Cluster API, or updates them in place: then the control plane gives one node
//! after the other a desired config and a pod of the Machine Config Daemon, which drains the node, changes it and
//! reboots it as in a standalone cluster. There is no MachineConfigPool, and configs are hashes of version and
//! configuration that name nothing in the cluster. A degraded node stops its whole pool. NodePools may stay behind
//! their control plane, so the version of the API server is an upper bound.
//!
//! Source: openshift/hypershift
//! `control-plane-operator/hostedclusterconfigoperator/controllers/{node/node,inplaceupgrader/inplaceupgrader}.go`;
//! openshift/machine-config-operator `pkg/daemon/daemon.go`; kubernetes-sigs/cluster-api as in `cluster_api`.

use std::sync::Arc;

use jiff::SignedDuration;

use self::in_place::InPlace;
use super::inferred::{self, CordonSign, RESTART_LIMIT, Rules, Signs, Target};
use super::openshift::evidence::{DaemonState, MachineConfigFacts};
use super::settings::Settings;
use super::step::Step;
use super::{Claim, Provider, Subject, cluster_api, evidence, openshift};
use crate::api::types::{Phase, PoolRef, ProviderName, Scope, UpdateKind};
use crate::domain::fact::Keys;
use crate::domain::facts::{Unavailable, View};
use crate::domain::labels::Labels;
use crate::domain::node::{Evidence, NodeFacts, NodeObject};
use crate::domain::pool::{Membership, PoolId};
use crate::domain::state::{Evaluation, JOINING};
use crate::domain::version::Precision;

mod in_place;

/// Evidence of a NodePool.
pub const MARK: &str = "label hypershift.openshift.io/nodePool";

/// The node label whose value is the NodePool.
const NODE_POOL_LABEL: &str = "hypershift.openshift.io/nodePool";
/// Index of nodes that have been updated in place, by their NodePool.
const IN_PLACE: &str = "nodePoolInPlace";
/// Index of degraded nodes, which stop their NodePool.
const DEGRADED: &str = "nodePoolDegraded";

/// Machines are replaced as by Cluster API.
const REPLACED: Rules = Rules {
    precision: Precision::Minor,
    replaces: true,
    cordon: CordonSign::DrainInRollout,
    limit: SignedDuration::from_mins(30),
};

/// Machines are updated in place, and the daemon says how far it is.
const UPDATED: Rules = Rules {
    precision: Precision::Minor,
    replaces: false,
    cordon: CordonSign::DrainInRollout,
    limit: RESTART_LIMIT,
};

/// HyperShift, seen from a hosted cluster.
#[derive(Debug, Clone)]
pub struct HyperShift {
    settings: Settings,
}

impl HyperShift {
    /// Its name in insights.
    pub const NAME: ProviderName = ProviderName::new("HyperShift");

    /// The provider with these settings.
    #[must_use]
    pub fn new(settings: &Settings) -> Self {
        Self {
            settings: settings.clone(),
        }
    }

    fn target(&self, rules: &Rules, node: &Subject<'_>, view: &View<'_>) -> Option<Target> {
        inferred::target(&self.settings, rules, node, Signs::default(), view)
    }
}

/// The NodePool of a node with these labels.
pub(super) fn node_pool(labels: &Labels) -> Option<&str> {
    labels.get(NODE_POOL_LABEL).filter(|pool| !pool.is_empty())
}

/// What is written on a node of a NodePool.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct HyperShiftNode {
    /// What the Machine Config Daemon wrote, once the node has been updated in place.
    machine_config: Option<MachineConfigFacts>,
    /// Cluster API replaces the node: it is of an older revision.
    is_outdated: bool,
    /// The node is joining.
    is_new: bool,
}

impl HyperShiftNode {
    fn of(node: &NodeObject) -> Option<Self> {
        node_pool(&node.labels)?;
        let has_taint = |key, effect| node.taint(key, effect).is_some();
        let found = Self {
            machine_config: MachineConfigFacts::of(node)
                .filter(|facts| facts.current_config.is_some() || facts.desired_config.is_some()),
            is_outdated: has_taint(
                "node.cluster.x-k8s.io/outdated-revision",
                "PreferNoSchedule",
            ),
            is_new: has_taint("node.cluster.x-k8s.io/uninitialized", "NoSchedule"),
        };
        (found != Self::default()).then_some(found)
    }
}

impl Provider for HyperShift {
    fn name(&self) -> ProviderName {
        Self::NAME
    }

    fn evidence(&self, node: &NodeObject) -> Option<Evidence> {
        evidence(HyperShiftNode::of(node))
    }

    fn node_keys(&self, node: &NodeFacts, keys: &mut Keys) {
        let facts = node.evidence::<HyperShiftNode>();
        let facts = facts.and_then(|found| found.machine_config.as_ref());
        if let (Some(pool), Some(facts)) = (node_pool(&node.labels), facts) {
            keys.add(IN_PLACE, pool);
            if facts.state == DaemonState::Degraded {
                keys.add(DEGRADED, pool);
            }
        }
    }

    fn claim(&self, node: &NodeFacts, _: &View<'_>) -> Claim {
        match node_pool(&node.labels) {
            Some(_) => Claim::Evidence(MARK),
            None => Claim::None,
        }
    }

    /// Its machines are those of Cluster API, and the Machine Config Daemon updates them in place.
    fn coexists_with(&self) -> &'static [&'static str] {
        &[
            cluster_api::MACHINE_MARK,
            cluster_api::MACHINE_POOL_MARK,
            openshift::MARK,
        ]
    }

    /// The NodePool, which is an object of the management cluster.
    fn pool(&self, node: &NodeFacts, _: &View<'_>) -> Result<Membership, Unavailable> {
        let pool = node_pool(&node.labels).map(|name| {
            let reference = PoolRef {
                group: "hypershift.openshift.io".into(),
                resource: "nodepools".into(),
                name: name.into(),
            };
            Arc::new(PoolId::named(reference, Scope::WorkerPool))
        });
        Ok(pool.map_or(Membership::None, Membership::Pool))
    }

    /// Until a daemon has annotated a node, the machines are replaced.
    fn replaces(&self, pool: &PoolId, view: &View<'_>) -> bool {
        view.count_nodes(IN_PLACE, &pool.reference.name) == 0
    }

    fn evaluate(&self, node: &Subject<'_>, view: &View<'_>) -> Result<Evaluation, Unavailable> {
        let nothing = HyperShiftNode::default();
        let shown = node.facts.evidence().unwrap_or(&nothing);
        let pool = &node.pool.reference.name;
        let facts = shown.machine_config.as_ref();
        // Its first update is still to come, and no daemon has annotated it.
        let is_in_place =
            facts.is_some() || (!shown.is_outdated && view.count_nodes(IN_PLACE, pool) > 0);
        let rules = if is_in_place { &UPDATED } else { &REPLACED };
        let target = self.target(rules, node, view);
        let step = if is_in_place && !node.facts.deleting {
            let is_stopped = || view.count_nodes(DEGRADED, pool) > 0;
            InPlace::new(node, facts, target.as_ref()).step(is_stopped)
        } else {
            replaced(rules, node, shown, target.as_ref())
        };
        Ok(inferred::finish(node, step, target))
    }
}

/// The step of a node that Cluster API replaces, or that is deleted.
fn replaced(
    rules: &Rules,
    node: &Subject<'_>,
    shown: &HyperShiftNode,
    target: Option<&Target>,
) -> Step {
    if shown.is_new {
        let message = "The node is joining: it is not initialized yet";
        return Step::unknown(JOINING, message);
    }
    let is_drained = shown.is_outdated && node.facts.cordoned.is_some() && node.facts.is_ready();
    if is_drained && !node.facts.deleting {
        let change = target.and_then(|target| target.change);
        let kind = change.unwrap_or(UpdateKind::Configuration);
        let message = "Cluster API drains the outdated node";
        return Step::new(Phase::Draining, kind, "Draining", message);
    }
    inferred::step(rules, node, target, shown.is_outdated.then_some(true))
}

#[cfg(test)]
mod tests;
