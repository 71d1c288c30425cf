//! Rows of a second replica: its cost while it stands by, and how long nothing is written when the leader is gone.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::bench::Bench;
use super::observer::{NODES, Observer};
use super::operator::Operator;
use super::report::{Report, Row, progress};
use super::start::memory_row;

/// As in the chart.
const LEASE: [&str; 2] = ["--lease", "node-insights/node-insights"];

/// All rows: the first leader is stopped by SIGTERM, the second one by SIGKILL.
///
/// # Errors
/// When a replica does not start or does not lead.
pub(crate) async fn measure(bench: &Bench, report: &mut Report) -> Result<()> {
    let first = start(bench).await?;
    first.leads(bench.timeout()).await?;
    bench.settle().await?;
    let second = start(bench).await?;
    let settled = second.settled_mib().await?;
    report.add(
        "Memory (RSS) of a replica that stands by",
        second
            .peak_mib()
            .map(|peak| memory_row(bench, settled, peak)),
    );

    progress("the leader is stopped, and another replica takes over");
    let clean = take_over(bench, async {
        first.stop().await?;
        Ok(())
    });
    let clean = second.meanwhile(clean).await;
    report.add(
        "SIGTERM to the leader until a change is written by the other replica",
        clean.map(|took| row(took, 3.0)),
    );

    let third = start(bench).await?;
    bench.settle().await?;
    progress("the leader is killed, and another replica takes over");
    let crash = take_over(bench, second.kill());
    let crash = third.meanwhile(crash).await;
    report.add(
        "SIGKILL to the leader until a change is written by the other replica",
        crash.map(|took| row(took, 17.0)),
    );
    third.stop().await?;
    Ok(())
}

async fn start(bench: &Bench) -> Result<Operator> {
    let operator = bench.program.start_with(&LEASE)?;
    operator.ready(bench.timeout()).await?;
    Ok(operator)
}

/// How long it takes from the `end` of the leader until a change is visible that only the other replica can have
/// written.
async fn take_over(bench: &Bench, end: impl Future<Output = Result<()>>) -> Result<Duration> {
    let mut observer = Observer::start(&bench.client, NODES).await?;
    let asked = Instant::now();
    end.await?;
    let seen = bench.flip_marker(&mut observer).await?;
    let took = seen - asked;
    bench.flip_marker(&mut observer).await?;
    Ok(took)
}

fn row(took: Duration, most: f64) -> Row {
    let took = took.as_secs_f64();
    Row::with_target(
        format!("{took:.1} s"),
        format!("≤ {most:.0} s"),
        took <= most,
    )
}
