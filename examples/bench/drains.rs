//! Rows of a cluster of which many nodes are drained at once, each with many pods: memory, and the cost of following
//! them.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use node_insights_harness::AuditMark;

use super::bench::Bench;
use super::observer::{NODES, Observer};
use super::operator::{ACCOUNT, Operator};
use super::pace::{as_f64, paced};
use super::processor::Processor;
use super::report::{Report, Row, progress, thousands};

mod load;

const IMAGES: usize = 50;
/// How fast drains begin, and how often a pod changes, a second.
const CORDONS: f64 = 50.0;
const EVENTS: f64 = 200.0;
/// How long each cost is measured.
const WINDOW: Duration = Duration::from_mins(1);
/// Pods of a node that change in turn.
const CHANGING_PODS: usize = 20;
/// The budgets whose status changes in turn, one a second. Each has a pod on every node.
const CHANGING: usize = 4;
/// What a drain shows changes at most this often.
const SELDOM: Duration = Duration::from_secs(5);
/// A drain shows nothing before this.
const GATE: Duration = Duration::from_mins(1);
/// The budgets: MiB for all that is known of drains, µs of a pod's event.
const MEMORY: f64 = 32.0;
const EVENT: f64 = 20.0;

/// Loads the cluster, drains nodes, and measures an operator meanwhile.
///
/// # Errors
/// When the API server rejects an object, or the operator does not start or stop.
pub(crate) async fn measure(bench: &Bench, drains: usize, report: &mut Report) -> Result<()> {
    let client = &bench.client;
    let nodes = load::names(bench.nodes());
    let drained = nodes.get(..drains).context("more drains than nodes")?;
    progress(format_args!("loading {}", contents(bench.nodes(), drains)));
    load::nodes(client, bench.nodes(), IMAGES).await?;
    load::budgets(client).await?;
    load::pods(client, drained).await?;
    let operator = bench.program.start_ready(bench.timeout()).await?;
    bench.all_reported().await?;
    let rest = operator.settled_mib().await?;

    let mark = bench.plane.audit().mark()?;
    let shown = operator.meanwhile(all_shown(bench, drained)).await;
    report.add(
        "Drains begin until the insight of each shows its pods",
        shown,
    );
    let row = memory(&operator, rest).await;
    report.add("Memory (RSS) for all drains, above rest", row);
    let watched = watched(bench, mark);
    let quiet = operator.meanwhile(quiet(bench, &operator)).await;
    let per_second = quiet.as_ref().map(|(_, per_second)| *per_second).ok();
    report.add("Processor while all drains wait", quiet.map(|(row, _)| row));
    let events = async {
        let quiet = per_second.context("the processor at rest is not known")?;
        events(bench, &operator, &watched?, quiet).await
    };
    report.add("An event of a pod", operator.meanwhile(events).await);
    let row = operator.meanwhile(blockers_change(bench, &operator)).await;
    report.add("What holds all drains up changes every second", row);
    operator.stop().await?;
    Ok(())
}

/// What the cluster has.
pub(crate) fn contents(nodes: usize, drains: usize) -> String {
    format!(
        "{} nodes of {IMAGES} images, of which {} are drained, with {} pods each; {} budgets",
        thousands(nodes),
        thousands(drains),
        load::PODS,
        thousands(load::BUDGETS)
    )
}

/// Cordons the nodes, and waits until the insight of each shows how many pods have to go.
async fn all_shown(bench: &Bench, drained: &[String]) -> Result<Row> {
    let mut observer = Observer::start(&bench.client, NODES).await?;
    let nodes = bench.editor.nodes();
    let mark = bench.plane.audit().mark()?;
    let cordons = paced(drained.len(), CORDONS, |index| {
        nodes.cordon(&drained[index], true)
    });
    let all = observer.until(drained.len(), bench.timeout() + 2 * GATE, |status| {
        status.pods_left() == Some(load::PODS)
    });
    let (sent, seen) = tokio::try_join!(cordons, all)?;
    let last = sent.last().context("nothing was sent")?;
    let after = seen.saturating_duration_since(last + GATE).as_secs_f64();
    let writes = bench.writes_since(mark)?.node_statuses("");
    Ok(Row::plain(format!(
        "{after:.0} s after the last was a minute old; {:.2} status writes a node",
        as_f64(writes) / as_f64(drained.len())
    )))
}

async fn memory(operator: &Operator, rest: f64) -> Result<Row> {
    let (settled, peak) = (operator.settled_mib().await?, operator.peak_mib()?);
    let more = settled - rest;
    Ok(Row::with_target(
        format!("{more:.1} MiB: {settled:.1} settled, {rest:.1} at rest; {peak:.1} peak"),
        format!("≤ {MEMORY:.0} MiB"),
        more <= MEMORY,
    ))
}

/// The row, and the processor time a second.
async fn quiet(bench: &Bench, operator: &Operator) -> Result<(Row, f64)> {
    let mark = bench.plane.audit().mark()?;
    let (since, before) = (Instant::now(), operator.cpu_seconds()?);
    tokio::time::sleep(WINDOW).await;
    let per_second = (operator.cpu_seconds()? - before) / since.elapsed().as_secs_f64();
    let lists = requests(bench, mark, "list")?.count();
    let writes = bench.writes_since(mark)?.node_statuses("");
    let row = Row::plain(format!(
        "{:.1} % of a core; the pods of {lists} nodes listed in {} s; {writes} status writes",
        per_second * 100.0,
        WINDOW.as_secs()
    ));
    Ok((row, per_second))
}

/// Pods that are watched change: those of one node, which is evaluated once a second, and those of all such nodes.
async fn events(bench: &Bench, operator: &Operator, watched: &[String], quiet: f64) -> Result<Row> {
    let (first, rest) = watched.split_first().context("no node is watched")?;
    let one = event_cost(bench, operator, std::slice::from_ref(first), quiet).await?;
    let all = event_cost(bench, operator, rest, quiet).await?;
    Ok(Row::with_target(
        format!(
            "{one:.0} µs received, parsed and stored; {all:.0} µs with evaluations, when {EVENTS:.0} a second are \
             those of {} nodes",
            rest.len()
        ),
        format!("≤ {EVENT:.0} µs"),
        one <= EVENT,
    ))
}

/// The processor time of an event, in µs.
async fn event_cost(bench: &Bench, operator: &Operator, on: &[String], quiet: f64) -> Result<f64> {
    let (since, before) = (Instant::now(), operator.cpu_seconds()?);
    let versions = RefCell::new(BTreeSet::new());
    let changes = paced(usize::MAX, EVENTS, |index| {
        let (node, round) = (&on[index % on.len()], index / on.len());
        let is_ready = !(round / CHANGING_PODS).is_multiple_of(2);
        let change = load::set_ready(&bench.client, node, round % CHANGING_PODS, is_ready);
        let versions = &versions;
        async move {
            // What changes nothing is no event, and returns the version of another change.
            let version = change.await?;
            versions.borrow_mut().insert(version);
            Ok(())
        }
    });
    if let Ok(ended) = tokio::time::timeout(WINDOW / 2, changes).await {
        ended.context("changing pods")?;
    }
    let spent = operator.cpu_seconds()? - before - quiet * since.elapsed().as_secs_f64();
    let events = versions.borrow().len();
    Ok(spent / as_f64(events.max(1)) * 1e6)
}

/// Budgets stop to allow evictions, and allow them again.
async fn blockers_change(bench: &Bench, operator: &Operator) -> Result<Row> {
    let mark = bench.plane.audit().mark()?;
    let processor = Processor::watch(operator)?;
    let since = Instant::now();
    let changes = paced(usize::MAX, 1.0, |index| {
        let is_allowed = !(index / CHANGING).is_multiple_of(2);
        load::set_allowed(&bench.client, index % CHANGING, is_allowed)
    });
    if let Ok(ended) = tokio::time::timeout(WINDOW, changes).await {
        ended.context("changing budgets")?;
    }
    let (seconds, shares) = (since.elapsed(), processor.shares(operator)?);
    let (all, most) = bench.writes_since(mark)?.node_statuses_of_each();
    ensure!(all > 0, "nothing was written");
    let limit = seconds.as_secs_f64() / SELDOM.as_secs_f64();
    Ok(Row::with_target(
        format!(
            "at most {most} status writes of a node in {:.0} s, {all} in total{shares}",
            seconds.as_secs_f64()
        ),
        "≤ 1 of a node in 5 s",
        // One more, as both ends count.
        as_f64(most) <= limit + 1.0,
    ))
}

/// The nodes whose pods are watched.
fn watched(bench: &Bench, mark: AuditMark) -> Result<Vec<String>> {
    let nodes: BTreeSet<String> = requests(bench, mark, "watch")?.collect();
    Ok(nodes.into_iter().collect())
}

/// The node of each request of the operator for pods, with this verb.
fn requests(bench: &Bench, mark: AuditMark, verb: &str) -> Result<impl Iterator<Item = String>> {
    let user = format!("system:serviceaccount:{}:{}", ACCOUNT.0, ACCOUNT.1);
    let entries = bench.plane.audit().since(mark)?.into_iter();
    let of_pods = entries
        .filter(move |entry| entry.user == user && entry.resource == "pods" && entry.verb == verb);
    Ok(of_pods.filter_map(|entry| {
        let (_, node) = entry.request_uri.split_once("spec.nodeName%3D")?;
        Some(node.split('&').next().unwrap_or(node).to_owned())
    }))
}
