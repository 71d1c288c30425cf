//! OpenShift: nodes that the Machine Config Operator updates.
//!
//! The controller gives a few nodes of a pool at a time another desired MachineConfig, by an annotation of the Node.
//! The daemon of the node asks the controller to drain it, writes files and operating system, reboots, asks for the
//! uncordon and reports that it is done. Where there are MachineConfigNodes, they have these steps with their times.
//!
//! Sources: openshift/machine-config-operator `pkg/helpers/helpers.go` (membership), `pkg/controller/node/status.go`
//! (done, unavailable), `pkg/daemon/{daemon,update}.go` (steps).

use std::sync::Arc;

use jiff::Timestamp;

use self::evidence::MachineConfigFacts;
use self::image::{MachineOsBuild, MachineOsConfig};
use self::kinds::{CLUSTER_VERSION_NAME, ClusterVersion, MachineConfig, MachineConfigPool};
use self::progress::MachineConfigNode;
use super::{Claim, Provider, Subject, evidence, hypershift};
use crate::api::types::{DesiredVersionSource, ProviderName};
use crate::domain::drain::Drainer;
use crate::domain::fact::{Keys, Kind, Need};
use crate::domain::facts::{Unavailable, View};
use crate::domain::node::{Evidence, NodeFacts, NodeObject};
use crate::domain::pool::{Membership, PoolFacts, PoolId, PoolOwner};
use crate::domain::state::{Desired, Evaluation};

pub(super) mod evaluate;
pub mod evidence;
pub mod image;
pub mod kinds;
pub mod progress;

/// Evidence of the Machine Config Operator.
pub const MARK: &str = "annotation machineconfiguration.openshift.io/currentConfig";

const MASTER: &str = "master";
const WORKER: &str = "worker";

/// OpenShift: nodes that the Machine Config Operator updates.
#[derive(Debug, Clone, Copy, Default)]
pub struct OpenShift {
    is_chosen: bool,
}

impl OpenShift {
    /// Its name in insights.
    pub const NAME: ProviderName = ProviderName::new("OpenShift");

    /// The provider when the user has chosen OpenShift: its kinds must be served.
    #[must_use]
    pub fn chosen() -> Self {
        Self { is_chosen: true }
    }
}

impl Provider for OpenShift {
    fn name(&self) -> ProviderName {
        Self::NAME
    }

    fn kinds(&self) -> Vec<Kind> {
        let mut kinds = vec![
            Kind::of::<MachineConfigPool>(),
            Kind::of::<MachineConfig>(),
            Kind::of::<ClusterVersion>(),
        ];
        if self.is_chosen {
            for kind in &mut kinds {
                kind.spec = kind.spec.need(Need::Always);
            }
        }
        kinds.extend([
            Kind::of::<MachineConfigNode>(),
            Kind::of::<MachineOsConfig>(),
            Kind::of::<MachineOsBuild>(),
        ]);
        kinds
    }

    /// The annotations of a node of a NodePool are read by its own provider, unless the user has chosen this one.
    fn evidence(&self, node: &NodeObject) -> Option<Evidence> {
        let is_hosted = hypershift::node_pool(&node.labels).is_some();
        if is_hosted && !self.is_chosen {
            return None;
        }
        evidence(MachineConfigFacts::of(node))
    }

    /// Nodes whose desired image is another one than they run.
    fn node_keys(&self, node: &NodeFacts, keys: &mut Keys) {
        if let Some(facts) = node.evidence::<MachineConfigFacts>() {
            image::node_keys(facts, keys);
        }
    }

    /// Where the Machine Config Operator runs, it updates every node that no other provider claims: a joining node has
    /// no annotations yet.
    fn claim(&self, node: &NodeFacts, view: &View<'_>) -> Claim {
        let is_at_work = view.serves::<MachineConfigPool>() && view.serves::<ClusterVersion>();
        if !is_at_work && !self.is_chosen {
            return Claim::None;
        }
        let facts = node.evidence::<MachineConfigFacts>();
        if facts
            .is_some_and(|facts| facts.current_config.is_some() || facts.desired_config.is_some())
        {
            Claim::Evidence(MARK)
        } else {
            Claim::Otherwise
        }
    }

    /// Two custom pools are a conflict, else `master` wins over everything, and a custom pool over `worker`. Windows
    /// nodes belong to no pool.
    fn pool(&self, node: &NodeFacts, view: &View<'_>) -> Result<Membership, Unavailable> {
        if node.labels.get("kubernetes.io/os") == Some("windows") {
            return Ok(Membership::None);
        }
        let selects = |pool: &&MachineConfigPool| {
            pool.selector
                .as_ref()
                .is_some_and(|selector| selector.matches(&node.labels))
        };
        let (mut master, mut worker, mut custom) = (None, None, Vec::new());
        for pool in view.all::<MachineConfigPool>()?.filter(selects) {
            let id = Arc::clone(&pool.id);
            match id.reference.name.as_str() {
                MASTER => master = Some(id),
                WORKER => worker = Some(id),
                _ => custom.push(id),
            }
        }
        Ok(match custom.as_slice() {
            [] => master.or(worker).map_or(Membership::None, Membership::Pool),
            [only] => Membership::Pool(master.unwrap_or_else(|| Arc::clone(only))),
            several => {
                Membership::Conflict(several.iter().map(|pool| Arc::clone(&pool.name)).collect())
            }
        })
    }

    fn drainer(&self) -> Drainer {
        Drainer::MachineConfigOperator
    }

    fn evaluate(&self, node: &Subject<'_>, view: &View<'_>) -> Result<Evaluation, Unavailable> {
        evaluate::evaluate(node, view)
    }

    fn pools(&self, view: &View<'_>) -> Result<Vec<Arc<PoolId>>, Unavailable> {
        if !view.serves::<MachineConfigPool>() {
            return Ok(Vec::new());
        }
        let pools = view.all::<MachineConfigPool>()?;
        Ok(pools.map(|pool| Arc::clone(&pool.id)).collect())
    }

    fn describe(
        &self,
        pool: &PoolId,
        view: &View<'_>,
        _: Timestamp,
    ) -> Result<PoolFacts, Unavailable> {
        let Some(pool) = view.get::<MachineConfigPool>(&pool.reference.name)? else {
            return Ok(PoolFacts::default());
        };
        Ok(PoolFacts {
            paused: pool.paused,
            desired: target_version(view)?.map(desired),
            configured_version: match &pool.configuration {
                Some(config) => release_version(config, view)?,
                None => None,
            },
            owner: PoolOwner::Object(pool.owner()),
            missing: None,
        })
    }
}

/// Why a node without a pool is odd: the daemon runs on it, and nothing gives it a config.
#[must_use]
pub(super) fn without_pool(node: &NodeFacts) -> Option<&'static str> {
    let facts = node.evidence::<MachineConfigFacts>()?;
    let is_managed = facts.current_config.is_some() || facts.desired_config.is_some();
    is_managed.then_some(
        "The node belongs to no pool although the Machine Config Daemon has annotated it: it will never be updated",
    )
}

fn desired(version: Arc<str>) -> Desired {
    Desired {
        version,
        source: DesiredVersionSource::ClusterVersion,
    }
}

/// Release version of a rendered MachineConfig, if it has one.
fn release_version(config: &str, view: &View<'_>) -> Result<Option<Arc<str>>, Unavailable> {
    let config = view.get::<MachineConfig>(config)?;
    Ok(config.map(|config| Arc::clone(&config.release_version)))
}

/// Desired version of the ClusterVersion.
fn target_version(view: &View<'_>) -> Result<Option<Arc<str>>, Unavailable> {
    let cluster = view.get::<ClusterVersion>(CLUSTER_VERSION_NAME)?;
    Ok(cluster.map(|cluster| Arc::clone(&cluster.version)))
}

#[cfg(test)]
mod tests;
