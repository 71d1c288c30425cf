//! All insights of one kind at one moment, to be compared with those of another moment.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use node_insights::api::insight::API_VERSION;
use serde_json::Value;

use super::bench::Bench;

/// The page size of a list.
const PAGE: usize = 500;

/// All insights of one kind, by name.
pub(crate) struct Snapshot(BTreeMap<String, Entry>);

struct Entry {
    uid: String,
    status: Value,
}

impl Snapshot {
    /// The current insights in the API server.
    ///
    /// # Errors
    /// When it does not answer.
    pub(crate) async fn take(bench: &Bench, plural: &str) -> Result<Self> {
        let mut insights = BTreeMap::new();
        let mut next = String::new();
        loop {
            let url = format!("/apis/{API_VERSION}/{plural}?limit={PAGE}&continue={next}");
            let mut page = bench.read(&url).await?;
            let items = page["items"].as_array_mut().context("a list has items")?;
            for item in items {
                let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                let entry = Entry {
                    uid: text(&item["metadata"]["uid"]),
                    status: item["status"].take(),
                };
                insights.insert(text(&item["metadata"]["name"]), entry);
            }
            match page["metadata"]["continue"].as_str() {
                Some(token) if !token.is_empty() => token.clone_into(&mut next),
                _ => return Ok(Self(insights)),
            }
        }
    }

    /// How many insights of `self`, except that named `except`, have other times in `later`.
    pub(crate) fn moved(&self, later: &Self, except: &str) -> usize {
        self.differing(later, except, |before, after| {
            times(&before.status) != times(&after.status)
        })
    }

    /// How many insights of `self` were recreated or deleted in `later`.
    pub(crate) fn replaced(&self, later: &Self) -> usize {
        self.differing(later, "", |before, after| before.uid != after.uid)
    }

    /// How many insights of `self` differ in `other`, apart from times.
    pub(crate) fn contradicting(&self, other: &Self) -> usize {
        self.differing(other, "", |one, other| {
            without_times(&one.status) != without_times(&other.status)
        })
    }

    /// How many of these insights are not in that phase.
    pub(crate) fn stale<'a>(&self, phases: impl Iterator<Item = (&'a str, &'a str)>) -> usize {
        let is_stale = |(name, phase): &(&str, &str)| {
            let entry = self.0.get(*name);
            entry.is_none_or(|entry| entry.status["phase"] != *phase)
        };
        phases.filter(is_stale).count()
    }

    fn differing(
        &self,
        other: &Self,
        except: &str,
        differs: impl Fn(&Entry, &Entry) -> bool,
    ) -> usize {
        let mine = self.0.iter().filter(|(name, _)| *name != except);
        mine.filter(|(name, entry)| other.0.get(*name).is_none_or(|other| differs(entry, other)))
            .count()
    }
}

/// Whether a field of a status is a time, or depends on what was observed when: a fresh operator has observed nothing.
fn is_time(key: &str) -> bool {
    let observed = [
        "timeline",
        "estimatedCompletion",
        "learnedDurations",
        "lastRollouts",
        "slowestNode",
    ];
    key.ends_with("Time") || observed.contains(&key)
}

/// The fields of a status that are times.
fn times(status: &Value) -> Vec<&Value> {
    match status {
        Value::Object(fields) => {
            let found = fields.iter().flat_map(|(key, value)| {
                if is_time(key) {
                    vec![value]
                } else {
                    times(value)
                }
            });
            found.collect()
        }
        Value::Array(items) => items.iter().flat_map(times).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Vec::new(),
    }
}

/// A status without its times.
fn without_times(status: &Value) -> Value {
    match status {
        Value::Object(fields) => {
            let others = fields.iter().filter(|(key, _)| !is_time(key));
            Value::Object(
                others
                    .map(|(key, value)| (key.clone(), without_times(value)))
                    .collect(),
            )
        }
        Value::Array(items) => items.iter().map(without_times).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => status.clone(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(uid: &str, status: Value) -> Snapshot {
        let uid = uid.to_owned();
        Snapshot(BTreeMap::from([("a".to_owned(), Entry { uid, status })]))
    }

    #[test]
    fn moved_times_are_distinguished_from_other_changes() {
        let at = |time: &str, phase: &str| {
            let conditions = json!([{"type": "Updating", "lastTransitionTime": time}]);
            json!({"phase": phase, "phaseStartTime": "0", "conditions": conditions})
        };
        let before = of("1", at("1", "Pending"));
        for (later, moved, contradicting, replaced) in [
            (of("1", at("1", "Pending")), 0, 0, 0),
            (of("1", at("2", "Pending")), 1, 0, 0),
            (of("1", at("1", "Draining")), 0, 1, 0),
            (of("2", at("1", "Pending")), 0, 0, 1),
            (Snapshot(BTreeMap::new()), 1, 1, 1),
        ] {
            assert_eq!(before.moved(&later, ""), moved);
            assert_eq!(before.contradicting(&later), contradicting);
            assert_eq!(before.replaced(&later), replaced);
        }
        assert_eq!(before.moved(&of("1", at("2", "Pending")), "a"), 0);
        assert_eq!(
            before.stale([("a", "Draining"), ("b", "Pending")].into_iter()),
            2
        );
        assert_eq!(before.stale([("a", "Pending")].into_iter()), 0);
    }
}
