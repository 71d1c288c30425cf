//! Compares what insights show with what is true. Time is an argument.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{Fact, False, State, Truth};

/// How long an insight may show what is no longer true.
pub const LIMIT: Duration = Duration::from_secs(1);

/// Something that an insight showed and that was not true.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Violation {
    /// The insight of a node was written with a phase that was not true, or never was.
    Written(Wrong),
    /// The insight of a node kept a phase for too long after it had been true.
    Stale(Wrong),
    /// The insight of a node remained although the node is gone.
    Gone(Wrong),
    /// The progress of one rollout of a pool ran backwards: the pool, and what it showed.
    Backwards(String, String),
}

/// What an insight showed, and for how long it was wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrong {
    /// The node.
    pub node: String,
    /// The phase in the insight.
    pub shown: String,
    /// What was true instead.
    pub truth: String,
    /// Since when the phase was wrong, from the start of the verifier.
    pub since: Duration,
    /// How long it was wrong, as far as it was observed.
    pub lasted: Duration,
}

impl fmt::Display for Violation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, wrong) = match self {
            Self::Written(wrong) => ("was written with", wrong),
            Self::Stale(wrong) => ("still showed", wrong),
            Self::Gone(wrong) => ("remained with", wrong),
            Self::Backwards(pool, what) => return write!(formatter, "pool {pool}: {what}"),
        };
        let Wrong {
            node,
            shown,
            truth,
            since,
            lasted,
        } = wrong;
        write!(
            formatter,
            "node {node} {what} {shown} while it was {truth}: wrong at {since:.2?}, for {lasted:.2?}"
        )
    }
}

/// What is shown, and what was wrong with it.
#[derive(Debug)]
pub struct Verifier {
    truth: Truth,
    started: Instant,
    shown: BTreeMap<String, Vec<Shown>>,
    pools: BTreeMap<String, Progress>,
    violations: Vec<Violation>,
}

/// A phase that an insight shows, or showed.
#[derive(Debug)]
struct Shown {
    phase: String,
    since: Instant,
    until: Option<Instant>,
    /// The violation that it is, among all.
    violation: Option<usize>,
}

/// The progress of one rollout.
#[derive(Debug, Clone, PartialEq)]
struct Progress {
    started: String,
    done: u64,
    all: u64,
    percent: f64,
}

impl Verifier {
    /// A verifier who knows the truth, and has seen nothing yet.
    #[must_use]
    pub fn new(truth: &Truth, started: Instant) -> Self {
        Self {
            truth: truth.clone(),
            started,
            shown: BTreeMap::new(),
            pools: BTreeMap::new(),
            violations: Vec::new(),
        }
    }

    /// The insight of a node has this status.
    pub fn node_has(&mut self, node: &str, status: &Value, at: Instant) {
        if let Some(phase) = status["phase"].as_str() {
            self.node_shows(node, phase, at);
        }
    }

    /// The insight of a node shows this phase.
    pub fn node_shows(&mut self, node: &str, phase: &str, at: Instant) {
        let all = self.shown.entry(node.to_owned()).or_default();
        if let Some(last) = all.last_mut().filter(|last| last.until.is_none()) {
            if last.phase == phase {
                return;
            }
            last.until = Some(at);
        }
        let is_new = match self.truth.false_since(node, phase, at) {
            False::NotKnown | False::No => false,
            False::Since(then) => at.duration_since(then) > LIMIT,
            False::Always => true,
        };
        let violation = is_new.then_some(self.violations.len());
        all.push(Shown {
            phase: phase.to_owned(),
            since: at,
            until: None,
            violation,
        });
        if is_new {
            let wrong = self.wrong(node, phase, at, at);
            self.violations.push(Violation::Written(wrong));
        }
    }

    /// The insight of a node is deleted.
    pub fn node_is_removed(&mut self, node: &str, at: Instant) {
        let last = self.shown.get_mut(node).and_then(|all| all.last_mut());
        if let Some(last) = last.filter(|last| last.until.is_none()) {
            last.until = Some(at);
        }
    }

    /// Time has passed: what is shown may not be true any more.
    pub fn look(&mut self, at: Instant) {
        let shown = self.shown.iter().filter_map(|(node, all)| {
            let last = all.last().filter(|last| last.until.is_none())?;
            Some((node.clone(), last.phase.clone(), last.since, last.violation))
        });
        let shown: Vec<_> = shown.collect();
        for (node, phase, since, violation) in shown {
            let wrong_since = match self.truth.false_since(&node, &phase, at) {
                False::NotKnown | False::No => continue,
                False::Since(then) => then.max(since),
                False::Always => since,
            };
            if at.duration_since(wrong_since) <= LIMIT && violation.is_none() {
                continue;
            }
            let wrong = self.wrong(&node, &phase, wrong_since, at);
            let is_gone = matches!(
                self.truth.facts(&node).last(),
                Some(Fact {
                    state: State::Gone,
                    ..
                })
            );
            if let Some(index) = violation {
                self.prolong(index, wrong.lasted);
                continue;
            }
            let all = self.shown.get_mut(&node);
            if let Some(last) = all.and_then(|all| all.last_mut()) {
                last.violation = Some(self.violations.len());
            }
            self.violations.push(if is_gone {
                Violation::Gone(wrong)
            } else {
                Violation::Stale(wrong)
            });
        }
    }

    /// The insight of a pool has this status.
    pub fn pool_has(&mut self, pool: &str, status: &Value) {
        let progress = status["progress"].as_str().and_then(|progress| {
            let (done, all) = progress.split_once('/')?;
            Some((done.parse().ok()?, all.parse().ok()?))
        });
        let started = status["rollout"]["startTime"].as_str();
        let (Some(started), Some((done, all))) = (started, progress) else {
            self.pools.remove(pool);
            return;
        };
        let now = Progress {
            started: started.to_owned(),
            done,
            all,
            percent: status["completionPercent"].as_f64().unwrap_or_default(),
        };
        let before = self.pools.insert(pool.to_owned(), now.clone());
        let Some(before) = before.filter(|before| before.started == now.started) else {
            return;
        };
        // Of more nodes, the same ones are a smaller part.
        let is_less = now.percent < before.percent && now.all <= before.all;
        if now.done < before.done || is_less {
            let what = format!(
                "{} done ({} %) became {} done ({} %) in the rollout since {started}",
                before.done, before.percent, now.done, now.percent
            );
            self.violations
                .push(Violation::Backwards(pool.to_owned(), what));
        }
    }

    /// Everything that was wrong.
    #[must_use]
    pub fn violations(&self) -> &[Violation] {
        &self.violations
    }

    /// The phases that the insight of a node showed, in order.
    #[must_use]
    pub fn passed(&self, node: &str) -> Vec<&str> {
        let all = self.shown.get(node).into_iter().flatten();
        all.map(|shown| &*shown.phase).collect()
    }

    /// What was true for longer than the limit and no insight showed, as text, and the nodes that nothing is known of.
    #[must_use]
    pub fn missed(&self, at: Instant) -> Vec<String> {
        let nothing = Vec::new();
        let mut missed = Vec::new();
        for node in self.truth.nodes() {
            let shown = self.shown.get(&node).unwrap_or(&nothing);
            for fact in self.truth.facts(&node) {
                let until = fact.until.unwrap_or(at);
                let settled = fact.settled.unwrap_or(until);
                let is_short = until.saturating_duration_since(settled) <= LIMIT;
                let is_shown = shown.iter().any(|shown| {
                    let overlaps =
                        shown.since <= until && shown.until.is_none_or(|end| fact.since <= end);
                    overlaps && fact.state.has(&shown.phase)
                });
                if !(is_short || is_shown || fact.state == State::Gone) {
                    missed.push(format!("node {node} never showed {}", fact.state));
                }
            }
        }
        let is_known = |node: &&String| !self.truth.facts(node).is_empty();
        let strangers = self.shown.keys().filter(|node| !is_known(node));
        missed.extend(strangers.map(|node| format!("nothing is known of node {node}")));
        missed
    }

    fn wrong(&self, node: &str, phase: &str, since: Instant, at: Instant) -> Wrong {
        Wrong {
            node: node.to_owned(),
            shown: phase.to_owned(),
            truth: self.truth.describe(node, at),
            since: since.saturating_duration_since(self.started),
            lasted: at.saturating_duration_since(since),
        }
    }

    fn prolong(&mut self, index: usize, lasted: Duration) {
        match self.violations.get_mut(index) {
            Some(Violation::Written(wrong) | Violation::Stale(wrong) | Violation::Gone(wrong)) => {
                wrong.lasted = wrong.lasted.max(lasted);
            }
            Some(Violation::Backwards(..)) | None => {}
        }
    }
}

#[cfg(test)]
mod tests;
