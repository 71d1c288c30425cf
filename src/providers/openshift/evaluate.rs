//! Evaluates a node: unknown, updated, being updated or waiting; the first case that applies decides.

use std::borrow::Cow;
use std::sync::Arc;

use super::evidence::{DaemonState, DrainRequest, MachineConfigFacts};
use super::image::PoolImage;
use super::kinds::MachineConfigPool;
use super::progress::{MachineConfigNode, UpdateStep};
use super::{desired, release_version, target_version};
use crate::api::types::{Phase, UpdateKind};
use crate::domain::availability::availability;
use crate::domain::facts::{Unavailable, View};
use crate::domain::node::NodeFacts;
use crate::domain::state::{Evaluation, Finding};
use crate::domain::text;
use crate::providers::Subject;
use crate::providers::step::cordoned_by;

/// The inputs of the evaluation.
struct Context<'a> {
    node: &'a NodeFacts,
    facts: &'a MachineConfigFacts,
    /// The desired rendered config of the pool.
    configuration: Option<&'a str>,
    paused: bool,
    /// Release version of the config that the node runs.
    version: Option<Arc<str>>,
    /// Desired release version of the cluster.
    target: Option<Arc<str>>,
    /// Release version of the desired config of a retargeted node.
    desired_version: Option<Arc<str>>,
    /// The image that the pool wants for a node that is not retargeted.
    image: PoolImage,
    /// The step of a retargeted node, where there is a MachineConfigNode.
    progress: Option<&'a MachineConfigNode>,
    /// What cannot be read.
    missing: Vec<Unavailable>,
}

pub(super) fn evaluate(node: &Subject<'_>, view: &View<'_>) -> Result<Evaluation, Unavailable> {
    let nothing = MachineConfigFacts::default();
    let facts = node.facts.evidence().unwrap_or(&nothing);
    let context = Context::new(node, facts, view)?;
    let (phase, updating) = context.phase();
    let in_doubt = matches!(phase, Phase::Unknown | Phase::Completed);
    let kind = if in_doubt { None } else { context.kind() };
    let updating = context
        .oddities(phase)
        .into_iter()
        .fold(updating, Finding::and);
    let degraded = degraded(facts, context.progress);
    Ok(Evaluation {
        phase,
        kind,
        version: context.version,
        desired: context.target.map(desired),
        updating: context.missing.into_iter().fold(updating, Finding::and),
        available: availability(node.facts)
            .or_else(|| processing(facts))
            .unwrap_or_else(|| Finding::as_expected(true)),
        degraded,
        again_at: None,
        is_inferred: false,
        cordoned_by: cordoned_by(node.facts, phase.is_in_progress()),
        is_only_behind: false,
        drain: None,
    })
}

impl<'a> Context<'a> {
    fn new(
        node: &Subject<'a>,
        facts: &'a MachineConfigFacts,
        view: &View<'a>,
    ) -> Result<Self, Unavailable> {
        let pool = view.get::<MachineConfigPool>(&node.pool.reference.name)?;
        let version_of = |config: &Option<Arc<str>>| match config {
            Some(config) => release_version(config, view),
            None => Ok(None),
        };
        let mut context = Self {
            node: node.facts,
            facts,
            configuration: pool.and_then(|pool| pool.configuration.as_deref()),
            paused: pool.is_some_and(|pool| pool.paused),
            version: version_of(&facts.current_config)?,
            target: target_version(view)?,
            desired_version: None,
            image: PoolImage::None,
            progress: None,
            missing: Vec::new(),
        };
        if facts.is_retargeted() {
            context.desired_version = version_of(&facts.desired_config)?;
            match MachineConfigNode::find(&node.facts.name, facts, view) {
                Ok(progress) => context.progress = progress,
                Err(error) => context.missing.push(error),
            }
        } else if let (Some(pool), Some(_)) = (pool, &facts.desired_config) {
            let (image, missing) = PoolImage::of(pool, facts, view);
            context.image = image;
            context.missing.extend(missing);
        }
        Ok(context)
    }

    fn phase(&self) -> (Phase, Finding) {
        let facts = self.facts;
        let finding = |phase, reason, message: Cow<'static, str>| {
            (phase, Finding::updating(phase, reason, message))
        };
        if facts.current_config.is_none() && facts.desired_config.is_none() {
            let message = "The node has neither a current nor a desired MachineConfig: it is joining the \
                           cluster, or the Machine Config Operator does not manage it";
            return finding(Phase::Unknown, "NotManaged", message.into());
        }
        let runs_pool_config =
            self.configuration.is_some() && facts.current_config.as_deref() == self.configuration;
        if runs_pool_config && self.version.is_none() {
            let config = facts.current_config.as_deref().unwrap_or_default();
            let message = format!(
                "MachineConfig {config}, which the node runs, is not there or has no release version"
            );
            return finding(Phase::Unknown, "VersionUnknown", message.into());
        }
        if facts.is_retargeted() {
            return self.step();
        }
        if self.is_updated(runs_pool_config) {
            return finding(Phase::Completed, "Updated", "".into());
        }
        if self.target.is_none() {
            let message = "ClusterVersion 'version' has no desired version";
            return finding(Phase::Unknown, "TargetVersionUnknown", message.into());
        }
        if self.paused {
            let message = "The pool is paused: the node is not updated until the pool is resumed";
            return finding(Phase::Paused, "Paused", message.into());
        }
        let (reason, message) = self.waiting();
        finding(Phase::Pending, reason, message)
    }

    /// Whether a node that is not retargeted is updated. A node without a desired config is evaluated by its version
    /// alone.
    fn is_updated(&self, runs_pool_config: bool) -> bool {
        let at_target = self.version.is_some() && self.version == self.target;
        let has_config = || runs_pool_config && !self.lacks_image();
        at_target && (self.facts.desired_config.is_none() || has_config())
    }

    /// Whether the pool wants another image than the desired one of the node.
    fn lacks_image(&self) -> bool {
        self.image.is_missing(self.facts.desired_image.as_ref())
    }

    /// What an outdated node waits for: reason and message.
    fn waiting(&self) -> (&'static str, Cow<'static, str>) {
        let only_lacks_image = self.kind() == Some(UpdateKind::Image);
        match &self.image {
            PoolImage::Built(image) if only_lacks_image => {
                let image = text::summary(image);
                let message = format!("The node waits for its turn to get the image {image}");
                ("Pending", message.into())
            }
            PoolImage::Other if only_lacks_image => {
                let message =
                    "The node waits for its turn: nodes of its pool are given another image";
                ("Pending", message.into())
            }
            PoolImage::Building => (
                "WaitingForImage",
                "The node waits for the image of its pool, which is being built".into(),
            ),
            PoolImage::Failed(why) => (
                "ImageBuildFailed",
                format!("The node waits for the image of its pool, whose build failed: {why}")
                    .into(),
            ),
            PoolImage::None | PoolImage::Built(_) | PoolImage::Other => (
                "Pending",
                "The node is outdated and waits for its turn".into(),
            ),
        }
    }

    /// The step of an update in progress: that of the MachineConfigNode, unless the annotations are ahead of it.
    fn step(&self) -> (Phase, Finding) {
        let facts = self.facts;
        let image = facts
            .desired_image
            .as_deref()
            .filter(|_| facts.current_config == facts.desired_config);
        let towards = image.or(facts.desired_config.as_deref());
        let towards = text::summary(towards.unwrap_or_default());
        let by_node = self.step_by_annotations();
        let reported = self.progress.and_then(|progress| progress.step);
        let is_behind = |step: &UpdateStep| {
            facts.drain_requested || (facts.is_rebooting() && *step < UpdateStep::Rebooting)
        };
        let step = reported.filter(|step| !is_behind(step)).unwrap_or(by_node);
        let finding = Finding::updating(step.phase(), step.reason(), step.sentence(&towards));
        let since = self.progress.and_then(|progress| progress.since);
        (step.phase(), Finding { since, ..finding })
    }

    fn step_by_annotations(&self) -> UpdateStep {
        let facts = self.facts;
        // The state is Done until the daemon has begun.
        if facts.drain_requested || facts.state == DaemonState::Done {
            UpdateStep::Draining
        } else if facts.is_rebooting() {
            UpdateStep::Rebooting
        } else {
            UpdateStep::Executing
        }
    }

    /// What the update changes, if known.
    fn kind(&self) -> Option<UpdateKind> {
        let facts = self.facts;
        let version = self.version.as_ref()?;
        let desired = self.desired_version.as_ref();
        let leaves_version = desired.is_some_and(|desired| desired != version);
        if version != self.target.as_ref()? || leaves_version {
            return Some(UpdateKind::Version);
        }
        let wanted = if facts.is_retargeted() {
            facts.desired_config.as_deref()
        } else {
            self.configuration
        };
        if wanted.is_some() && facts.current_config.as_deref() != wanted {
            return Some(UpdateKind::Configuration);
        }
        let has_other_image = facts.current_image != facts.desired_image || self.lacks_image();
        has_other_image.then_some(UpdateKind::Image)
    }

    /// What is odd about the node and does not decide its phase.
    fn oddities(&self, phase: Phase) -> Vec<String> {
        let (node, facts) = (self.node, self.facts);
        let mut odd = Vec::new();
        if phase == Phase::Pending {
            const ONLY: &str = "only nodes that are ready and not cordoned are updated";
            if !node.is_ready() {
                odd.push(match node.unready_since() {
                    Some(since) => format!("The node has not been ready since {since:.0}: {ONLY}"),
                    None => format!("The node is not ready: {ONLY}"),
                });
            } else if node.cordoned.is_some() {
                odd.push(format!("The node is cordoned: {ONLY}"));
            }
            if facts.state.is_failed() {
                odd.push(
                    "The Machine Config Daemon has failed: the node counts as unavailable in its pool"
                        .to_owned(),
                );
            }
        }
        let is_done = facts.state == DaemonState::Done && !facts.is_retargeted();
        let was_drained = facts.last_request == Some(DrainRequest::Drain);
        if is_done && was_drained && node.cordoned.is_some() {
            odd.push(
                "The state of the node is Done although it is still cordoned for an update that \
                 never asked for its uncordon: its annotations may have been edited"
                    .to_owned(),
            );
        }
        let failure = self.progress.and_then(|progress| progress.failure.as_ref());
        if let Some(failure) = failure.filter(|_| !facts.state.is_failed()) {
            let why = text::summary(&failure.message);
            odd.push(format!("The MachineConfigNode is NodeDegraded: {why}"));
        }
        odd
    }
}

/// Whether updating the node failed, and why.
pub(in crate::providers) fn degraded(
    facts: &MachineConfigFacts,
    progress: Option<&MachineConfigNode>,
) -> Finding {
    if facts.desired_config.is_none() || !facts.state.is_failed() {
        return Finding::as_expected(false);
    }
    let reason = if facts.state == DaemonState::Unreconcilable {
        "Unreconcilable"
    } else {
        "Degraded"
    };
    let failure = progress.and_then(|progress| progress.failure.as_ref());
    let messages = [
        facts.reason.as_deref(),
        failure.map(|failure| &*failure.message),
    ];
    let message = messages
        .into_iter()
        .flatten()
        .map(text::message)
        .find(|message| !message.is_empty());
    let message = match message {
        Some(message) => Cow::Owned(message.into_owned()),
        None => Cow::Borrowed("The Machine Config Daemon does not say why"),
    };
    let finding = Finding::new(true, reason, message);
    let since = failure.and_then(|failure| failure.since);
    Finding { since, ..finding }
}

/// The node is unavailable while the daemon works on it; a failed daemon does not work.
pub(in crate::providers) fn processing(facts: &MachineConfigFacts) -> Option<Finding> {
    let is_done = facts.state == DaemonState::Done
        && facts.current_config.is_some()
        && !facts.is_retargeted();
    (facts.desired_config.is_some() && !is_done && !facts.state.is_failed()).then(|| {
        Finding::new(
            false,
            "Processing",
            "Machine Config Daemon is processing the node",
        )
    })
}
