//! OpenShift: nodes that the Machine Config Operator updates.
//!
//! The first case that applies decides: unknown, updated, being updated, waiting. Sources:
//! openshift/machine-config-operator `pkg/helpers/helpers.go` (membership) and `pkg/controller/node/status.go` (done,
//! unavailable).

use std::borrow::Cow;
use std::sync::Arc;

use jiff::Timestamp;

use self::evidence::{DaemonState, MachineConfigFacts};
use self::kinds::{CLUSTER_VERSION_NAME, ClusterVersion, MachineConfig, MachineConfigPool};
use super::{Claim, Provider, Subject, evidence};
use crate::api::types::{ConditionStatus, DesiredVersionSource, Phase, ProviderName, UpdateKind};
use crate::domain::availability::availability;
use crate::domain::fact::{Kind, Need};
use crate::domain::facts::{Unavailable, View};
use crate::domain::node::{Evidence, NodeFacts, NodeObject};
use crate::domain::pool::{Membership, PoolFacts, PoolId, PoolOwner};
use crate::domain::state::{Desired, Evaluation, Finding};
use crate::domain::text;

pub mod evidence;
pub mod kinds;

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
        kinds
    }

    fn evidence(&self, node: &NodeObject) -> Option<Evidence> {
        evidence(MachineConfigFacts::of(node))
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
            Claim::Evidence("annotation machineconfiguration.openshift.io/currentConfig")
        } else {
            Claim::Otherwise
        }
    }

    /// `master` wins over everything, then exactly one custom pool wins over `worker`. Windows nodes
    /// belong to no pool.
    fn pool(&self, node: &NodeFacts, view: &View<'_>) -> Result<Membership, Unavailable> {
        if node.labels.get("kubernetes.io/os") == Some("windows") {
            return Ok(Membership::None);
        }
        let selects = |pool: &&MachineConfigPool| {
            pool.selector
                .as_ref()
                .is_some_and(|selector| selector.matches(&node.labels))
        };
        let mut worker = None;
        let mut custom = Vec::new();
        for pool in view.all::<MachineConfigPool>()?.filter(selects) {
            let id = Arc::clone(&pool.id);
            match id.reference.name.as_str() {
                MASTER => return Ok(Membership::Pool(id)),
                WORKER => worker = Some(id),
                _ => custom.push(id),
            }
        }
        Ok(match (custom.as_slice(), worker) {
            ([only], _) => Membership::Pool(Arc::clone(only)),
            ([], Some(worker)) => Membership::Pool(worker),
            ([], None) => Membership::None,
            (several, _) => {
                Membership::Conflict(several.iter().map(|pool| Arc::clone(&pool.name)).collect())
            }
        })
    }

    fn evaluate(&self, node: &Subject<'_>, view: &View<'_>) -> Result<Evaluation, Unavailable> {
        let nothing = MachineConfigFacts::default();
        let facts = node.facts.evidence().unwrap_or(&nothing);
        let pool = view.get::<MachineConfigPool>(&node.pool.reference.name)?;
        let context = Context {
            facts,
            configuration: pool.and_then(|pool| pool.configuration.as_deref()),
            paused: pool.is_some_and(|pool| pool.paused),
            version: match &facts.current_config {
                Some(config) => release_version(config, view)?,
                None => None,
            },
            target: target_version(view)?,
        };
        let (phase, updating) = context.phase();
        let in_doubt = matches!(phase, Phase::Unknown | Phase::Completed);
        Ok(Evaluation {
            phase,
            kind: if in_doubt { None } else { context.kind() },
            version: context.version.clone(),
            desired: context.target.clone().map(desired),
            updating,
            available: availability(node.facts)
                .or_else(|| processing(facts))
                .unwrap_or_else(|| Finding::as_expected(true)),
            degraded: degraded(facts),
            again_at: None,
            is_inferred: false,
        })
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

/// The inputs of the evaluation.
struct Context<'a> {
    facts: &'a MachineConfigFacts,
    /// The desired rendered config of the pool.
    configuration: Option<&'a str>,
    paused: bool,
    /// Release version of the config that the node runs.
    version: Option<Arc<str>>,
    /// Desired release version of the cluster.
    target: Option<Arc<str>>,
}

impl Context<'_> {
    fn phase(&self) -> (Phase, Finding) {
        let facts = self.facts;
        let unknown = |reason, message: String| {
            (
                Phase::Unknown,
                Finding::new(ConditionStatus::Unknown, reason, message),
            )
        };
        if facts.current_config.is_none() && facts.desired_config.is_none() {
            return unknown(
                "NotManaged",
                "The node has neither a current nor a desired MachineConfig: it is joining the cluster, or the Machine Config Operator does not manage it".to_owned(),
            );
        }
        let runs_pool_config =
            self.configuration.is_some() && facts.current_config.as_deref() == self.configuration;
        if runs_pool_config && self.version.is_none() {
            let config = facts.current_config.as_deref().unwrap_or_default();
            return unknown(
                "VersionUnknown",
                format!(
                    "MachineConfig {config}, which the node runs, is not there or has no release version"
                ),
            );
        }
        if self.is_updated(runs_pool_config) {
            return (Phase::Completed, Finding::new(false, "Updated", ""));
        }
        if is_retargeted(facts) {
            return self.step();
        }
        if self.target.is_none() {
            return unknown(
                "TargetVersionUnknown",
                "ClusterVersion 'version' has no desired version".to_owned(),
            );
        }
        if self.paused {
            (
                Phase::Paused,
                Finding::new(
                    false,
                    "Paused",
                    "The pool is paused: the node is not updated until the pool is resumed",
                ),
            )
        } else {
            (
                Phase::Pending,
                Finding::new(
                    false,
                    "Pending",
                    "The node is outdated and waits for its turn",
                ),
            )
        }
    }

    fn is_updated(&self, runs_pool_config: bool) -> bool {
        let at_target = self.version.is_some() && self.version == self.target;
        let facts = self.facts;
        at_target
            && (facts.desired_config.is_none()
                || (runs_pool_config && facts.current_image == facts.desired_image))
    }

    /// The step of an update in progress.
    fn step(&self) -> (Phase, Finding) {
        let facts = self.facts;
        let towards = facts
            .desired_image
            .as_deref()
            .filter(|_| facts.current_config == facts.desired_config);
        let towards = text::summary(
            towards
                .or(facts.desired_config.as_deref())
                .unwrap_or_default(),
        );
        if facts.drain_requested {
            (
                Phase::Draining,
                Finding::new(
                    true,
                    "Draining",
                    format!("Draining the node before the update to {towards}"),
                ),
            )
        } else {
            match facts.state {
                DaemonState::Done => (
                    Phase::Draining,
                    Finding::new(
                        true,
                        "Draining",
                        format!(
                            "Waiting for the Machine Config Daemon to begin the update to {towards}"
                        ),
                    ),
                ),
                DaemonState::Rebooting => (
                    Phase::Rebooting,
                    Finding::new(
                        true,
                        "Rebooting",
                        format!("Rebooting the node into {towards}"),
                    ),
                ),
                DaemonState::Working
                | DaemonState::Degraded
                | DaemonState::Unreconcilable
                | DaemonState::Other => (
                    Phase::Updating,
                    Finding::new(true, "Updating", format!("Updating the node to {towards}")),
                ),
            }
        }
    }

    /// What the update changes, if known.
    fn kind(&self) -> Option<UpdateKind> {
        let facts = self.facts;
        if self.version.as_ref()? != self.target.as_ref()? {
            return Some(UpdateKind::Version);
        }
        let wanted = if is_retargeted(facts) {
            facts.desired_config.as_deref()
        } else {
            self.configuration
        };
        if wanted.is_some() && facts.current_config.as_deref() != wanted {
            return Some(UpdateKind::Configuration);
        }
        (facts.current_image != facts.desired_image).then_some(UpdateKind::Image)
    }
}

/// Whether the desired config or image of the node differs from the current one.
fn is_retargeted(facts: &MachineConfigFacts) -> bool {
    facts.current_config.is_some()
        && ((facts.desired_config.is_some() && facts.desired_config != facts.current_config)
            || facts.desired_image != facts.current_image)
}

fn degraded(facts: &MachineConfigFacts) -> Finding {
    if facts.desired_config.is_none() || !facts.state.is_failed() {
        return Finding::as_expected(false);
    }
    let reason = if facts.state == DaemonState::Unreconcilable {
        "Unreconcilable"
    } else {
        "Degraded"
    };
    let message = facts
        .reason
        .as_deref()
        .map(|reason| text::message(reason).into_owned())
        .filter(|message| !message.is_empty());
    Finding::new(
        true,
        reason,
        message.map_or(
            Cow::Borrowed("The Machine Config Daemon does not say why"),
            Cow::Owned,
        ),
    )
}

/// The node is unavailable while the daemon works on it; a failed daemon does not work.
fn processing(facts: &MachineConfigFacts) -> Option<Finding> {
    let is_done =
        facts.state == DaemonState::Done && facts.current_config.is_some() && !is_retargeted(facts);
    (facts.desired_config.is_some() && !is_done && !facts.state.is_failed()).then(|| {
        Finding::new(
            false,
            "Processing",
            "Machine Config Daemon is processing the node",
        )
    })
}

#[cfg(test)]
mod tests;
