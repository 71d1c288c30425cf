//! The estimate of a pool and of a node: a time, or the reason why there is none.

use jiff::{SignedDuration, Timestamp, TimestampRound, Unit};

use super::calibration::{Calibration, Spread};
use super::model::{Model, Sources};
use super::random::Random;
use super::simulation::{self, Situation};
use super::stage::{Span, Stage};
use crate::api::types::{Confidence, EstimateBasis, UpdateKind};

/// From so many nodes on an estimate is of high confidence, and from so many on of medium.
const HIGH: f64 = 10.0;
const MEDIUM: f64 = 3.0;

/// When a node or a pool will be updated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Estimate {
    /// It is as likely to be done before as after.
    pub median: Timestamp,
    /// It is done by then with a probability of 90 %.
    pub latest: Timestamp,
    /// Where the durations are from.
    pub basis: EstimateBasis,
    /// How many nodes of the pool they are from; older ones count less.
    pub samples: u32,
    /// How far it can be relied on.
    pub confidence: Confidence,
    /// How many nodes it leaves out, because they are blocked until someone acts.
    pub without: u32,
}

/// Why there is no estimate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum NoEstimate {
    /// The pool, or the node, is paused.
    #[error("it is paused")]
    Paused,
    /// The time window in which nodes are updated is closed.
    #[error("the maintenance window is closed")]
    WindowClosed,
    /// No node may be in progress at present.
    #[error("no node may be disrupted at present")]
    NothingAllowed,
    /// What is left waits for nodes that are blocked until someone acts.
    #[error("it is blocked until someone acts")]
    Blocked,
    /// There is nothing to estimate, or it cannot be.
    #[error("it is not known")]
    Unknown,
}

/// A node in progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InProgress {
    /// The stage that it is in.
    pub stage: Stage,
    /// Since when, and for how long it has been blocked; `until` is now.
    pub span: Span,
    /// Something that needs a human holds it up now.
    pub needs_human: bool,
}

/// The rollout of a pool at one moment.
#[derive(Debug, Clone)]
pub struct Rollout<'a> {
    /// The UID or name of the pool; with `target` it decides the random numbers.
    pub pool: &'a str,
    /// What the pool is updated to.
    pub target: &'a str,
    /// What the update changes.
    pub kind: Option<UpdateKind>,
    /// When the rollout began.
    pub started: Timestamp,
    /// Whether a node has begun.
    pub has_begun: bool,
    /// The nodes in progress.
    pub in_progress: &'a [InProgress],
    /// How many nodes are still to begin.
    pub pending: u32,
    /// How many nodes may be in progress at once, if the pool declares it.
    pub parallelism: Option<u32>,
    /// Since when a further node might begin, if one might.
    pub free_since: Option<Timestamp>,
    /// What keeps nodes from beginning: then there is no estimate.
    pub held: Option<NoEstimate>,
}

impl Rollout<'_> {
    fn stuck(&self) -> usize {
        self.in_progress
            .iter()
            .filter(|node| node.needs_human)
            .count()
    }
}

/// Estimates a pool and its nodes at one moment.
#[derive(Debug, Clone)]
pub struct Estimator<'a> {
    rollout: &'a Rollout<'a>,
    model: Model,
    calibration: Calibration,
    observed_parallelism: u32,
    now: Timestamp,
}

impl<'a> Estimator<'a> {
    /// Brings together what is known at `now`.
    #[must_use]
    pub fn new(sources: &Sources<'_>, rollout: &'a Rollout<'a>, now: Timestamp) -> Self {
        let nodes = rollout.in_progress.iter();
        let mut running: Vec<(Stage, Span)> = nodes.map(|node| (node.stage, node.span)).collect();
        let awaited = before_next(rollout, now);
        running.extend(awaited.map(|(stage, since)| (stage, Span::seen(since, now))));
        Self {
            rollout,
            model: Model::new(sources, rollout.kind, &running),
            calibration: sources.pool.calibration(),
            observed_parallelism: sources.pool.parallelism(),
            now,
        }
    }

    /// When the pool will be updated, except for nodes that are blocked until someone acts.
    ///
    /// # Errors
    /// The reason why there is no estimate.
    pub fn pool(&self) -> Result<Estimate, NoEstimate> {
        let rollout = self.rollout;
        if let Some(reason) = rollout.held {
            return Err(reason);
        }
        let stuck = rollout.stuck();
        let all = rollout.in_progress.len();
        if all == 0 && rollout.pending == 0 {
            return Err(NoEstimate::Unknown);
        }
        let slots = self.slots();
        if rollout.pending > 0 && slots == 0 && all == 0 {
            return Err(NoEstimate::NothingAllowed);
        }
        let left = slots.saturating_sub(stuck);
        if stuck == all && rollout.pending == 0 || rollout.pending > 0 && left == 0 && stuck > 0 {
            return Err(NoEstimate::Blocked);
        }
        let moving = rollout.in_progress.iter().filter(|node| !node.needs_human);
        let waited = |(stage, since)| (stage, Span::seen(since, self.now).net());
        let situation = Situation {
            running: moving.map(|node| (node.stage, node.span.net())).collect(),
            pending: rollout.pending,
            slots: left,
            before_next: before_next(rollout, self.now).map_or((Stage::Turn, 0.0), waited),
        };
        let mut random = Random::of(&[rollout.pool, rollout.target]);
        let mut ends = simulation::remaining(&self.model, &situation, &mut random);
        self.estimate(Spread::of(&mut ends), stuck)
    }

    /// When this node will be updated.
    ///
    /// # Errors
    /// The reason why there is no estimate.
    pub fn node(&self, node: &InProgress) -> Result<Estimate, NoEstimate> {
        if node.needs_human {
            return Err(NoEstimate::Blocked);
        }
        let mut random = Random::of(&[self.rollout.pool, self.rollout.target]);
        let elapsed = node.span.net();
        let mut ends = simulation::remaining_of_node(&self.model, node.stage, elapsed, &mut random);
        self.estimate(Spread::of(&mut ends), 0)
    }

    /// How long a stage takes that begins now, to find out later whether that was right.
    #[must_use]
    pub fn expected(&self, stage: Stage) -> Spread {
        let mut random = Random::of(&[self.rollout.pool, self.rollout.target]);
        self.model.expected(stage, &mut random)
    }

    /// How many nodes may be in progress at once.
    fn slots(&self) -> usize {
        let slots = match self.rollout.parallelism {
            Some(declared) => declared,
            None => self.observed_parallelism.max(1),
        };
        let slots = usize::try_from(slots).unwrap_or(usize::MAX);
        match self.rollout.parallelism {
            Some(_) => slots,
            None => slots.max(self.rollout.in_progress.len()),
        }
    }

    fn estimate(&self, remaining: Spread, without: usize) -> Result<Estimate, NoEstimate> {
        let samples = self.model.samples();
        let is_certain = self.rollout.parallelism.is_some() && self.rollout.stuck() == 0;
        Ok(Estimate {
            median: after(self.now, remaining.median)?,
            latest: after(self.now, remaining.latest(self.calibration))?,
            basis: self.model.basis(),
            samples: rounded(samples),
            confidence: if samples >= HIGH && is_certain {
                Confidence::High
            } else if samples >= MEDIUM {
                Confidence::Medium
            } else {
                Confidence::Low
            },
            without: u32::try_from(without).unwrap_or(u32::MAX),
        })
    }
}

/// What is awaited before the next node begins, and since when.
fn before_next(rollout: &Rollout<'_>, now: Timestamp) -> Option<(Stage, Timestamp)> {
    if !rollout.has_begun && rollout.in_progress.is_empty() {
        Some((Stage::Start, rollout.started.min(now)))
    } else if rollout.pending > 0 {
        rollout
            .free_since
            .map(|since| (Stage::Turn, since.min(now)))
    } else {
        None
    }
}

/// The whole second after this many seconds.
fn after(now: Timestamp, seconds: f64) -> Result<Timestamp, NoEstimate> {
    let duration = SignedDuration::try_from_secs_f64(seconds.max(1.0));
    let exact = duration
        .ok()
        .and_then(|duration| now.checked_add(duration).ok());
    let whole = TimestampRound::new().smallest(Unit::Second);
    exact
        .and_then(|exact| exact.round(whole).ok())
        .ok_or(NoEstimate::Unknown)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a small number of nodes, and a cast ends at the borders of the type"
)]
fn rounded(samples: f64) -> u32 {
    samples.round() as u32
}
