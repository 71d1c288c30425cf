//! How often a step is reported as stalled that has not, and how soon one that has.
//!
//! Each rollout is simulated again, once with nothing that hangs and once with a node that hangs for half a day in one
//! of its stages. Each step goes through the operator's own rule, from the learned limit to the condition in the
//! state, with its pods leaving at random times; nothing shows why a node hangs. A rollout in which a human frees a
//! drain is left out: that drain has stalled, and the operator is told why.

use std::fmt::Write as _;

use anyhow::Result;
use fastrand::Rng;
use jiff::{SignedDuration, Timestamp};
use node_insights::api::types::{Phase, ProviderName, Scope};
use node_insights::domain::drain::{Drain, GATE};
use node_insights::domain::eta::Stage;
use node_insights::domain::node::{NodeFacts, NodeObject};
use node_insights::domain::node_status::project;
use node_insights::domain::outlook::{Outlook, StepDuration};
use node_insights::domain::stalled::limit::{self, Platform};
use node_insights::domain::state::{Belonging, Evaluation, Finding, History, NodeState};

use crate::cases::Case;
use crate::generator::{Hangs, Part, Plan, Scenario, simulate};
use crate::pool::Pool;
use crate::replay::{Replay, duration};

/// The most pods of a node; it has at least one.
const PODS: usize = 30;
/// A step that hangs has to be reported by this many times its limit.
const IN_TIME: f64 = 1.5;
/// At most one in so many rollouts may have a false alarm.
const ROLLOUTS: usize = 200;
/// At least this share of what hangs has to be reported in time.
const FOUND: f64 = 0.99;

/// The operator is restarted so many seconds after a node begins to hang, where it is restarted.
const NOTICED: f64 = 300.0;

/// A step as the operator sees it.
#[derive(Debug, Clone)]
struct Step<'a> {
    part: &'a Part,
    /// When pods leave, in order.
    pods: Vec<f64>,
    limit: Option<SignedDuration>,
    /// When the operator is away.
    away: Option<(f64, f64)>,
}

impl<'a> Step<'a> {
    fn new(part: &'a Part, rng: &mut Rng) -> Self {
        let moves = part.to - part.hung - part.from;
        let pods = rng.usize(1..=PODS);
        let mut pods: Vec<f64> = (1..pods).map(|_| part.from + rng.f64() * moves).collect();
        pods.sort_by(f64::total_cmp);
        // The last one leaves at the end.
        pods.push(part.to);
        Self {
            part,
            pods,
            limit: None,
            away: None,
        }
    }

    /// When it is reported, by the learned limit and by the constants.
    fn reported_by_both(&self) -> [Option<f64>; 2] {
        [self.limit, None].map(|limit| self.reported(limit))
    }

    /// When it is reported as stalled, in seconds since the start of the rollout.
    fn reported(&self, limit: Option<SignedDuration>) -> Option<f64> {
        let facts = NodeFacts::new(NodeObject::default(), Vec::new());
        let mut now = self.part.from;
        let mut past: Option<History> = None;
        loop {
            if let Some((left, back)) = self.away
                && (left..back).contains(&now)
            {
                now = back;
            }
            if now >= self.part.to {
                return None;
            }
            let at = Timestamp::UNIX_EPOCH + duration(now);
            let belonging = Belonging {
                provider: ProviderName::new("Simulated"),
                overlays: Box::default(),
                pool: None,
                scope: Scope::WorkerPool,
            };
            let evaluation = self.evaluation(now);
            let outlook = Outlook {
                step: Some(StepDuration {
                    usual: SignedDuration::ZERO,
                    long: SignedDuration::ZERO,
                    limit,
                }),
                published: None,
            };
            let state = NodeState::new(evaluation, &facts, belonging, past.as_ref(), at)
                .expecting(Some(outlook), at);
            if state.stall.is_some() {
                return Some(now);
            }
            let again = state
                .again_at
                .map(|again| again.as_duration().as_secs_f64());
            let gate = Some(self.gate()).filter(|_| self.part.stage == Stage::Draining);
            let next = self.pods.iter().copied().chain(gate).chain(again);
            let next = next.filter(|at| *at > now).fold(f64::INFINITY, f64::min);
            past = Some(match self.away {
                Some((left, _)) if now < left && left <= next => {
                    History::from_status(&project(&state))
                }
                _ => History::from(&state),
            });
            now = next;
        }
    }

    /// The place of the stage among those of a node.
    fn place(&self) -> usize {
        let mut stages = Stage::OF_NODE.iter();
        let place = stages.position(|stage| *stage == self.part.stage);
        place.unwrap_or_default()
    }

    /// From when on the pods of a drain are known.
    fn gate(&self) -> f64 {
        self.part.from + GATE.as_secs_f64()
    }

    fn evaluation(&self, now: f64) -> Evaluation {
        let phase = match self.part.stage {
            Stage::Draining => Phase::Draining,
            Stage::Rebooting => Phase::Rebooting,
            Stage::Updating | Stage::Start | Stage::Turn => Phase::Updating,
        };
        let left = self.pods.iter().filter(|at| **at > now).count();
        let drain = (phase == Phase::Draining && now >= self.gate()).then(|| Drain {
            pods_left: Some(left),
            most: self.pods.len(),
            ..Drain::default()
        });
        Evaluation {
            phase,
            kind: None,
            version: None,
            desired: None,
            updating: Finding::updating(phase, "Simulated", ""),
            available: Finding::as_expected(true),
            degraded: Finding::as_expected(false),
            again_at: None,
            is_inferred: false,
            cordoned_by: None,
            is_only_behind: false,
            drain: drain.map(Box::new),
        }
    }
}

/// What is reported by one rule.
#[derive(Debug, Clone, Default)]
struct Reports {
    /// Rollouts with a false alarm.
    false_alarms: usize,
    /// Steps with one, by stage.
    steps: [usize; Stage::OF_NODE.len()],
    /// After how many seconds what hung was reported, by stage.
    after: [Vec<f64>; Stage::OF_NODE.len()],
}

/// A group of cases.
#[derive(Debug, Clone, Default)]
struct Group {
    name: String,
    /// Rollouts in which nothing hangs.
    rollouts: usize,
    /// Rollouts with a node that hangs, and those in which that was reported in time.
    hanging: usize,
    found: usize,
    /// Drains that hang for a while, in the rollouts of the other tables, and those that are reported.
    drains: usize,
    reported_drains: usize,
    /// By the learned limit, and by the constants that count where nothing is learned.
    learned: Reports,
    constant: Reports,
}

/// What is reported as stalled.
#[derive(Debug, Default)]
pub(crate) struct Stalls(Vec<Group>);

impl Stalls {
    /// Simulates the rollouts of a case with this seed.
    pub(crate) fn measure(&mut self, case: &Case, seed: u64) -> Result<()> {
        if case.plan.scenario == Scenario::Stuck {
            return Ok(());
        }
        let stages = case.plan.platform.has();
        let stage = stages[usize::try_from(seed)? % stages.len()];
        let pool = Pool::new(case, seed, &case.constants())?;
        let group = self.group(&case.group());

        let before = [&group.learned, &group.constant].map(|reports| reports.steps);
        for_steps(case, seed, &pool, Hangs::Nothing, |step| {
            let [learned, constant] = step.reported_by_both();
            group.learned.steps[step.place()] += usize::from(learned.is_some());
            group.constant.steps[step.place()] += usize::from(constant.is_some());
        });
        group.rollouts += 1;
        for (reports, before) in [&mut group.learned, &mut group.constant]
            .into_iter()
            .zip(before)
        {
            reports.false_alarms += usize::from(reports.steps != before);
        }

        for_steps(case, seed, &pool, Hangs::Node(stage), |step| {
            if step.part.hung > 0.0 {
                group.hung(step);
            }
        });
        if !seed.is_multiple_of(4) {
            return Ok(());
        }
        for_steps(case, seed, &pool, Hangs::SomeDrains, |step| {
            if step.part.hung > 0.0 {
                group.drains += 1;
                group.reported_drains += usize::from(step.reported(step.limit).is_some());
            }
        });
        Ok(())
    }

    fn group(&mut self, name: &str) -> &mut Group {
        let place = self.0.iter().position(|group| group.name == name);
        let place = place.unwrap_or(self.0.len());
        if place == self.0.len() {
            self.0.push(Group {
                name: name.to_owned(),
                ..Group::default()
            });
        }
        &mut self.0[place]
    }

    /// The table, and whether the criteria are met.
    pub(crate) fn markdown(&self) -> String {
        let mut text = String::from(
            "\n## Stalled\n\n\
             | Rollouts | Without a stall | False alarms | With constants | With a node that hangs | Found in time \
             | After, min | With constants |\n\
             |---|---|---|---|---|---|---|---|\n",
        );
        let mut all = Group {
            name: "all".to_owned(),
            ..Group::default()
        };
        for group in &self.0 {
            let _ = writeln!(text, "{}", group.row());
            all.add(group);
        }
        let _ = writeln!(text, "{}", all.row());
        let is_quiet = all.learned.false_alarms * ROLLOUTS <= all.rollouts;
        let found = share(all.found, all.hanging);
        let answer = |is_met| if is_met { "met" } else { "missed" };
        let _ = writeln!(
            text,
            "\n| Criterion | Result |\n|---|---|\n\
             | a false alarm in at most one of {ROLLOUTS} rollouts | {}: one of {:.0} |\n\
             | at least {:.0} % of the nodes that hang found within {IN_TIME} times the limit | {}: {:.1} % |\n\n\
             Of {} drains that hang for a while and end by themselves, {:.0} % do so after their limit, and are \
             reported.",
            answer(is_quiet),
            share(all.rollouts, all.learned.false_alarms),
            100.0 * FOUND,
            answer(found >= FOUND),
            100.0 * found,
            all.drains,
            100.0 * share(all.reported_drains, all.drains),
        );
        text
    }
}

impl Group {
    /// A node that hangs.
    fn hung(&mut self, step: &Step<'_>) {
        self.hanging += 1;
        let Some(place) = Stage::OF_NODE
            .iter()
            .position(|stage| *stage == step.part.stage)
        else {
            return;
        };
        let [learned, constant] = step.reported_by_both();
        if let Some(reported) = learned {
            let after = reported - step.part.from;
            let limit = step.limit.map_or(0.0, |limit| limit.as_secs_f64());
            self.found += usize::from(after <= IN_TIME * limit);
            self.learned.after[place].push(after);
        }
        self.constant.after[place].extend(constant.map(|reported| reported - step.part.from));
    }

    fn add(&mut self, other: &Self) {
        self.rollouts += other.rollouts;
        self.hanging += other.hanging;
        self.found += other.found;
        self.drains += other.drains;
        self.reported_drains += other.reported_drains;
        self.learned.add(&other.learned);
        self.constant.add(&other.constant);
    }

    fn row(&self) -> String {
        format!(
            "| {} | {} | {} | {} | {} | {} | {} | {} |",
            self.name,
            self.rollouts,
            self.learned.alarms(),
            self.constant.alarms(),
            self.hanging,
            self.found,
            self.learned.minutes(),
            self.constant.minutes(),
        )
    }
}

impl Reports {
    fn add(&mut self, other: &Self) {
        self.false_alarms += other.false_alarms;
        for (steps, other) in self.steps.iter_mut().zip(other.steps) {
            *steps += other;
        }
        for (after, other) in self.after.iter_mut().zip(&other.after) {
            after.extend(other);
        }
    }

    /// Rollouts with a false alarm; in parentheses steps with one, by stage.
    fn alarms(&self) -> String {
        let steps = self.steps.map(|steps| steps.to_string()).join(" ");
        format!("{} ({steps})", self.false_alarms)
    }

    /// Medians by stage.
    fn minutes(&self) -> String {
        let median = |after: &Vec<f64>| {
            let mut sorted = after.clone();
            sorted.sort_by(f64::total_cmp);
            let median = sorted.get(sorted.len() / 2);
            median.map_or("-".to_owned(), |after| format!("{:.0}", after / 60.0))
        };
        self.after.each_ref().map(median).join(" ")
    }
}

fn share(part: usize, whole: usize) -> f64 {
    let number = |count| u32::try_from(count).map_or(f64::INFINITY, f64::from);
    number(part) / number(whole.max(1))
}

/// Simulates the next rollout of the pool and goes through its steps in turn.
fn for_steps(case: &Case, seed: u64, pool: &Pool, hangs: Hangs, mut each: impl FnMut(&Step<'_>)) {
    let mut pool = pool.clone();
    let plan = Plan { hangs, ..case.plan };
    let trace = simulate(&plan, &mut pool.rng);
    let constants = case.constants();
    let name = format!("{seed}-{}", case.before);
    let mut replay = Replay::new(&trace, plan.scenario, pool.start, name, &constants);
    if let Hangs::Node(_) = hangs {
        let mut parts = trace.nodes.iter().flat_map(|node| &node.parts);
        let hangs = parts.find(|part| part.hung > 0.0);
        let since = hangs.map_or(0.0, |part| part.to - part.hung);
        replay = replay.away_from(since + NOTICED);
    }
    let away = replay.away();
    let (provider, machine) = case.platform();
    let platform = Platform {
        provider,
        machine: Some(machine),
    };
    let mut rng = Rng::with_seed(seed);
    replay.run_through(&mut pool.learned, |part, expected, calibration| {
        each(&Step {
            limit: limit::learned(part.stage, expected, calibration, platform),
            away,
            ..Step::new(part, &mut rng)
        });
    });
}
