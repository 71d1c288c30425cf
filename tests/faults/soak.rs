//! Everything that is read changes at random, under random faults, in front of a leader and a standby; now and then
//! it is quiet, and a fresh operator looks whether every insight is what it would have written.
//!
//! As part of the tests it takes a minute. `make soak` runs it for hours, with thousands of nodes that come and go:
//! then memory has to be flat as well.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use node_insights_harness::openshift::{Cluster, Pool};

use self::changes::Changes;
use self::chaos::chaos;
use self::figures::{Figures, Table};
use self::replicas::Replicas;
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
/// Nodes that come and go in the long form.
const NODES_IN_ALL: f64 = 30_000.0;
/// Faults and changes take half a minute of a round, and looking another half.
const ROUNDS_PER_HOUR: f64 = 55.0;

/// How long, and how much.
struct Extent {
    end: Instant,
    /// Faults and changes between two looks.
    round: Duration,
    /// Nodes that come and go in a round.
    passing: usize,
    is_long: bool,
}

impl Extent {
    fn of_environment() -> Result<Self> {
        let now = Instant::now();
        if std::env::var_os(SOAK).is_none() {
            return Ok(Self {
                end: now + Duration::from_secs(30),
                round: Duration::from_secs(12),
                passing: 60,
                is_long: false,
            });
        }
        let hours = std::env::var(HOURS).unwrap_or_else(|_| "2".to_owned());
        let hours: f64 = hours.parse().with_context(|| format!("{HOURS}={hours}"))?;
        ensure!(hours > 0.0, "{HOURS}={hours}");
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a whole number between 60 and 30,000"
        )]
        let passing = (NODES_IN_ALL / (hours * ROUNDS_PER_HOUR)).clamp(60.0, NODES_IN_ALL) as usize;
        Ok(Self {
            end: now + Duration::from_secs_f64(hours * 3600.0),
            round: Duration::from_secs(30),
            passing,
            is_long: true,
        })
    }
}

#[tokio::test]
async fn under_random_faults_and_changes_the_insights_end_right_and_nothing_grows() -> Result<()> {
    let extent = Extent::of_environment()?;
    let seed = seed()?;
    let cluster = Cluster::builder(OLD)
        .pool(Pool::new("master", 1))
        .pool(Pool::new("worker", 6))
        .pool(Pool::new("infra", 2))
        .build()?;
    let world = World::openshift(&cluster).await?;
    let mut replicas = Replicas::start(world, seed).await?;
    let mut changes = Changes::new(seed, &replicas.world).await?;
    let mut faults = fastrand::Rng::with_seed(seed ^ 1);
    let mut table = Table::default();
    let mut round = 0_u32;
    while round < 2 || Instant::now() < extent.end {
        round += 1;
        let what = || format!("in round {round}");
        let before = Snapshot::of(&replicas.world).await?;
        let until = Instant::now() + extent.round;
        changes.begin();
        tokio::try_join!(
            changes.go_on(until),
            changes::come_and_go(&replicas.world, round, extent.passing, until),
            chaos(&replicas.proxies, &mut faults, until),
        )
        .with_context(what)?;
        replicas.quiet().await.with_context(what)?;
        replicas.judge().await.with_context(what)?;
        let after = Snapshot::of(&replicas.world).await?;
        changes.is_kept(&before, &after).with_context(what)?;
        table.add(Figures::of(&replicas).await?, round, extent.is_long);
    }
    table.is_flat(extent.is_long)
}
