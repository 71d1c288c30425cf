//! What is expected of nodes and pools that are being updated: how long a step usually takes, and when the update is
//! complete. Connects their states with the estimator ([`super::eta`]), which knows neither.
//!
//! A node's expectations are made when its step begins and stay as they are, so that what was said can be compared with
//! what came. Its estimate is replaced when a step begins, when its drain is blocked or free again, and when it has
//! passed. A pool's estimate follows the course of its rollout ([`Course`]).

mod course;

use jiff::{SignedDuration, Timestamp};

pub use self::course::Course;
use super::eta::{
    Decision, Estimate, Estimator, Evaluated, InProgress, Learned, Machine, NoEstimate, Prior,
    Published, Rollout, Sources, Span, Spread, Stage, passes, should_publish,
};
use super::pool_status::PoolView;
use super::stalled::limit::{self, Platform};
use super::state::NodeState;
use crate::api::pool;
use crate::api::types::{EstimatedCompletion, Phase, ProviderName, UpdateKind};

/// The overlay whose lock decides when the next node begins.
const KURED: &str = "kured";

/// What is expected of the step that a node is in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outlook {
    /// How long the step takes; `None` until it was evaluated after a start of the process.
    pub step: Option<StepDuration>,
    /// When the node is expected to be updated; `None` while that is not known.
    pub published: Option<Published>,
}

/// How long a step takes, as it was expected when it began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepDuration {
    /// Half of such steps take longer.
    pub usual: SignedDuration,
    /// One of ten such steps takes longer.
    pub long: SignedDuration,
    /// Such a step is slow when it takes longer.
    pub limit: Option<SignedDuration>,
}

impl Outlook {
    /// From the insight, after a start of the process.
    #[must_use]
    pub fn reported(estimate: &EstimatedCompletion) -> Self {
        Self {
            step: None,
            published: Some(published(estimate)),
        }
    }

    /// The estimate as the insight shows it.
    #[must_use]
    pub fn report(&self) -> Option<EstimatedCompletion> {
        let published = self.published.as_ref()?;
        Some(report(&published.estimate))
    }
}

/// What is expected of a step that begins, and of the node from there on.
#[derive(Debug, Clone, PartialEq)]
pub struct Expected {
    at: Timestamp,
    step: StepDuration,
    estimate: Result<Estimate, NoEstimate>,
}

impl Expected {
    /// The expectations of a stage that begins at `at`.
    #[must_use]
    pub fn of(stage: Stage, sources: &Sources<'_>, node: &NodeState, at: Timestamp) -> Self {
        let rollout = of_node(node);
        let estimator = Estimator::new(sources, &rollout, at);
        let platform = Platform {
            provider: node.provider.as_str(),
            machine: node.machine,
        };
        let begins = InProgress {
            stage,
            span: Span::seen(at, at),
            needs_human: false,
        };
        Self {
            at,
            step: step(stage, estimator.expected(stage), sources.pool, platform),
            estimate: estimator.node(&begins),
        }
    }

    /// Whether this was made less than `age` ago.
    #[must_use]
    pub fn is_younger_than(&self, age: SignedDuration, now: Timestamp) -> bool {
        (SignedDuration::ZERO..age).contains(&now.duration_since(self.at))
    }

    /// The estimate, if the step begins later by what has passed since this was made.
    fn from(&self, now: Timestamp) -> Option<Estimate> {
        let estimate = self.estimate.as_ref().ok()?;
        let passed = SignedDuration::from_secs(now.duration_since(self.at).as_secs());
        Some(Estimate {
            median: estimate.median.checked_add(passed).ok()?,
            latest: estimate.latest.checked_add(passed).ok()?,
            ..estimate.clone()
        })
    }
}

/// What is known about the durations of a node's pool.
pub trait Durations {
    /// What is expected of a stage that begins now.
    fn expected(&self, stage: Stage) -> Expected;
    /// When a node in this state will be updated.
    fn estimate(&self, node: &InProgress) -> Option<Estimate>;
}

/// What is expected of a node that is being updated; `past` is what was expected in the same phase before.
#[must_use]
pub fn of(
    state: &NodeState,
    past: Option<&Outlook>,
    durations: &impl Durations,
    now: Timestamp,
) -> Option<Outlook> {
    let node = in_progress(state, now)?;
    let begins = past.is_none() && state.phase_start == now;
    let fresh = past.and_then(|past| past.step).is_none();
    let expected = fresh.then(|| durations.expected(node.stage));
    let step = past.and_then(|past| past.step);
    let step = step.or_else(|| expected.as_ref().map(|expected| expected.step));
    let known = past.and_then(|past| past.published.as_ref());
    let published = if node.needs_human {
        None
    } else if let Some(known) = known.filter(|known| passes(&known.estimate) > now) {
        Some(known.clone())
    } else {
        let estimate = expected
            .filter(|_| begins)
            .and_then(|expected| expected.from(now))
            .or_else(|| durations.estimate(&node));
        estimate.map(|estimate| replaced(known, estimate, state.phase_start, now))
    };
    Some(Outlook { step, published })
}

/// The estimate in place of one that has passed, or of none.
fn replaced(
    known: Option<&Published>,
    estimate: Estimate,
    began: Timestamp,
    now: Timestamp,
) -> Published {
    let evaluated = Evaluated {
        estimate: &estimate,
        progressed: began,
        is_phase_change: false,
    };
    match should_publish(known, evaluated, None, now) {
        Decision::Publish(published) => published,
        Decision::Keep(_) => Published {
            estimate,
            is_extended: false,
        },
    }
}

/// A node that is being updated, as the estimator sees it.
fn in_progress(state: &NodeState, now: Timestamp) -> Option<InProgress> {
    Some(InProgress {
        stage: Stage::of(state.phase)?,
        span: span(state, now),
        needs_human: state
            .drain
            .as_ref()
            .is_some_and(|drain| drain.blocked_since().is_some()),
    })
}

/// For how long the node has been, or was, in its phase.
#[must_use]
pub fn span(state: &NodeState, until: Timestamp) -> Span {
    let blocked = state.drain.as_ref().map(|drain| drain.blocked_until(until));
    Span {
        blocked: blocked.unwrap_or_default(),
        ..Span::seen(state.phase_start, until)
    }
}

/// Whether a step that ended at `until` took longer than what was called long when it began.
#[must_use]
pub fn was_long(state: &NodeState, until: Timestamp) -> Option<bool> {
    let step = state.outlook.as_ref()?.step?;
    Some(span(state, until).net() > step.long.as_secs_f64())
}

/// The stages that the last update of a node had.
#[must_use]
pub fn visited(state: &NodeState) -> Vec<Stage> {
    let phases = state.timeline.iter().rev().map(|entry| entry.phase);
    let of_update = phases
        .skip_while(|phase| *phase == Phase::Completed)
        .map_while(Stage::of);
    of_update.collect()
}

/// The constants for nodes of a provider, of virtual machines unless others are known. kured decides when the nodes begin,
/// whoever updates them.
#[must_use]
pub fn prior(
    provider: &ProviderName,
    overlays: &[ProviderName],
    machine: Option<Machine>,
) -> Prior {
    let has_kured = overlays.iter().any(|overlay| overlay.as_str() == KURED);
    let name = if has_kured { KURED } else { provider.as_str() };
    Prior::of(name, machine.unwrap_or(Machine::Virtual))
}

/// What an estimate of a single node depends on.
#[must_use]
pub fn of_node(state: &NodeState) -> Rollout<'_> {
    let desired = state.desired.as_ref();
    Rollout {
        target: desired.map_or("", |desired| &desired.version),
        started: state.phase_start,
        // A node is one, whatever the pool does.
        parallelism: Some(1),
        ..without_nodes(
            state.pool.as_ref().map_or("", |pool| &pool.name),
            state.kind,
        )
    }
}

/// What is asked about the durations in a pool, not about its nodes.
const fn without_nodes(pool: &str, kind: Option<UpdateKind>) -> Rollout<'_> {
    Rollout {
        pool,
        target: "",
        kind,
        started: Timestamp::UNIX_EPOCH,
        has_begun: true,
        in_progress: &[],
        pending: 0,
        parallelism: None,
        free_since: None,
        held: None,
    }
}

/// The kind of update that a pool's rollout is: that of a node in progress, else of one that waits.
#[must_use]
pub fn kind(view: &PoolView) -> Option<UpdateKind> {
    let mut outdated = view.nodes.iter().filter(|node| node.is_outdated());
    let active = outdated.clone().find(|node| node.phase.is_in_progress());
    active
        .or_else(|| outdated.next())
        .and_then(|node| node.kind)
}

/// When the nodes of a pool will be updated, unless it [is held](is_held).
///
/// # Errors
/// The reason why that cannot be said.
pub fn of_pool(
    view: &PoolView,
    rollout: &pool::Rollout,
    free_since: Option<Timestamp>,
    sources: &Sources<'_>,
    now: Timestamp,
) -> Result<Estimate, NoEstimate> {
    let nodes = view.nodes.iter();
    let mut active: Vec<InProgress> = nodes
        .filter(|node| node.kind != Some(UpdateKind::Reboot))
        .filter_map(|node| in_progress(node, now))
        .collect();
    // Nodes that are expected to register again.
    let awaited = InProgress {
        stage: Stage::Updating,
        span: Span::seen(now, now),
        needs_human: false,
    };
    active.extend(std::iter::repeat_n(awaited, view.awaited));
    let rollout = Rollout {
        target: rollout.to_version.as_deref().unwrap_or_default(),
        started: rollout.start_time,
        has_begun: rollout.done > 0 || rollout.in_progress > 0,
        in_progress: &active,
        pending: u32::try_from(rollout.waiting).unwrap_or_default(),
        free_since,
        ..without_nodes(&view.state.id.name, kind(view))
    };
    Estimator::new(sources, &rollout, now).pool()
}

/// How long a stage takes in a pool whose nodes are at rest.
#[must_use]
pub fn step_of_pool(view: &PoolView, stage: Stage, sources: &Sources<'_>) -> StepDuration {
    let rollout = without_nodes(&view.state.id.name, kind(view));
    let estimator = Estimator::new(sources, &rollout, rollout.started);
    let platform = Platform {
        provider: view.state.provider.as_str(),
        machine: machine(view),
    };
    step(stage, estimator.expected(stage), sources.pool, platform)
}

/// Whether no node will be updated until someone resumes the pool, or its outdated nodes.
#[must_use]
pub fn is_held(view: &PoolView) -> bool {
    let is_idle = |node: &NodeState| matches!(node.phase, Phase::Paused | Phase::Completed);
    view.state.facts.paused || view.awaited == 0 && view.nodes.iter().all(|node| is_idle(node))
}

/// The class of the machines of a pool: that of the first node of which it is known.
#[must_use]
pub fn machine(view: &PoolView) -> Option<Machine> {
    view.nodes.iter().find_map(|node| node.machine)
}

fn step(stage: Stage, expected: Spread, learned: &Learned, platform: Platform<'_>) -> StepDuration {
    let calibration = learned.calibration();
    StepDuration {
        usual: seconds(expected.median),
        long: seconds(expected.latest(calibration)),
        limit: limit::learned(stage, &expected, calibration, platform),
    }
}

/// Whole seconds.
fn seconds(seconds: f64) -> SignedDuration {
    let exact = SignedDuration::try_from_secs_f64(seconds.round());
    exact.unwrap_or(SignedDuration::MAX)
}

/// An estimate as the insights show it.
fn report(estimate: &Estimate) -> EstimatedCompletion {
    let small = |count: u32| i32::try_from(count).unwrap_or(i32::MAX);
    EstimatedCompletion {
        time: estimate.median,
        latest: estimate.latest,
        basis: estimate.basis,
        samples: small(estimate.samples),
        confidence: estimate.confidence,
        nodes_left_out: (estimate.without > 0).then(|| small(estimate.without)),
    }
}

/// An estimate that an insight shows.
fn published(estimate: &EstimatedCompletion) -> Published {
    let large = |count: i32| u32::try_from(count).unwrap_or_default();
    Published {
        estimate: Estimate {
            median: estimate.time,
            latest: estimate.latest,
            basis: estimate.basis,
            samples: large(estimate.samples),
            confidence: estimate.confidence,
            without: estimate.nodes_left_out.map_or(0, large),
        },
        is_extended: false,
    }
}

#[cfg(test)]
mod tests;
