//! Rows of an operator that has nothing to do: `/metrics`, and the processor while only heartbeats come.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::bench::{Bench, MARKER};
use super::operator::Operator;
use super::pace::{Durations, as_f64, paced};
use super::report::{Report, Row, progress};
use super::writes::in_words;

/// How often a kubelet reports at least, even if nothing has changed.
const HEARTBEAT: Duration = Duration::from_mins(5);
/// Readings of `/metrics`, whose median counts.
const READINGS: usize = 5;

/// Both rows, with one operator.
///
/// # Errors
/// When the operator does not start or stop.
pub(crate) async fn measure(bench: &Bench, seconds: u64, report: &mut Report) -> Result<()> {
    let operator = bench.program.start_ready(bench.patience()).await?;
    // So that what belongs to the start is over.
    bench.settle().await?;
    operator.settled_mib().await?;
    report.add("/metrics", metrics(&operator).await);
    progress(format_args!("sending heartbeats for {seconds} s"));
    let row = operator
        .meanwhile(heartbeats(bench, &operator, seconds))
        .await;
    report.add(
        "Processor at rest, a heartbeat of each node every 5 min",
        row,
    );
    operator.stop().await?;
    Ok(())
}

async fn metrics(operator: &Operator) -> Result<Row> {
    let mut body = operator.page("/metrics").await?;
    let mut took = Vec::new();
    for _ in 0..READINGS {
        let asked = Instant::now();
        body = operator.page("/metrics").await?;
        took.push(asked.elapsed());
    }
    let series = body.lines().filter(|line| !line.starts_with('#')).count();
    let median = Durations::new(took).percentile_ms(50);
    Ok(Row::held(
        format!(
            "{series} series, {:.1} KB, {median:.1} ms",
            as_f64(body.len()) / 1000.0
        ),
        "≤ 400 series, ≤ 5 ms",
        series <= 400 && median <= 5.0,
    ))
}

async fn heartbeats(bench: &Bench, operator: &Operator, seconds: u64) -> Result<Row> {
    let rate = as_f64(bench.nodes()) / HEARTBEAT.as_secs_f64();
    let window = Duration::from_secs(seconds);
    let nodes = bench.editor.nodes();
    let mark = bench.plane.audit().mark()?;
    let (started, cpu) = (Instant::now(), operator.cpu_seconds()?);
    let mut count = 0;
    let beats = paced(usize::MAX, rate, |index| {
        count = index + 1;
        nodes.heartbeat(bench.name(index % bench.nodes()))
    });
    if let Ok(ended) = tokio::time::timeout(window, beats).await {
        ended.context("heartbeats")?;
    }
    let percent = (operator.cpu_seconds()? - cpu) / started.elapsed().as_secs_f64() * 100.0;
    bench.settle().await?;
    let (pool, _) = MARKER.split_once('-').unwrap_or((MARKER, ""));
    let writes = bench.writes_since(mark)?.others(&[MARKER, pool]);
    Ok(Row::held(
        format!(
            "{percent:.2} % of a core over {seconds} s and {count} heartbeats; {}",
            in_words(&writes)
        ),
        "≤ 0.3 %, 0 writes",
        percent <= 0.3 && writes.is_empty(),
    ))
}
