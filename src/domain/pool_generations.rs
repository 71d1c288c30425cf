//! The generations of the nodes in one pool, and the one that the pool is being updated to.
//!
//! A pool that a provider made has a template, and its youngest node shows the template. A node counts only once it is
//! ready, and only for nodes of its own operating system and architecture. A node that is older than the nodes that
//! stay, such as one that joined late, shows nothing.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;

use super::labels::Labels;
use super::version::{Precision, Version};

/// Nodes that can be of one template.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Flavour {
    /// Operating system.
    pub os: Box<str>,
    /// Architecture.
    pub arch: Box<str>,
}

/// Operating system and architecture of a node; empty where a node has no label.
#[must_use]
pub fn flavour(labels: &Labels) -> (&str, &str) {
    let label = |key| labels.get(key).unwrap_or_default();
    (label("kubernetes.io/os"), label("kubernetes.io/arch"))
}

/// A version as a node reports it. Two texts may be the same version; the text is part of the order, so that a result
/// does not depend on the order of insertion.
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

/// A node as a member of a pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Operating system and architecture.
    pub flavour: Flavour,
    /// Its kubelet.
    pub version: PoolVersion,
    /// What identifies its machine image, if anything does.
    pub image: Option<Arc<str>>,
    /// When it was created.
    pub created: Option<Timestamp>,
    /// Its name.
    pub name: Arc<str>,
    /// It is ready.
    pub is_ready: bool,
    /// It is neither cordoned nor deleted.
    pub is_staying: bool,
}

impl Member {
    fn age(&self) -> Age {
        (self.created, Arc::clone(&self.name))
    }
}

/// What the template of a pool gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Generation {
    /// The kubelet.
    pub version: Arc<str>,
    /// The machine image.
    pub image: Option<Arc<str>>,
    /// When the first of its nodes was created.
    pub since: Option<Timestamp>,
}

/// Younger nodes are greater.
type Age = (Option<Timestamp>, Arc<str>);

type Key = (Flavour, PoolVersion, Option<Arc<str>>);

#[derive(Debug, Clone, Default, PartialEq)]
struct Nodes {
    all: BTreeSet<Age>,
    ready: BTreeSet<Age>,
    /// Ready nodes that are neither cordoned nor deleted.
    staying: usize,
}

/// The target of one flavour, for each [`Precision`] of the API server's version.
#[derive(Debug, Clone, Default, PartialEq)]
struct Targets {
    minor: Option<Generation>,
    full: Option<Generation>,
}

/// The generations of the nodes in one pool.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PoolGenerations {
    nodes: BTreeMap<Key, Nodes>,
    targets: BTreeMap<Flavour, Targets>,
}

impl PoolGenerations {
    /// Replaces a member; returns whether a target changed. No target is newer than the API server.
    pub fn change(
        &mut self,
        before: Option<&Member>,
        after: Option<&Member>,
        api_server: Option<&Version>,
    ) -> bool {
        if let Some(member) = before {
            self.remove(member);
        }
        if let Some(member) = after {
            self.add(member);
        }
        let flavours = [before, after].into_iter().flatten();
        let flavours: BTreeSet<&Flavour> = flavours.map(|member| &member.flavour).collect();
        let mut is_changed = false;
        for flavour in flavours {
            is_changed |= self.update(flavour, api_server);
        }
        is_changed
    }

    /// Applies another version of the API server; returns whether a target changed.
    pub fn set_api_server(&mut self, api_server: Option<&Version>) -> bool {
        let flavours: Vec<Flavour> = self.targets.keys().cloned().collect();
        let mut is_changed = false;
        for flavour in flavours {
            is_changed |= self.update(&flavour, api_server);
        }
        is_changed
    }

    /// Whether there is no node.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// The generation that nodes of this flavour are updated to.
    #[must_use]
    pub fn target(&self, (os, arch): (&str, &str), precision: Precision) -> Option<&Generation> {
        let mut targets = self.targets.iter();
        let is_same = |flavour: &Flavour| *flavour.os == *os && *flavour.arch == *arch;
        let (_, targets) = targets.find(|(flavour, _)| is_same(flavour))?;
        match precision {
            Precision::Minor => targets.minor.as_ref(),
            Precision::Full => targets.full.as_ref(),
        }
    }

    fn add(&mut self, member: &Member) {
        let nodes = self.nodes.entry(key(member)).or_default();
        nodes.all.insert(member.age());
        if member.is_ready {
            nodes.ready.insert(member.age());
            nodes.staying += usize::from(member.is_staying);
        }
    }

    fn remove(&mut self, member: &Member) {
        let key = key(member);
        let Some(nodes) = self.nodes.get_mut(&key) else {
            return;
        };
        nodes.all.remove(&member.age());
        if nodes.ready.remove(&member.age()) && member.is_staying {
            nodes.staying -= 1;
        }
        if nodes.all.is_empty() {
            self.nodes.remove(&key);
        }
    }

    fn update(&mut self, flavour: &Flavour, api_server: Option<&Version>) -> bool {
        let find = |precision| self.find(flavour, precision, api_server);
        let targets = Targets {
            minor: find(Precision::Minor),
            full: find(Precision::Full),
        };
        let is_gone = !self.nodes.keys().any(|(of, ..)| of == flavour);
        let before = if is_gone {
            self.targets.remove(flavour)
        } else {
            self.targets.insert(flavour.clone(), targets.clone())
        };
        before.unwrap_or_default() != targets
    }

    /// The generation of the youngest ready node, unless a node that stays has a newer version.
    fn find(
        &self,
        flavour: &Flavour,
        precision: Precision,
        api_server: Option<&Version>,
    ) -> Option<Generation> {
        let is_allowed = |version: &PoolVersion| {
            api_server.is_none_or(|limit| !version.version.is_ahead(limit, precision))
        };
        // The newest first. Versions of one release are ordered only if one vendor numbers both.
        let of_flavour = self.nodes.iter().rev();
        let of_flavour =
            of_flavour.filter(|((of, version, _), _)| of == flavour && is_allowed(version));
        let mut newest_staying: Vec<&Version> = Vec::new();
        let mut found: Option<(&Key, &Nodes, &Age)> = None;
        for (key, nodes) in of_flavour {
            let version = &key.1.version;
            let is_older = newest_staying.iter().any(|newer| *newer > version);
            if is_older && !newest_staying[0].is_same_release(version) {
                break;
            }
            if let Some(youngest) = nodes.ready.last()
                && !is_older
                && found.is_none_or(|(_, _, found)| youngest > found)
            {
                found = Some((key, nodes, youngest));
            }
            let is_counted = |counted: &&Version| counted.vendor() == version.vendor();
            if nodes.staying > 0 && !newest_staying.iter().any(is_counted) {
                newest_staying.push(version);
            }
        }
        let ((_, version, image), nodes, _) = found?;
        Some(Generation {
            version: Arc::clone(&version.text),
            image: image.clone(),
            since: nodes.all.first().and_then(|(created, _)| *created),
        })
    }
}

fn key(member: &Member) -> Key {
    (
        member.flavour.clone(),
        member.version.clone(),
        member.image.clone(),
    )
}

#[cfg(test)]
mod tests;
