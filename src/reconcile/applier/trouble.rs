//! Insights that cannot be written, for `/readyz` and the log.
//!
//! A rejection by the API server concerns one insight: the operator stays ready unless many are rejected, or writes of
//! more than one insight fail. One log line per rejected insight, or one for all if many are rejected.
//! Bounded by the number of insights: an insight that is written, deleted or forgotten is removed.

use std::collections::HashSet;
use std::sync::Arc;

use crate::kubernetes::diagnosis::Diagnosis;
use crate::registry::lock_order::{OrderedMutex, Rank};
use crate::telemetry::health::Health;

/// This many rejected insights make the operator not ready; so does half of all, if that is more than one.
const MANY: usize = 10;
/// Failed writes of this many insights are a failure of the API server.
const SEVERAL: usize = 2;

/// The insights of one kind that cannot be written.
pub(super) struct Trouble {
    kind: &'static str,
    health: Arc<Health>,
    check: &'static str,
    names: OrderedMutex<Names>,
}

#[derive(Default)]
struct Names {
    rejected: HashSet<Arc<str>>,
    /// Insights whose writes failed since the last successful request.
    failing: HashSet<Arc<str>>,
}

impl Trouble {
    /// `check` is the name under which `/readyz` shows it.
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
        names.rejected.contains(name) || names.failing.contains(name)
    }

    /// An insight is as desired; `proof` means that a request for it succeeded. There are `known` insights.
    pub(super) fn works(
        &self,
        name: &Arc<str>,
        proof: bool,
        known: usize,
        reconcile_id: Option<u64>,
    ) {
        let is_over = {
            let mut names = self.names.lock();
            names.rejected.remove(name);
            names.failing.remove(name);
            if proof {
                names.failing.clear();
            }
            !are_many(names.rejected.len(), MANY, known) && names.failing.is_empty()
        };
        if is_over && self.health.ready(self.check) {
            tracing::info!(
                reconcile_id,
                kind = self.kind,
                "Writing insights works again"
            );
        }
    }

    /// The API server rejected an insight.
    pub(super) fn rejected(
        &self,
        name: &Arc<str>,
        why: &Diagnosis,
        known: usize,
        reconcile_id: Option<u64>,
    ) {
        let (is_new, is_many) = {
            let mut names = self.names.lock();
            names.failing.remove(name);
            let is_new = names.rejected.insert(Arc::clone(name));
            (is_new, are_many(names.rejected.len(), MANY, known))
        };
        if is_many {
            self.report(why, reconcile_id);
        } else if is_new {
            tracing::error!(reconcile_id, kind = self.kind, name = &**name, error = %why, "Writing an insight was rejected");
        }
    }

    /// The API server failed to write an insight.
    pub(super) fn fails(
        &self,
        name: &Arc<str>,
        why: &Diagnosis,
        known: usize,
        reconcile_id: Option<u64>,
    ) {
        let is_general = {
            let mut names = self.names.lock();
            names.rejected.remove(name);
            names.failing.insert(Arc::clone(name));
            are_many(names.failing.len(), SEVERAL, known)
        };
        if is_general {
            self.report(why, reconcile_id);
        } else {
            tracing::debug!(reconcile_id, kind = self.kind, name = &**name, error = %why, "Writing an insight failed");
        }
    }

    /// The diagnosis may name its insight; if there are many, the first one is reported.
    fn report(&self, why: &Diagnosis, reconcile_id: Option<u64>) {
        if !self.health.is_ready(self.check) {
            return;
        }
        if self.health.not_ready(self.check, why.to_string()) {
            tracing::warn!(reconcile_id, kind = self.kind, error = %why, "Writing insights fails");
        }
    }
}

/// Half of all known insights are many as well, but a single one only if there is no other.
fn are_many(count: usize, many: usize, known: usize) -> bool {
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
            what: "a policy denies it".to_owned(),
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
    fn a_few_rejected_insights_leave_the_operator_ready_and_many_do_not() {
        let (trouble, health) = trouble();
        for index in 0..MANY - 1 {
            trouble.rejected(&name(index), &why(), 200, None);
            trouble.works(&name(100), true, 200, None);
            assert!(health.is_ready(CHECK), "{index}");
        }
        assert!(trouble.has(&name(0)) && !trouble.has(&name(100)));
        trouble.rejected(&name(MANY), &why(), 200, None);
        assert!(!health.is_ready(CHECK));
        trouble.works(&name(100), true, 200, None);
        assert!(!health.is_ready(CHECK), "they are still rejected");
        trouble.works(&name(0), true, 200, None);
        assert!(health.is_ready(CHECK));
    }

    #[test]
    fn the_operator_is_not_ready_if_half_of_all_insights_are_rejected() {
        let (trouble, health) = trouble();
        trouble.rejected(&name(0), &why(), 3, None);
        assert!(health.is_ready(CHECK));
        trouble.rejected(&name(1), &why(), 3, None);
        assert!(!health.is_ready(CHECK));
    }

    #[test]
    fn one_rejected_insight_of_two_leaves_the_operator_ready_and_a_single_one_does_not() {
        let (trouble, health) = trouble();
        trouble.rejected(&name(0), &why(), 2, None);
        assert!(health.is_ready(CHECK));
        trouble.rejected(&name(0), &why(), 1, None);
        assert!(!health.is_ready(CHECK));
    }

    #[test]
    fn the_operator_is_not_ready_once_two_insights_fail_without_a_success_in_between() {
        let (trouble, health) = trouble();
        trouble.fails(&name(0), &why(), 200, None);
        trouble.fails(&name(0), &why(), 200, None);
        trouble.works(&name(9), true, 200, None);
        trouble.fails(&name(1), &why(), 200, None);
        assert!(health.is_ready(CHECK), "a write succeeded in between");
        trouble.fails(&name(0), &why(), 200, None);
        assert!(!health.is_ready(CHECK));
        trouble.works(&name(7), false, 200, None);
        assert!(
            !health.is_ready(CHECK),
            "no request was sent to the API server"
        );
        trouble.works(&name(7), true, 200, None);
        assert!(health.is_ready(CHECK));
    }
}
