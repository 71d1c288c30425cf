//! Rows of changes of one node: from sending its PATCH until a second watcher sees its insight.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use node_insights::api::types::Phase;

use super::bench::Bench;
use super::pace::{Durations, paced};
use super::report::{Report, Row, progress, thousands};
use super::witness::{NODES, Sighting, Witness};

/// Changes a second where they do not wait for each other.
const RATE: f64 = 100.0;
/// How many of those: 10 s of them.
const OPEN_CHANGES: usize = 1000;
/// A change that is not seen by then is a loss, not a latency.
const PATIENCE: Duration = Duration::from_mins(1);

/// A change of a node that was sent.
struct Change {
    node: String,
    phase: Phase,
    sent: Instant,
}

/// Changes one at a time, and then many a second; with one operator.
///
/// # Errors
/// When the operator does not start or stop.
pub(crate) async fn measure(bench: &mut Bench, changes: u32, report: &mut Report) -> Result<()> {
    let changes = usize::try_from(changes)?;
    progress(format_args!("changing {changes} nodes without an operator"));
    report.add(
        "The API server alone: PATCH of a node sent until the node is seen, one at a time",
        alone(bench, changes).await,
    );
    let operator = bench.program.start_ready(bench.patience()).await?;
    bench.settle().await?;
    progress(format_args!("changing {changes} nodes one at a time"));
    let row = operator.meanwhile(one_at_a_time(bench, changes)).await;
    report.add(
        "PATCH of a node sent until its insight is seen, one at a time",
        row,
    );
    progress(format_args!("changing {RATE:.0} nodes a second"));
    let row = operator.meanwhile(many_a_second(bench)).await;
    report.add(&format!("The same at {RATE:.0} changes a second"), row);
    operator.stop().await?;
    Ok(())
}

/// What is in the latency twice, of the node and of its insight, whoever writes the insight.
async fn alone(bench: &Bench, changes: usize) -> Result<Row> {
    let mut witness = Witness::of_nodes(&bench.client).await?;
    let mut latencies = Vec::with_capacity(changes);
    for index in 0..changes {
        let node = bench.name(index % bench.nodes());
        let sent = Instant::now();
        bench.editor.nodes().heartbeat(node).await?;
        loop {
            let sighting = witness.next(PATIENCE).await?;
            if sighting.name == node && sighting.at >= sent {
                latencies.push(sighting.at - sent);
                break;
            }
        }
    }
    let latencies = Durations::new(latencies);
    let [p50, p99, max] = [50, 99, 100].map(|percent| latencies.percentile_ms(percent));
    Ok(Row::plain(format!(
        "p50 {p50:.1}, p99 {p99:.1}, max {max:.1} ms ({} changes)",
        latencies.count()
    )))
}

async fn one_at_a_time(bench: &mut Bench, changes: usize) -> Result<Row> {
    let mut witness = Witness::start(&bench.client, NODES).await?;
    let mut latencies = Vec::with_capacity(changes);
    for index in 0..changes {
        let index = index % bench.nodes();
        let node = bench.name(index).to_owned();
        let (phase, patch) = bench.advance(index);
        let change = Change {
            node,
            phase,
            sent: Instant::now(),
        };
        patch.await?;
        loop {
            let sighting = witness.next(PATIENCE).await?;
            if change.shows_in(&sighting) {
                latencies.push(sighting.at - change.sent);
                break;
            }
        }
    }
    let latencies = Durations::new(latencies);
    let [p50, p99, max] = [50, 99, 100].map(|percent| latencies.percentile_ms(percent));
    Ok(Row::held(
        format!(
            "p50 {p50:.1}, p99 {p99:.1}, max {max:.1} ms ({} changes)",
            latencies.count()
        ),
        "p50 ≤ 8, p99 ≤ 16, max ≤ 100 ms",
        p50 <= 8.0 && p99 <= 16.0 && max <= 100.0,
    ))
}

async fn many_a_second(bench: &mut Bench) -> Result<Row> {
    let mut witness = Witness::start(&bench.client, NODES).await?;
    let mut changes = Vec::with_capacity(OPEN_CHANGES);
    let sent = paced(OPEN_CHANGES, RATE, |index| {
        let index = index % bench.nodes();
        let node = bench.name(index).to_owned();
        let (phase, patch) = bench.advance(index);
        changes.push((node, phase));
        patch
    })
    .await?;
    let changes: Vec<Change> = changes
        .into_iter()
        .zip(sent.times())
        .map(|((node, phase), sent)| Change {
            node,
            phase,
            sent: *sent,
        })
        .collect();
    let latencies = await_all(changes, &mut witness).await?;
    let [p50, p99, max] = [50, 99, 100].map(|percent| latencies.percentile_ms(percent));
    Ok(Row::held(
        format!(
            "p50 {p50:.1}, p99 {p99:.1}, max {max:.1} ms ({} changes at {:.0}/s)",
            thousands(latencies.count()),
            sent.rate()
        ),
        "p50 ≤ 10, p99 ≤ 40 ms",
        p50 <= 10.0 && p99 <= 40.0,
    ))
}

/// Waits until every change was seen, and says after how long each was.
///
/// A node that is changed again goes to another phase, so what was seen of the older change is not
/// taken for the newer one.
async fn await_all(mut changes: Vec<Change>, witness: &mut Witness) -> Result<Durations> {
    let mut latencies = Vec::with_capacity(changes.len());
    while !changes.is_empty() {
        let sighting = witness.next(PATIENCE).await;
        let sighting =
            sighting.with_context(|| format!("{} changes were not seen", changes.len()))?;
        // In the order in which they were sent, so the first ones are hardly ever missing.
        if let Some(index) = changes.iter().position(|change| change.shows_in(&sighting)) {
            latencies.push(sighting.at - changes.remove(index).sent);
        }
    }
    Ok(Durations::new(latencies))
}

impl Change {
    fn shows_in(&self, sighting: &Sighting) -> bool {
        sighting.name == self.node
            && sighting.at >= self.sent
            && sighting.status.as_ref().and_then(|status| status.phase) == Some(self.phase)
    }
}
