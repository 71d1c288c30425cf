//! How long one estimate takes.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use jiff::{SignedDuration, Timestamp};
use node_insights::domain::eta::{
    Estimator, InProgress, Learned, Machine, Prior, Rollout, Sources, Span, Stage,
};

/// Estimates of which the fastest counts: the others were interrupted.
const TIMES: usize = 20;

/// A table of the time for pools of several sizes.
pub(crate) fn markdown() -> Result<String> {
    let mut text =
        String::from("\n| Nodes, a tenth of them in progress | One estimate |\n|---|---|\n");
    for nodes in [30, 500, 5_000] {
        let fastest = fastest(nodes)?.as_secs_f64() * 1e3;
        let _ = writeln!(text, "| {nodes} | {fastest:.1} ms |");
    }
    Ok(text)
}

fn fastest(nodes: u32) -> Result<Duration> {
    let now = Timestamp::from_second(1_800_000_000)?;
    let prior = Prior::of("OpenShift", Machine::Virtual);
    let mut learned = Learned::default();
    let span = Span::seen(now - SignedDuration::from_secs(100), now);
    for stage in Stage::ALL {
        learned.stage_ended(None, stage, &span);
    }
    let in_progress: Vec<InProgress> = (0..nodes / 10)
        .map(|_| InProgress {
            stage: Stage::Draining,
            span,
            needs_human: false,
        })
        .collect();
    let rollout = Rollout {
        pool: "pool",
        target: "target",
        kind: None,
        started: span.entered,
        has_begun: true,
        in_progress: &in_progress,
        pending: nodes - nodes / 10,
        parallelism: Some(nodes / 10),
        free_since: None,
        held: None,
    };
    let sources = Sources {
        pool: &learned,
        others: &[],
        prior: &prior,
    };
    let estimate = |_| {
        let started = Instant::now();
        let estimate = Estimator::new(&sources, &rollout, now).pool();
        estimate.map(|_| started.elapsed())
    };
    let times: Result<Vec<Duration>, _> = (0..TIMES).map(estimate).collect();
    times?.into_iter().min().context("no estimate")
}
