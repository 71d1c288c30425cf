//! Random faults, one after the other and some concurrently.

use std::time::{Duration, Instant};

use anyhow::Result;
use fastrand::Rng;
use node_insights_harness::FaultProxy;
use node_insights_harness::fault_proxy::{Door, Fault, Rule};

use crate::support::WATCHED;

/// The version of another, older API server, as `/version` reports it.
pub const OLDER_SERVER: &str = "v1.35.0";
/// The resources that are written.
const WRITTEN: [&str; 3] = ["nodeprogressinsights", "poolprogressinsights", "events"];

/// How long a door stays open before it is shut again. A request to a silent one times out after 5 s: without an open
/// door in between, a leader would lose its lease and exit.
const DOORS_OPEN: Duration = Duration::from_secs(10);

/// Injects faults until then; those of the last seconds may last longer. Reads hang only if `hangs` is set.
pub async fn chaos(
    proxies: &[FaultProxy; 2],
    random: &mut Rng,
    until: Instant,
    hangs: bool,
) -> Result<()> {
    // An API server that is not updated yet answers first, and then every other time.
    for proxy in proxies {
        let older = || Rule::new(Fault::Version(OLDER_SERVER.to_owned())).resource("/version");
        proxy.add(older().times(1));
        proxy.add(older().chance(0.5));
    }
    let mut doors = [None; 2];
    while Instant::now() < until {
        let which = usize::from(random.f64() < 0.3);
        let proxy = &proxies[which];
        match random.u8(..16) {
            0 => proxy.cut_connections(),
            kind @ 1..3 => {
                let door = [Door::Refusing, Door::Silent][usize::from(kind - 1)];
                let is_due = |last: Instant| last.elapsed() >= DOORS_OPEN;
                if doors[which].is_none_or(is_due) {
                    shut(proxy, door, random).await;
                    doors[which] = Some(Instant::now());
                }
            }
            3 => proxy.cut_watches(pick(random, &WATCHED)),
            4..6 => {
                proxy.add(of_write(random).lasts(some_time(random)));
            }
            6..9 => {
                proxy.add(older_list(random).lasts(2 * some_time(random)));
            }
            9 if hangs => {
                // The next list or watch of the kind, which comes at once.
                let kind = pick(random, &WATCHED);
                proxy.add(Rule::new(Fault::Hang).reads().resource(kind).times(1));
                proxy.cut_watches(kind);
            }
            _ => {
                let rule = of_read(random).lasts(some_time(random));
                proxy.add(rule);
                if random.bool() {
                    proxy.cut_watches(pick(random, &WATCHED));
                }
            }
        }
        tokio::time::sleep(Duration::from_millis(random.u64(50..800))).await;
    }
    Ok(())
}

async fn shut(proxy: &FaultProxy, door: Door, random: &mut Rng) {
    proxy.door(door);
    tokio::time::sleep(some_time(random) / 2).await;
    proxy.door(Door::Open);
}

fn of_write(random: &mut Rng) -> Rule {
    let fault = match random.u8(..8) {
        0 => Fault::Cut,
        1 => Fault::LoseResponse,
        2 => Fault::Hang,
        3 => Fault::Truncate,
        4 => Fault::Garble,
        5 => Fault::Delay(some_time(random) / 4),
        _ => status(random),
    };
    let rule = Rule::new(fault).writes().chance(random.f64());
    rule.resource(pick(random, &WRITTEN))
}

/// Once or twice, the list that was recorded at the last quiet point.
fn older_list(random: &mut Rng) -> Rule {
    let rule = Rule::new(Fault::Replay).verbs(&["list"]);
    rule.resource(pick(random, &WATCHED))
        .times(random.u64(1..3))
}

/// Not a hanging read: that times out only after 75 s.
fn of_read(random: &mut Rng) -> Rule {
    let fault = match random.u8(..12) {
        0 => Fault::Cut,
        1 => Fault::Truncate,
        2 => Fault::Garble,
        3 => Fault::Expire,
        4 => Fault::Duplicate,
        5 => Fault::Drop,
        6 => Fault::Swap,
        7 => Fault::Delay(some_time(random) / 4),
        8 => Fault::Throttle(random.u32(5_000..100_000)),
        9 => {
            return Rule::new(Fault::status(403, None))
                .reads()
                .resource(pick(random, &WATCHED));
        }
        _ => status(random),
    };
    let rule = Rule::new(fault).reads().chance(random.f64());
    if random.f64() < 0.2 {
        rule // of every kind
    } else {
        rule.resource(pick(random, &WATCHED))
    }
}

fn status(random: &mut Rng) -> Fault {
    let codes = [429, 500, 503, 504];
    let code = codes[random.usize(..codes.len())];
    Fault::status(code, random.bool().then_some(1))
}

fn some_time(random: &mut Rng) -> Duration {
    Duration::from_millis(random.u64(200..4000))
}

fn pick<'a>(random: &mut Rng, all: &[&'a str]) -> &'a str {
    all[random.usize(..all.len())]
}
