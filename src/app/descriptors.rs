//! Divides the process's limit of open files.
//!
//! Connections to the API server and files have priority: without them nothing is written. The ports share the
//! rest.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::telemetry::metrics::PortName;

/// Reserved for the operator itself: some 30 connections for concurrent watches, lists, writes and reviews, the
/// files, and the listeners.
const RESERVED: u64 = 128;
/// The maximum connections of each port. Kubelets, scrapers and people need a handful; each takes up to 200 KB
/// while its responses are not read, mostly in the kernel.
const MOST: Caps = Caps {
    health: 64,
    metrics: 128,
    debug: 16,
};
/// The minimum per port, even with too few descriptors.
const LEAST: u64 = 4;

/// The maximum connections of each port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Caps {
    health: u64,
    metrics: u64,
    debug: u64,
}

impl Caps {
    /// The maximum of this port.
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

    /// The caps under this limit of descriptors: each port has its share of what is not reserved.
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

/// Raises the limit of open files to the needed one, as far as allowed; returns the caps of the ports under it.
pub(super) fn caps() -> Caps {
    let limit = raise(RESERVED + MOST.sum());
    let caps = Caps::within(limit);
    if caps != MOST {
        tracing::warn!(
            limit,
            needed = RESERVED + MOST.sum(),
            "The limit of open files is low: the ports accept fewer connections (raise it with ulimit -n or LimitNOFILE)"
        );
    }
    caps
}

/// Raises the limit of open files to `needed`, as far as allowed; returns the resulting limit.
fn raise(needed: u64) -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    // `None` means no limit.
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
    fn with_the_usual_limit_every_port_has_its_maximum() {
        for limit in [RESERVED + MOST.sum(), 1024, u64::MAX] {
            assert_eq!(Caps::within(limit), MOST, "{limit}");
        }
    }

    #[test]
    fn descriptors_for_the_api_server_are_reserved_at_every_limit() {
        for limit in RESERVED + 3 * LEAST..RESERVED + MOST.sum() {
            let caps = Caps::within(limit);
            // Ports whose share is too small have the minimum.
            assert!(caps.sum() <= limit - RESERVED + 2 * LEAST, "{limit}");
            assert!(caps.health >= LEAST && caps.debug >= LEAST, "{limit}");
        }
        let least = Caps::within(0);
        assert_eq!(least.sum(), 3 * LEAST);
    }

    #[test]
    fn a_higher_limit_is_not_changed() {
        let before = getrlimit(Resource::Nofile);
        let limit = raise(1);
        assert_eq!(limit, before.current.unwrap_or(u64::MAX));
        assert_eq!(getrlimit(Resource::Nofile), before);
    }
}
