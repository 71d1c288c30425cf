//! Everything that is read changes at random, under random faults, in front of a leader and a standby, of which one is
//! killed now and then; after each round it is quiet, and a fresh operator looks whether every insight is what it would
//! have written.
//!
//! As part of the tests it takes a minute. `make soak` runs it for hours, with thousands of nodes that come and go:
//! then memory has to be flat as well. Kills end with the first quarter: what grows is only seen of a process that
//! lives on.

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
/// How many; 2 unless set.
const HOURS: &str = "NODE_INSIGHTS_SOAK_HOURS";
/// Nodes that come and go in an hour of the long form: 30,000 in two.
const PASSING_PER_HOUR: f64 = 15_000.0;
/// In a round of the short form; no fewer in one of the long form.
const PASSING: usize = 60;
/// At most so many at once, so that a round which took long is not followed by one that takes longer.
const PASSING_AT_MOST: usize = 800;
/// The share of them that has to have come when the time is over: the last round may not have been begun any more.
const PASSING_KEPT: f64 = 0.9;
/// Of the long form, this share of the time has kills.
const KILLS: f64 = 0.25;

/// By whose rules nodes are judged, as often as it stands here: most that changes matters to the first ones, and what
/// `/version` says to the others.
const PLATFORMS: [&str; 3] = ["openshift", "openshift", "kubernetes"];

/// How long, and how much.
struct Extent {
    begin: Instant,
    end: Instant,
    /// Faults and changes between two looks.
    round: Duration,
    /// The shorter it is, the sooner a leader that was killed has a successor; the longer, the less it matters that
    /// the machine has other things to do.
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

    /// How many nodes have to have come and gone by then.
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a few thousand an hour"
    )]
    fn due(&self, at: Instant) -> usize {
        let hours = at.duration_since(self.begin).as_secs_f64() / 3600.0;
        (hours * PASSING_PER_HOUR) as usize
    }
}

/// What happens in a round beside changes and faults.
struct Round {
    /// Which replica is killed, and how long after the beginning.
    kill: Option<(usize, Duration)>,
    /// Lists and watches are not answered.
    hangs: bool,
    /// What is held up at the end is cut; else the replicas have to give it up themselves.
    cuts: bool,
    /// Nodes that come and go.
    passing: usize,
}

/// Draws the rounds, and counts.
struct Rounds {
    extent: Extent,
    random: Rng,
    /// How long the last one took.
    last: Duration,
    /// Nodes that have come and gone.
    passed: usize,
}

impl Rounds {
    /// The next one.
    fn draw(&mut self, round: u32) -> Round {
        let Self {
            extent,
            random,
            last,
            passed,
        } = self;
        let now = Instant::now();
        // A long run is judged by what comes after the kills, the short one after its first round.
        let kills = if extent.is_long {
            let share = now.duration_since(extent.begin).as_secs_f64()
                / extent.end.duration_since(extent.begin).as_secs_f64();
            share < KILLS && random.bool()
        } else {
            round == 1
        };
        let which = random.usize(..2);
        // Early: until the lease of a leader has passed, nothing is written.
        let after = extent.round.mul_f64(random.f64() / 4.0);
        let hangs = random.f64() < 0.4;
        // What is given up after 75 s takes a minute more.
        let cuts = !extent.is_long || random.f64() < 0.7;
        let passing = if extent.is_long {
            let due = extent.due(now + *last);
            due.saturating_sub(*passed).clamp(PASSING, PASSING_AT_MOST)
        } else {
            PASSING
        };
        *passed += passing;
        Round {
            kill: kills.then_some((which, after)),
            hangs,
            cuts,
            passing,
        }
    }

    /// Fails when fewer nodes came and went than had to.
    fn have_passed(&self) -> Result<()> {
        let Self { extent, passed, .. } = self;
        if !extent.is_long {
            return Ok(());
        }
        let due = extent.due(extent.end);
        eprintln!("{passed} nodes came and went; {due} were due");
        #[allow(clippy::cast_precision_loss, reason = "fewer nodes than 2^52")]
        let share = *passed as f64 / due.max(1) as f64;
        ensure!(
            share >= PASSING_KEPT,
            "only {passed} of {due} nodes came and went"
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
async fn under_random_faults_and_changes_the_insights_end_right_and_nothing_grows() -> Result<()> {
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
    eprintln!("By the rules of {platform}");
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
        passed: 0,
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
            passing,
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
            changes.go_on(until),
            changes::come_and_go(world, round, passing, until),
            chaos(proxies, &mut faults, until, hangs),
            self::kill(members, kill),
        )
        .with_context(what)?;
        replicas.quiet(cuts).await.with_context(what)?;
        replicas.judge().await.with_context(what)?;
        let after = Snapshot::of(&replicas.world).await?;
        changes
            .is_kept(&before, &after, kill.is_some())
            .with_context(what)?;
        if kill.is_some() {
            table.begin_again();
        }
        rounds.last = began.elapsed();
        let figures = Figures::of(&replicas, &after).await.with_context(what)?;
        table.add(figures, round, rounds.extent.is_long);
    }
    rounds.have_passed()?;
    table.is_flat(rounds.extent.is_long)
}
