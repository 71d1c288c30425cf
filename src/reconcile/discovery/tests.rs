//! When the watch of a kind starts and stops.

use std::collections::VecDeque;
use std::sync::Mutex;

use super::*;
use crate::domain::fact::{Fact, KindSpec, Object, Parsed};

#[derive(Debug, PartialEq)]
struct Thing;

impl Fact for Thing {
    const KIND: KindSpec = KindSpec::new("example.com", &["v2", "v1"], "Thing", "things");

    fn parse(_: &Object<'_>) -> Parsed<Self> {
        Parsed::Fact(Self)
    }
}

/// Serves the kind as listed, one entry per discovery; the last entry repeats.
fn discover(answers: &[Option<&'static str>]) -> (Served, Arc<SyncGate>) {
    let gate = Arc::new(SyncGate::new([check::DISCOVERY]));
    let health = Arc::new(Health::default());
    let (discovery, served) = Discovery::new(&[Kind::of::<Thing>()], Arc::clone(&gate), health);
    let answers: Mutex<VecDeque<_>> = Mutex::new(answers.iter().copied().collect());
    tokio::spawn(discovery.run(move || {
        let mut answers = answers.lock().unwrap();
        let now = answers.front().copied().flatten();
        if answers.len() > 1 {
            answers.pop_front();
        }
        async move { Ok(vec![now]) }
    }));
    (served, gate)
}

#[tokio::test(start_paused = true)]
async fn a_kind_that_is_served_later_is_watched_from_then_on() {
    let (mut served, gate) = discover(&[None, None, Some("v1")]);
    gate.opened().await;
    let start = tokio::time::Instant::now();
    assert_eq!(served.version(0).await, "v1");
    assert_eq!(start.elapsed(), 2 * INTERVAL);
}

#[tokio::test(start_paused = true)]
async fn a_kind_that_is_missing_twice_in_a_row_stays_watched_and_after_three_times_it_is_gone() {
    let v1 = Some("v1");
    let (mut served, _) = discover(&[v1, None, None, v1, None, None, None]);
    served.version(0).await;
    let start = tokio::time::Instant::now();
    assert_eq!(served.other_version(0, "v1").await, None);
    assert_eq!(start.elapsed(), 6 * INTERVAL);
}

#[tokio::test(start_paused = true)]
async fn the_gate_waits_for_kinds_that_are_served_at_the_start() {
    use futures::FutureExt;

    let (mut served, gate) = discover(&[Some("v2")]);
    assert_eq!(served.version(0).await, "v2");
    assert!(gate.opened().now_or_never().is_none());
    gate.arrived("things");
    gate.opened().await;
}
