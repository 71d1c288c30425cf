//! What the operator wrote, from the API server's audit log.

use std::collections::BTreeMap;

use anyhow::Result;
use jiff::{SignedDuration, Timestamp};
use node_insights_harness::{AuditEntry, AuditMark, ControlPlane};

use super::observer::{NODES, POOLS};
use super::operator::ACCOUNT;

/// The operator's requests with a writing verb, answered since a mark.
pub(crate) struct Writes(Vec<AuditEntry>);

impl Writes {
    /// Those since `mark`.
    ///
    /// # Errors
    /// When the audit log cannot be read.
    pub(crate) fn since(plane: &ControlPlane, mark: AuditMark) -> Result<Self> {
        let user = format!("system:serviceaccount:{}:{}", ACCOUNT.0, ACCOUNT.1);
        let entries = plane.audit().since(mark)?.into_iter();
        let changing = |entry: &AuditEntry| {
            entry.user == user
                && entry.stage == "ResponseComplete"
                && !["get", "list", "watch"].contains(&entry.verb.as_str())
                // Reviews, which are created by POST.
                && !entry.api_group.ends_with("authorization.k8s.io")
                && !entry.api_group.ends_with("authentication.k8s.io")
        };
        Ok(Self(entries.filter(changing).collect()))
    }

    /// Status writes of node insights, without those of the node `except`.
    pub(crate) fn node_statuses(&self, except: &str) -> usize {
        let done = self
            .done(NODES)
            .filter(|entry| entry.subresource == "status");
        done.filter(|entry| entry.name != except).count()
    }

    /// Status writes of node insights: of all, and the most of one.
    pub(crate) fn node_statuses_of_each(&self) -> (usize, usize) {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        let statuses = self.done(NODES);
        for entry in statuses.filter(|entry| entry.subresource == "status") {
            *counts.entry(&entry.name).or_default() += 1;
        }
        (
            counts.values().sum(),
            counts.into_values().max().unwrap_or(0),
        )
    }

    /// All writes, by verb and resource; without leases, which a replica keeps renewing, and without the insights
    /// of these names and the Events about them.
    pub(crate) fn others(&self, except: &[&str]) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        let written = self.0.iter().filter(|entry| entry.is_write());
        for entry in written.filter(|entry| entry.resource != "leases") {
            let about = match &*entry.resource {
                NODES | POOLS => Some(&*entry.name),
                "events" => entry.name.rsplit_once('.').map(|(about, _)| about),
                _ => None,
            };
            if about.is_some_and(|about| except.contains(&about)) {
                continue;
            }
            let what = [&*entry.verb, &*entry.resource, &*entry.subresource];
            *counts
                .entry(what.join(" ").trim_end().to_owned())
                .or_default() += 1;
        }
        counts
    }

    /// The most writes of one pool's status that started within one second.
    pub(crate) fn busiest_pool_second(&self) -> usize {
        let mut times: BTreeMap<&str, Vec<Timestamp>> = BTreeMap::new();
        for entry in self
            .done(POOLS)
            .filter(|entry| entry.subresource == "status")
        {
            times.entry(&entry.name).or_default().push(entry.received);
        }
        times.into_values().map(most_in_a_second).max().unwrap_or(0)
    }

    /// Status writes of pool insights.
    pub(crate) fn pool_statuses(&self) -> usize {
        self.done(POOLS)
            .filter(|entry| entry.subresource == "status")
            .count()
    }

    /// Writes that the API server rejected, without conflicts, after which the operator reads again and retries.
    pub(crate) fn rejected(&self) -> usize {
        let rejected = |entry: &&AuditEntry| entry.code >= 400 && entry.code != 409;
        self.0.iter().filter(rejected).count()
    }

    fn done(&self, resource: &str) -> impl Iterator<Item = &AuditEntry> {
        self.0
            .iter()
            .filter(move |entry| entry.is_write() && entry.resource == resource)
    }
}

/// The counts of writes as text.
pub(crate) fn in_words(counts: &BTreeMap<String, usize>) -> String {
    if counts.is_empty() {
        return "0 writes".to_owned();
    }
    let words: Vec<String> = counts
        .iter()
        .map(|(what, count)| format!("{count} × {what}"))
        .collect();
    words.join(", ")
}

/// The most of these times within any one second.
fn most_in_a_second(mut times: Vec<Timestamp>) -> usize {
    times.sort_unstable();
    let second = SignedDuration::from_secs(1);
    let within = |(index, first): (usize, &Timestamp)| {
        let rest = times[index..].iter();
        rest.take_while(|time| time.duration_since(*first) < second)
            .count()
    };
    times.iter().enumerate().map(within).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_a_second_apart_are_not_within_one_second() {
        let at = |ms: &i64| Timestamp::from_millisecond(*ms).unwrap();
        let most = |ms: &[i64]| most_in_a_second(ms.iter().map(at).collect());
        assert_eq!(most(&[]), 0);
        assert_eq!(most(&[0, 1000, 2000]), 1);
        assert_eq!(most(&[2000, 0, 1500, 900, 1800]), 3);
    }
}
