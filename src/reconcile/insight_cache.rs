//! Cache of our own insights as the API server holds them: the base that every write is compared with, and,
//! after a restart, the source of the times known before.
//!
//! A status is stored as a digest: 5,000 full statuses would be most of this program's memory. The full status
//! is stored only until its history is taken over; a standby replica does that when it becomes the leader.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering as Atomic};

use kube::ResourceExt;
use tokio::time::Instant;

use crate::api::insight::{InsightStatus, Reported};
use crate::kubernetes::objects::WatchedInsight;
use crate::registry::store::Store;

/// One insight as the API server holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Base {
    /// Its resource version, sent with every write.
    pub resource_version: Box<str>,
    /// Its UID.
    pub uid: Box<str>,
    /// UID of the object that owns it.
    pub owner_uid: Option<Arc<str>>,
    /// Its generation.
    pub generation: i64,
    /// The node's progress as its status reports it.
    pub reported: Option<Reported>,
    /// Digest of its status; `None` without a status that this version can read.
    digest: Option<u64>,
    /// Digest of the status that this process last sent.
    sent: Option<u64>,
    /// When this entry was stored.
    stored_at: Instant,
}

impl Base {
    fn of<S: InsightStatus + Hash>(insight: &WatchedInsight<S>) -> Self {
        let metadata = insight.metadata();
        Self {
            resource_version: metadata
                .resource_version
                .as_deref()
                .unwrap_or_default()
                .into(),
            uid: metadata.uid.as_deref().unwrap_or_default().into(),
            owner_uid: insight.owner_uid.clone(),
            generation: metadata.generation.unwrap_or_default(),
            reported: insight.status.as_ref().and_then(InsightStatus::reported),
            digest: insight.status.as_ref().map(digest),
            sent: None,
            stored_at: Instant::now(),
        }
    }

    /// Whether the API server holds exactly this status.
    #[must_use]
    pub fn holds<S: Hash>(&self, status: &S) -> bool {
        self.digest == Some(digest(status))
    }

    /// Whether this is the last status that this process sent. If the API server does not hold it, another
    /// client has changed it.
    #[must_use]
    pub fn was_sent<S: Hash>(&self, status: &S) -> bool {
        self.sent == Some(digest(status))
    }

    /// Whether this process never wrote this insight's status: another process or client created it.
    #[must_use]
    pub fn is_foreign(&self) -> bool {
        self.sent.is_none()
    }

    /// Resource versions of a resource grow, except after etcd was restored from a backup. A version that is not
    /// a number counts as old.
    fn revision(&self) -> u64 {
        self.resource_version.parse().unwrap_or_default()
    }
}

/// Hashes a status; equal statuses have equal digests within one process.
pub fn digest<S: Hash>(status: &S) -> u64 {
    let mut hasher = DefaultHasher::new();
    status.hash(&mut hasher);
    hasher.finish()
}

/// The insights of one kind as the API server holds them, by name.
pub struct InsightCache<S> {
    bases: Store<Arc<str>, Base>,
    history: Store<Arc<str>, S>,
    stores_history: AtomicBool,
}

impl<S: InsightStatus + Hash> Default for InsightCache<S> {
    fn default() -> Self {
        Self {
            bases: Store::new(),
            history: Store::new(),
            stores_history: AtomicBool::new(true),
        }
    }
}

impl<S: InsightStatus + Hash> InsightCache<S> {
    /// Returns the cached base of an insight.
    pub fn base(&self, name: &Arc<str>) -> Option<Arc<Base>> {
        self.bases.get(name)
    }

    /// Names of all insights.
    pub fn names(&self) -> Vec<Arc<str>> {
        self.bases.keys()
    }

    /// How many insights there are.
    pub fn count(&self) -> usize {
        self.bases.counter().count()
    }

    /// Stores an insight that was observed; returns whether it is new. An older version than the cached one is
    /// ignored: a watch may lag behind our own writes. The answer to a list or read sent at `requested_at` is stored
    /// even if its version looks older, since etcd may have been restored from a backup; it is ignored only if
    /// the cached entry was stored after `requested_at`.
    pub fn apply(&self, insight: WatchedInsight<S>, requested_at: Option<Instant>) -> bool {
        let mut base = Base::of(&insight);
        let name: Arc<str> = insight.name_any().into();
        let is_stale = |known: &Base| match known.revision().cmp(&base.revision()) {
            Ordering::Less => false,
            Ordering::Equal => true,
            Ordering::Greater => {
                requested_at.is_none_or(|requested_at| known.stored_at >= requested_at)
            }
        };
        if self.has_cached(&name, is_stale) {
            return false;
        }
        base.sent = self.bases.get(&name).and_then(|known| known.sent);
        self.bases.upsert(Arc::clone(&name), base);
        let stores_history = self.stores_history.load(Atomic::Acquire);
        if let Some(status) = insight.status.filter(|_| stores_history) {
            self.history.upsert(name, status);
        }
        true
    }

    /// Stores an insight that this process wrote, with the status it `sent`; it does not become history. An API
    /// server with an older CRD prunes unknown fields; comparing with `sent` avoids writing them for ever.
    pub fn apply_own(&self, insight: &WatchedInsight<S>, sent: Option<&S>) {
        let base = Base {
            digest: sent.map(digest),
            sent: sent.map(digest),
            reported: sent.and_then(InsightStatus::reported),
            ..Base::of(insight)
        };
        let name: Arc<str> = insight.name_any().into();
        // The watch may have delivered this write already, without knowing what was sent.
        if !self.has_cached(&name, |known| known.revision() > base.revision()) {
            self.bases.upsert(name, base);
        }
    }

    fn has_cached(&self, name: &Arc<str>, matches: impl FnOnce(&Base) -> bool) -> bool {
        let known = self.bases.get(name);
        known.is_some_and(|known| known.revision() > 0 && matches(&known))
    }

    /// Removes an insight whose deletion was observed; returns whether it was cached. An insight that has been
    /// recreated since stays.
    pub fn remove(&self, insight: &WatchedInsight<S>) -> bool {
        let name: Arc<str> = insight.name_any().into();
        let gone = Base::of(insight);
        if self
            .bases
            .get(&name)
            .is_some_and(|known| known.uid != gone.uid)
        {
            return false;
        }
        self.forget(&name)
    }

    /// Removes an insight and its history; returns whether it was cached.
    pub fn forget(&self, name: &Arc<str>) -> bool {
        self.history.remove(name);
        self.bases.remove(name).is_some()
    }

    /// Removes every insight that is missing from a complete list; returns their names.
    pub fn retain(&self, listed: &HashSet<String>) -> Vec<Arc<str>> {
        let is_gone = |name: &Arc<str>| !listed.contains(&**name) && self.forget(name);
        self.names().into_iter().filter(is_gone).collect()
    }

    /// Takes the status that another process wrote; `None` from the second call on.
    pub fn take_history(&self, name: &Arc<str>) -> Option<Arc<S>> {
        self.history.remove(name)
    }

    /// The status that another process wrote, until it is taken.
    pub fn peek_history(&self, name: &Arc<str>) -> Option<Arc<S>> {
        self.history.get(name)
    }

    /// All statuses written by other processes that were not taken yet.
    pub fn history(&self) -> Vec<Arc<S>> {
        let names = self.history.keys();
        names
            .iter()
            .filter_map(|name| self.history.get(name))
            .collect()
    }

    /// Names of the insights whose history was not taken yet.
    pub fn names_with_history(&self) -> Vec<Arc<str>> {
        self.history.keys()
    }

    /// Drops all history and stores no more: from now on this process writes.
    pub fn drop_history(&self) {
        self.stores_history.store(false, Atomic::Release);
        for name in self.history.keys() {
            self.history.remove(&name);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::{Value, json};

    use super::*;
    use crate::api::NodeProgressInsightStatus;

    type Insight = WatchedInsight<NodeProgressInsightStatus>;

    fn status(phase: &str) -> Value {
        let since = "2026-11-21T10:00:00Z";
        json!({
            "name": "n", "provider": "Kubernetes", "scope": "WorkerPool", "phase": phase,
            "phaseStartTime": since, "conditions": [],
            "timeline": [{"phase": phase, "startTime": since}],
        })
    }

    fn insight(version: u64, status: &Value) -> Insight {
        let metadata = json!({"name": "n", "uid": "u", "resourceVersion": version.to_string()});
        let object = json!({
            "apiVersion": "nodeinsights.dev/v1alpha1", "kind": "NodeProgressInsight",
            "metadata": metadata, "status": status,
        });
        let insight: Insight = serde_json::from_value(object).unwrap();
        assert!(status.is_null() || !insight.unreadable || status.get("timeline").is_none());
        insight
    }

    fn parsed(status: &Value) -> NodeProgressInsightStatus {
        serde_json::from_value(status.clone()).unwrap()
    }

    fn holds(cache: &InsightCache<NodeProgressInsightStatus>, status: &Value) -> bool {
        let base = cache.base(&"n".into());
        base.is_some_and(|base| base.holds(&parsed(status)))
    }

    #[test]
    fn an_own_write_compares_by_what_was_sent_even_if_the_api_server_pruned_fields() {
        let sent = status("Draining");
        let mut pruned = sent.clone();
        pruned.as_object_mut().unwrap().remove("timeline");
        for watch_is_first in [false, true] {
            let cache = InsightCache::default();
            cache.apply(insight(7, &Value::Null), None);
            if watch_is_first {
                assert!(cache.apply(insight(8, &pruned), None));
                assert!(!holds(&cache, &sent));
            }
            cache.apply_own(&insight(8, &pruned), Some(&parsed(&sent)));
            assert!(holds(&cache, &sent));
            // The same version again, as after a relist.
            assert!(!cache.apply(insight(8, &pruned), None));
            assert!(holds(&cache, &sent));
            // Another client's write replaces it.
            assert!(cache.apply(insight(9, &pruned), None));
            assert!(!holds(&cache, &sent));
        }
    }

    #[test]
    fn a_late_write_response_does_not_replace_a_newer_event() {
        let (old, new) = (status("Draining"), status("Updating"));
        let cache = InsightCache::default();
        cache.apply(insight(9, &new), None);
        cache.apply_own(&insight(8, &old), Some(&parsed(&old)));
        assert!(holds(&cache, &new));
    }

    #[test]
    fn statuses_of_other_processes_are_history_until_this_process_writes() {
        let cache = InsightCache::default();
        let name: Arc<str> = "n".into();
        cache.apply(insight(7, &status("Pending")), None);
        assert!(cache.take_history(&name).is_some());
        // Another replica leads and continues to write.
        cache.apply(insight(8, &status("Draining")), None);
        assert_eq!(cache.names_with_history(), [Arc::clone(&name)]);
        cache.drop_history();
        cache.apply(insight(9, &status("Updating")), None);
        assert!(cache.names_with_history().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_list_replaces_the_cache_even_with_an_older_resource_version() {
        let (new, restored) = (status("Updating"), status("Draining"));
        let cache = InsightCache::default();
        cache.apply(insight(900, &new), None);
        tokio::time::advance(Duration::from_secs(1)).await;
        // From a watch, an older version is stale.
        assert!(!cache.apply(insight(8, &restored), None));
        assert!(cache.apply(insight(8, &restored), Some(Instant::now())));
        assert!(holds(&cache, &restored));
        // From here on versions grow again.
        assert!(cache.apply(insight(9, &new), None));
    }

    #[tokio::test(start_paused = true)]
    async fn a_list_does_not_replace_a_write_made_after_it_was_requested() {
        let (old, new) = (status("Draining"), status("Updating"));
        let cache = InsightCache::default();
        cache.apply(insight(7, &old), None);
        let requested_at = Instant::now();
        tokio::time::advance(Duration::from_millis(1)).await;
        cache.apply_own(&insight(9, &new), Some(&parsed(&new)));
        assert!(!cache.apply(insight(7, &old), Some(requested_at)));
        assert!(holds(&cache, &new));
    }

    #[test]
    fn a_deleted_insight_leaves_nothing_in_the_cache_of_a_standby_replica() {
        let cache = InsightCache::default();
        for _ in 0..2 {
            cache.apply(insight(7, &status("Pending")), None);
            assert_eq!((cache.count(), cache.names_with_history().len()), (1, 1));
            assert!(cache.remove(&insight(8, &Value::Null)));
            assert_eq!((cache.count(), cache.names_with_history().len()), (0, 0));
            cache.apply(insight(9, &status("Pending")), None);
            assert_eq!(cache.retain(&HashSet::new()).len(), 1);
            assert_eq!((cache.count(), cache.names_with_history().len()), (0, 0));
        }
    }
}
