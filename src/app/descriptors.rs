//! Who may have how many of the files that the process may have open.
//!
//! The connections to the API server and the files come first: without them nothing is written. What is
//! left is for the ports.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::telemetry::metrics::PortName;

/// What the operator needs for itself: a connection for each watch, list, write and review that is in
/// flight, which are some 30, the files, and the port that is being accepted on.
const RESERVED: u64 = 128;
/// How many connections a port has at most where there is enough for all. Kubelets, scrapers and people
/// have a handful; each takes up to 200 KB when nothing of what it is sent is read, most of that in the kernel.
const MOST: Caps = Caps {
    health: 64,
    metrics: 128,
    debug: 16,
};
/// How many a port has at least, however few descriptors there are.
const LEAST: u64 = 4;

/// How many connections the ports have at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Caps {
    health: u64,
    metrics: u64,
    debug: u64,
}

impl Caps {
    /// How many this port has.
    pub(super) fn of(self, port: PortName) -> usize {
        let cap = match port {
            PortName::Health => self.health,
            PortName::Metrics => self.metrics,
            PortName::Debug => self.debug,
        };
        usize::try_from(cap).unwrap_or(usize::MAX)
    }

    fn sum(self) -> u64 {
        self.health + self.metrics + self.debug
    }

    /// Those where the process may have so many descriptors: each port its share of what is not reserved.
    fn within(limit: u64) -> Self {
        let rest = limit.saturating_sub(RESERVED).min(MOST.sum());
        let share = |most: u64| (most * rest / MOST.sum()).max(LEAST);
        Self {
            health: share(MOST.health),
            metrics: share(MOST.metrics),
            debug: share(MOST.debug),
        }
    }
}

/// How many connections the ports may have, having raised the limit to what they need where that is allowed.
pub(super) fn caps() -> Caps {
    let limit = raise(RESERVED + MOST.sum());
    let caps = Caps::within(limit);
    if caps != MOST {
        tracing::warn!(
            limit,
            needed = RESERVED + MOST.sum(),
            "Few open files are allowed: the ports take fewer connections (raise it with ulimit -n or LimitNOFILE)"
        );
    }
    caps
}

/// Raises the limit of open files to `needed`, or as far as that is allowed, if it is lower; what it is then.
fn raise(needed: u64) -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    // None is no limit.
    let now = current.unwrap_or(u64::MAX);
    let raised = needed.min(maximum.unwrap_or(u64::MAX));
    if raised <= now {
        return now;
    }
    let limit = Rlimit {
        current: Some(raised),
        maximum,
    };
    match setrlimit(Resource::Nofile, limit) {
        Ok(()) => raised,
        Err(_) => now,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn with_the_usual_limit_every_port_has_all_its_connections() {
        for limit in [RESERVED + MOST.sum(), 1024, u64::MAX] {
            assert_eq!(Caps::within(limit), MOST, "{limit}");
        }
    }

    #[test]
    fn whatever_the_limit_is_what_the_api_server_is_reached_by_is_reserved() {
        for limit in RESERVED + 3 * LEAST..RESERVED + MOST.sum() {
            let caps = Caps::within(limit);
            // Each port may be at its least where its share would be less.
            assert!(caps.sum() <= limit - RESERVED + 2 * LEAST, "{limit}");
            assert!(caps.health >= LEAST && caps.debug >= LEAST, "{limit}");
        }
        let least = Caps::within(0);
        assert_eq!(least.sum(), 3 * LEAST);
    }

    #[test]
    fn a_limit_that_is_higher_is_left_alone() {
        let before = getrlimit(Resource::Nofile);
        let limit = raise(1);
        assert_eq!(limit, before.current.unwrap_or(u64::MAX));
        assert_eq!(getrlimit(Resource::Nofile), before);
    }
}
