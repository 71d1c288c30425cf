//! The durations that are believed of a pool: what was observed of it, on top of what is expected.
//!
//! Hierarchical: the constants of the provider, changed by what other pools of it have shown, make a curve. How much
//! longer this pool takes is a shift of that curve, of which each value has a probability given the pool's own life
//! table; then each bin is changed by the table itself. Since the shift has few parameters, a prior that is wrong is
//! outweighed by the first few durations, while the shape of the curve gives way only where there are observations.

use super::calibration::Spread;
use super::curve::{Cumulative, Curve};
use super::learned::Learned;
use super::life_table::LifeTable;
use super::posterior::{ENOUGH, Posterior};
use super::prior::Prior;
use super::random::Random;
use super::stage::{PerStage, Span, Stage};
use crate::api::types::{EstimateBasis, UpdateKind};

/// What an observation of another pool, or of another kind of update, weighs.
const OF_OTHERS: f64 = 0.5;
/// The share of drains that need a human, and of how many drains that is known.
const BLOCKED: (f64, f64) = (0.03, 20.0);
/// How long such a drain is blocked: median in seconds and spread. Platforms give up, or raise an alert, after 15 to
/// 60 min.
const UNBLOCKED: (f64, f64) = (2_000.0, 0.6);
/// From how many curves the spread of a duration is taken, and how many durations of each: a curve costs more.
const CURVES: u32 = 25;
const DURATIONS: u32 = 4;

/// By how much, as a standard deviation of the logarithm, nodes that are still to begin may take longer or shorter than
/// those before: what comes is not always like what was.
const DRIFT: f64 = 0.15;

/// What is known, in order of precedence.
#[derive(Debug, Clone, Copy)]
pub struct Sources<'a> {
    /// What was learned of the pool.
    pub pool: &'a Learned,
    /// What was learned of other pools of the same provider and class of machines.
    pub others: &'a [&'a Learned],
    /// The constants.
    pub prior: &'a Prior,
}

/// The durations that are believed of a pool.
#[derive(Debug, Clone)]
pub(super) struct Model {
    stages: PerStage<Posterior>,
    /// The probability that a node goes through each stage.
    shares: PerStage<f64>,
    blocked_share: f64,
    blocked: Cumulative,
    basis: EstimateBasis,
    samples: f64,
}

impl Model {
    /// The model for updates of this kind, when these stages are running.
    #[must_use]
    pub(super) fn new(
        sources: &Sources<'_>,
        kind: Option<UpdateKind>,
        running: &[(Stage, Span)],
    ) -> Self {
        let own = sources.pool.of(kind);
        let mut of_others = 0.0_f64;
        let stages = PerStage::from(|stage| {
            let mut table =
                own.map_or_else(LifeTable::default, |own| own.tables.get(stage).clone());
            for (_, span) in running.iter().filter(|(each, _)| *each == stage) {
                table.add_running(span.age_when_seen(), span.net());
            }
            let others = of_other_pools(sources, kind, stage);
            of_others = of_others.max(others.exits());
            let expected = sources.prior.expected(stage).curve();
            Posterior::new(&expected, &others, table)
        });
        let shares = PerStage::from(|stage| {
            let expected = sources.prior.expected(stage).share;
            let (visits, nodes) = own.map_or((0.0, 0.0), |own| (*own.visits.get(stage), own.nodes));
            (expected + visits) / (1.0 + nodes)
        });
        let samples =
            Stage::OF_NODE.map(|stage| own.map_or(0.0, |own| own.tables.get(stage).exits()));
        let samples = samples.into_iter().fold(0.0, f64::max);
        let blocked = &sources.pool.blocked;
        let (share, drains) = BLOCKED;
        let (median, spread) = UNBLOCKED;
        Self {
            stages,
            shares,
            blocked_share: (share * drains + blocked.table.exits()) / (drains + blocked.drains),
            blocked: Posterior::new(
                &Curve::log_logistic(median, spread),
                &LifeTable::default(),
                blocked.table.clone(),
            )
            .most_likely(),
            basis: if samples >= ENOUGH {
                EstimateBasis::PoolHistory
            } else if of_others >= ENOUGH {
                EstimateBasis::ProviderHistory
            } else {
                EstimateBasis::PlatformConstant
            },
            samples,
        }
    }

    /// Where the durations are from.
    #[must_use]
    pub(super) const fn basis(&self) -> EstimateBasis {
        self.basis
    }

    /// How many nodes of the pool they are from; older ones count less.
    #[must_use]
    pub(super) const fn samples(&self) -> f64 {
        self.samples
    }

    /// How long a stage takes from its beginning.
    #[must_use]
    pub(super) fn expected(&self, stage: Stage, random: &mut Random) -> Spread {
        let posterior = self.stages.get(stage);
        let mut draws = Vec::new();
        for shift in random.strata(CURVES) {
            let curve = posterior.drawn(shift, random);
            draws.extend((0..DURATIONS).map(|_| curve.draw(random)));
        }
        Spread::of(&mut draws)
    }

    /// Durations as they may be: draws that all nodes of a replicate share.
    pub(super) fn drawn(&self, count: u32, random: &mut Random) -> Vec<Durations<'_>> {
        let shifts = PerStage::from(|_| random.strata(count));
        let draw = |place| Durations {
            model: self,
            drift: (DRIFT * random.normal()).exp(),
            stages: PerStage::from(|stage| {
                let shift = shifts.get(stage).get(place).copied().unwrap_or(0.5);
                self.stages.get(stage).drawn(shift, random)
            }),
        };
        (0..usize::try_from(count).unwrap_or_default())
            .map(draw)
            .collect()
    }
}

/// What other pools, and other kinds of update of this one, have shown of a stage.
fn of_other_pools(sources: &Sources<'_>, kind: Option<UpdateKind>, stage: Stage) -> LifeTable {
    let pools = sources.others.iter().filter_map(|other| other.of(kind));
    let mut table = LifeTable::default();
    for other in pools.chain(sources.pool.of_others(kind)) {
        table.merge(other.tables.get(stage), OF_OTHERS);
    }
    table
}

/// Durations from one draw.
pub(super) struct Durations<'a> {
    model: &'a Model,
    /// How much longer nodes take that are still to begin.
    drift: f64,
    stages: PerStage<Cumulative>,
}

impl Durations<'_> {
    /// The remaining seconds of a stage that has lasted `elapsed` seconds.
    pub(super) fn remaining(&self, stage: Stage, elapsed: f64, random: &mut Random) -> f64 {
        self.stages.get(stage).draw_remaining(elapsed, random)
    }

    /// The seconds of a node that is still to begin.
    pub(super) fn of_node(&self, random: &mut Random) -> f64 {
        let stages = Stage::OF_NODE.into_iter();
        self.drift
            * stages
                .map(|stage| self.of_stage(stage, random))
                .sum::<f64>()
    }

    /// The seconds of a node in progress from the stage after this one on.
    pub(super) fn of_node_after(&self, last: Stage, random: &mut Random) -> f64 {
        let stages = Stage::OF_NODE.into_iter();
        let left = stages.skip_while(|stage| *stage != last).skip(1);
        left.map(|stage| self.of_stage(stage, random)).sum()
    }

    fn of_stage(&self, stage: Stage, random: &mut Random) -> f64 {
        let share = *self.model.shares.get(stage);
        if share < 0.99 && random.uniform() > share {
            return 0.0;
        }
        let duration = self.stages.get(stage).draw(random);
        if stage == Stage::Draining && random.uniform() < self.model.blocked_share {
            duration + self.model.blocked.draw(random)
        } else {
            duration
        }
    }
}
