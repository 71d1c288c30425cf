//! Rows of changes of one node: from sending its PATCH until a second watcher sees its insight.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use node_insights::api::types::Phase;
use node_insights_harness::{AuditEntry, AuditMark};

use super::bench::Bench;
use super::observer::{NODES, Observation, Observer};
use super::operator::Operator;
use super::pace::{Durations, paced};
use super::processor::Processor;
use super::report::{Report, Row, progress, thousands};

/// Changes per second, independent of earlier responses.
const RATE: f64 = 100.0;
/// How many of those: 10 s.
const OPEN_CHANGES: usize = 1000;
/// A change that is not visible by then is lost.
const PATIENCE: Duration = Duration::from_mins(1);

/// A change of a node that was sent.
struct Change {
    node: String,
    phase: Phase,
    sent: Instant,
    clock: Timestamp,
}

/// Changes one at a time, and then many per second; with one operator.
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
    report.add(
        &format!("The same at {RATE:.0} changes a second"),
        alone_many_a_second(bench).await,
    );
    let operator = bench.program.start_ready(bench.timeout()).await?;
    bench.render().await?;
    bench.settle().await?;
    progress(format_args!("changing {changes} nodes one at a time"));
    let row = operator
        .meanwhile(one_at_a_time(bench, changes, report))
        .await;
    report.add(
        "PATCH of a node sent until its insight is seen, one at a time",
        row,
    );
    progress(format_args!("changing {RATE:.0} nodes a second"));
    let row = operator
        .meanwhile(many_a_second(bench, &operator, report))
        .await;
    report.add(&format!("The same at {RATE:.0} changes a second"), row);
    operator.stop().await?;
    Ok(())
}

/// The API server's own latency, which is part of the result twice: for the node and for its insight.
async fn alone(bench: &Bench, changes: usize) -> Result<Row> {
    let mut observer = Observer::of_nodes(&bench.client).await?;
    let mut latencies = Vec::with_capacity(changes);
    for index in 0..changes {
        // From the end: a second heartbeat of a node within the same second changes nothing.
        let node = bench.name(bench.nodes() - 1 - index % bench.nodes());
        let sent = Instant::now();
        bench.editor.nodes().heartbeat(node).await?;
        loop {
            let observation = observer.next(PATIENCE).await?;
            if observation.name == node && observation.at >= sent {
                latencies.push(observation.at - sent);
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

/// One of the two writes of a change, at the rate at which the operator has to do both.
async fn alone_many_a_second(bench: &Bench) -> Result<Row> {
    let mut observer = Observer::of_nodes(&bench.client).await?;
    let mut waiting: HashMap<&str, VecDeque<Instant>> = HashMap::new();
    let sent = paced(OPEN_CHANGES, RATE, |index| {
        let node = bench.name(index % bench.nodes());
        waiting.entry(node).or_default().push_back(Instant::now());
        bench.editor.nodes().heartbeat(node)
    })
    .await?;
    let mut latencies = Vec::with_capacity(OPEN_CHANGES);
    while latencies.len() < OPEN_CHANGES {
        let observation = observer.next(PATIENCE).await?;
        let oldest = waiting.get_mut(&*observation.name);
        if let Some(sent) = oldest.and_then(VecDeque::pop_front) {
            latencies.push(observation.at.saturating_duration_since(sent));
        }
    }
    let latencies = Durations::new(latencies);
    let [p50, p99, max] = [50, 99, 100].map(|percent| latencies.percentile_ms(percent));
    Ok(Row::plain(format!(
        "p50 {p50:.1}, p99 {p99:.1}, max {max:.1} ms ({} changes at {:.0}/s)",
        thousands(latencies.count()),
        sent.rate()
    )))
}

async fn one_at_a_time(bench: &mut Bench, changes: usize, report: &mut Report) -> Result<Row> {
    let mut observer = Observer::start(&bench.client, NODES).await?;
    let mark = bench.plane.audit().mark()?;
    let mut results = Vec::with_capacity(changes);
    for index in 0..changes {
        let index = index % bench.nodes();
        let node = bench.name(index).to_owned();
        let (phase, patch) = bench.advance(index);
        let change = Change::now(node, phase);
        patch.await?;
        let change = loop {
            let observation = observer.next(PATIENCE).await?;
            if change.shows_in(&observation) {
                break change.seen(observation.at);
            }
        };
        results.push(change);
    }
    add_parts(bench, mark, &results, report).await;
    let latencies = Durations::new(results.iter().map(|change| change.took).collect());
    let [p50, p99, max] = [50, 99, 100].map(|percent| latencies.percentile_ms(percent));
    Ok(Row::with_target(
        format!(
            "p50 {p50:.1}, p99 {p99:.1}, max {max:.1} ms ({} changes)",
            latencies.count()
        ),
        "p50 ≤ 8, p99 ≤ 16, max ≤ 100 ms",
        p50 <= 8.0 && p99 <= 16.0 && max <= 100.0,
    ))
}

async fn many_a_second(bench: &mut Bench, operator: &Operator, report: &mut Report) -> Result<Row> {
    let mut observer = Observer::start(&bench.client, NODES).await?;
    let mark = bench.plane.audit().mark()?;
    let mut changes = Vec::with_capacity(OPEN_CHANGES);
    let processor = Processor::watch(operator)?;
    let sent = paced(OPEN_CHANGES, RATE, |index| {
        let index = index % bench.nodes();
        let node = bench.name(index).to_owned();
        let (phase, patch) = bench.advance(index);
        changes.push(Change::now(node, phase));
        patch
    })
    .await?;
    let results = await_all(changes, &mut observer).await?;
    let shares = processor.shares(operator)?;
    add_parts(bench, mark, &results, report).await;
    let latencies = Durations::new(results.iter().map(|change| change.took).collect());
    let [p50, p99, max] = [50, 99, 100].map(|percent| latencies.percentile_ms(percent));
    Ok(Row::with_target(
        format!(
            "p50 {p50:.1}, p99 {p99:.1}, max {max:.1} ms ({} changes at {:.0}/s){shares}",
            thousands(latencies.count()),
            sent.rate()
        ),
        "p50 ≤ 10, p99 ≤ 40 ms",
        p50 <= 10.0 && p99 <= 40.0,
    ))
}

/// Waits until every change was observed, and returns the latency of each.
///
/// A node that is changed again goes to another phase, so observations of the older change are not mistaken
/// for the newer one.
async fn await_all(mut changes: Vec<Change>, observer: &mut Observer) -> Result<Vec<Observed>> {
    let mut results = Vec::with_capacity(changes.len());
    while !changes.is_empty() {
        let observation = observer.next(PATIENCE).await;
        let observation =
            observation.with_context(|| format!("{} changes were not seen", changes.len()))?;
        // In the order in which they were sent, so the search is usually short.
        if let Some(index) = changes
            .iter()
            .position(|change| change.shows_in(&observation))
        {
            results.push(changes.remove(index).seen(observation.at));
        }
    }
    Ok(results)
}

/// A change that was observed.
struct Observed {
    node: String,
    /// By the wall clock, as in the audit log.
    sent: Timestamp,
    took: Duration,
}

/// Where the time went.
async fn add_parts(bench: &Bench, mark: AuditMark, results: &[Observed], report: &mut Report) {
    let parts = async {
        // The audit entry of a response may be written a moment after its event was observed.
        bench.settle().await?;
        parts(results, &bench.plane.audit().since(mark)?)
    };
    report.add("Of which, p50 and p99 of each part", parts.await);
}

/// By the API server's audit log. The operator's part begins when the PATCH is answered, so it includes the
/// delivery of the event.
fn parts(results: &[Observed], entries: &[AuditEntry]) -> Result<Row> {
    let mut of_node: HashMap<(&str, &str), Vec<&AuditEntry>> = HashMap::new();
    for entry in entries {
        let key = match (entry.verb.as_str(), entry.resource.as_str()) {
            ("patch", "nodes") => "patch",
            ("update", NODES) => "update",
            _ => continue,
        };
        of_node.entry((key, &entry.name)).or_default().push(entry);
    }
    let mut parts = [const { Vec::new() }; 4];
    for change in results {
        let seen = change.sent + change.took;
        let of_change = |verb: &'static str| {
            let mut found = of_node.get(&(verb, &*change.node)).into_iter().flatten();
            let found = found.rfind(|entry| (change.sent..=seen).contains(&entry.received));
            found.with_context(|| format!("no {verb} of {} in the audit log", change.node))
        };
        let (patch, put) = (of_change("patch")?, of_change("update")?);
        // The event may arrive before the response.
        let between = put.received.duration_since(patch.reached);
        parts[0].push(patch.reached.duration_since(change.sent).unsigned_abs());
        parts[1].push(between.try_into().unwrap_or_default());
        parts[2].push(put.reached.duration_since(put.received).unsigned_abs());
        parts[3].push(seen.duration_since(put.reached).unsigned_abs());
    }
    let [patch, operator, put, seen] = parts.map(|part| {
        let part = Durations::new(part);
        let [p50, p99] = [50, 99].map(|percent| part.percentile_ms(percent));
        format!("{p50:.1} and {p99:.1} ms")
    });
    Ok(Row::plain(format!(
        "until the PATCH is answered {patch}; until the operator's PUT arrives {operator}; until that \
         is answered {put}; until it is seen {seen}"
    )))
}

impl Change {
    /// A change that is sent now.
    fn now(node: String, phase: Phase) -> Self {
        Self {
            node,
            phase,
            sent: Instant::now(),
            clock: Timestamp::now(),
        }
    }

    fn seen(self, at: Instant) -> Observed {
        Observed {
            node: self.node,
            sent: self.clock,
            took: at - self.sent,
        }
    }

    fn shows_in(&self, observation: &Observation) -> bool {
        observation.name == self.node
            && observation.at >= self.sent
            && observation.status.as_ref().and_then(|status| status.phase) == Some(self.phase)
    }
}
