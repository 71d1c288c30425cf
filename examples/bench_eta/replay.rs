//! Shows a simulated rollout to the estimator as the operator would, and asks it at the checks.

use jiff::{SignedDuration, Timestamp};
use node_insights::api::types::UpdateKind;
use node_insights::domain::eta::{
    Calibration, Estimate, Estimator, InProgress, Learned, NoEstimate, Prior, Rollout, Sources,
    Span, Spread, Stage,
};

use crate::generator::{Node, Part, Scenario, Trace};

const KIND: Option<UpdateKind> = Some(UpdateKind::Version);

/// The checks, as shares of the rollout's duration.
pub(crate) const CHECKS: [f64; 5] = [0.10, 0.25, 0.50, 0.75, 0.90];
/// For how long the operator is away, in seconds.
const AWAY: f64 = 600.0;
/// A drain is asked for its blockers after this many seconds.
const GATE: f64 = 60.0;

/// A rollout as the estimator gets to see it.
pub(crate) struct Replay<'a> {
    trace: &'a Trace,
    start: Timestamp,
    seed: String,
    prior: &'a Prior,
    /// While the operator is away.
    away: Option<(f64, f64)>,
    /// What is known at a time, oldest first.
    events: Vec<(f64, Event)>,
}

/// What is told of each stage that begins: what is expected of it.
type Begins<'a> = &'a mut dyn FnMut(&Part, &Spread, Calibration);

enum Event {
    Began(usize),
    Ended(usize, usize),
    Done(usize),
}

/// What was answered at a check, and when what it is about was over.
pub(crate) struct Answer {
    pub(crate) time: f64,
    pub(crate) done: usize,
    pub(crate) slots: usize,
    pub(crate) estimate: Result<Seconds, NoEstimate>,
    pub(crate) truth: f64,
}

/// An estimate, in seconds since the start of the rollout.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seconds {
    pub(crate) median: f64,
    pub(crate) latest: f64,
}

impl<'a> Replay<'a> {
    pub(crate) fn new(
        trace: &'a Trace,
        scenario: Scenario,
        start: Timestamp,
        seed: String,
        prior: &'a Prior,
    ) -> Self {
        let mut events = Vec::new();
        for (number, node) in trace.nodes.iter().enumerate() {
            events.push((node.begin(), Event::Began(number)));
            for (place, part) in node.parts.iter().enumerate() {
                events.push((part.to, Event::Ended(number, place)));
            }
            events.push((node.end(), Event::Done(number)));
        }
        events.sort_by(|(a, _), (b, _)| a.total_cmp(b));
        let left = 0.4 * trace.end();
        Self {
            trace,
            start,
            seed,
            prior,
            away: (scenario == Scenario::Restarted).then_some((left, left + AWAY)),
            events,
        }
    }

    /// When the operator is away, if it is.
    pub(crate) fn away(&self) -> Option<(f64, f64)> {
        self.away
    }

    /// The same, with the operator away from this time on if it is away at all.
    pub(crate) fn away_from(mut self, left: f64) -> Self {
        self.away = self.away.map(|_| (left, left + AWAY));
        self
    }

    /// Runs through the rollout; `learned` knows it afterwards. Asks at the checks, if it is to.
    pub(crate) fn run(&self, learned: &mut Learned, asks: bool) -> Vec<Answer> {
        self.run_with(learned, asks, None)
    }

    /// Runs through the rollout and says of each stage that begins what is expected of it.
    pub(crate) fn run_through(
        &self,
        learned: &mut Learned,
        mut begins: impl FnMut(&Part, &Spread, Calibration),
    ) {
        self.run_with(learned, false, Some(&mut begins));
    }

    fn run_with(
        &self,
        learned: &mut Learned,
        asks: bool,
        mut begins: Option<Begins<'_>>,
    ) -> Vec<Answer> {
        let whole = self.trace.end_without_stuck();
        let mut checks = CHECKS.map(|share| share * whole).into_iter().peekable();
        let mut answers = Vec::new();
        let mut expected: Vec<Option<Spread>> = vec![None; self.trace.nodes.len()];
        let refresh = self.trace.nodes.len().div_ceil(4);
        let mut spreads = self.spreads(learned, 0.0);
        let mut latest = Latest::new(spreads);
        let mut done = 0;
        let mut most = 0;
        for (time, event) in &self.events {
            while let Some(check) = checks.next_if(|check| check < time) {
                if asks {
                    answers.push(self.ask(learned, check));
                }
            }
            match event {
                Event::Began(number) => {
                    let node = &self.trace.nodes[*number];
                    let in_progress = self.in_progress(*time).len();
                    most = most.max(u32::try_from(in_progress).unwrap_or(u32::MAX));
                    learned.in_progress(most);
                    self.waited(learned, *number, node);
                    expected[*number] = spread_of(&spreads, node.parts[0].stage);
                    if let Some(begins) = &mut begins {
                        latest.say(self, learned, (*time, &node.parts[0]), begins);
                    }
                }
                Event::Ended(number, place) => {
                    let node = &self.trace.nodes[*number];
                    let part = &node.parts[*place];
                    if self.is_seen(part.to) {
                        let span = self.span(part, part.to);
                        learned.stage_ended(KIND, part.stage, &span);
                        if let Some(expected) = expected[*number] {
                            let latest = expected.latest(learned.calibration());
                            learned.outcome(span.net() > latest);
                        }
                    }
                    let next = node.parts.get(place + 1);
                    expected[*number] = next.and_then(|next| spread_of(&spreads, next.stage));
                    latest.ended += 1;
                    if let (Some(next), Some(begins)) = (next, &mut begins) {
                        latest.say(self, learned, (*time, next), begins);
                    }
                }
                Event::Done(number) => {
                    done += 1;
                    let parts = &self.trace.nodes[*number].parts;
                    let visited: Vec<Stage> = parts.iter().map(|part| part.stage).collect();
                    learned.node_updated(KIND, &visited);
                    if done % refresh == 0 {
                        spreads = self.spreads(learned, *time);
                    }
                }
            }
        }
        learned.rollout_ended(most);
        answers
    }

    /// The wait of a node for its turn, if it was seen.
    fn waited(&self, learned: &mut Learned, number: usize, node: &Node) {
        let stage = match (number, node.free > 0.0) {
            (0, _) => Stage::Start,
            (_, true) => Stage::Turn,
            (_, false) => return,
        };
        if self.is_seen(node.free) && self.is_seen(node.begin()) {
            let span = Span::seen(self.at(node.free), self.at(node.begin()));
            learned.stage_ended(KIND, stage, &span);
        }
    }

    fn is_seen(&self, time: f64) -> bool {
        self.away.is_none_or(|(from, to)| time < from || time > to)
    }

    fn at(&self, time: f64) -> Timestamp {
        self.start + duration(time)
    }

    /// The span of a part as it is known at `until`.
    fn span(&self, part: &Part, until: f64) -> Span {
        let seen_from = match self.away {
            Some((from, to)) if part.from < to && until > from => to.max(part.from),
            Some(_) | None => part.from,
        };
        let blocked = (part.blocked - (part.to - until)).max(0.0);
        Span {
            entered: self.at(part.from),
            seen_from: self.at(seen_from),
            until: self.at(until),
            blocked: duration(blocked),
        }
    }

    /// The nodes in progress at a time.
    fn in_progress(&self, time: f64) -> Vec<InProgress> {
        let parts = self.trace.nodes.iter().flat_map(|node| &node.parts);
        parts
            .filter(|part| part.from <= time && time < part.to)
            .map(|part| {
                let span = self.span(part, time);
                let is_blocked = span.blocked > SignedDuration::ZERO;
                InProgress {
                    stage: part.stage,
                    span,
                    needs_human: is_blocked && time - part.from > GATE,
                }
            })
            .collect()
    }

    /// What the estimator is told at a time.
    fn with<T>(&self, learned: &Learned, time: f64, ask: impl FnOnce(&Estimator<'_>) -> T) -> T {
        let nodes = &self.trace.nodes;
        let pending = nodes.iter().filter(|node| node.begin() > time);
        let free = pending
            .clone()
            .map(|node| node.free)
            .filter(|free| *free <= time);
        let free = free.fold(f64::INFINITY, f64::min);
        let in_progress = self.in_progress(time);
        let rollout = Rollout {
            pool: &self.seed,
            target: "target",
            kind: KIND,
            started: self.start,
            has_begun: nodes.iter().any(|node| node.begin() <= time),
            in_progress: &in_progress,
            pending: u32::try_from(pending.count()).unwrap_or(u32::MAX),
            parallelism: u32::try_from(self.trace.slots_at(time)).ok(),
            free_since: free.is_finite().then(|| self.at(free)),
            held: None,
        };
        let sources = Sources {
            pool: learned,
            others: &[],
            prior: self.prior,
        };
        ask(&Estimator::new(&sources, &rollout, self.at(time)))
    }

    fn ask(&self, learned: &Learned, time: f64) -> Answer {
        let since_start = |at: Timestamp| at.duration_since(self.start).as_secs_f64();
        let seconds = |estimate: &Estimate| Seconds {
            median: since_start(estimate.median),
            latest: since_start(estimate.latest),
        };
        let (is_whole, estimate) = self.with(learned, time, |estimator| match estimator.pool() {
            Ok(estimate) => (estimate.without == 0, Ok(seconds(&estimate))),
            Err(reason) => (false, Err(reason)),
        });
        let stuck_later = self
            .trace
            .nodes
            .iter()
            .any(|node| node.is_stuck() && node.end() > time);
        Answer {
            time,
            done: self
                .trace
                .nodes
                .iter()
                .filter(|node| node.end() <= time)
                .count(),
            slots: self.trace.slots_at(time),
            truth: if is_whole || !stuck_later {
                self.trace.end()
            } else {
                self.trace.end_without_stuck()
            },
            estimate,
        }
    }

    fn spreads(&self, learned: &Learned, time: f64) -> [(Stage, Spread); 3] {
        self.with(learned, time, |estimator| {
            Stage::OF_NODE.map(|stage| (stage, estimator.expected(stage)))
        })
    }
}

/// What is expected of stages that begin now. It changes with every stage that has ended, less and less.
struct Latest {
    spreads: [(Stage, Spread); 3],
    ended: usize,
    /// From so many ended stages on it is asked for again.
    again: usize,
}

impl Latest {
    fn new(spreads: [(Stage, Spread); 3]) -> Self {
        Self {
            spreads,
            ended: 0,
            again: 1,
        }
    }

    fn say(
        &mut self,
        replay: &Replay<'_>,
        learned: &Learned,
        (time, part): (f64, &Part),
        begins: Begins<'_>,
    ) {
        if self.ended >= self.again {
            self.spreads = replay.spreads(learned, time);
            self.again = self.ended + self.ended.div_ceil(3);
        }
        if let Some(expected) = spread_of(&self.spreads, part.stage) {
            begins(part, &expected, learned.calibration());
        }
    }
}

fn spread_of(spreads: &[(Stage, Spread)], stage: Stage) -> Option<Spread> {
    let mut spreads = spreads.iter();
    spreads
        .find(|(each, _)| *each == stage)
        .map(|(_, spread)| *spread)
}

pub(crate) fn duration(seconds: f64) -> SignedDuration {
    SignedDuration::try_from_secs_f64(seconds).unwrap_or(SignedDuration::MAX)
}
