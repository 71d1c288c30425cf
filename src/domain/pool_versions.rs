//! The kubelet versions of one pool, and the newer version of each node.
//!
//! Versions are ordered partially: a pool may have several newest versions, such as builds of two vendors, or a
//! numbered and an unnumbered build. Each node is compared with a version that is newer than its own.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::version::Version;

/// Kubelet versions of one pool, with the number of nodes that run each.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PoolVersions(BTreeMap<PoolVersion, usize>);

/// A version as a node reports it. Two texts may be the same version; the text is part of the order, so that the
/// newest version does not depend on the order of insertion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolVersion {
    version: Version,
    text: Arc<str>,
}

impl PoolVersion {
    /// Parses a version; `None` when it cannot be compared.
    #[must_use]
    pub fn parse(text: &Arc<str>) -> Option<Self> {
        Some(Self {
            version: Version::parse(text)?,
            text: Arc::clone(text),
        })
    }
}

impl Ord for PoolVersion {
    /// For sorting, newer versions last.
    fn cmp(&self, other: &Self) -> Ordering {
        self.version
            .total_cmp(&other.version)
            .then_with(|| self.text.cmp(&other.text))
    }
}

impl PartialOrd for PoolVersion {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PoolVersions {
    /// Counts a node that runs `version`.
    pub fn add(&mut self, version: PoolVersion) {
        *self.0.entry(version).or_default() += 1;
    }

    /// Removes a node that runs `version`.
    pub fn remove(&mut self, version: &PoolVersion) {
        if let Some(count) = self.0.get_mut(version) {
            *count -= 1;
            if *count == 0 {
                self.0.remove(version);
            }
        }
    }

    /// Whether no node reports its version.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The newest version that is newer than `own`.
    #[must_use]
    pub fn newer_than(&self, own: &str) -> Option<Arc<str>> {
        let own = Version::parse(own)?;
        let newer = self.newest().find(|newest| newest.version > own)?;
        Some(Arc::clone(&newer.text))
    }

    /// The newest versions: while they stay the same, [`Self::newer_than`] stays the same for every node.
    #[must_use]
    pub fn decisive(&self) -> Vec<PoolVersion> {
        self.newest().cloned().collect()
    }

    /// The last build of the newest release, and the last build of each vendor that numbers builds, in descending
    /// order. No other version can be the newest one above some version: older releases are older than the first,
    /// and an unnumbered build is not newer than any build of its release.
    fn newest(&self) -> impl Iterator<Item = &PoolVersion> {
        let last = self.0.keys().next_back();
        let mut vendor_before = None;
        let of_release = self
            .0
            .keys()
            .rev()
            .take_while(move |each| {
                last.is_some_and(|last| last.version.is_same_release(&each.version))
            })
            // Numbered builds sort last.
            .take_while(|each| each.version.vendor().is_some())
            .filter(move |each| {
                let vendor = each.version.vendor();
                std::mem::replace(&mut vendor_before, vendor) != vendor
            });
        let unnumbered = last.filter(|last| last.version.vendor().is_none());
        unnumbered.into_iter().chain(of_release)
    }
}
