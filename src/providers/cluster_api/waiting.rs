//! What an outdated node waits for: its turn, a user, a time, or the Cluster.

use std::sync::Arc;

use jiff::Timestamp;

use super::evaluate::{Context, Outdated};
use super::kinds::{Machine, Template};
use super::pools::{self, Wait};
use crate::api::types::{DesiredVersionSource, Phase, UpdateKind};
use crate::domain::state::Desired;
use crate::providers::step::Step;

impl Context<'_> {
    /// An outdated node whose Machine is not being deleted.
    pub(super) fn waiting(&self, machine: &Machine, outdated: &Outdated<'_>) -> Step {
        let kind = outdated.kind;
        let why = match &*outdated.why {
            "" => String::new(),
            why => format!(" ({why})"),
        };
        let template = self.template;
        if let Some(template) = template.filter(|template| template.is_on_delete) {
            let message = format!(
                "The node is outdated{why}; {} has the strategy OnDelete, so a user has to delete Machine {}",
                name(template),
                machine.key
            );
            return Step::new(Phase::Pending, kind, "OnDelete", message);
        }
        let mut message = format!("The node is outdated{why} and waits for its turn");
        if let Some(template) = template
            && let Some(problem) = &template.problem
        {
            message.push_str("; ");
            message.push_str(&name(template));
            message.push_str(": ");
            message.push_str(problem);
        }
        let after = self.rollout_after().filter(|after| *after > self.node.now);
        Step::new(Phase::Pending, kind, "Pending", message).again_at(after)
    }

    /// `rollout.after`, if the Machine is older than that.
    fn rollout_after(&self) -> Option<Timestamp> {
        let after = self.template?.rollout_after?;
        self.machine?.created.filter(|created| *created < after)?;
        Some(after)
    }

    /// A Machine whose template has got another version while it is paused: its controller does not notice, so the
    /// condition `UpToDate` stays as it was.
    pub(super) fn unnoticed(&self) -> Option<Step> {
        let wanted = self.template?.version.as_ref()?;
        let is_other = !self.runs(wanted);
        is_other.then(|| self.pause(UpdateKind::Version)).flatten()
    }

    /// A Machine that is current, but older than `rollout.after`, is replaced once that time has come.
    pub(super) fn scheduled(&self) -> Option<Step> {
        let (template, after) = (self.template?, self.rollout_after()?);
        let (kind, owner) = (UpdateKind::Replacement, name(template));
        if let Some(step) = self.pause(kind) {
            Some(step)
        } else if after > self.node.now {
            let message =
                format!("The node is replaced after {after:.0}, which is rollout.after of {owner}");
            Some(Step::new(Phase::Pending, kind, "RolloutAfter", message).again_at(Some(after)))
        } else {
            let why = format!("it is older than rollout.after of {owner}, {after:.0}").into();
            Some(self.waiting(self.machine?, &Outdated { kind, why }))
        }
    }

    /// A node that is what its pool wants, while the Cluster wants another version of the pool.
    pub(super) fn topology(&self) -> Option<(Step, Desired)> {
        let template = self.template?;
        let Wait { topology, is_held } = pools::waits_for(template, self.cluster)?;
        let version = &topology.version;
        if self.runs(version) {
            return None;
        }
        let (kind, owner) = (UpdateKind::Version, name(template));
        let step = if let Some(step) = self.pause(kind) {
            step
        } else if is_held {
            let message = format!(
                "The Cluster is updated to {version}, but an annotation in its topology holds back {owner}"
            );
            Step::new(Phase::Paused, kind, "UpgradeHeld", message)
        } else {
            let message =
                format!("The Cluster is updated to {version}; {owner} waits for its turn");
            Step::new(Phase::Pending, kind, "WaitingForTopology", message)
        };
        let desired = Desired {
            version: Arc::clone(version),
            source: DesiredVersionSource::Provider,
        };
        Some((step, desired))
    }

    /// The step of an outdated node while something is paused.
    pub(super) fn pause(&self, kind: UpdateKind) -> Option<Step> {
        let what = self.paused()?;
        let message = format!("{what}: the node is not updated until it is resumed");
        Some(Step::new(Phase::Paused, kind, "Paused", message))
    }

    /// What is paused, if anything keeps Cluster API from updating the node. The annotation on a Cluster pauses only
    /// the Cluster itself.
    fn paused(&self) -> Option<String> {
        if self.cluster.is_some_and(|cluster| cluster.is_paused) {
            return Some("The Cluster is paused".to_owned());
        }
        if let Some(template) = self.template
            && let Some(by) = template.paused
        {
            return Some(format!("{} is paused ({by})", name(template)));
        }
        let machine = self.machine?;
        // Without the Cluster, the condition of the Machine remains.
        let is_paused = machine.is_paused || (self.cluster.is_none() && machine.reports_paused);
        is_paused.then(|| format!("Machine {} is paused", machine.key))
    }
}

/// Kind and name.
fn name(template: &Template) -> String {
    format!("{} {}", template.kind, template.name)
}
