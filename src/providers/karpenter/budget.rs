//! Disruption budgets of NodePools: when no drifted node may be replaced.
//!
//! A budget is always active, or for a duration after each time of its schedule, a crontab in UTC. The most
//! restrictive active budget counts, so a budget of zero nodes for drift pauses the pool.

use cronexpr::{Crontab, MakeTimestamp};
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;

/// How many nodes of a pool may be disrupted at once.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Budget {
    /// A number, or a share with `%`.
    pub nodes: String,
    /// The reasons it applies to; all when `None`.
    pub reasons: Option<Vec<String>>,
    /// When it becomes active; always active when `None`.
    pub schedule: Option<String>,
    /// How long it is active.
    pub duration: Option<String>,
}

/// Whether budgets block all replacements, and when that may change.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Blocked {
    /// No drifted node may be replaced now.
    pub is_blocked: bool,
    /// When to check again, if the result depends on the time.
    pub again_at: Option<Timestamp>,
}

/// Whether these budgets block the replacement of drifted nodes now.
#[must_use]
pub fn blocked(budgets: &[Budget], now: Timestamp) -> Blocked {
    let mut blocked = Blocked::default();
    for budget in budgets.iter().filter(|budget| budget.forbids_drift()) {
        let (is_active, changes_at) = budget.is_active(now);
        blocked.is_blocked |= is_active;
        blocked.again_at = match (blocked.again_at, changes_at) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
    }
    blocked
}

impl Budget {
    fn forbids_drift(&self) -> bool {
        let reasons = self.reasons.as_deref().unwrap_or_default();
        let is_for_drift = reasons.is_empty() || reasons.iter().any(|reason| reason == "Drifted");
        is_for_drift && matches!(self.nodes.trim(), "0" | "0%")
    }

    /// Whether it is active, and when that changes. An invalid schedule blocks everything, as in Karpenter.
    fn is_active(&self, now: Timestamp) -> (bool, Option<Timestamp>) {
        let Some(schedule) = &self.schedule else {
            return (true, None);
        };
        let duration = self.duration.as_deref().and_then(|text| text.parse().ok());
        let (Some(crontab), Some(duration)) = (crontab(schedule), duration) else {
            return (true, None);
        };
        let duration: SignedDuration = duration;
        let Ok(window) = now.checked_sub(duration) else {
            return (true, None);
        };
        match next(&crontab, window) {
            Some(hit) if hit <= now => (true, hit.checked_add(duration).ok()),
            upcoming => (false, upcoming),
        }
    }
}

/// Named schedules and their crontabs.
const NAMED: [(&str, &str); 7] = [
    ("@annually", "0 0 1 1 *"),
    ("@yearly", "0 0 1 1 *"),
    ("@monthly", "0 0 1 * *"),
    ("@weekly", "0 0 * * 0"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@hourly", "0 * * * *"),
];

fn crontab(schedule: &str) -> Option<Crontab> {
    let schedule = schedule.trim();
    let mut named = NAMED.iter();
    let fields = named.find(|(name, _)| *name == schedule);
    let fields = fields.map_or(schedule, |(_, fields)| fields);
    cronexpr::parse_crontab(&format!("{fields} UTC")).ok()
}

/// The next time of the schedule after `after`.
fn next(crontab: &Crontab, after: Timestamp) -> Option<Timestamp> {
    Some(crontab.find_next(MakeTimestamp(after)).ok()?.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn budget(nodes: &str, schedule: Option<(&str, &str)>, reasons: &[&str]) -> Budget {
        Budget {
            nodes: nodes.to_owned(),
            reasons: Some(reasons.iter().map(ToString::to_string).collect()),
            schedule: schedule.map(|(schedule, _)| schedule.to_owned()),
            duration: schedule.map(|(_, duration)| duration.to_owned()),
        }
    }

    fn is_blocked(budget: Budget, now: &str) -> bool {
        blocked(&[budget], at(now)).is_blocked
    }

    #[test]
    fn a_budget_of_zero_nodes_for_drift_or_all_reasons_blocks() {
        let now = "2026-11-30T12:00:00Z";
        for (nodes, reasons, expected) in [
            ("0", &[][..], true),
            ("0%", &["Drifted"], true),
            ("0", &["Empty", "Drifted"], true),
            ("0", &["Empty", "Underutilized"], false),
            ("10%", &[], false),
            ("1", &[], false),
        ] {
            let budget = budget(nodes, None, reasons);
            assert_eq!(is_blocked(budget, now), expected, "{nodes} {reasons:?}");
        }
        assert_eq!(blocked(&[], at(now)), Blocked::default());
    }

    #[test]
    fn a_scheduled_budget_blocks_for_its_duration_after_each_time_in_utc() {
        // Working hours, Monday to Friday; the 30th is a Monday.
        let office = || budget("0", Some(("0 9 * * mon-fri", "8h")), &[]);
        for (now, expected) in [
            ("2026-11-30T08:59:59Z", false),
            ("2026-11-30T09:00:00Z", true),
            ("2026-11-30T16:59:59Z", true),
            ("2026-11-30T17:00:00Z", false),
            ("2026-11-29T12:00:00Z", false),
        ] {
            assert_eq!(is_blocked(office(), now), expected, "{now}");
        }
        let daily = budget("0", Some(("@daily", "1h30m0s")), &[]);
        assert!(is_blocked(daily.clone(), "2026-11-30T01:29:00Z"));
        assert!(!is_blocked(daily, "2026-11-30T01:30:00Z"));
    }

    #[test]
    fn the_next_change_of_a_scheduled_budget_is_known() {
        let office = [budget("0", Some(("0 9 * * *", "8h")), &[])];
        let again = |now: &str| blocked(&office, at(now)).again_at.unwrap().to_string();
        assert_eq!(again("2026-11-30T08:00:00Z"), "2026-11-30T09:00:00Z");
        assert_eq!(again("2026-11-30T10:00:00Z"), "2026-11-30T17:00:00Z");
    }

    #[test]
    fn an_invalid_schedule_blocks() {
        for (schedule, duration) in [("whenever", "8h"), ("0 9 * * *", "long"), ("", "")] {
            let budget = budget("0", Some((schedule, duration)), &[]);
            assert!(is_blocked(budget, "2026-11-30T12:00:00Z"), "{schedule}");
        }
    }
}
