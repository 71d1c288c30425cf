//! The checks behind `/readyz`.
//!
//! Readiness is a set of named checks, each ready or with a reason and a remedy. There are no checks for liveness: a
//! process that responds is alive, and a restart does not help when a dependency is down.

use std::fmt::Write as _;

use super::metrics::Readiness;
use crate::registry::store::{Change, Store};

/// The named checks.
#[derive(Default)]
pub struct Health {
    checks: Store<&'static str, Check>,
}

#[derive(PartialEq)]
struct Check {
    name: &'static str,
    /// Why it is not ready.
    why: Option<String>,
    /// The operator is ready even if this check is not.
    is_optional: bool,
}

impl Check {
    fn is_fine(&self) -> bool {
        self.why.is_none() || self.is_optional
    }
}

impl Health {
    /// Marks a check as not ready, with the reason; returns whether that is a change.
    pub fn not_ready(&self, check: &'static str, why: impl Into<String>) -> bool {
        self.set(check, Some(why.into()), false)
    }

    /// Marks an optional check as not ready, with the reason; returns whether that is a change.
    pub fn degraded(&self, check: &'static str, why: impl Into<String>) -> bool {
        self.set(check, Some(why.into()), true)
    }

    /// Marks a check as ready; returns whether that is a change.
    pub fn ready(&self, check: &'static str) -> bool {
        self.set(check, None, false)
    }

    /// Whether a check is ready; an unknown one is.
    #[must_use]
    pub fn is_ready(&self, check: &'static str) -> bool {
        let check = self.checks.get(&check);
        check.is_none_or(|check| check.why.is_none())
    }

    /// Removes a check that does not apply any more.
    pub fn forget(&self, check: &'static str) {
        self.checks.remove(&check);
    }

    /// Whether every check is ready, and a line for each.
    #[must_use]
    pub fn report(&self) -> (bool, String) {
        let checks = self.checks.snapshot().values;
        let mut text = String::new();
        for check in &checks {
            // Writing to a string cannot fail.
            let _ = match &check.why {
                None => writeln!(text, "[+] {}: ok", check.name),
                Some(why) if check.is_optional => writeln!(text, "[~] {}: {why}", check.name),
                Some(why) => writeln!(text, "[-] {}: {why}", check.name),
            };
        }
        let all_are_ready = checks.iter().all(|check| check.is_fine());
        (!checks.is_empty() && all_are_ready, text)
    }

    /// The same without the reasons, for metrics.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        let checks = self.checks.snapshot().values;
        Readiness {
            ready: !checks.is_empty() && checks.iter().all(|check| check.is_fine()),
            checks: checks
                .iter()
                .map(|check| (check.name, check.why.is_none()))
                .collect(),
        }
    }

    fn set(&self, name: &'static str, why: Option<String>, is_optional: bool) -> bool {
        let check = Check {
            name,
            why,
            is_optional,
        };
        self.checks.upsert(name, check) != Change::Unchanged
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readiness_requires_every_check_and_the_report_lists_all() {
        let health = Health::default();
        assert!(!health.report().0);
        assert!(health.not_ready("watch nodes", "not listed yet"));
        assert!(health.ready("watch pools"));
        let (ready, text) = health.report();
        assert!(!ready);
        assert_eq!(
            text,
            "[-] watch nodes: not listed yet\n[+] watch pools: ok\n"
        );
        let checks = vec![("watch nodes", false), ("watch pools", true)];
        let expected = Readiness {
            ready: false,
            checks,
        };
        assert_eq!(health.readiness(), expected);
        assert!(health.ready("watch nodes"));
        assert!(health.report().0);
        assert!(health.readiness().ready);
        assert!(health.degraded("daemonsets", "forbidden"));
        let (ready, text) = health.report();
        assert!(
            ready && text.starts_with("[~] daemonsets: forbidden\n"),
            "{text}"
        );
        assert!(health.readiness().ready);
        for check in ["watch nodes", "watch pools", "daemonsets"] {
            health.forget(check);
        }
        assert_eq!(health.readiness(), Readiness::default());
    }

    #[test]
    fn the_same_reason_again_is_no_change() {
        let health = Health::default();
        assert!(health.not_ready("watch nodes", "forbidden"));
        assert!(!health.not_ready("watch nodes", "forbidden"));
        assert!(health.not_ready("watch nodes", "unreachable"));
        assert!(health.ready("watch nodes"));
        assert!(!health.ready("watch nodes"));
    }
}
