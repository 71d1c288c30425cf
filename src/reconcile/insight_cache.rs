//! What the API server holds of our own insights: the base that every write is compared with, and,
//! after a start, the times that were known before.
//!
//! A status is kept as a digest: 5,000 of them as objects would be most of this program's memory. It
//! is kept whole only until its history was taken over, which a replica that stands by does when it leads.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering as Atomic};

use kube::ResourceExt;
use tokio::time::Instant;

use crate::api::insight::{InsightStatus, Said};
use crate::kubernetes::objects::WatchedInsight;
use crate::registry::store::Store;

/// What is known of one insight in the API server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Base {
    /// Its resource version, as it has to be sent back.
    pub resource_version: Box<str>,
    /// Its UID.
    pub uid: Box<str>,
    /// UID of the object that owns it.
    pub owner_uid: Option<Arc<str>>,
    /// Its generation.
    pub generation: i64,
    /// What its status says of a node's progress.
    pub said: Option<Said>,
    /// Digest of its status; `None` when there is none that this version can read.
    digest: Option<u64>,
    /// Digest of the status that this process last sent.
    sent: Option<u64>,
    /// When this became known.
    learned: Instant,
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
            said: insight.status.as_ref().and_then(InsightStatus::said),
            digest: insight.status.as_ref().map(digest),
            sent: None,
            learned: Instant::now(),
        }
    }

    /// Whether the API server holds exactly this status.
    #[must_use]
    pub fn holds<S: Hash>(&self, status: &S) -> bool {
        self.digest == Some(digest(status))
    }

    /// Whether this process has sent exactly this status last. If the API server does not hold it, somebody else
    /// has changed it.
    #[must_use]
    pub fn was_sent<S: Hash>(&self, status: &S) -> bool {
        self.sent == Some(digest(status))
    }

    /// Whether this process has not sent what it says: another one has made it, before or beside this one.
    #[must_use]
    pub fn is_of_others(&self) -> bool {
        self.sent.is_none()
    }

    /// Resource versions of one resource grow, but for those of an etcd that was restored from a backup; one
    /// that is no number counts as old.
    fn revision(&self) -> u64 {
        self.resource_version.parse().unwrap_or_default()
    }
}

/// A number that is the same for statuses that are the same, within one process.
pub fn digest<S: Hash>(status: &S) -> u64 {
    let mut hasher = DefaultHasher::new();
    status.hash(&mut hasher);
    hasher.finish()
}

/// What the API server holds of the insights of one kind, by name.
pub struct InsightCache<S> {
    bases: Store<Arc<str>, Base>,
    history: Store<Arc<str>, S>,
    keeps_history: AtomicBool,
}

impl<S: InsightStatus + Hash> Default for InsightCache<S> {
    fn default() -> Self {
        Self {
            bases: Store::new(),
            history: Store::new(),
            keeps_history: AtomicBool::new(true),
        }
    }
}

impl<S: InsightStatus + Hash> InsightCache<S> {
    /// What is known of an insight.
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

    /// Takes in an insight as it was seen; whether that is news. What is older than what is known is
    /// none: a watch may lag behind our own writes. The answer to what was `asked` for, a list or a read,
    /// is news however old its version looks, unless something was learned since it was asked for: the API
    /// server's data may have been restored from a backup.
    pub fn apply(&self, insight: WatchedInsight<S>, asked: Option<Instant>) -> bool {
        let mut base = Base::of(&insight);
        let name: Arc<str> = insight.name_any().into();
        let is_stale = |known: &Base| match known.revision().cmp(&base.revision()) {
            Ordering::Less => false,
            Ordering::Equal => true,
            Ordering::Greater => asked.is_none_or(|asked| known.learned >= asked),
        };
        if self.knows(&name, is_stale) {
            return false;
        }
        base.sent = self.bases.get(&name).and_then(|known| known.sent);
        self.bases.upsert(Arc::clone(&name), base);
        let keeps_history = self.keeps_history.load(Atomic::Acquire);
        if let Some(status) = insight.status.filter(|_| keeps_history) {
            self.history.upsert(name, status);
        }
        true
    }

    /// Takes in an insight as this process wrote it, with the status that it `sent`: what it says is no
    /// history. An API server whose definition is older keeps less of a status than was sent, and would be
    /// sent the rest for ever.
    pub fn apply_own(&self, insight: &WatchedInsight<S>, sent: Option<&S>) {
        let base = Base {
            digest: sent.map(digest),
            sent: sent.map(digest),
            said: sent.and_then(InsightStatus::said),
            ..Base::of(insight)
        };
        let name: Arc<str> = insight.name_any().into();
        // The watch may have told of this very write already, and not known what was sent.
        if !self.knows(&name, |known| known.revision() > base.revision()) {
            self.bases.upsert(name, base);
        }
    }

    fn knows(&self, name: &Arc<str>, is_so: impl FnOnce(&Base) -> bool) -> bool {
        let known = self.bases.get(name);
        known.is_some_and(|known| known.revision() > 0 && is_so(&known))
    }

    /// Forgets an insight that was seen deleted; whether that is news. One that was created again
    /// meanwhile stays.
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

    /// Forgets an insight, with its history; whether there was one.
    pub fn forget(&self, name: &Arc<str>) -> bool {
        self.history.remove(name);
        self.bases.remove(name).is_some()
    }

    /// Forgets every insight that a complete list does not have; their names.
    pub fn retain(&self, listed: &HashSet<String>) -> Vec<Arc<str>> {
        let is_gone = |name: &Arc<str>| !listed.contains(&**name) && self.forget(name);
        self.names().into_iter().filter(is_gone).collect()
    }

    /// What the insight said that another process wrote. Given away once.
    pub fn take_history(&self, name: &Arc<str>) -> Option<Arc<S>> {
        self.history.remove(name)
    }

    /// What the insights say whose history was not given away.
    pub fn history(&self) -> Vec<Arc<S>> {
        let names = self.history.keys();
        names
            .iter()
            .filter_map(|name| self.history.get(name))
            .collect()
    }

    /// Names of the insights that have a history still.
    pub fn names_with_history(&self) -> Vec<Arc<str>> {
        self.history.keys()
    }

    /// No more history is needed: from now on this process writes.
    pub fn drop_history(&self) {
        self.keeps_history.store(false, Atomic::Release);
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
    fn what_was_sent_counts_also_where_less_of_it_is_kept_and_the_watch_is_quicker() {
        let sent = status("Draining");
        let mut kept = sent.clone();
        kept.as_object_mut().unwrap().remove("timeline");
        for watch_is_quicker in [false, true] {
            let cache = InsightCache::default();
            cache.apply(insight(7, &Value::Null), None);
            if watch_is_quicker {
                assert!(cache.apply(insight(8, &kept), None));
                assert!(!holds(&cache, &sent));
            }
            cache.apply_own(&insight(8, &kept), Some(&parsed(&sent)));
            assert!(holds(&cache, &sent));
            // The same once more, as after a fresh list.
            assert!(!cache.apply(insight(8, &kept), None));
            assert!(holds(&cache, &sent));
            // Somebody else's write is another matter.
            assert!(cache.apply(insight(9, &kept), None));
            assert!(!holds(&cache, &sent));
        }
    }

    #[test]
    fn an_answer_that_comes_late_does_not_go_back_behind_a_newer_event() {
        let (old, new) = (status("Draining"), status("Updating"));
        let cache = InsightCache::default();
        cache.apply(insight(9, &new), None);
        cache.apply_own(&insight(8, &old), Some(&parsed(&old)));
        assert!(holds(&cache, &new));
    }

    #[test]
    fn what_others_write_is_history_until_this_process_writes() {
        let cache = InsightCache::default();
        let name: Arc<str> = "n".into();
        cache.apply(insight(7, &status("Pending")), None);
        assert!(cache.take_history(&name).is_some());
        // Another one leads, and goes on writing.
        cache.apply(insight(8, &status("Draining")), None);
        assert_eq!(cache.names_with_history(), [Arc::clone(&name)]);
        cache.drop_history();
        cache.apply(insight(9, &status("Updating")), None);
        assert!(cache.names_with_history().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_api_server_answers_is_the_truth_however_old_its_version_looks() {
        let (new, restored) = (status("Updating"), status("Draining"));
        let cache = InsightCache::default();
        cache.apply(insight(900, &new), None);
        tokio::time::advance(Duration::from_secs(1)).await;
        // Told by a watch, an older version is what lags behind.
        assert!(!cache.apply(insight(8, &restored), None));
        assert!(cache.apply(insight(8, &restored), Some(Instant::now())));
        assert!(holds(&cache, &restored));
        // From then on it grows again.
        assert!(cache.apply(insight(9, &new), None));
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_written_while_a_list_was_made_is_not_taken_back_by_the_list() {
        let (old, new) = (status("Draining"), status("Updating"));
        let cache = InsightCache::default();
        cache.apply(insight(7, &old), None);
        let asked = Instant::now();
        tokio::time::advance(Duration::from_millis(1)).await;
        cache.apply_own(&insight(9, &new), Some(&parsed(&new)));
        assert!(!cache.apply(insight(7, &old), Some(asked)));
        assert!(holds(&cache, &new));
    }

    #[test]
    fn an_insight_that_is_gone_leaves_nothing_on_a_replica_that_does_not_write() {
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
