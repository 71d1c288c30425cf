//! Everything that is known about the cluster except its nodes, and the readers of each fact.
//!
//! A fact is an object by name, an entry of an index, the keys of an index, all objects of a kind, the availability of
//! a kind, the versions in a pool, or the version of the API server. An evaluation reads facts through a [`View`], which
//! records every read, also of absent facts. A change of a fact returns exactly its readers.

use std::any::TypeId;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt;
use std::sync::Arc;

use super::erased::Erased;
use super::fact::{Keys, Kind};
use super::policy::Policy;
use super::pool_generations::{Member, PoolGenerations};
use super::version::Version;
use readers::Readers;
pub use readers::{Place, Reader, reserve};
pub use view::{Finder, Reads, View};

mod on_node;
mod places;
mod readers;
mod view;

/// Whether the objects of a kind can be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Availability {
    /// The API server does not serve the kind.
    NotServed,
    /// It is being listed for the first time.
    Listing,
    /// All its objects are known.
    Ready,
    /// The API server rejects reads of the kind; the error.
    Rejected(Arc<str>),
}

/// The objects of a kind cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Unavailable {
    /// Name of the kind, as in `/readyz`.
    pub kind: &'static str,
    /// Why.
    pub availability: Availability,
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = self.kind;
        match &self.availability {
            Availability::NotServed => write!(f, "The API server does not serve {kind}"),
            Availability::Listing | Availability::Ready => {
                write!(f, "{kind} are being listed for the first time")
            }
            Availability::Rejected(why) => write!(f, "{kind} cannot be read: {why}"),
        }
    }
}

/// Everything that is known about the cluster except its nodes.
#[derive(Debug)]
pub struct Facts {
    kinds: Vec<KindTable>,
    /// The type of each kind, close together: every read of a kind looks for it.
    types: Vec<TypeId>,
    pools: BTreeMap<Arc<str>, PoolEntry>,
    /// Number of nodes by index and key.
    nodes: BTreeMap<&'static str, BTreeMap<Box<str>, NodesEntry>>,
    api_server: Option<Arc<str>>,
    api_server_place: Place,
    policy: Arc<Policy>,
    policy_place: Place,
    readers: Readers,
    /// The owner of each place that is removed with its last reader.
    owners: BTreeMap<Place, Owner>,
    /// The places of the availability of kinds that are watched only while they are read.
    on_demand: Vec<Place>,
    /// Changes whenever what has to be read from the API server on demand changes.
    demand: u64,
}

#[derive(Debug)]
struct KindTable {
    kind: Kind,
    availability: Availability,
    /// Place of the kind's availability.
    availability_place: Place,
    /// Place of the list of all its objects.
    all_place: Place,
    objects: BTreeMap<Arc<str>, ObjectEntry>,
    indexes: BTreeMap<&'static str, BTreeMap<Box<str>, IndexEntry>>,
    /// Place of the set of keys with objects, by index.
    keys: BTreeMap<&'static str, Place>,
}

#[derive(Debug)]
struct ObjectEntry {
    /// `None` when the object does not exist but was read.
    fact: Option<Arc<dyn Erased>>,
    place: Place,
}

#[derive(Debug)]
struct IndexEntry {
    objects: BTreeSet<Arc<str>>,
    place: Place,
    /// Of a node in [`ON_NODE`](super::fact::ON_NODE): all its objects are known.
    is_listed: bool,
}

#[derive(Debug)]
struct PoolEntry {
    generations: PoolGenerations,
    place: Place,
}

#[derive(Debug)]
struct NodesEntry {
    count: usize,
    place: Place,
}

/// What a place stands for.
#[derive(Debug, Clone)]
enum Owner {
    Object(usize, Arc<str>),
    Index(usize, &'static str, Box<str>),
    Keys(usize, &'static str),
    Pool(Arc<str>),
    Nodes(&'static str, Box<str>),
}

impl Facts {
    /// An empty store of these kinds, each with its own type.
    #[must_use]
    pub fn new(kinds: &[Kind]) -> Self {
        let mut readers = Readers::default();
        let (api_server_place, policy_place) = (readers.add_place(), readers.add_place());
        let mut on_demand = Vec::new();
        let types = kinds.iter().map(Kind::type_id).collect();
        let kinds = kinds
            .iter()
            .map(|kind| {
                let availability_place = readers.add_place();
                if kind.spec.only_while_read {
                    on_demand.push(availability_place);
                }
                KindTable {
                    kind: *kind,
                    availability: Availability::NotServed,
                    availability_place,
                    all_place: readers.add_place(),
                    objects: BTreeMap::new(),
                    indexes: BTreeMap::new(),
                    keys: BTreeMap::new(),
                }
            })
            .collect();
        Self {
            kinds,
            types,
            pools: BTreeMap::new(),
            nodes: BTreeMap::new(),
            api_server: None,
            api_server_place,
            policy: Arc::default(),
            policy_place,
            readers,
            owners: BTreeMap::new(),
            on_demand,
            demand: 0,
        }
    }

    /// A view that has read nothing yet.
    #[must_use]
    pub fn view(&self) -> View<'_> {
        View::new(self)
    }

    /// Adds a reader without reads.
    pub fn add_reader(&mut self) -> Reader {
        self.readers.add_reader()
    }

    /// Removes a reader.
    pub fn remove_reader(&mut self, reader: Reader) {
        let before = self.read_on_demand();
        let left = self.readers.remove_reader(reader);
        self.no_longer_read(left, before);
    }

    /// Replaces the reads of a reader.
    pub fn record(&mut self, reader: Reader, reads: Reads) {
        let Reads {
            mut places,
            missing,
        } = reads;
        places.extend(missing.into_iter().map(|owner| self.place_of(owner)));
        let before = self.read_on_demand();
        let left = self.readers.record(reader, places);
        self.no_longer_read(left, before);
    }

    fn no_longer_read(&mut self, left: Vec<Place>, before: usize) {
        let is_other = before != self.read_on_demand();
        if is_other || left.iter().any(|place| self.is_on_node(*place)) {
            self.demand += 1;
        }
        self.clean(left);
    }

    /// Sets the availability of the kind at this index; returns the readers to evaluate if it changed.
    pub fn set_availability(&mut self, kind: usize, availability: Availability) -> Vec<Reader> {
        let Some(table) = self.kinds.get_mut(kind) else {
            return Vec::new();
        };
        if table.availability == availability {
            return Vec::new();
        }
        let place = table.availability_place;
        if availability == Availability::NotServed {
            self.retain(kind, &HashSet::new());
            self.unlist(kind);
        }
        if let Some(table) = self.kinds.get_mut(kind) {
            table.availability = availability;
        }
        self.readers.of(place).to_vec()
    }

    /// The availability of the kind at this index.
    #[must_use]
    pub fn availability(&self, kind: usize) -> Option<&Availability> {
        Some(&self.kinds.get(kind)?.availability)
    }

    /// The number of known objects of the kind at this index.
    #[must_use]
    pub fn count(&self, kind: usize) -> usize {
        self.kinds.get(kind).map_or(0, |table| {
            table
                .objects
                .values()
                .filter(|each| each.fact.is_some())
                .count()
        })
    }

    /// Stores the fact of an object, or removes it with `None`. Returns the readers to evaluate, or `None` if nothing
    /// changed.
    pub fn apply(
        &mut self,
        kind: usize,
        name: &Arc<str>,
        fact: Option<Arc<dyn Erased>>,
    ) -> Option<Vec<Reader>> {
        if self.kinds.get(kind)?.availability == Availability::NotServed {
            return None;
        }
        let before = self.fact(kind, name);
        let is_same = match (&before, &fact) {
            (None, None) => true,
            (Some(before), Some(fact)) => before.is_same(&**fact),
            _ => false,
        };
        if is_same {
            return None;
        }
        let mut places = vec![self.kinds.get(kind)?.all_place];
        self.change_indexes(kind, name, before.as_deref(), fact.as_deref(), &mut places);
        places.extend(self.node_of(kind, fact.as_deref()));
        places.push(self.put(kind, name, fact));
        // Until the list is complete, reads return `Unavailable` and depend on the availability only.
        if self.kinds.get(kind)?.availability != Availability::Ready {
            return Some(Vec::new());
        }
        let mut readers: Vec<Reader> = places
            .iter()
            .flat_map(|place| self.readers.of(*place))
            .copied()
            .collect();
        readers.sort_unstable();
        readers.dedup();
        Some(readers)
    }

    /// Removes objects that are not in a complete list; returns their number and the readers to evaluate.
    pub fn retain(&mut self, kind: usize, listed: &HashSet<String>) -> (usize, Vec<Reader>) {
        let Some(table) = self.kinds.get(kind) else {
            return (0, Vec::new());
        };
        let gone: Vec<Arc<str>> = table
            .objects
            .iter()
            .filter(|(name, entry)| entry.fact.is_some() && !listed.contains(&***name))
            .map(|(name, _)| Arc::clone(name))
            .collect();
        let readers = gone
            .iter()
            .filter_map(|name| self.apply(kind, name, None))
            .flatten()
            .collect();
        (gone.len(), readers)
    }

    /// Sets the version of the API server; returns the readers to evaluate.
    pub fn set_api_server_version(&mut self, version: Option<Arc<str>>) -> Vec<Reader> {
        if self.api_server == version {
            return Vec::new();
        }
        self.api_server = version;
        let limit = self.api_server.as_deref().and_then(Version::parse);
        let mut readers = self.readers.of(self.api_server_place).to_vec();
        for entry in self.pools.values_mut() {
            if entry.generations.set_api_server(limit.as_ref()) {
                readers.extend(self.readers.of(entry.place));
            }
        }
        readers.sort_unstable();
        readers.dedup();
        readers
    }

    /// Sets the policy of the user; returns the readers to evaluate.
    pub fn set_policy(&mut self, policy: Arc<Policy>) -> Vec<Reader> {
        if self.policy == policy {
            return Vec::new();
        }
        self.policy = policy;
        self.readers.of(self.policy_place).to_vec()
    }

    /// Counts a node that was added, removed or has new keys; returns the readers to evaluate.
    pub fn count_node(&mut self, before: &Keys, after: &Keys) -> Vec<Reader> {
        if before == after {
            return Vec::new();
        }
        let mut places = Vec::new();
        for (keys, is_in) in [(before, false), (after, true)] {
            for (index, key) in keys.iter() {
                let place = self.place_of(Owner::Nodes(index, key.into()));
                let entries = self.nodes.get_mut(index);
                if let Some(entry) = entries.and_then(|entries| entries.get_mut(key)) {
                    if is_in {
                        entry.count += 1;
                    } else {
                        entry.count = entry.count.saturating_sub(1);
                    }
                }
                places.push(place);
            }
        }
        let readers = places.iter().flat_map(|place| self.readers.of(*place));
        let readers = readers.copied().collect();
        self.clean(places);
        readers
    }

    /// Replaces a member of a pool; returns the readers to evaluate if the generation that the pool is updated to
    /// changed.
    pub fn change_member(
        &mut self,
        pool: &Arc<str>,
        before: Option<&Member>,
        after: Option<&Member>,
    ) -> Vec<Reader> {
        let place = self.place_of(Owner::Pool(Arc::clone(pool)));
        let limit = self.api_server.as_deref().and_then(Version::parse);
        let Some(entry) = self.pools.get_mut(pool) else {
            return Vec::new();
        };
        let is_changed = entry.generations.change(before, after, limit.as_ref());
        let readers = if is_changed {
            self.readers.of(place).to_vec()
        } else {
            Vec::new()
        };
        self.clean(vec![place]);
        readers
    }

    /// Number of stored places and owners.
    #[cfg(test)]
    pub(crate) fn size(&self) -> usize {
        self.owners.len() + self.readers.counts().0
    }

    fn fact(&self, kind: usize, name: &str) -> Option<Arc<dyn Erased>> {
        self.kinds.get(kind)?.objects.get(name)?.fact.clone()
    }

    /// Stores the fact and returns its place.
    fn put(&mut self, kind: usize, name: &Arc<str>, fact: Option<Arc<dyn Erased>>) -> Place {
        if let Some(place) = self.put_on_node(kind, name, fact.as_ref()) {
            return place;
        }
        let is_gone = fact.is_none();
        let place = self.place_of(Owner::Object(kind, Arc::clone(name)));
        if let Some(table) = self.kinds.get_mut(kind)
            && let Some(entry) = table.objects.get_mut(name)
        {
            entry.fact = fact;
        }
        if is_gone {
            self.clean(vec![place]);
        }
        place
    }

    fn change_indexes(
        &mut self,
        kind: usize,
        name: &Arc<str>,
        before: Option<&dyn Erased>,
        after: Option<&dyn Erased>,
        places: &mut Vec<Place>,
    ) {
        let Some(of) = self.kinds.get(kind).map(|table| table.kind) else {
            return;
        };
        let keys = |fact: Option<&dyn Erased>| fact.map(|fact| of.keys(fact)).unwrap_or_default();
        let (before, after) = (keys(before), keys(after));
        if before == after {
            return;
        }
        for (keys, is_in) in [(&before, false), (&after, true)] {
            for (index, key) in keys.iter() {
                let place = self.place_of(Owner::Index(kind, index, key.into()));
                places.push(place);
                let Some(entry) = self.index_entry(kind, index, key) else {
                    continue;
                };
                let was_empty = entry.objects.is_empty();
                if is_in {
                    entry.objects.insert(Arc::clone(name));
                } else {
                    entry.objects.remove(name);
                }
                if entry.objects.is_empty() != was_empty {
                    let table = self.kinds.get(kind);
                    places.extend(table.and_then(|table| table.keys.get(index)));
                }
            }
        }
        let left = places.clone();
        self.clean(left);
    }

    fn index_entry(&mut self, kind: usize, index: &str, key: &str) -> Option<&mut IndexEntry> {
        self.kinds
            .get_mut(kind)?
            .indexes
            .get_mut(index)?
            .get_mut(key)
    }
}

/// Disables recording of reads of one kind, so that a test can show the effect.
#[cfg(test)]
pub(crate) mod blind {
    use std::cell::Cell;

    thread_local! {
        static KIND: Cell<Option<usize>> = const { Cell::new(None) };
    }

    /// Ends when dropped.
    pub(crate) struct Blind;

    pub(crate) fn to(kind: usize) -> Blind {
        KIND.set(Some(kind));
        Blind
    }

    pub(super) fn is_to(kind: usize) -> bool {
        KIND.get() == Some(kind)
    }

    impl Drop for Blind {
        fn drop(&mut self) {
            KIND.set(None);
        }
    }
}

#[cfg(test)]
mod tests;
