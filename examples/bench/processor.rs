//! CPU usage of the operator and of the machine, to show whether a row was limited by the machine.

use std::time::Instant;

use anyhow::{Context as _, Result};

use super::operator::Operator;
use super::pace::as_f64;

/// CPU usage since a moment.
pub(crate) struct Processor {
    since: Instant,
    operator: f64,
    idle: u64,
}

impl Processor {
    /// Measures from now on.
    ///
    /// # Errors
    /// When the kernel does not report it, or the operator has exited; the same below.
    pub(crate) fn watch(operator: &Operator) -> Result<Self> {
        Ok(Self {
            since: Instant::now(),
            operator: operator.cpu_seconds()?,
            idle: idle_ticks()?,
        })
    }

    /// The shares of the operator and of idle time since then, as the end of a row.
    pub(crate) fn shares(&self, operator: &Operator) -> Result<String> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let whole = self.since.elapsed().as_secs_f64() * as_f64(cores);
        let took = operator.cpu_seconds()? - self.operator;
        // Linux counts in hundredths of a second for every program.
        let idle = usize::try_from(idle_ticks()?.saturating_sub(self.idle))?;
        Ok(format!(
            "; the operator took {:.0} % of the machine, {:.0} % was idle",
            took / whole * 100.0,
            as_f64(idle) / whole
        ))
    }
}

/// The idle time since the machine's start, over all cores.
fn idle_ticks() -> Result<u64> {
    let text = std::fs::read_to_string("/proc/stat").context("reading /proc/stat")?;
    parse_idle(&text).context("/proc/stat has no line for all cores")
}

/// `cpu user nice system idle iowait …`: iowait counts as idle.
fn parse_idle(stat: &str) -> Option<u64> {
    let mut fields = stat
        .lines()
        .next()?
        .strip_prefix("cpu ")?
        .split_whitespace();
    let idle: u64 = fields.nth(3)?.parse().ok()?;
    let waiting: u64 = fields.next()?.parse().ok()?;
    Some(idle + waiting)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_includes_iowait() {
        let stat = "cpu  70 1 20 1000 5 0 1 0 0 0\ncpu0 35 0 10 500 2 0 0 0 0 0\n";
        assert_eq!(parse_idle(stat), Some(1005));
        assert_eq!(parse_idle("intr 5"), None);
        assert!(idle_ticks().unwrap() > 0);
    }
}
