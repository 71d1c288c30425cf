//! Rows of an operator at rest: `/metrics`, and CPU usage while only heartbeats arrive.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::bench::{Bench, MARKER};
use super::operator::Operator;
use super::pace::{Durations, as_f64, paced};
use super::report::{Report, Row, progress};
use super::writes::in_words;

/// The interval at which a kubelet reports even if nothing has changed.
const HEARTBEAT: Duration = Duration::from_mins(5);
/// The factor for a second run with more heartbeats: the operator's code and data then stay in the CPU caches, so
/// the difference in cost per heartbeat shows the effect of cold caches at rest.
const FASTER: f64 = 10.0;
/// Readings of `/metrics`, of which the median is reported.
const READINGS: usize = 5;

/// Both rows, with one operator.
///
/// # Errors
/// When the operator does not start or stop.
pub(crate) async fn measure(bench: &Bench, seconds: u64, report: &mut Report) -> Result<()> {
    let operator = bench.program.start_ready(bench.timeout()).await?;
    // Wait until the work of the start is over.
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
    Ok(Row::with_target(
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
    let mark = bench.plane.audit().mark()?;
    let usual = beat(bench, operator, rate, window).await?;
    let faster = beat(bench, operator, rate * FASTER, window / 3).await?;
    bench.settle().await?;
    let (pool, _) = MARKER.split_once('-').unwrap_or((MARKER, ""));
    let writes = bench.writes_since(mark)?.others(&[MARKER, pool]);
    let percent = usual.cpu_seconds / usual.seconds * 100.0;
    Ok(Row::with_target(
        format!(
            "{percent:.2} % of a core over {seconds} s and {} heartbeats; {}; {:.2} ms a heartbeat, \
             and {:.2} ms when they come {FASTER:.0} times as often",
            usual.count,
            in_words(&writes),
            usual.milliseconds_each(),
            faster.milliseconds_each()
        ),
        "≤ 0.3 %, 0 writes",
        percent <= 0.3 && writes.is_empty(),
    ))
}

/// What the operator spent during heartbeats.
struct Spent {
    count: usize,
    seconds: f64,
    cpu_seconds: f64,
}

impl Spent {
    fn milliseconds_each(&self) -> f64 {
        self.cpu_seconds * 1000.0 / as_f64(self.count.max(1))
    }
}

/// Sends heartbeats of the nodes in turn, `rate` per second, during `window`.
async fn beat(bench: &Bench, operator: &Operator, rate: f64, window: Duration) -> Result<Spent> {
    let nodes = bench.editor.nodes();
    let (started, cpu) = (Instant::now(), operator.cpu_seconds()?);
    let mut count = 0;
    let beats = paced(usize::MAX, rate, |index| {
        count = index + 1;
        nodes.heartbeat(bench.name(index % bench.nodes()))
    });
    if let Ok(ended) = tokio::time::timeout(window, beats).await {
        ended.context("heartbeats")?;
    }
    Ok(Spent {
        count,
        seconds: started.elapsed().as_secs_f64(),
        cpu_seconds: operator.cpu_seconds()? - cpu,
    })
}
