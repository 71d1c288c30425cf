//! Whether a node has rebooted during its update, for overlays whose tool does not report it.

use super::Subject;

/// Whether the node has rebooted since its update began: its boot ID differs from that of the last evaluation, or an
/// earlier evaluation of this update has seen that.
pub(super) fn has_rebooted(node: &Subject<'_>) -> bool {
    let before = node.past.and_then(|past| past.boot_id.as_ref());
    let is_other_boot =
        matches!((before, &node.facts.boot_id), (Some(before), Some(now)) if before != now);
    is_other_boot
        || node
            .past
            .is_some_and(|past| past.phase.is_in_progress() && past.rebooted)
}
