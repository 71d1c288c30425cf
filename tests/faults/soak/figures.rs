//! What must not grow: memory, threads, descriptors and metric series.

use std::collections::BTreeSet;
use std::time::Instant;

use anyhow::{Result, ensure};
use node_insights_harness::Process;

use super::replicas::{Replica, Replicas};
use crate::snapshot::Snapshot;

/// The most by which memory may grow in an hour.
const BYTES_PER_HOUR: f64 = 1024.0 * 1024.0;
/// A slope over less time is noise: an allocator maps and unmaps whole pages.
const MINUTES_FOR_A_SLOPE: f64 = 20.0;
/// In a short run only a leak as large as everything else stands out from the noise.
const SHORT_GROWTH: u64 = 8 * 1024 * 1024;
/// Watches open and close connections; this many more may be open at one moment than at another.
const SPARE_DESCRIPTORS: usize = 12;
/// For any cluster and any history. A reason or phase has a series from its first occurrence on, and rare ones occur
/// late, so only their total is bounded. A series for each short-lived node, configuration or pool would exceed this
/// within a few rounds, or be found by [`Figure::names_a_gone_pool`].
const MOST_SERIES: usize = 400;

/// The figures of one replica at one moment.
pub struct Figure {
    rss: u64,
    threads: usize,
    descriptors: usize,
    series: BTreeSet<String>,
    leads: bool,
}

impl Figure {
    /// A series of a deleted pool, if there is one.
    fn names_a_gone_pool(&self, pools: &BTreeSet<String>) -> Option<&str> {
        let is_gone = |series: &str| {
            let pool = series.split("pool=\"").nth(1)?.split('"').next()?;
            Some(!pool.is_empty() && !pools.contains(pool))
        };
        let mut gone = self
            .series
            .iter()
            .filter(|series| is_gone(series) == Some(true));
        gone.next().map(String::as_str)
    }

    async fn of(replica: &Replica) -> Result<Self> {
        let Replica { operator, .. } = replica;
        let (_, metrics) = operator.get("/metrics").await?;
        let lines = metrics.lines().filter(|line| !line.starts_with('#'));
        let series = lines.filter_map(|line| line.rsplit_once(' '));
        Ok(Self {
            rss: operator.process.rss_bytes()?,
            threads: entries(&operator.process, "task")?,
            descriptors: entries(&operator.process, "fd")?,
            series: series.map(|(series, _)| series.to_owned()).collect(),
            leads: replica.leads().await?,
        })
    }
}

/// The figures of both replicas, and the number of node insights.
pub struct Figures {
    at: Instant,
    replicas: [Figure; 2],
    insights: usize,
}

impl Figures {
    /// The figures at a quiet point with these insights; fails when there are series of deleted pools, or too many.
    pub async fn of(replicas: &Replicas, insights: &Snapshot) -> Result<Self> {
        let pools = insights.pools.keys().cloned().collect();
        let [first, second] = &replicas.members;
        let figures = Self {
            at: Instant::now(),
            replicas: [Figure::of(first).await?, Figure::of(second).await?],
            insights: insights.nodes.len(),
        };
        for figure in &figures.replicas {
            let gone = figure.names_a_gone_pool(&pools);
            let Figure { series, leads, .. } = figure;
            ensure!(
                gone.is_none(),
                "a series of a deleted pool (leader: {leads}): {gone:?}"
            );
            ensure!(
                series.len() <= MOST_SERIES,
                "{} series (leader: {leads}): {series:#?}",
                series.len()
            );
        }
        Ok(figures)
    }
}

fn entries(process: &Process, folder: &str) -> Result<usize> {
    let path = format!("/proc/{}/{folder}", process.pid());
    Ok(std::fs::read_dir(path)?.count())
}

/// All figures of a run.
#[derive(Default)]
pub struct Table {
    rows: Vec<Figures>,
    /// The first row that counts: that of the last round in which a replica was killed, if any. Leadership changes
    /// then, so both replicas start from it.
    begin: usize,
}

impl Table {
    /// A replica was restarted: earlier rows no longer count.
    pub fn restart(&mut self) {
        self.begin = self.rows.len();
    }

    /// Adds the figures of a round, and prints them if asked to.
    pub fn add(&mut self, figures: Figures, round: u32, print: bool) {
        if print && self.rows.is_empty() {
            eprintln!(
                "{:>5} {:>7} {:>8}  RSS KiB, threads, descriptors, series; of both replicas, * leads",
                "round", "minute", "insights"
            );
        }
        self.rows.push(figures);
        let (Some(first), Some(last)) = (self.rows.first(), self.rows.last()) else {
            return;
        };
        if print {
            let minutes = last.at.duration_since(first.at).as_secs() / 60;
            eprint!("{round:>5} {minutes:>7} {:>8}", last.insights);
            for figure in &last.replicas {
                let Figure {
                    rss,
                    threads,
                    descriptors,
                    series,
                    leads,
                } = figure;
                eprint!(
                    " | {}{:>7} {threads:>3} {descriptors:>3} {:>4}",
                    if *leads { '*' } else { ' ' },
                    rss / 1024,
                    series.len()
                );
            }
            eprintln!();
        }
    }

    /// Fails if anything has grown.
    pub fn is_flat(&self, is_long: bool) -> Result<()> {
        let rows = &self.rows[self.begin..];
        ensure!(rows.len() > 1, "a replica was killed in the last round");
        for replica in [0, 1] {
            let figures: Vec<&Figure> = rows.iter().map(|row| &row.replicas[replica]).collect();
            let (first, last) = (figures[0], figures[figures.len() - 1]);
            let name = if last.leads { "leader" } else { "standby" };
            ensure!(
                last.threads <= first.threads + 1,
                "{name}: from {} threads to {}",
                first.threads,
                last.threads
            );
            ensure!(
                last.descriptors <= first.descriptors + SPARE_DESCRIPTORS,
                "{name}: from {} descriptors to {}",
                first.descriptors,
                last.descriptors
            );
            if is_long && let Some(slope) = slope(rows, replica) {
                eprintln!("{name}: {:.0} KiB per hour", slope / 1024.0);
                ensure!(
                    slope < BYTES_PER_HOUR,
                    "{name}: memory grows by {:.0} KiB per hour",
                    slope / 1024.0
                );
            } else {
                ensure!(
                    last.rss <= first.rss + SHORT_GROWTH,
                    "{name}: from {} KiB of memory to {}",
                    first.rss / 1024,
                    last.rss / 1024
                );
            }
        }
        Ok(())
    }
}

/// Bytes per hour, by least squares over the second half of the run; `None` if that is too short.
fn slope(rows: &[Figures], replica: usize) -> Option<f64> {
    let rows = &rows[rows.len() / 2..];
    let (first, last) = (rows.first()?, rows.last()?);
    let hours = |row: &Figures| row.at.duration_since(first.at).as_secs_f64() / 3600.0;
    if hours(last) * 60.0 < MINUTES_FOR_A_SLOPE {
        return None;
    }
    #[allow(
        clippy::cast_precision_loss,
        reason = "memory has fewer than 2^52 bytes"
    )]
    let points: Vec<(f64, f64)> = rows
        .iter()
        .map(|row| (hours(row), row.replicas[replica].rss as f64))
        .collect();
    #[allow(clippy::cast_precision_loss, reason = "fewer rounds than 2^52")]
    let count = points.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
    let (x, y) = (mean(|point| point.0), mean(|point| point.1));
    let rise: f64 = points
        .iter()
        .map(|point| (point.0 - x) * (point.1 - y))
        .sum();
    let run: f64 = points.iter().map(|point| (point.0 - x).powi(2)).sum();
    Some(rise / run)
}
