//! When a new estimate is worth a write.
//!
//! A phase change is written anyway, so it takes the newest estimate along. In between an estimate is published only if
//! it differs much, and still does a while later. One that passed a minute ago is replaced by a time that lies
//! further ahead the longer nothing happens, so a stalled rollout takes ever fewer writes.

use jiff::{SignedDuration, Timestamp};

use super::estimate::Estimate;

/// Differences up to this do not matter to anyone.
const MINUTE: SignedDuration = SignedDuration::from_mins(1);
/// Nor do those up to this share of the remaining time, in percent.
const PERCENT: i32 = 15;
/// A difference that lasts for less is gone with the next change of a phase.
const PATIENCE: SignedDuration = SignedDuration::from_mins(5);

/// What is published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// The estimate.
    pub estimate: Estimate,
    /// It replaced one that had passed without progress: only progress makes it earlier.
    pub is_extended: bool,
}

/// A difference that has to last before it is published: since when it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate(Timestamp);

/// What to do with a new estimate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Publish this.
    Publish(Published),
    /// Keep what is published, and pass this to the next evaluation.
    Keep(Option<Candidate>),
}

/// An evaluation, for the decision about its estimate.
#[derive(Debug, Clone, Copy)]
pub struct Evaluated<'a> {
    /// The new estimate.
    pub estimate: &'a Estimate,
    /// When a node last changed its phase.
    pub progressed: Timestamp,
    /// Whether a phase has changed since the last evaluation.
    pub is_phase_change: bool,
}

/// When an estimate is replaced if nothing happens: many updates are complete within a minute of it.
#[must_use]
pub fn passes(estimate: &Estimate) -> Timestamp {
    estimate
        .median
        .checked_add(MINUTE)
        .unwrap_or(Timestamp::MAX)
}

/// Decides whether an estimate is published. `candidate` is what the last evaluation returned.
#[must_use]
pub fn should_publish(
    published: Option<&Published>,
    evaluated: Evaluated<'_>,
    candidate: Option<Candidate>,
    now: Timestamp,
) -> Decision {
    let new = evaluated.estimate;
    let as_it_is = || {
        Decision::Publish(Published {
            estimate: new.clone(),
            is_extended: false,
        })
    };
    let Some(published) = published else {
        return as_it_is();
    };
    let old = &published.estimate;
    if evaluated.is_phase_change || new.without != old.without {
        return as_it_is();
    }
    if passes(old) <= now {
        return Decision::Publish(extended(evaluated, now));
    }
    let remaining = old.median.duration_since(now).max(SignedDuration::ZERO);
    let tolerated = MINUTE.max(remaining / 100 * PERCENT);
    let difference = new.median.duration_since(old.median);
    let is_earlier = difference.is_negative();
    if difference.abs() <= tolerated || is_earlier && published.is_extended {
        return Decision::Keep(None);
    }
    match candidate {
        Some(Candidate(since)) if now.duration_since(since) >= PATIENCE => as_it_is(),
        Some(candidate) => Decision::Keep(Some(candidate)),
        None => Decision::Keep(Some(Candidate(now))),
    }
}

/// The estimate, but at least half the time ahead that has gone by without progress.
fn extended(evaluated: Evaluated<'_>, now: Timestamp) -> Published {
    let Evaluated {
        estimate,
        progressed,
        is_phase_change: _,
    } = evaluated;
    let ahead = (now.duration_since(progressed) / 2).max(MINUTE);
    let earliest = now.checked_add(ahead).unwrap_or(Timestamp::MAX);
    let median = estimate.median.max(earliest);
    Published {
        estimate: Estimate {
            median,
            latest: estimate.latest.max(median),
            ..estimate.clone()
        },
        is_extended: median > estimate.median,
    }
}
