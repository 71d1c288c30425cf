//! OpenShift: nodes that the Machine Config Operator updates.
//!
//! The first rule that holds decides: it cannot be told, the node is updated, the node is being
//! updated, the node waits. Sources: openshift/machine-config-operator `pkg/helpers/helpers.go`
//! (membership) and `pkg/controller/node/status.go` (done, unavailable).

use std::borrow::Cow;
use std::sync::Arc;

use super::{Evaluator, availability};
use crate::api::types::{ConditionStatus, DesiredVersionSource, Phase, Provider, UpdateKind};
use crate::domain::cluster::Cluster;
use crate::domain::facts::{DaemonState, MachineConfigFacts, NodeFacts};
use crate::domain::pool::{Membership, PoolFacts, PoolId};
use crate::domain::state::{Desired, Finding, History, Judgement};
use crate::domain::text;

const MASTER: &str = "master";
const WORKER: &str = "worker";

/// The rules of OpenShift.
#[derive(Debug, Clone, Copy, Default)]
pub struct OpenShift;

impl Evaluator for OpenShift {
    fn provider(&self) -> Provider {
        Provider::OpenShift
    }

    /// `master` wins over everything, then exactly one custom pool wins over `worker`. Windows nodes
    /// belong to no pool.
    fn membership(&self, node: &NodeFacts, cluster: &dyn Cluster) -> Membership {
        if node.labels.get("kubernetes.io/os") == Some("windows") {
            return Membership::None;
        }
        let selects = |pool: &PoolFacts| {
            pool.selector
                .as_ref()
                .is_some_and(|selector| selector.matches(&node.labels))
        };
        let mut worker = None;
        let mut custom = Vec::new();
        for pool in cluster.pools().iter().filter(|pool| selects(pool)) {
            let id = Arc::clone(&pool.id);
            match &*id.name {
                MASTER => return Membership::Pool(id),
                WORKER => worker = Some(id),
                _ => custom.push(id),
            }
        }
        match (custom.as_slice(), worker) {
            ([only], _) => Membership::Pool(Arc::clone(only)),
            ([], Some(worker)) => Membership::Pool(worker),
            ([], None) => Membership::None,
            (several, _) => {
                Membership::Conflict(several.iter().map(|pool| Arc::clone(&pool.name)).collect())
            }
        }
    }

    fn judge(
        &self,
        node: &NodeFacts,
        pool: &PoolId,
        cluster: &dyn Cluster,
        _: Option<&History>,
    ) -> Judgement {
        let facts = &node.machine_config;
        let pool = cluster.pool(&pool.name);
        let view = View {
            facts,
            configuration: pool.as_ref().and_then(|pool| pool.configuration.as_deref()),
            paused: pool.as_ref().is_some_and(|pool| pool.paused),
            version: facts
                .current_config
                .as_ref()
                .and_then(|config| cluster.release_version(config)),
            target: cluster.cluster_version(),
        };
        let degraded = degraded(facts);
        let (phase, updating) = view.verdict();
        let in_doubt = matches!(phase, Phase::Unknown | Phase::Completed);
        Judgement {
            phase,
            kind: if in_doubt { None } else { view.kind() },
            version: view.version.clone(),
            desired: view.target.clone().map(|version| Desired {
                version,
                source: DesiredVersionSource::ClusterVersion,
            }),
            updating,
            available: availability(node)
                .or_else(|| processing(facts))
                .unwrap_or_else(|| Finding::as_expected(true)),
            degraded,
        }
    }
}

/// What the rules look at, side by side.
struct View<'a> {
    facts: &'a MachineConfigFacts,
    /// The rendered config that the pool wants.
    configuration: Option<&'a str>,
    paused: bool,
    /// Release version of the config that the node runs.
    version: Option<Arc<str>>,
    /// Release version that the cluster wants.
    target: Option<Arc<str>>,
}

impl View<'_> {
    fn verdict(&self) -> (Phase, Finding) {
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
                    "MachineConfig {config}, which the node runs, is not there or does not say its release version"
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
            return unknown("TargetVersionUnknown", "ClusterVersion 'version' does not say to which version the cluster is to be updated".to_owned());
        }
        if self.paused {
            (
                Phase::Paused,
                Finding::new(
                    false,
                    "Paused",
                    "The pool is paused: the node is not updated until somebody resumes the pool",
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

    /// The step of an update that is under way.
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

    /// What the update changes, where that can be told.
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

/// Whether the node was told to run something else than it runs.
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

/// Unavailable because the daemon is at work. A failed daemon is not at work.
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
