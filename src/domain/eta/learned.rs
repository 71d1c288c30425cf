//! What was learned of one pool.

use std::collections::BTreeMap;

use jiff::SignedDuration;

use super::calibration::Calibration;
use super::life_table::LifeTable;
use super::stage::{PerStage, Span, Stage};
use crate::api::types::UpdateKind;

/// What a completed rollout weighs, compared with the one after it: a cluster changes.
const AGEING: f64 = 0.5;

/// What was learned of the updates of one kind.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct OfKind {
    /// How long the stages took.
    pub(super) tables: PerStage<LifeTable>,
    /// How many nodes went through each stage, without those that were first seen later.
    pub(super) visits: PerStage<f64>,
    /// How many nodes were seen to be updated.
    pub(super) nodes: f64,
}

/// How often drains need a human, and how long that takes.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Blocked {
    /// Drains that have ended.
    pub(super) drains: f64,
    /// For how long the blocked ones among them were blocked.
    pub(super) table: LifeTable,
}

/// What was learned of one pool: durations by kind of update and stage, parallelism, and how good estimates were.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Learned {
    /// By the letter of the kind.
    pub(super) kinds: BTreeMap<char, OfKind>,
    pub(super) blocked: Blocked,
    pub(super) parallelism: u32,
    pub(super) calibration: Calibration,
}

impl Learned {
    /// A stage of a node, or of the rollout, was seen to end. A stage that was skipped, and one whose end was not seen,
    /// is not reported.
    pub fn stage_ended(&mut self, kind: Option<UpdateKind>, stage: Stage, span: &Span) {
        let of_kind = self.of_mut(kind);
        let table = of_kind.tables.get_mut(stage);
        table.add_ended(span.age_when_seen(), span.net());
        if stage == Stage::Draining {
            self.blocked.drains += 1.0;
            if span.blocked > SignedDuration::ZERO {
                self.blocked.table.add_ended(0.0, span.blocked_seconds());
            }
        }
    }

    /// A node was seen to go through its whole update; `visited` are the stages that it had.
    pub fn node_updated(&mut self, kind: Option<UpdateKind>, visited: &[Stage]) {
        let of_kind = self.of_mut(kind);
        of_kind.nodes += 1.0;
        for stage in Stage::OF_NODE {
            if visited.contains(&stage) {
                *of_kind.visits.get_mut(stage) += 1.0;
            }
        }
    }

    /// This many nodes of the pool are in progress at once.
    pub const fn in_progress(&mut self, nodes: u32) {
        if nodes > self.parallelism {
            self.parallelism = nodes;
        }
    }

    /// Whether a duration was longer than the model's calibrated 90 % quantile of it.
    pub fn outcome(&mut self, is_miss: bool) {
        self.calibration.record(is_miss);
    }

    /// The rollout has ended with at most this many nodes in progress at once: what it taught counts half from now on.
    pub fn rollout_ended(&mut self, most_in_progress: u32) {
        for of_kind in self.kinds.values_mut() {
            of_kind.nodes *= AGEING;
            for stage in Stage::ALL {
                of_kind.tables.get_mut(stage).scale(AGEING);
                *of_kind.visits.get_mut(stage) *= AGEING;
            }
        }
        self.blocked.drains *= AGEING;
        self.blocked.table.scale(AGEING);
        self.parallelism = most_in_progress;
    }

    /// The factor on the distance from the median to `latest`.
    #[must_use]
    pub const fn calibration(&self) -> Calibration {
        self.calibration
    }

    /// The most nodes in progress at once, in this rollout or the last one; 0 if that is not known.
    #[must_use]
    pub const fn parallelism(&self) -> u32 {
        self.parallelism
    }

    pub(super) fn of(&self, kind: Option<UpdateKind>) -> Option<&OfKind> {
        self.kinds.get(&letter(kind))
    }

    /// What was learned of the other kinds.
    pub(super) fn of_others(&self, kind: Option<UpdateKind>) -> impl Iterator<Item = &OfKind> {
        let others = self.kinds.iter();
        let others = others.filter(move |(each, _)| **each != letter(kind));
        others.map(|(_, of)| of)
    }

    fn of_mut(&mut self, kind: Option<UpdateKind>) -> &mut OfKind {
        self.kinds.entry(letter(kind)).or_default()
    }
}

/// The letter that stands for a kind of update; it is persisted.
pub(super) const fn letter(kind: Option<UpdateKind>) -> char {
    match kind {
        None => 'N',
        Some(UpdateKind::Version) => 'V',
        Some(UpdateKind::Configuration) => 'C',
        Some(UpdateKind::Image) => 'I',
        Some(UpdateKind::Reboot) => 'R',
        Some(UpdateKind::Replacement) => 'X',
    }
}
