//! A pool before the rollout that is measured.

use anyhow::{Context as _, Result};
use fastrand::Rng;
use jiff::{SignedDuration, Timestamp};
use node_insights::domain::eta::{Learned, Prior};

use crate::cases::Case;
use crate::generator::{Plan, Scenario, simulate};
use crate::replay::Replay;

/// A pool, and what was learned of its rollouts so far.
#[derive(Debug, Clone)]
pub(crate) struct Pool {
    pub(crate) rng: Rng,
    pub(crate) learned: Learned,
    /// When the next rollout begins.
    pub(crate) start: Timestamp,
    /// How long the last one took.
    pub(crate) last: Option<f64>,
}

impl Pool {
    /// The pool of a case with this seed, after the rollouts that it had before.
    pub(crate) fn new(case: &Case, seed: u64, constants: &Prior) -> Result<Self> {
        let mut pool = Self {
            rng: Rng::with_seed(seed),
            learned: Learned::default(),
            start: Timestamp::from_second(1_800_000_000).context("the first rollout")?,
            last: None,
        };
        let plan = Plan {
            scenario: Scenario::Stationary,
            ..case.plan
        };
        for rollout in 0..case.before {
            let trace = simulate(&plan, &mut pool.rng);
            let name = format!("{seed}-{rollout}");
            let replay = Replay::new(&trace, plan.scenario, pool.start, name, constants);
            replay.run(&mut pool.learned, false);
            pool.last = Some(trace.end());
            let took = SignedDuration::try_from_secs_f64(trace.end())?;
            pool.start += took + SignedDuration::from_hours(24);
        }
        Ok(pool)
    }
}
