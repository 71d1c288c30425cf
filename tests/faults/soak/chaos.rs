//! Random faults, one after the other and some at once.

use std::time::{Duration, Instant};

use anyhow::Result;
use fastrand::Rng;
use node_insights_harness::FaultProxy;
use node_insights_harness::fault_proxy::{Door, Fault, Rule};

/// What is watched.
const WATCHED: [&str; 6] = [
    "nodes",
    "machineconfigpools",
    "machineconfigs",
    "clusterversions",
    "nodeprogressinsights",
    "poolprogressinsights",
];
/// What is written.
const WRITTEN: [&str; 3] = ["nodeprogressinsights", "poolprogressinsights", "events"];

/// Faults until then; those of the last seconds may last longer.
pub async fn chaos(proxies: &[FaultProxy; 2], random: &mut Rng, until: Instant) -> Result<()> {
    while Instant::now() < until {
        let proxy = &proxies[usize::from(random.f64() < 0.3)];
        match random.u8(..12) {
            0 => proxy.cut_connections(),
            1 => shut(proxy, Door::Refusing, random).await,
            2 => shut(proxy, Door::Silent, random).await,
            3 => proxy.cut_watches(pick(random, &WATCHED)),
            4..6 => {
                proxy.add(of_write(random).lasts(some_time(random)));
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
        1 => Fault::LoseAnswer,
        2 => Fault::Hang,
        3 => Fault::Truncate,
        4 => Fault::Garble,
        5 => Fault::Delay(some_time(random) / 4),
        _ => status(random),
    };
    let rule = Rule::new(fault).writes().chance(random.f64());
    rule.resource(pick(random, &WRITTEN))
}

/// None that hangs: a watch that is never answered is given up after 75 s, and nothing would be quiet before.
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
