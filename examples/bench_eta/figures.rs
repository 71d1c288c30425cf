//! What the answers of a case come to, and how others would have answered.

use std::fmt::Write as _;

use crate::cases::{Case, Prior};
use crate::replay::{Answer, CHECKS};

/// `oc adm upgrade status` expects 10 min to drain, 5 to update and 5 to reboot.
const OC: f64 = 1_200.0;
/// OpenShift's documentation expects at least 5 min per node.
const DOCUMENTATION: f64 = 300.0;

/// At most this much worse than the mean rate.
const TOLERATED: f64 = 1.1;
/// How often `latest` may hold.
const COVERED: (f64, f64) = (0.85, 0.97);

/// Others that estimate a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Baseline {
    /// Waves of nodes, at the constants of `oc`.
    Oc,
    /// The same, at the constant of the documentation.
    Documentation,
    /// As many nodes in the same time as so far; the documentation until one is done.
    MeanRate,
    /// As long as the last rollout of the pool.
    LastRollout,
}

impl Baseline {
    pub(crate) const ALL: [Self; 4] = [
        Self::Oc,
        Self::Documentation,
        Self::MeanRate,
        Self::LastRollout,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Oc => "oc",
            Self::Documentation => "documentation",
            Self::MeanRate => "mean rate",
            Self::LastRollout => "last rollout",
        }
    }

    /// The end of the rollout, in seconds since its start.
    fn end(self, nodes: usize, answer: &Answer, last: Option<f64>) -> Option<f64> {
        let left = nodes.saturating_sub(answer.done);
        let waves = number(left.div_ceil(answer.slots.max(1)));
        match self {
            Self::Oc => Some(answer.time + waves * OC),
            Self::Documentation => Some(answer.time + waves * DOCUMENTATION),
            Self::MeanRate if answer.done == 0 => Self::Documentation.end(nodes, answer, last),
            Self::MeanRate => Some(answer.time * number(nodes) / number(answer.done)),
            Self::LastRollout => last.map(|last| last.max(answer.time)),
        }
    }
}

fn number(count: usize) -> f64 {
    u32::try_from(count).map_or(f64::INFINITY, f64::from)
}

/// What happened at one check of all rollouts of a case.
#[derive(Debug, Clone, Default)]
struct AtCheck {
    /// Errors as shares of the rollout's duration; those of the estimator first, then the baselines'.
    own: Vec<f64>,
    /// The same with a sign: below 0 when the estimate is too early.
    signed: Vec<f64>,
    others: [Vec<f64>; Baseline::ALL.len()],
    covered: usize,
}

/// The figures of one case.
pub(crate) struct Figures {
    case: Case,
    checks: [AtCheck; CHECKS.len()],
    rollouts: usize,
}

impl Figures {
    pub(crate) fn new(case: Case) -> Self {
        Self {
            case,
            checks: Default::default(),
            rollouts: 0,
        }
    }

    /// Adds the answers of a rollout; `last` is how long the one before it took.
    pub(crate) fn add(&mut self, answers: &[Answer], last: Option<f64>) {
        self.rollouts += 1;
        for (answer, check) in answers.iter().zip(&mut self.checks) {
            let Ok(estimate) = answer.estimate else {
                continue;
            };
            let error = |end: f64| (end - answer.truth).abs() / answer.truth;
            check.own.push(error(estimate.median));
            check
                .signed
                .push((estimate.median - answer.truth) / answer.truth);
            check.covered += usize::from(answer.truth <= estimate.latest);
            for (baseline, errors) in Baseline::ALL.into_iter().zip(&mut check.others) {
                let end = baseline.end(self.case.plan.nodes, answer, last);
                errors.extend(end.map(error));
            }
        }
    }

    fn own(&self) -> [Option<f64>; CHECKS.len()] {
        self.checks.each_ref().map(|check| median(&check.own))
    }

    fn bias(&self) -> [Option<f64>; CHECKS.len()] {
        self.checks.each_ref().map(|check| median(&check.signed))
    }

    fn of(&self, baseline: Baseline) -> [Option<f64>; CHECKS.len()] {
        let place = Baseline::ALL.iter().position(|each| *each == baseline);
        let place = place.unwrap_or_default();
        self.checks
            .each_ref()
            .map(|check| median(&check.others[place]))
    }

    /// The share of rollouts that were over by `latest`, at each check.
    fn covered(&self) -> [Option<f64>; CHECKS.len()] {
        self.checks.each_ref().map(|check| {
            let answers = check.own.len();
            (answers > 0).then(|| number(check.covered) / number(answers))
        })
    }

    /// The same over all checks.
    fn covered_overall(&self) -> f64 {
        let covered: usize = self.checks.iter().map(|check| check.covered).sum();
        let answers: usize = self.checks.iter().map(|check| check.own.len()).sum();
        number(covered) / number(answers.max(1))
    }

    /// The best baseline at the first check.
    fn best_early(&self) -> Option<(Baseline, f64)> {
        let errors = Baseline::ALL.map(|baseline| (baseline, self.of(baseline)[0]));
        let errors = errors
            .into_iter()
            .filter_map(|(baseline, error)| Some((baseline, error?)));
        errors.min_by(|(_, a), (_, b)| a.total_cmp(b))
    }

    fn is_best_early(&self) -> bool {
        match (self.own()[0], self.best_early()) {
            (Some(own), Some((_, best))) => own <= best,
            _ => true,
        }
    }

    /// Whether it is about as good as the mean rate, or better, from the check at this place on.
    fn keeps_up_from(&self, first: usize) -> bool {
        let both = self.own().into_iter().zip(self.of(Baseline::MeanRate));
        both.skip(first).all(|both| match both {
            (Some(own), Some(mean_rate)) => own <= TOLERATED * mean_rate,
            _ => true,
        })
    }

    fn is_covered(&self) -> bool {
        (COVERED.0..=COVERED.1).contains(&self.covered_overall())
    }

    /// Whether it has recovered from a wrong prior by the middle of the rollout.
    fn has_recovered(&self) -> Option<bool> {
        let is_covered = |covered: &Option<f64>| covered.is_none_or(|share| share >= COVERED.0);
        (self.case.prior == Prior::Wrong)
            .then(|| self.keeps_up_from(2) && self.covered().iter().skip(3).all(is_covered))
    }

    fn row(&self) -> String {
        let best = self
            .best_early()
            .map_or(String::new(), |(baseline, error)| {
                format!("{} {}", baseline.name(), share(Some(error)))
            });
        let mut missed = Vec::new();
        for (is_met, name) in [
            (self.is_best_early(), "early"),
            (self.keeps_up_from(1), "later"),
            (self.is_covered(), "coverage"),
            (self.has_recovered().unwrap_or(true), "recovery"),
        ] {
            if !is_met {
                missed.push(name);
            }
        }
        format!(
            "| {} | {} | {} | {} | {best} | {} | {} | {} |",
            self.case,
            shares(self.own()),
            shares(self.bias()),
            shares(self.of(Baseline::MeanRate)),
            shares(self.covered()),
            share(Some(self.covered_overall())),
            missed.join(", "),
        )
    }
}

/// The table, and for each criterion in how many cases it is met.
pub(crate) fn markdown(all: &[Figures]) -> String {
    let mut text = String::from(
        "| Case | Error | Bias | Error of the mean rate | Best other at 10 % | Over by `latest` | All | Missed |\n\
         |---|---|---|---|---|---|---|---|\n",
    );
    for figures in all {
        let _ = writeln!(text, "{}", figures.row());
    }
    let count = |name: &str, results: Vec<bool>| {
        let met = results.iter().filter(|is_met| **is_met).count();
        format!("| {name} | {met} of {} |\n", results.len())
    };
    let each = |is_met: fn(&Figures) -> bool| all.iter().map(is_met).collect();
    text.push_str("\n| Criterion | Cases that meet it |\n|---|---|\n");
    text += &count(
        "early: at 10 % better than every other",
        each(Figures::is_best_early),
    );
    let keeps_up = |figures: &Figures| figures.keeps_up_from(1);
    text += &count(
        "later: from 25 % on at most 10 % worse than the mean rate",
        each(keeps_up),
    );
    text += &count(
        "coverage: over by `latest` in 85 to 97 %",
        each(Figures::is_covered),
    );
    text += &count(
        "recovery: after a wrong prior at most 10 % worse than the mean rate from 50 % on, and covered from 75 % on",
        all.iter().filter_map(Figures::has_recovered).collect(),
    );
    let answers =
        |figures: &Figures| -> usize { figures.checks.iter().map(|check| check.own.len()).sum() };
    let covered: usize = all
        .iter()
        .flat_map(|figures| &figures.checks)
        .map(|check| check.covered)
        .sum();
    let answered: usize = all.iter().map(answers).sum();
    let possible: usize = all
        .iter()
        .map(|figures| figures.rollouts * CHECKS.len())
        .sum();
    let _ = writeln!(
        text,
        "\nOf {possible} questions {answered} had an answer, and {} of the rollouts were over by `latest`.",
        share(Some(number(covered) / number(answered.max(1)))),
    );
    text
}

fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied()
}

fn shares(values: [Option<f64>; CHECKS.len()]) -> String {
    values.map(share).join(" ")
}

/// A share without the zero before the point.
fn share(value: Option<f64>) -> String {
    match value {
        None => "-".to_owned(),
        Some(value) if value < 0.995 => {
            let text = format!("{value:.2}");
            text.replacen("0.", ".", 1)
        }
        Some(value) => format!("{value:.1}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(time: f64, done: usize) -> Answer {
        Answer {
            time,
            done,
            slots: 2,
            estimate: Err(node_insights::domain::eta::NoEstimate::Unknown),
            truth: 0.0,
        }
    }

    #[test]
    fn the_mean_rate_goes_on_as_so_far() {
        let end = |done| Baseline::MeanRate.end(10, &answer(600.0, done), None);
        assert_eq!(end(5), Some(1_200.0));
        assert_eq!(
            end(0),
            Some(600.0 + 5.0 * DOCUMENTATION),
            "none is done yet"
        );
    }

    #[test]
    fn the_last_rollout_is_none_where_there_was_none() {
        assert_eq!(Baseline::LastRollout.end(10, &answer(600.0, 5), None), None);
        let late = Baseline::LastRollout.end(10, &answer(600.0, 5), Some(300.0));
        assert_eq!(late, Some(600.0), "it is later already");
    }

    #[test]
    fn shares_are_short() {
        assert_eq!(
            [0.054, 0.999, 1.03].map(|value| share(Some(value))),
            [".05", "1.0", "1.0"]
        );
    }
}
