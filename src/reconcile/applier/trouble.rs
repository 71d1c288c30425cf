//! What cannot be written, for `/readyz` and the log.
//!
//! An insight that the API server refuses concerns that insight; only when many are refused is it the
//! operator's trouble. A failure of the API server is everybody's once more than one insight meets it. One line
//! of the log for each insight that is refused, one for all where many are. Bounded by the insights that there
//! are: whoever is gone is written, or forgotten, and leaves.

use std::collections::HashSet;
use std::sync::Arc;

use crate::kubernetes::diagnosis::Diagnosis;
use crate::registry::lock_order::{OrderedMutex, Rank};
use crate::telemetry::health::Health;

/// So many refused insights are no longer each one's own matter; nor is half of all, if that is more than one.
const MANY: usize = 10;
/// A failure that more than one insight meets is the API server's.
const SEVERAL: usize = 2;

/// What cannot be written of one kind.
pub(super) struct Trouble {
    kind: &'static str,
    health: Arc<Health>,
    check: &'static str,
    names: OrderedMutex<Names>,
}

#[derive(Default)]
struct Names {
    refused: HashSet<Arc<str>>,
    /// Those that the API server failed at since it last did something.
    failing: HashSet<Arc<str>>,
}

impl Trouble {
    /// None yet; `check` is the name under which `/readyz` shows it.
    pub(super) fn new(kind: &'static str, health: Arc<Health>, check: &'static str) -> Self {
        health.ready(check);
        Self {
            kind,
            health,
            check,
            names: OrderedMutex::new(Rank::LEAF, Names::default()),
        }
    }

    /// Whether an insight cannot be written.
    pub(super) fn has(&self, name: &Arc<str>) -> bool {
        let names = self.names.lock();
        names.refused.contains(name) || names.failing.contains(name)
    }

    /// An insight is as it shall be; whether the API server did something for it is `proof`. There are `known`
    /// insights.
    pub(super) fn works(
        &self,
        name: &Arc<str>,
        proof: bool,
        known: usize,
        reconcile_id: Option<u64>,
    ) {
        let is_over = {
            let mut names = self.names.lock();
            names.refused.remove(name);
            names.failing.remove(name);
            if proof {
                names.failing.clear();
            }
            !is_much(names.refused.len(), MANY, known) && names.failing.is_empty()
        };
        if is_over && self.health.ready(self.check) {
            tracing::info!(
                reconcile_id,
                kind = self.kind,
                "Writing insights works again"
            );
        }
    }

    /// The API server does not take an insight.
    pub(super) fn refused(
        &self,
        name: &Arc<str>,
        why: &Diagnosis,
        known: usize,
        reconcile_id: Option<u64>,
    ) {
        let (is_new, is_many) = {
            let mut names = self.names.lock();
            names.failing.remove(name);
            let is_new = names.refused.insert(Arc::clone(name));
            (is_new, is_much(names.refused.len(), MANY, known))
        };
        if is_many {
            self.report(why, reconcile_id);
        } else if is_new {
            tracing::error!(reconcile_id, kind = self.kind, name = &**name, error = %why, "Writing an insight was refused");
        }
    }

    /// The API server failed at an insight.
    pub(super) fn fails(
        &self,
        name: &Arc<str>,
        why: &Diagnosis,
        known: usize,
        reconcile_id: Option<u64>,
    ) {
        let is_general = {
            let mut names = self.names.lock();
            names.refused.remove(name);
            names.failing.insert(Arc::clone(name));
            is_much(names.failing.len(), SEVERAL, known)
        };
        if is_general {
            self.report(why, reconcile_id);
        } else {
            tracing::debug!(reconcile_id, kind = self.kind, name = &**name, error = %why, "Writing an insight failed");
        }
    }

    /// What is said of one insight may have its name in it: of many, the first is said.
    fn report(&self, why: &Diagnosis, reconcile_id: Option<u64>) {
        if !self.health.is_ready(self.check) {
            return;
        }
        if self.health.not_ready(self.check, why.to_string()) {
            tracing::warn!(reconcile_id, kind = self.kind, error = %why, "Writing insights fails");
        }
    }
}

/// Half of all that is known is much as well, but one is only if there is no other.
fn is_much(count: usize, many: usize, known: usize) -> bool {
    count >= many || (count > 1 && 2 * count >= known) || (count == 1 && known <= 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubernetes::diagnosis::Problem;

    const CHECK: &str = "writing";

    fn why() -> Diagnosis {
        Diagnosis {
            problem: Problem::Forbidden,
            what: "a policy says no".to_owned(),
            remedy: "ask its author".to_owned(),
        }
    }

    fn trouble() -> (Trouble, Arc<Health>) {
        let health = Arc::new(Health::default());
        (Trouble::new("Insight", Arc::clone(&health), CHECK), health)
    }

    fn name(index: usize) -> Arc<str> {
        format!("node-{index}").into()
    }

    #[test]
    fn a_few_refused_insights_of_many_are_no_reason_to_be_not_ready_and_many_are() {
        let (trouble, health) = trouble();
        for index in 0..MANY - 1 {
            trouble.refused(&name(index), &why(), 200, None);
            trouble.works(&name(100), true, 200, None);
            assert!(health.is_ready(CHECK), "{index}");
        }
        assert!(trouble.has(&name(0)) && !trouble.has(&name(100)));
        trouble.refused(&name(MANY), &why(), 200, None);
        assert!(!health.is_ready(CHECK));
        trouble.works(&name(100), true, 200, None);
        assert!(!health.is_ready(CHECK), "they are still refused");
        trouble.works(&name(0), true, 200, None);
        assert!(health.is_ready(CHECK));
    }

    #[test]
    fn where_half_of_all_are_refused_few_are_many() {
        let (trouble, health) = trouble();
        trouble.refused(&name(0), &why(), 3, None);
        assert!(health.is_ready(CHECK));
        trouble.refused(&name(1), &why(), 3, None);
        assert!(!health.is_ready(CHECK));
    }

    #[test]
    fn one_of_two_that_is_refused_is_no_reason_to_be_not_ready_and_the_only_one_is() {
        let (trouble, health) = trouble();
        trouble.refused(&name(0), &why(), 2, None);
        assert!(health.is_ready(CHECK));
        trouble.refused(&name(0), &why(), 1, None);
        assert!(!health.is_ready(CHECK));
    }

    #[test]
    fn a_failure_of_the_api_server_is_one_once_a_second_insight_meets_it_and_nothing_works() {
        let (trouble, health) = trouble();
        trouble.fails(&name(0), &why(), 200, None);
        trouble.fails(&name(0), &why(), 200, None);
        trouble.works(&name(9), true, 200, None);
        trouble.fails(&name(1), &why(), 200, None);
        assert!(health.is_ready(CHECK), "another one worked in between");
        trouble.fails(&name(0), &why(), 200, None);
        assert!(!health.is_ready(CHECK));
        trouble.works(&name(7), false, 200, None);
        assert!(
            !health.is_ready(CHECK),
            "nothing was asked of the API server"
        );
        trouble.works(&name(7), true, 200, None);
        assert!(health.is_ready(CHECK));
    }
}
