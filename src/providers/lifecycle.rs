//! The vendor-neutral conditions of KEP-5683, which any tool may set on a Node.
//!
//! They say that a node is being drained, is drained, is in maintenance or shuts down; they never say that it is up to
//! date. A node that is not outdated is then restarted, as far as is known. `Drained` outlives the maintenance, so it
//! counts only while the node is cordoned or in maintenance.
//!
//! Source: kubernetes/enhancements `keps/sig-node/5683-lifecycle-conditions`.

use super::step::Step;
use super::{Overlay, Subject};
use crate::api::types::{Phase, ProviderName, UpdateKind};
use crate::domain::facts::{Unavailable, View};
use crate::domain::state::Evaluation;

/// The conditions of KEP-5683.
#[derive(Debug, Clone, Copy, Default)]
pub struct Lifecycle;

impl Overlay for Lifecycle {
    fn name(&self) -> ProviderName {
        ProviderName::new("NodeLifecycle")
    }

    fn refine(
        &self,
        node: &Subject<'_>,
        until_now: &Evaluation,
        _: &View<'_>,
    ) -> Result<Option<Evaluation>, Unavailable> {
        let step = step(node, until_now);
        Ok(step.map(|step| step.refine(node.facts, until_now)))
    }
}

fn step(node: &Subject<'_>, until_now: &Evaluation) -> Option<Step> {
    let conditions = &node.facts.conditions.lifecycle;
    let in_maintenance = conditions.maintenance_in_progress;
    let is_drained = conditions.drained && (in_maintenance || node.facts.cordoned.is_some());
    let is_waiting = until_now.phase == Phase::Pending && conditions.maintenance_planned;
    let (phase, reason, message) = if conditions.graceful_shutdown_in_progress {
        (
            Phase::Rebooting,
            "GracefulNodeShutdownInProgress",
            "The machine shuts down",
        )
    } else if is_drained && !in_maintenance {
        (Phase::Updating, "Drained", "The node is drained")
    } else if conditions.drain_in_progress && !is_drained {
        (
            Phase::Draining,
            "DrainInProgress",
            "The node is being drained",
        )
    } else if in_maintenance {
        (
            Phase::Updating,
            "MaintenanceInProgress",
            "Maintenance of the node is in progress",
        )
    } else if is_waiting {
        (
            Phase::Paused,
            "MaintenancePlanned",
            "The node is outdated and waits for its planned maintenance",
        )
    } else {
        return None;
    };
    Some(Step::new(phase, kind(node, until_now), reason, message))
}

/// What the maintenance of a node changes: the outdated node is updated, also when it already runs the new version; of
/// a node that is up to date nothing is known but a restart.
pub(super) fn kind(node: &Subject<'_>, until_now: &Evaluation) -> UpdateKind {
    let kind = until_now.kind.or(node.kind_so_far());
    kind.unwrap_or(UpdateKind::Reboot)
}

#[cfg(test)]
mod tests;
