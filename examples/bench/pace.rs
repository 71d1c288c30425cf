//! Requests at a steady rate, and statistics of durations.

use std::time::{Duration, Instant};

use anyhow::Result;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::time::MissedTickBehavior;

/// Maximum requests in flight. It is reached only when the API server cannot keep up with the rate; then more
/// would only make it slower.
const IN_FLIGHT: usize = 64;

/// The times at which the requests of a paced run were sent.
pub(crate) struct Sent(Vec<Instant>);

impl Sent {
    /// When each was sent, in order.
    pub(crate) fn times(&self) -> &[Instant] {
        &self.0
    }

    /// When the last one was sent.
    pub(crate) fn last(&self) -> Option<Instant> {
        self.0.last().copied()
    }

    /// The achieved rate, in requests per second.
    pub(crate) fn rate(&self) -> f64 {
        match (self.0.first(), self.0.last()) {
            (Some(first), Some(last)) if last > first => {
                as_f64(self.0.len() - 1) / (*last - *first).as_secs_f64()
            }
            _ => 0.0,
        }
    }
}

/// Sends `count` requests at `rate` per second, whether or not earlier ones are answered; returns when all
/// are.
///
/// # Errors
/// That of the first request that failed.
pub(crate) async fn paced<F>(
    count: usize,
    rate: f64,
    mut request: impl FnMut(usize) -> F,
) -> Result<Sent>
where
    F: Future<Output = Result<()>>,
{
    let mut ticks = tokio::time::interval(Duration::from_secs_f64(1.0 / rate));
    // Late requests are caught up on, so that the rate holds over the whole run.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut running = FuturesUnordered::new();
    let mut sent = Vec::new();
    while sent.len() < count || !running.is_empty() {
        tokio::select! {
            Some(answer) = running.next() => answer?,
            _ = ticks.tick(), if sent.len() < count && running.len() < IN_FLIGHT => {
                let request = request(sent.len());
                sent.push(Instant::now());
                running.push(request);
            }
        }
    }
    Ok(Sent(sent))
}

/// The durations of several things.
pub(crate) struct Durations(Vec<Duration>);

impl Durations {
    /// Durations in any order.
    pub(crate) fn new(mut durations: Vec<Duration>) -> Self {
        durations.sort_unstable();
        Self(durations)
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// A percentile of them, in milliseconds (nearest rank).
    pub(crate) fn percentile_ms(&self, percent: usize) -> f64 {
        let rank = (self.0.len() * percent).div_ceil(100);
        let found = self.0.get(rank.saturating_sub(1));
        found.map_or(0.0, |duration| duration.as_secs_f64() * 1000.0)
    }
}

/// A count as a float; exact for every count that occurs here.
pub(crate) fn as_f64(count: usize) -> f64 {
    u32::try_from(count).map_or(f64::INFINITY, f64::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_the_value_at_its_nearest_rank() {
        let durations = Durations::new((1..=200).rev().map(Duration::from_millis).collect());
        let of = |percent| format!("{:.0}", durations.percentile_ms(percent));
        assert_eq!([50, 99, 100].map(of), ["100", "198", "200"]);
        let one = Durations::new(vec![Duration::from_millis(7)]);
        assert_eq!(format!("{:.1}", one.percentile_ms(50)), "7.0");
    }
}
