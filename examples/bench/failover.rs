//! Rows of a second replica: what it costs while it stands by, and how long nothing is written when the first
//! one goes.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::bench::Bench;
use super::operator::Operator;
use super::report::{Report, Row, progress};
use super::start::held_memory;
use super::witness::{NODES, Witness};

/// As the chart has it.
const LEASE: [&str; 2] = ["--lease", "node-insights/node-insights"];

/// All rows: the first replica ends by SIGTERM, the second one by SIGKILL.
///
/// # Errors
/// When a replica does not start or does not lead.
pub(crate) async fn measure(bench: &Bench, report: &mut Report) -> Result<()> {
    let first = start(bench).await?;
    first.leads(bench.patience()).await?;
    bench.settle().await?;
    let second = start(bench).await?;
    let settled = second.settled_mib().await?;
    report.add(
        "Memory (RSS) of a replica that stands by",
        second
            .peak_mib()
            .map(|peak| held_memory(bench, settled, peak)),
    );

    progress("the leader ends, and another one takes over");
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
    progress("the leader is killed, and another one takes over");
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
    operator.ready(bench.patience()).await?;
    Ok(operator)
}

/// How long it takes from the `end` of the leader until a change that nobody but the other one can have written is
/// seen.
async fn take_over(bench: &Bench, end: impl Future<Output = Result<()>>) -> Result<Duration> {
    let mut witness = Witness::start(&bench.client, NODES).await?;
    let asked = Instant::now();
    end.await?;
    let seen = bench.flip_marker(&mut witness).await?;
    let took = seen - asked;
    bench.flip_marker(&mut witness).await?;
    Ok(took)
}

fn row(took: Duration, most: f64) -> Row {
    let took = took.as_secs_f64();
    Row::held(
        format!("{took:.1} s"),
        format!("≤ {most:.0} s"),
        took <= most,
    )
}
