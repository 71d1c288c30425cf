//! Rows of the shutdown: SIGTERM to an idle operator, and to one in the middle of a sweep.

use std::collections::HashSet;
use std::time::Instant;

use anyhow::{Context as _, Result};
use node_insights::api::types::Phase;
use tokio::sync::oneshot;

use super::bench::Bench;
use super::observer::{NODES, Observation, Observer};
use super::operator::Operator;
use super::pace::paced;
use super::report::{Report, Row, progress, thousands};
use super::snapshot::Snapshot;
use super::sweep::RATE;

/// Both rows, each with its own operator.
///
/// # Errors
/// Never: each row reports its own error.
pub(crate) async fn measure(bench: &mut Bench, report: &mut Report) -> Result<()> {
    report.add("SIGTERM to exit, idle", idle(bench).await);
    progress("stopping the operator in the middle of a sweep");
    report.add(
        "SIGTERM to exit, in the middle of a sweep",
        busy(bench).await,
    );
    Ok(())
}

async fn idle(bench: &Bench) -> Result<Row> {
    let operator = bench.program.start_ready(bench.timeout()).await?;
    bench.settle().await?;
    let took = operator.stop().await?.as_secs_f64();
    Ok(Row::with_target(
        format!("{took:.2} s"),
        "≤ 1 s",
        took <= 1.0,
    ))
}

async fn busy(bench: &mut Bench) -> Result<Row> {
    let operator = bench.program.start_ready(bench.timeout()).await?;
    bench.settle().await?;
    let (took, unwritten) = stop_during_sweep(bench, operator).await?;

    // The cluster kept changing: a new operator has to find what was missed.
    let operator = bench.program.start_ready(bench.timeout()).await?;
    bench.settle().await?;
    let restarted = Snapshot::take(bench, NODES).await?;
    operator.stop().await?;
    let phases = bench.phases().map(|(name, phase)| (name, phase.as_str()));
    let stale = restarted.stale(phases);

    bench.delete_insights().await?;
    let mut observer = Observer::start(&bench.client, NODES).await?;
    let operator = bench.program.start()?;
    let all = observer.until(bench.nodes(), bench.timeout(), |_| true);
    operator.meanwhile(all).await?;
    let fresh = Snapshot::take(bench, NODES).await?;
    operator.stop().await?;
    let contradicting = fresh.contradicting(&restarted);
    Ok(Row::with_target(
        format!(
            "{took:.2} s, {} nodes patched before it unwritten; after a restart {} stale, {} other than those \
             that a fresh operator writes",
            thousands(unwritten),
            thousands(stale),
            thousands(contradicting)
        ),
        "≤ 10 s, 0 stale, 0 other",
        took <= 10.0 && stale == 0 && contradicting == 0,
    ))
}

/// Sends SIGTERM when half of the nodes are patched, and still patches the rest. Returns the seconds to the exit,
/// and how many nodes that were patched before the signal were not written.
async fn stop_during_sweep(bench: &mut Bench, operator: Operator) -> Result<(f64, usize)> {
    let mut observer = Observer::start(&bench.client, NODES).await?;
    let half = bench.nodes() / 2;
    let (reached, when) = oneshot::channel();
    let mut reached = Some(reached);
    let mut changes: Vec<(String, Phase)> = Vec::new();
    let patches = paced(bench.nodes(), RATE, |index| {
        if index == half
            && let Some(reached) = reached.take()
        {
            // The receiver waits for this, unless it has already been dropped after an error.
            let _ = reached.send(());
        }
        let name = bench.name(index).to_owned();
        let (phase, patch) = bench.advance(index);
        changes.push((name, phase));
        patch
    });
    let stop = async {
        when.await
            .context("the sweep ended before half of it was sent")?;
        let asked = Instant::now();
        let took = operator.stop().await?;
        Ok((asked, took))
    };
    let (sent, (asked, took)) = tokio::try_join!(patches, stop)?;
    let shown = |observation: Observation| Some((observation.name, observation.status?.phase?));
    let seen: HashSet<(String, Phase)> =
        observer.arrived()?.into_iter().filter_map(shown).collect();
    let changes = changes.into_iter().zip(sent.times());
    let unwritten = changes.filter(|(change, sent)| **sent < asked && !seen.contains(change));
    Ok((took.as_secs_f64(), unwritten.count()))
}
