//! The steps of the deletion of a Machine.

use std::borrow::Cow;

use super::kinds::{Deletion, Machine, Removal, TimeLimit};
use crate::api::types::{Phase, UpdateKind};
use crate::domain::cordon::Cordoner;
use crate::providers::step::Step;

/// Cluster API cordons the node of a Machine before its drain.
const CORDONER: Cordoner = Cordoner::updater("cluster-api");

impl Deletion {
    /// Phase, reason and description of the step.
    fn stage(&self) -> (Phase, &'static str, Cow<'static, str>) {
        let (phase, reason, what) = match &*self.reason {
            "WaitingForPreDrainHook" => (
                Phase::Draining,
                "WaitingForPreDrainHook",
                "Waiting for the hooks before the drain of the node",
            ),
            "DrainingNode" => (
                Phase::Draining,
                "DrainingNode",
                "Cluster API drains the node",
            ),
            "WaitingForVolumeDetach" => (
                Phase::Updating,
                "WaitingForVolumeDetach",
                "Waiting for the volumes of the node to be detached",
            ),
            "WaitingForPreTerminateHook" => (
                Phase::Updating,
                "WaitingForPreTerminateHook",
                "Waiting for the hooks before the machine is terminated",
            ),
            "WaitingForInfrastructureDeletion" => (
                Phase::Updating,
                "WaitingForInfrastructureDeletion",
                "The machine is being terminated",
            ),
            "WaitingForBootstrapDeletion" => (
                Phase::Updating,
                "WaitingForBootstrapDeletion",
                "The machine is gone, and its bootstrap configuration is being deleted",
            ),
            "DeletingNode" => (
                Phase::Updating,
                "DeletingNode",
                "The machine is gone, and its Node is being deleted",
            ),
            "DeletionCompleted" => (
                Phase::Updating,
                "DeletionCompleted",
                "The machine and its Node are gone",
            ),
            "" | "Deleting" if self.skips_drain => (
                Phase::Updating,
                "Deleting",
                "The Machine is being deleted, without a drain of its node",
            ),
            "" | "Deleting" => (
                Phase::Draining,
                "Deleting",
                "The Machine is being deleted, and the drain of its node is about to begin",
            ),
            other => {
                let what = format!("The Machine is being deleted ({other})");
                return (Phase::Updating, "Deleting", what.into());
            }
        };
        (phase, reason, what.into())
    }

    fn limit(&self) -> String {
        let may_have_one = ["DrainingNode", "WaitingForVolumeDetach"].contains(&&*self.reason);
        match self.limit {
            TimeLimit::Until(end) => format!(", until {end:.0} at the latest"),
            TimeLimit::None if may_have_one => ", without a time limit".to_owned(),
            TimeLimit::None | TimeLimit::NotStarted => String::new(),
        }
    }

    /// The step of an update that replaces the node.
    pub(super) fn step(&self, kind: UpdateKind) -> Step {
        let (phase, reason, what) = self.stage();
        let mut message = what.into_owned();
        message.push_str(&self.limit());
        if !self.message.is_empty() {
            message.push_str(": ");
            message.push_str(&self.message);
        }
        Step::new(phase, kind, reason, message).cordoned_by(CORDONER)
    }
}

/// The node is removed, and that is no update; `outdated` is what an update would have changed.
pub(super) fn removal(machine: &Machine, outdated: Option<UpdateKind>) -> Step {
    let what = match machine.removal {
        Some(Removal::Remediation) => "Cluster API replaces the unhealthy node",
        Some(Removal::ScaleDown) => "Cluster API scales down and removes the node",
        None => "The Machine of the node is being deleted",
    };
    let message = format!("{what}; this is no update");
    let phase = match outdated {
        Some(_) => Phase::Pending,
        None => Phase::Completed,
    };
    Step::new(phase, outdated, "BeingRemoved", message).cordoned_by(CORDONER)
}
