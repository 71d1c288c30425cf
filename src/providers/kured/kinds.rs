//! The DaemonSet of kured, and the locks that are annotations of it.

use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;

use crate::domain::fact::{Fact, KindSpec, Meta, Need, Object, Parsed};

/// The default annotation of the lock.
const LOCK: &str = "weave.works/kured-node-lock";
/// Locks in other annotations are found up to this length.
const LOCK_LIMIT: usize = 64 * 1024;

/// The DaemonSet of kured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KuredDaemonSet {
    /// Its locks.
    pub locks: Vec<Lock>,
}

/// The lock of a node that may be rebooted now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lock {
    /// Name of the node.
    pub node: Box<str>,
    /// The node was cordoned before, and stays cordoned.
    pub was_unschedulable: bool,
    /// When the lock was taken.
    pub created: Option<Timestamp>,
    /// How long the lock is valid; without limit if `None`.
    pub ttl: Option<SignedDuration>,
}

impl Lock {
    /// When the lock expires, if ever.
    #[must_use]
    pub fn over_at(&self) -> Option<Timestamp> {
        self.created?.checked_add(self.ttl?).ok()
    }

    /// Whether the lock has expired.
    #[must_use]
    pub fn is_over(&self, now: Timestamp) -> bool {
        self.over_at().is_some_and(|end| end <= now)
    }
}

#[derive(Deserialize)]
struct RawLock {
    #[serde(rename = "nodeID")]
    node: String,
    #[serde(default)]
    metadata: Option<RawMetadata>,
    #[serde(default)]
    created: Option<String>,
    /// In nanoseconds.
    #[serde(rename = "TTL", default)]
    ttl: Option<i64>,
}

#[derive(Deserialize)]
struct RawMetadata {
    #[serde(default)]
    unschedulable: Option<bool>,
}

/// The annotation when several nodes may be rebooted at once.
#[derive(Deserialize)]
struct RawLocks {
    locks: Vec<RawLock>,
}

impl From<RawLock> for Lock {
    fn from(raw: RawLock) -> Self {
        let ttl = raw.ttl.filter(|ttl| *ttl > 0);
        Self {
            node: raw.node.into(),
            was_unschedulable: raw
                .metadata
                .and_then(|metadata| metadata.unschedulable)
                .unwrap_or_default(),
            created: raw.created.and_then(|text| text.parse().ok()),
            ttl: ttl.map(SignedDuration::from_nanos),
        }
    }
}

/// Parses the locks of an annotation; `None` when it has none.
fn locks(text: &str) -> Option<Vec<Lock>> {
    if let Ok(several) = serde_json::from_str::<RawLocks>(text) {
        return Some(several.locks.into_iter().map(Lock::from).collect());
    }
    let one = serde_json::from_str::<RawLock>(text).ok()?;
    Some(vec![one.into()])
}

/// Whether name or labels are those of a kured installation.
fn looks_like_kured(meta: &Meta) -> bool {
    meta.name.contains("kured")
        || ["app.kubernetes.io/name", "name", "app"]
            .iter()
            .any(|label| meta.label(label) == Some("kured"))
}

impl Fact for KuredDaemonSet {
    const KIND: KindSpec = KindSpec::new("apps", &["v1"], "DaemonSet", "daemonsets")
        .namespaced()
        .metadata_only()
        .need(Need::Optional)
        .only_where_found();

    fn parse(object: &Object<'_>) -> Parsed<Self> {
        let meta = object.meta;
        let is_kured = looks_like_kured(meta);
        let by_key = meta.annotation(LOCK).and_then(locks);
        // The annotation key of the lock is configurable.
        let by_content = || {
            let annotations = meta.annotations.iter().flatten();
            annotations
                .filter(|(_, text)| is_kured && text.len() <= LOCK_LIMIT && text.contains("nodeID"))
                .find_map(|(_, text)| locks(text))
        };
        match by_key.or_else(by_content) {
            Some(locks) => Parsed::Fact(Self { locks }),
            None if is_kured => Parsed::Fact(Self { locks: Vec::new() }),
            None => Parsed::Ignored,
        }
    }
}
