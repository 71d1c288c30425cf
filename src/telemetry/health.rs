//! What works and what does not, for `/readyz` and for whoever has to mend it.
//!
//! Readiness is a set of named checks, each ready or with the reason why not and what to do about it.
//! Liveness is not here: a process that answers is alive, and what it waits for is not its fault.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The named checks.
#[derive(Debug, Default)]
pub struct Health {
    checks: Mutex<BTreeMap<&'static str, Option<String>>>,
}

impl Health {
    /// Adds a check that is not ready yet, or tells why one is not; whether that is news.
    pub fn not_ready(&self, check: &'static str, why: impl Into<String>) -> bool {
        let why = Some(why.into());
        let mut checks = self.lock();
        if checks.get(check) == Some(&why) {
            return false;
        }
        checks.insert(check, why);
        true
    }

    /// Says that a check is ready; whether that is news.
    pub fn ready(&self, check: &'static str) -> bool {
        self.lock().insert(check, None) != Some(None)
    }

    /// Forgets every check: what they were about is not there any more.
    pub fn clear(&self) {
        self.lock().clear();
    }

    /// Whether every check is ready, and a line for each.
    #[must_use]
    pub fn report(&self) -> (bool, String) {
        let checks = self.lock();
        let mut text = String::new();
        for (check, why) in checks.iter() {
            // Writing to a string cannot fail.
            let _ = match why {
                None => writeln!(text, "[+] {check}: ok"),
                Some(why) => writeln!(text, "[-] {check}: {why}"),
            };
        }
        (
            !checks.is_empty() && checks.values().all(Option::is_none),
            text,
        )
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, Option<String>>> {
        self.checks.lock().unwrap_or_else(PoisonError::into_inner)
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
        assert!(health.ready("watch nodes"));
        assert!(health.report().0);
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
