//! Rows of changes that affect every node.

use std::time::Instant;

use anyhow::Result;
use node_insights::api::types::Phase;

use super::bench::{Bench, MARKER, NEW};
use super::limits::Limits;
use super::observer::{NODES, Observer};
use super::operator::Operator;
use super::pace::{as_f64, paced};
use super::processor::Processor;
use super::report::{Report, Row, progress};
use super::start::memory_row;

/// Nodes that are patched per second in a sweep: about what an API server on two cores can handle in addition
/// to the operator's writes.
pub(crate) const RATE: f64 = 270.0;

/// A new target version, all nodes draining, and the memory after both; with one operator.
///
/// # Errors
/// When the operator does not start or stop.
pub(crate) async fn measure(bench: &mut Bench, limits: &Limits, report: &mut Report) -> Result<()> {
    let limit = limits.replaced_now(bench).await?;
    let operator = bench.program.start_ready(bench.timeout()).await?;
    progress("changing the target version");
    let row = operator.meanwhile(retarget(bench, limit, &operator)).await;
    report.add("Target version changes: every node's insight shows it", row);
    progress("draining every node");
    drain(bench, &operator, report).await;
    let memory = async {
        let settled = operator.settled_mib().await?;
        Ok(memory_row(bench, settled, operator.peak_mib()?))
    };
    report.add("Memory (RSS) after these sweeps", memory.await);
    operator.stop().await?;
    Ok(())
}

async fn retarget(bench: &Bench, limit: f64, operator: &Operator) -> Result<Row> {
    let mut observer = Observer::start(&bench.client, NODES).await?;
    let mark = bench.plane.audit().mark()?;
    let (started, processor) = (Instant::now(), Processor::watch(operator)?);
    bench.editor.start_update(NEW).await?;
    let pending = observer.until(bench.nodes(), bench.timeout(), |status| {
        status.phase == Some(Phase::Pending) && status.desired_version.as_deref() == Some(NEW)
    });
    let took = (pending.await? - started).as_secs_f64();
    let shares = processor.shares(operator)?;
    bench.settle().await?;
    let statuses = bench.writes_since(mark)?.node_statuses(MARKER);
    let ratio = took * limit / as_f64(bench.nodes());
    let a_node = as_f64(statuses) / as_f64(bench.nodes() - 1);
    Ok(Row::with_target(
        format!(
            "{took:.1} s, {ratio:.2} × the limit, {limit:.0} statuses/s replaced just before; {a_node:.2} writes \
             a node{shares}"
        ),
        "≤ 1.25 × the limit, 1.00 writes a node",
        ratio <= 1.25 && statuses == bench.nodes() - 1,
    ))
}

/// The measurements of a sweep, for two rows.
struct Swept {
    lag: f64,
    rate: f64,
    shares: String,
    busiest: usize,
    pool_writes: usize,
    rejected: usize,
}

async fn drain(bench: &mut Bench, operator: &Operator, report: &mut Report) {
    let swept = operator.meanwhile(patch_all(bench, operator)).await;
    let (lag, pools) = match swept {
        Ok(swept) => (Ok(lag_row(&swept)), Ok(pools_row(&swept))),
        Err(error) => {
            let why = format!("{error:#}");
            (Err(error), Err(anyhow::anyhow!(why)))
        }
    };
    let title = format!("All nodes start draining, patched at {RATE:.0}/s: behind the last one");
    report.add(&title, lag);
    report.add("Pool insights in that sweep", pools);
}

async fn patch_all(bench: &mut Bench, operator: &Operator) -> Result<Swept> {
    bench.render().await?;
    bench.settle().await?;
    let mut observer = Observer::start(&bench.client, NODES).await?;
    let mark = bench.plane.audit().mark()?;
    let (count, timeout) = (bench.nodes(), bench.timeout());
    let all = observer.until(count, timeout, |status| {
        status.phase == Some(Phase::Draining)
    });
    let processor = Processor::watch(operator)?;
    let patches = paced(count, RATE, |index| bench.advance(index).1);
    let (sent, seen) = tokio::try_join!(patches, all)?;
    let shares = processor.shares(operator)?;
    let lag = sent.last().map(|last| seen.saturating_duration_since(last));
    bench.settle().await?;
    let writes = bench.writes_since(mark)?;
    Ok(Swept {
        lag: lag.unwrap_or_default().as_secs_f64(),
        rate: sent.rate(),
        shares,
        busiest: writes.busiest_pool_second(),
        pool_writes: writes.pool_statuses(),
        rejected: writes.rejected(),
    })
}

fn lag_row(swept: &Swept) -> Row {
    let Swept {
        lag, rate, shares, ..
    } = swept;
    Row::with_target(
        format!("{lag:.2} s behind, at {rate:.0}/s{shares}"),
        "≤ 1.5 s behind",
        *lag <= 1.5,
    )
}

fn pools_row(swept: &Swept) -> Row {
    let Swept {
        busiest,
        pool_writes,
        rejected,
        ..
    } = swept;
    Row::with_target(
        format!(
            "at most {busiest} per second and pool, {pool_writes} in total; {rejected} rejected"
        ),
        "≤ 1 per second and pool, 0 rejected",
        *busiest <= 1 && *rejected == 0,
    )
}
