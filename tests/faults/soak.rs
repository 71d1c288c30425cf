//! Everything that is read changes at random, under random faults, while a leader and a standby run, of which one is
//! killed now and then. After each round there is a quiet point, at which a fresh reference operator checks that every
//! insight is as it would have written it.
//!
//! As part of the tests it takes a minute. `make soak` runs it for hours, with thousands of short-lived nodes: then
//! memory has to be flat as well. There are no kills after the first quarter, as growth shows only in a process that
//! keeps running.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use fastrand::Rng;
use node_insights_harness::openshift::{Cluster, Pool};

use self::changes::Changes;
use self::chaos::chaos;
use self::figures::{Figures, Table};
use self::replicas::{Choices, Replica, Replicas};
use crate::scene::{OLD, seed};
use crate::snapshot::Snapshot;
use crate::support::World;

mod changes;
mod chaos;
mod figures;
mod replicas;

/// Set to run for hours.
const SOAK: &str = "NODE_INSIGHTS_SOAK";
/// How many hours; 2 by default.
const HOURS: &str = "NODE_INSIGHTS_SOAK_HOURS";
/// Short-lived nodes per hour of the long form: 30,000 in two hours.
const CHURN_PER_HOUR: f64 = 15_000.0;
/// Short-lived nodes in a round of the short form, and at least in one of the long form.
const CHURN: usize = 60;
/// At most this many in a round, so that a slow round is not followed by an even slower one.
const MAX_CHURN: usize = 800;
/// The share of the due ones that there must have been at the end: the last round may not have started.
const MIN_CHURN_SHARE: f64 = 0.9;
/// The share of the time of the long form in which replicas are killed.
const KILLS: f64 = 0.25;

/// The provider by which nodes are evaluated, weighted: most changes matter to OpenShift, and the version of the API
/// server to plain Kubernetes.
const PLATFORMS: [&str; 3] = ["openshift", "openshift", "kubernetes"];

/// The length of the run and of its parts.
struct Extent {
    begin: Instant,
    end: Instant,
    /// Faults and changes between two quiet points.
    round: Duration,
    /// Shorter means that a killed leader has a successor sooner; longer tolerates a busier machine.
    lease: &'static str,
    is_long: bool,
}

impl Extent {
    fn of_environment() -> Result<Self> {
        let begin = Instant::now();
        if std::env::var_os(SOAK).is_none() {
            return Ok(Self {
                begin,
                end: begin + Duration::from_secs(30),
                round: Duration::from_secs(12),
                lease: "20s",
                is_long: false,
            });
        }
        let hours = std::env::var(HOURS).unwrap_or_else(|_| "2".to_owned());
        let hours: f64 = hours.parse().with_context(|| format!("{HOURS}={hours}"))?;
        ensure!(hours > 0.0, "{HOURS}={hours}");
        Ok(Self {
            begin,
            end: begin + Duration::from_secs_f64(hours * 3600.0),
            round: Duration::from_secs(30),
            lease: "60s",
            is_long: true,
        })
    }

    /// How many short-lived nodes there should have been by then.
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a few thousand an hour"
    )]
    fn due(&self, at: Instant) -> usize {
        let hours = at.duration_since(self.begin).as_secs_f64() / 3600.0;
        (hours * CHURN_PER_HOUR) as usize
    }
}

/// What happens in a round in addition to changes and faults.
struct Round {
    /// Which replica is killed, and how long after the beginning.
    kill: Option<(usize, Duration)>,
    /// Lists and watches are not answered.
    hangs: bool,
    /// Requests that hang at the end are cut; otherwise the replicas have to time out themselves.
    cuts: bool,
    /// Short-lived nodes.
    churn: usize,
}

/// Draws the rounds at random.
struct Rounds {
    extent: Extent,
    random: Rng,
    /// How long the last one took.
    last: Duration,
    /// Short-lived nodes so far.
    churned: usize,
}

impl Rounds {
    /// The next one.
    fn draw(&mut self, round: u32) -> Round {
        let Self {
            extent,
            random,
            last,
            churned,
        } = self;
        let now = Instant::now();
        // A long run checks for growth after the kills, the short one after its first round.
        let kills = if extent.is_long {
            let share = now.duration_since(extent.begin).as_secs_f64()
                / extent.end.duration_since(extent.begin).as_secs_f64();
            share < KILLS && random.bool()
        } else {
            round == 1
        };
        let which = random.usize(..2);
        // Early: nothing is written until the lease of a killed leader expires.
        let after = extent.round.mul_f64(random.f64() / 4.0);
        let hangs = random.f64() < 0.4;
        // A request that times out after 75 s takes a minute more.
        let cuts = !extent.is_long || random.f64() < 0.7;
        let churn = if extent.is_long {
            let due = extent.due(now + *last);
            due.saturating_sub(*churned).clamp(CHURN, MAX_CHURN)
        } else {
            CHURN
        };
        *churned += churn;
        Round {
            kill: kills.then_some((which, after)),
            hangs,
            cuts,
            churn,
        }
    }

    /// Fails when there were fewer short-lived nodes than required.
    fn check_churn(&self) -> Result<()> {
        let Self {
            extent, churned, ..
        } = self;
        if !extent.is_long {
            return Ok(());
        }
        let due = extent.due(extent.end);
        eprintln!("{churned} short-lived nodes; {due} were due");
        #[allow(clippy::cast_precision_loss, reason = "fewer nodes than 2^52")]
        let share = *churned as f64 / due.max(1) as f64;
        ensure!(
            share >= MIN_CHURN_SHARE,
            "only {churned} of {due} short-lived nodes"
        );
        Ok(())
    }
}

async fn kill(members: &mut [Replica; 2], kill: Option<(usize, Duration)>) -> Result<()> {
    let Some((which, after)) = kill else {
        return Ok(());
    };
    tokio::time::sleep(after).await;
    members[which].kill_and_start().await
}

#[tokio::test]
async fn under_random_faults_and_changes_the_insights_end_correct_and_nothing_grows() -> Result<()>
{
    let seed = seed()?;
    let cluster = Cluster::builder(OLD)
        .pool(Pool::new("master", 1))
        .pool(Pool::new("worker", 6))
        .pool(Pool::new("infra", 2))
        .build()?;
    let world = World::openshift(&cluster).await?;
    changes::add_plain_nodes(&world).await?;
    let extent = Extent::of_environment()?;
    let platform = PLATFORMS[Rng::with_seed(seed ^ 3).usize(..PLATFORMS.len())];
    eprintln!("Platform {platform}");
    let choices = Choices {
        platform,
        lease: extent.lease,
    };
    let mut replicas = Replicas::start(world, seed, choices).await?;
    let mut changes = Changes::new(seed, &replicas.world).await?;
    let mut faults = Rng::with_seed(seed ^ 1);
    let mut rounds = Rounds {
        random: Rng::with_seed(seed ^ 2),
        last: 2 * extent.round,
        extent,
        churned: 0,
    };
    let mut table = Table::default();
    let mut round = 0_u32;
    while round < 2 || Instant::now() < rounds.extent.end {
        round += 1;
        let what = || format!("in round {round}");
        let Round {
            kill,
            hangs,
            cuts,
            churn,
        } = rounds.draw(round);
        let before = Snapshot::of(&replicas.world).await?;
        let began = Instant::now();
        let until = began + rounds.extent.round;
        changes.begin();
        let Replicas {
            world,
            proxies,
            members,
            ..
        } = &mut replicas;
        tokio::try_join!(
            changes.run(until),
            changes::churn(world, round, churn, until),
            chaos(proxies, &mut faults, until, hangs),
            self::kill(members, kill),
        )
        .with_context(what)?;
        replicas.quiesce(cuts).await.with_context(what)?;
        replicas.check_by_reference().await.with_context(what)?;
        let after = Snapshot::of(&replicas.world).await?;
        changes
            .is_preserved(&before, &after, kill.is_some())
            .with_context(what)?;
        if kill.is_some() {
            table.restart();
        }
        rounds.last = began.elapsed();
        let figures = Figures::of(&replicas, &after).await.with_context(what)?;
        table.add(figures, round, rounds.extent.is_long);
    }
    rounds.check_churn()?;
    table.is_flat(rounds.extent.is_long)
}
