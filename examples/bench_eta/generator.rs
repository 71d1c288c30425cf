//! Rollouts as they happen: durations from distributions like those that users report, and what goes wrong.
//!
//! The distributions are log-normal, given by their median in seconds and the standard deviation of the logarithm. The
//! model assumes others.

use fastrand::Rng;
use node_insights::domain::eta::Stage;

/// How nodes are updated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Platform {
    /// Virtual machines, in place.
    Cloud,
    /// Physical machines, in place: of each ten nodes one takes twice as long to reboot.
    BareMetal,
    /// Machines that are replaced.
    Replace,
    /// Replaced after a quiet time of 20 min.
    Eks,
    /// The next node begins within an hour.
    Kured,
}

/// What happens in a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scenario {
    /// Nothing changes.
    Stationary,
    /// From half of the nodes on everything takes twice as long.
    Slower,
    /// A drain in the first third needs a human, who comes after hours.
    Stuck,
    /// A quarter of the nodes takes four times as long to update and to reboot.
    Bimodal,
    /// From half of the nodes on twice as many, or half as many, are updated at once.
    Parallelism,
    /// The operator is away for ten minutes.
    Restarted,
}

/// What hangs in a rollout, and nothing shows why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hangs {
    /// Three drains of a hundred, until they end by themselves.
    SomeDrains,
    /// Nothing.
    Nothing,
    /// One node in this stage, for half a day, and nothing else.
    Node(Stage),
}

/// A rollout to simulate.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) platform: Platform,
    pub(crate) scenario: Scenario,
    pub(crate) hangs: Hangs,
    pub(crate) nodes: usize,
    pub(crate) slots: usize,
}

/// A stage of a node.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Part {
    pub(crate) stage: Stage,
    pub(crate) from: f64,
    pub(crate) to: f64,
    /// For how long at its end a human was needed.
    pub(crate) blocked: f64,
    /// For how long at its end it hung, and nothing showed why.
    pub(crate) hung: f64,
}

/// A node of the rollout.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    /// When its slot was free.
    pub(crate) free: f64,
    /// Its stages in turn.
    pub(crate) parts: Vec<Part>,
}

impl Node {
    pub(crate) fn begin(&self) -> f64 {
        self.parts[0].from
    }

    pub(crate) fn end(&self) -> f64 {
        self.parts[self.parts.len() - 1].to
    }

    pub(crate) fn is_stuck(&self) -> bool {
        self.parts.iter().any(|part| part.blocked > 0.0)
    }
}

/// A rollout that has happened; times are seconds since its start.
#[derive(Debug, Clone)]
pub(crate) struct Trace {
    pub(crate) nodes: Vec<Node>,
    /// The slots, and from when on there were how many.
    pub(crate) slots: Vec<(f64, usize)>,
}

impl Trace {
    pub(crate) fn end(&self) -> f64 {
        self.nodes.iter().map(Node::end).fold(0.0, f64::max)
    }

    /// The end of the nodes that need no human.
    pub(crate) fn end_without_stuck(&self) -> f64 {
        let moving = self.nodes.iter().filter(|node| !node.is_stuck());
        moving.map(Node::end).fold(0.0, f64::max)
    }

    /// How many nodes may be in progress at once at a time.
    pub(crate) fn slots_at(&self, time: f64) -> usize {
        let past = self.slots.iter().take_while(|(from, _)| *from <= time);
        past.last().map_or(1, |(_, slots)| *slots)
    }
}

/// A stage that is to happen, and for how long it moves and then hangs.
type Planned = (Stage, f64, f64);

/// For how long a node hangs.
const HALF_A_DAY: f64 = 43_200.0;

/// A log-normal duration.
fn log_normal(rng: &mut Rng, median: f64, sigma: f64) -> f64 {
    // Box, Muller 1958.
    let radius = (-2.0 * (1.0 - rng.f64()).ln()).sqrt();
    median * (sigma * radius * (std::f64::consts::TAU * rng.f64()).cos()).exp()
}

impl Platform {
    /// The quiet time before the first node, and the time before each other one.
    fn wait(self, rng: &mut Rng, is_first: bool) -> f64 {
        match self {
            Self::Kured => 3_600.0 * rng.f64(),
            Self::Eks if is_first => log_normal(rng, 1_200.0, 0.2),
            Self::Cloud | Self::BareMetal | Self::Replace | Self::Eks => log_normal(rng, 10.0, 0.5),
        }
    }

    fn drain(rng: &mut Rng) -> Planned {
        let moves = log_normal(rng, 90.0, 1.0);
        // Blocked, and nobody can say so: it ends by itself.
        let is_blocked = rng.f64() < 0.03;
        let hangs = if is_blocked {
            log_normal(rng, 2_400.0, 0.6)
        } else {
            0.0
        };
        (Stage::Draining, moves, hangs)
    }

    /// The stages that its nodes have.
    pub(crate) fn has(self) -> &'static [Stage] {
        match self {
            Self::Cloud | Self::BareMetal | Self::Kured => &Stage::OF_NODE,
            Self::Replace | Self::Eks => &[Stage::Draining, Stage::Updating],
        }
    }

    /// The stages of a node in turn.
    fn stages(self, rng: &mut Rng) -> Vec<Planned> {
        let drain = Self::drain(rng);
        let of = |stage, rng: &mut Rng, median, sigma| (stage, log_normal(rng, median, sigma), 0.0);
        match self {
            Self::Cloud | Self::Kured => vec![
                drain,
                of(Stage::Updating, rng, 150.0, 0.35),
                of(Stage::Rebooting, rng, 120.0, 0.3),
            ],
            Self::BareMetal => {
                let twice = if rng.f64() < 0.1 { 2.0 } else { 1.0 };
                vec![
                    drain,
                    of(Stage::Updating, rng, 150.0, 0.35),
                    of(Stage::Rebooting, rng, twice * 840.0, 0.35),
                ]
            }
            Self::Replace | Self::Eks => vec![drain, of(Stage::Updating, rng, 300.0, 0.4)],
        }
    }
}

impl Hangs {
    /// For how long a stage moves, and then hangs; `hanging` is how far the node gets before, if it is the one.
    fn apply(self, planned: Planned, hanging: Option<f64>) -> Planned {
        let (stage, moves, hangs) = planned;
        match self {
            Self::SomeDrains => (stage, moves, hangs),
            Self::Node(at) if at == stage => match hanging {
                Some(share) => (stage, moves * share, HALF_A_DAY),
                None => (stage, moves, 0.0),
            },
            Self::Node(_) | Self::Nothing => (stage, moves, 0.0),
        }
    }
}

/// A rollout of this plan.
pub(crate) fn simulate(plan: &Plan, rng: &mut Rng) -> Trace {
    let half = plan.nodes / 2;
    let stuck = (plan.scenario == Scenario::Stuck).then(|| rng.usize(0..=plan.nodes / 3));
    let hanging =
        matches!(plan.hangs, Hangs::Node(_)).then(|| (rng.usize(0..plan.nodes), rng.f64()));
    let first = plan.platform.wait(rng, true);
    let mut free: Vec<f64> = vec![0.0; plan.slots];
    let mut slots = vec![(0.0, plan.slots)];
    let mut nodes = Vec::with_capacity(plan.nodes);
    for number in 0..plan.nodes {
        let is_late = number >= half;
        if plan.scenario == Scenario::Parallelism && number == half {
            let now = change_slots(&mut free, rng.bool());
            slots.push((now, free.len()));
        }
        let slot = (0..free.len())
            .min_by(|a, b| free[*a].total_cmp(&free[*b]))
            .unwrap_or(0);
        let begin = if number < plan.slots {
            first
                + if number == 0 {
                    0.0
                } else {
                    plan.platform.wait(rng, false)
                }
        } else {
            free[slot] + plan.platform.wait(rng, false)
        };
        let is_long = plan.scenario == Scenario::Bimodal && rng.f64() < 0.25;
        let mut at = begin.round();
        let mut parts = Vec::with_capacity(3);
        for planned in plan.platform.stages(rng) {
            let hanging = hanging.filter(|(node, _)| *node == number);
            let (stage, moves, hangs) = plan.hangs.apply(planned, hanging.map(|(_, share)| share));
            let length = if is_long && stage != Stage::Draining {
                4.0
            } else {
                1.0
            };
            let slowness = if plan.scenario == Scenario::Slower && is_late {
                2.0
            } else {
                1.0
            };
            let is_stuck = stuck == Some(number) && stage == Stage::Draining;
            let blocked = if is_stuck {
                log_normal(rng, 7_200.0, 0.5).round()
            } else {
                0.0
            };
            let duration = (moves + hangs) * length * slowness;
            let to = at + duration.round().max(1.0) + blocked;
            parts.push(Part {
                stage,
                from: at,
                to,
                blocked,
                hung: hangs * length * slowness,
            });
            at = to;
        }
        nodes.push(Node {
            free: free[slot],
            parts,
        });
        free[slot] = at;
    }
    Trace { nodes, slots }
}

/// Doubles or halves the slots; a slot that is taken away is the one that is busy for longest. Returns when.
fn change_slots(free: &mut Vec<f64>, is_doubled: bool) -> f64 {
    let now = free.iter().copied().fold(f64::INFINITY, f64::min);
    if is_doubled || free.len() == 1 {
        free.extend(vec![now; free.len()]);
    } else {
        free.sort_by(f64::total_cmp);
        free.drain(..free.len() / 2);
    }
    now
}
