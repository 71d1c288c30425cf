//! Rows of the start: with no insight yet, and with all of them.

use anyhow::Result;

use super::bench::{Bench, MARKER};
use super::limits::Limits;
use super::observer::{NODES, Observer, POOLS};
use super::operator::Operator;
use super::pace::as_f64;
use super::processor::Processor;
use super::report::{Report, Row, progress, thousands};
use super::snapshot::Snapshot;
use super::writes::in_words;

/// The memory, in MiB, of an operator in a cluster that has everything but nodes. Leaves no insight behind.
///
/// # Errors
/// When the operator does not start, so that nothing can be measured.
pub(crate) async fn without_nodes(bench: &Bench) -> Result<f64> {
    progress("starting the operator without nodes");
    let operator = bench.program.start_ready(bench.timeout()).await?;
    let empty = operator.settled_mib().await?;
    operator.stop().await?;
    bench.delete_insights().await?;
    Ok(empty)
}

/// First start, memory after it, and a restart.
///
/// # Errors
/// When an operator does not start or stop.
pub(crate) async fn measure(
    bench: &Bench,
    limits: &Limits,
    empty: f64,
    report: &mut Report,
) -> Result<()> {
    let operator = first_start(bench, limits, report).await?;
    report.add(
        "Memory (RSS) after the first start",
        memory(bench, &operator, empty).await,
    );
    operator.stop().await?;
    report.add("Restart, nothing changed", restart(bench).await);
    Ok(())
}

async fn first_start(bench: &Bench, limits: &Limits, report: &mut Report) -> Result<Operator> {
    let mut nodes = Observer::start(&bench.client, NODES).await?;
    let mut pools = Observer::start(&bench.client, POOLS).await?;
    let mark = bench.plane.audit().mark()?;
    let operator = bench.program.start()?;
    let row = async {
        let processor = Processor::watch(&operator)?;
        let timeout = bench.timeout();
        let all = nodes.until(bench.nodes(), timeout, |_| true);
        let (last_node, last_pool) = operator
            .meanwhile(async {
                tokio::try_join!(all, pools.until(Bench::pools(), timeout, |_| true))
            })
            .await?;
        let cpu = operator.cpu_seconds()?;
        let shares = processor.shares(&operator)?;
        let took = (last_node.max(last_pool) - operator.started()).as_secs_f64();
        bench.settle().await?;
        let statuses = bench.writes_since(mark)?.node_statuses(MARKER);
        let ratio = took / limits.creates_and_puts(bench.nodes());
        let a_node = as_f64(statuses) / as_f64(bench.nodes() - 1);
        anyhow::Ok(Row::with_target(
            format!(
                "{took:.1} s, {ratio:.2} × the limit; {a_node:.2} status writes a node; {cpu:.1} CPU s{shares}"
            ),
            "≤ 1.25 × the limit, 1.00 status writes a node",
            ratio <= 1.25 && statuses == bench.nodes() - 1,
        ))
    };
    report.add(
        "First start, no insight yet: every insight is written",
        row.await,
    );
    Ok(operator)
}

async fn memory(bench: &Bench, operator: &Operator, empty: f64) -> Result<Row> {
    let settled = operator.settled_mib().await?;
    let a_node = (settled - empty) * 1024.0 / as_f64(bench.nodes());
    let (settled_target, peak_target) = memory_targets(bench.nodes());
    let row = Row::with_target(
        memory_text(settled, operator.peak_mib()?),
        format!("≤ {settled_target:.0} MiB settled, ≤ {peak_target:.0} MiB peak"),
        settled <= settled_target && operator.peak_mib()? <= peak_target,
    );
    Ok(row.and(&format!(
        "; {a_node:.1} KiB a node above the {empty:.1} MiB without nodes"
    )))
}

fn memory_text(settled: f64, peak: f64) -> String {
    format!("{settled:.1} MiB settled, {peak:.1} MiB peak")
}

/// Memory later on, when some of what was written is kept: never more than the peak for this number of nodes.
pub(crate) fn memory_row(bench: &Bench, settled: f64, peak: f64) -> Row {
    let (_, target) = memory_targets(bench.nodes());
    Row::with_target(
        memory_text(settled, peak),
        format!("≤ {target:.0} MiB peak"),
        peak <= target,
    )
}

/// The budgets for settled and peak memory, in MiB: 22 settled up to 1,000 nodes, and 32 and 40 at 5,000; each
/// additional node may take 4 KiB.
fn memory_targets(nodes: usize) -> (f64, f64) {
    const SMALL: (usize, f64) = (1000, 22.0);
    const LARGE: (usize, f64, f64) = (5000, 32.0, 40.0);
    let further = |from: usize| as_f64(nodes.saturating_sub(from)) * 4.0 / 1024.0;
    let settled = if nodes < LARGE.0 {
        (SMALL.1 + further(SMALL.0)).min(LARGE.1)
    } else {
        LARGE.1 + further(LARGE.0)
    };
    (settled, LARGE.2 + further(LARGE.0))
}

async fn restart(bench: &Bench) -> Result<Row> {
    let nodes = Snapshot::take(bench, NODES).await?;
    let pools = Snapshot::take(bench, POOLS).await?;
    let mark = bench.plane.audit().mark()?;
    let operator = bench.program.start()?;
    let ready = operator.ready(bench.timeout()).await?.as_secs_f64();
    bench.settle().await?;
    let nodes_now = Snapshot::take(bench, NODES).await?;
    let pools_now = Snapshot::take(bench, POOLS).await?;
    operator.stop().await?;
    // The marker's own change is intended; it shows in its pool as well.
    let (pool, _) = MARKER.split_once('-').unwrap_or((MARKER, ""));
    let writes = bench.writes_since(mark)?.others(&[MARKER, pool]);
    let moved = nodes.moved(&nodes_now, MARKER) + pools.moved(&pools_now, pool);
    let replaced = nodes.replaced(&nodes_now) + pools.replaced(&pools_now);
    let target = 4.0 * (as_f64(bench.nodes()) / 5000.0).max(1.0);
    Ok(Row::with_target(
        format!(
            "ready after {ready:.2} s; {}; times moved in {} insights; {} deleted or recreated",
            in_words(&writes),
            thousands(moved),
            thousands(replaced)
        ),
        format!("≤ {target:.0} s to ready, 0 writes, no time moved, nothing deleted"),
        ready <= target && writes.is_empty() && moved == 0 && replaced == 0,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_budget_depends_on_the_number_of_nodes() {
        let targets = |nodes| {
            let (settled, peak) = memory_targets(nodes);
            format!("{settled:.0}/{peak:.0}")
        };
        assert_eq!([200, 1000].map(targets), ["22/40", "22/40"]);
        assert_eq!([2000, 4999, 5000].map(targets), ["26/40", "32/40", "32/40"]);
        assert_eq!(targets(10_000), "52/60");
    }
}
