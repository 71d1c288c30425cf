//! What must not grow: memory, threads, descriptors and metric series.

use std::time::Instant;

use anyhow::{Result, ensure};
use kube::api::{Api, ListParams};
use node_insights::api::NodeProgressInsight;
use node_insights_harness::Process;

use super::replicas::Replicas;

/// At most so much more memory in an hour.
const BYTES_PER_HOUR: f64 = 1024.0 * 1024.0;
/// A slope over less is noise: an allocator takes and gives whole pages.
const MINUTES_FOR_A_SLOPE: f64 = 20.0;
/// In a short run only a leak that is as large as everything else can be told from noise.
const SHORT_GROWTH: u64 = 8 * 1024 * 1024;
/// Connections come and go with watches; this is how many more may be open at one moment than at another.
const SPARE_DESCRIPTORS: usize = 12;
/// A reason or a kind that was never met before has a series from then on.
const SPARE_SERIES: usize = 40;

/// Of one replica at one moment.
#[derive(Clone, Debug)]
pub struct Figure {
    rss: u64,
    threads: usize,
    descriptors: usize,
    series: usize,
}

/// Of both, and how much there is to be known.
pub struct Figures {
    at: Instant,
    replicas: [Figure; 2],
    insights: usize,
}

impl Figures {
    pub async fn of(replicas: &Replicas) -> Result<Self> {
        let insights: Api<NodeProgressInsight> = Api::all(replicas.world.client.clone());
        let insights = insights.list(&ListParams::default()).await?.items.len();
        let mut figures = Vec::new();
        for operator in &replicas.operators {
            let (_, metrics) = operator.get("/metrics").await?;
            figures.push(Figure {
                rss: operator.process.rss_bytes()?,
                threads: entries(&operator.process, "task")?,
                descriptors: entries(&operator.process, "fd")?,
                series: metrics
                    .lines()
                    .filter(|line| !line.starts_with('#'))
                    .count(),
            });
        }
        let [leader, standby] = [figures[0].clone(), figures[1].clone()];
        Ok(Self {
            at: Instant::now(),
            replicas: [leader, standby],
            insights,
        })
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
}

impl Table {
    /// Adds those of a round, and prints them.
    pub fn add(&mut self, figures: Figures, round: u32, say: bool) {
        if say && self.rows.is_empty() {
            eprintln!(
                "{:>5} {:>7} {:>8}  RSS KiB, threads, descriptors, series; of the leader, of the standby",
                "round", "minute", "insights"
            );
        }
        self.rows.push(figures);
        let (Some(first), Some(last)) = (self.rows.first(), self.rows.last()) else {
            return;
        };
        if say {
            let minutes = last.at.duration_since(first.at).as_secs() / 60;
            eprint!("{round:>5} {minutes:>7} {:>8}", last.insights);
            for figure in &last.replicas {
                let Figure {
                    rss,
                    threads,
                    descriptors,
                    series,
                } = figure;
                eprint!(
                    " | {:>7} {threads:>3} {descriptors:>3} {series:>4}",
                    rss / 1024
                );
            }
            eprintln!();
        }
    }

    /// Fails when something has grown.
    pub fn is_flat(&self, is_long: bool) -> Result<()> {
        for (replica, name) in ["leader", "standby"].into_iter().enumerate() {
            let of = |row: &Figures| row.replicas[replica].clone();
            let figures: Vec<Figure> = self.rows.iter().map(of).collect();
            // The first round is the start.
            let (first, last) = (&figures[0], &figures[figures.len() - 1]);
            ensure!(
                last.threads <= first.threads + 1,
                "{name}: threads {first:?} {last:?}"
            );
            ensure!(
                last.descriptors <= first.descriptors + SPARE_DESCRIPTORS,
                "{name}: descriptors {first:?} {last:?}"
            );
            ensure!(
                last.series <= first.series + SPARE_SERIES,
                "{name}: series {first:?} {last:?}"
            );
            if is_long && let Some(slope) = self.slope(replica) {
                eprintln!("{name}: {:.0} KiB an hour", slope / 1024.0);
                ensure!(
                    slope < BYTES_PER_HOUR,
                    "{name}: memory grows by {:.0} KiB an hour",
                    slope / 1024.0
                );
            } else {
                ensure!(
                    last.rss <= first.rss + SHORT_GROWTH,
                    "{name}: memory {first:?} {last:?}"
                );
            }
        }
        Ok(())
    }

    /// Bytes an hour, by least squares over the second half of the run; none if that is too short.
    fn slope(&self, replica: usize) -> Option<f64> {
        let rows = &self.rows[self.rows.len() / 2..];
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
}
