//! What works and what does not, for `/readyz` and for whoever has to mend it.
//!
//! Readiness is a set of named checks, each ready or with the reason why not and what to do about it.
//! Liveness is not here: a process that answers is alive, and what it waits for is not its fault.

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
    /// The operator is ready all the same.
    is_optional: bool,
}

impl Check {
    fn is_fine(&self) -> bool {
        self.why.is_none() || self.is_optional
    }
}

impl Health {
    /// Adds a check that is not ready yet, or tells why one is not; whether that is news.
    pub fn not_ready(&self, check: &'static str, why: impl Into<String>) -> bool {
        self.set(check, Some(why.into()), false)
    }

    /// Tells why something does not work that the operator can do without; whether that is news.
    pub fn degraded(&self, check: &'static str, why: impl Into<String>) -> bool {
        self.set(check, Some(why.into()), true)
    }

    /// Says that a check is ready; whether that is news.
    pub fn ready(&self, check: &'static str) -> bool {
        self.set(check, None, false)
    }

    /// Whether a check is ready; one that is not known is.
    #[must_use]
    pub fn is_ready(&self, check: &'static str) -> bool {
        let check = self.checks.get(&check);
        check.is_none_or(|check| check.why.is_none())
    }

    /// Forgets a check: what it was about is not there any more.
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
    fn nothing_is_ready_before_a_check_says_so_and_everything_is_named() {
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
    fn the_same_reason_again_is_no_news() {
        let health = Health::default();
        assert!(health.not_ready("watch nodes", "forbidden"));
        assert!(!health.not_ready("watch nodes", "forbidden"));
        assert!(health.not_ready("watch nodes", "unreachable"));
        assert!(health.ready("watch nodes"));
        assert!(!health.ready("watch nodes"));
    }
}
