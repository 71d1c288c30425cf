//! What the insights of nodes show of drains, at every moment, and whether it is true.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use futures::StreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client};
use node_insights::api::types::Phase;
use node_insights::api::{NodeProgressInsight, NodeProgressInsightStatus};
use node_insights_harness::eventually;
use tokio::task::JoinSet;

use super::blocker::Blocker;
use crate::support::SOON;

/// How long an insight may take to show what can be known.
const LIMIT: Duration = Duration::from_secs(2);
/// What an insight shows of a drain changes at most this often.
const SELDOM: Duration = Duration::from_secs(5);

/// Reason and name of each blocker that an insight shows.
type Named = Vec<(String, String)>;
type Seen = Arc<Mutex<BTreeMap<String, Vec<Shown>>>>;

/// What the insight of a node shows from a moment on.
#[derive(Clone, PartialEq)]
struct Shown {
    at: Instant,
    phase: Phase,
    pods_left: Option<i32>,
    named: Named,
}

/// When no operator ran.
pub struct Downtime {
    pub since: Instant,
    pub until: Instant,
}

/// Watches the insights of nodes until it is dropped.
pub struct Observer {
    seen: Seen,
    downtimes: Vec<Downtime>,
    _watch: JoinSet<()>,
}

impl Observer {
    pub fn start(client: &Client) -> Self {
        let seen = Seen::default();
        let api: Api<NodeProgressInsight> = Api::all(client.clone());
        let noted = Arc::clone(&seen);
        let mut watch = JoinSet::new();
        watch.spawn(async move {
            let mut events = pin!(watcher(api, watcher::Config::default()));
            while let Some(event) = events.next().await {
                // After an error, the watcher begins again.
                let Ok(Event::Apply(insight) | Event::InitApply(insight)) = event else {
                    continue;
                };
                if let (Some(name), Some(status)) = (insight.metadata.name, insight.status) {
                    note(&mut lock(&noted), name, status);
                }
            }
        });
        Self {
            seen,
            downtimes: Vec::new(),
            _watch: watch,
        }
    }

    pub fn was_down(&mut self, downtime: Downtime) {
        self.downtimes.push(downtime);
    }

    /// Waits until the insights of all these nodes show the phase.
    pub async fn until_all(&self, nodes: &[&str], phase: Phase) -> Result<()> {
        let open = || {
            let seen = lock(&self.seen);
            let is_there = |node: &&&str| {
                let last = seen.get(**node).and_then(|all| all.last());
                last.is_some_and(|last| last.phase == phase)
            };
            let open = nodes.iter().filter(|node| !is_there(node));
            open.map(ToString::to_string).collect::<Vec<_>>()
        };
        let what = format!("{} nodes are {phase}", nodes.len());
        eventually(&what, SOON, async || Ok(open().is_empty().then_some(())))
            .await
            .with_context(|| format!("Not yet: {:?}", open()))
    }

    /// Waits until the insight of its node names a blocker.
    pub async fn until_named(&self, blocker: &Blocker) -> Result<()> {
        let last = || {
            let seen = lock(&self.seen);
            let last = seen.get(&blocker.node).and_then(|all| all.last());
            last.map(|last| last.named.clone()).unwrap_or_default()
        };
        let what = format!("{} is held up: {:?}", blocker.node, name_of(blocker));
        eventually(&what, SOON, async || {
            Ok(last().contains(&name_of(blocker)).then_some(()))
        })
        .await
        .with_context(|| format!("Last seen: {:?}", last()))
    }

    /// The nodes whose drain is held up now, and the first reason of each.
    pub fn held(&self) -> BTreeMap<String, String> {
        let seen = lock(&self.seen);
        let held = seen.iter().filter_map(|(node, all)| {
            let (reason, _) = all.last()?.named.first()?;
            Some((node.clone(), reason.clone()))
        });
        held.collect()
    }

    /// How long after it could be known each blocker was named, as text, and everything that was not as it should be.
    pub fn compare(&self, blockers: &[Blocker]) -> (String, Vec<String>) {
        let seen = lock(&self.seen);
        let mut complaints = Vec::new();
        for (node, all) in seen.iter() {
            let named = all.iter().flat_map(|shown| &shown.named);
            let is_planted = |name: &&(String, String)| {
                let mut blockers = blockers.iter();
                blockers.any(|each| each.node == *node && name_of(each) == **name)
            };
            let invented = named.filter(|name| !is_planted(name));
            complaints.extend(invented.map(|name| format!("{node}: {name:?} is invented")));
        }
        let mut delays = String::new();
        for blocker in blockers {
            let all = seen.get(&blocker.node).map_or(&[][..], Vec::as_slice);
            match self.delays(blocker, all) {
                Ok((named, gone)) => {
                    let (named, gone) = (named.as_secs_f64(), gone.as_secs_f64());
                    let reason = blocker.cause.reason();
                    let _ = writeln!(
                        delays,
                        "{reason}: named after {named:.1} s, gone after {gone:.1} s"
                    );
                }
                Err(error) => complaints.push(format!("{}: {error:#}", blocker.node)),
            }
        }
        (delays, complaints)
    }

    /// How long it took to be named, and to be gone.
    fn delays(&self, blocker: &Blocker, all: &[Shown]) -> Result<(Duration, Duration)> {
        let name = name_of(blocker);
        let times = blocker.times();
        let began = times.began.context("its drain did not begin")?;
        let known = times
            .known
            .context("it never held the drain up")?
            .max(self.up(began));
        let over = if blocker.flickers() {
            times.drained
        } else {
            times.freed
        };
        let (over, freeing) = over.zip(times.freeing).context("it was not freed")?;
        let is_named = |shown: &Shown| shown.named.contains(&name);
        let first = all
            .iter()
            .position(is_named)
            .with_context(|| format!("no {name:?}"))?;
        let named = all[first].at;
        anyhow::ensure!(named >= began, "{name:?} is named before the drain");
        let rest = &all[first..];
        let gone = rest
            .iter()
            .position(|shown| !is_named(shown) && shown.at >= freeing);
        let gone = first + gone.with_context(|| format!("{name:?} remains"))?;
        let fluctuates = all[first..gone].iter().any(|shown| !is_named(shown));
        anyhow::ensure!(!fluctuates, "{name:?} came and went");
        anyhow::ensure!(!all[gone..].iter().any(is_named), "{name:?} came back");
        self.in_time(all, first, known)
            .with_context(|| format!("{name:?} is named late"))?;
        self.in_time(all, gone, over)
            .with_context(|| format!("{name:?} is gone late"))?;
        let gone = all[gone].at;
        Ok((
            named.saturating_duration_since(known),
            gone.saturating_duration_since(over),
        ))
    }

    /// Whether what was shown at this index came in time after it could be known.
    fn in_time(&self, all: &[Shown], index: usize, known: Instant) -> Result<()> {
        let at = all[index].at;
        let before = index.checked_sub(1).map(|before| all[before].at + SELDOM);
        let due = before.map_or(known, |before| known.max(before));
        let late = at.saturating_duration_since(self.up(due));
        anyhow::ensure!(late <= LIMIT, "{late:.1?} after it could be shown");
        Ok(())
    }

    /// The moment, or the end of a downtime that lets nothing be shown in time after it.
    fn up(&self, at: Instant) -> Instant {
        let mut downtimes = self.downtimes.iter();
        let down = downtimes.find(|down| down.since <= at + LIMIT && at <= down.until);
        down.map_or(at, |down| down.until)
    }
}

fn name_of(blocker: &Blocker) -> (String, String) {
    (blocker.cause.reason().to_owned(), blocker.object())
}

fn note(seen: &mut BTreeMap<String, Vec<Shown>>, name: String, status: NodeProgressInsightStatus) {
    let drain = status.drain;
    let shown = Shown {
        at: Instant::now(),
        phase: status.phase,
        pods_left: drain.as_ref().and_then(|drain| drain.pods_left),
        named: drain
            .into_iter()
            .flat_map(|drain| drain.blockers)
            .map(|blocker| (blocker.reason, blocker.name))
            .collect(),
    };
    let all = seen.entry(name).or_default();
    let is_same = |last: &Shown| {
        (last.phase, last.pods_left, &last.named) == (shown.phase, shown.pods_left, &shown.named)
    };
    if !all.last().is_some_and(is_same) {
        all.push(shown);
    }
}

fn lock(seen: &Seen) -> MutexGuard<'_, BTreeMap<String, Vec<Shown>>> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}
