//! Read access of an evaluation to the facts; every read is recorded.

use std::any::TypeId;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::sync::Arc;

use super::{Availability, Facts, IndexEntry, KindTable, Owner, Place, Unavailable};
use crate::domain::erased::downcast;
use crate::domain::fact::{Fact, ON_NODE};
use crate::domain::policy::Policy;
use crate::domain::pool_generations::Generation;
use crate::domain::version::Precision;

/// How many places an evaluation reads at most, usually.
const USUAL: usize = 32;

/// The recorded reads.
#[derive(Debug, Default, Clone)]
pub struct Reads {
    pub(super) places: Vec<Place>,
    /// Absent facts that were read and have no place yet.
    pub(super) missing: Vec<Owner>,
}

/// Finds objects by the keys of an index.
pub struct Finder<'v, 'a, F> {
    view: &'v View<'a>,
    kind: usize,
    table: &'a KindTable,
    entries: Option<&'a BTreeMap<Box<str>, IndexEntry>>,
    facts: PhantomData<F>,
}

impl<'a, F: Fact> Finder<'_, 'a, F> {
    /// Adds the objects with this key, sorted by name.
    pub fn find(&self, key: &str, found: &mut Vec<&'a F>) {
        let entry = self.entries.and_then(|entries| entries.get(key));
        if let Some(entry) = entry.filter(|entry| !entry.objects.is_empty()) {
            self.view.read_entry(self.kind, self.table, entry, found);
        }
    }
}

/// The facts for one evaluation. Every read is recorded, also of absent facts.
pub struct View<'a> {
    facts: &'a Facts,
    reads: RefCell<Reads>,
}

impl<'a> View<'a> {
    pub(super) fn new(facts: &'a Facts) -> Self {
        Self {
            facts,
            reads: RefCell::new(Reads {
                places: Vec::with_capacity(USUAL),
                missing: Vec::new(),
            }),
        }
    }

    /// The reads through this view.
    #[must_use]
    pub fn into_reads(self) -> Reads {
        self.reads.into_inner()
    }

    /// Whether the API server serves the kind.
    #[must_use]
    pub fn serves<F: Fact>(&self) -> bool {
        self.table::<F>()
            .is_some_and(|(_, table)| table.availability != Availability::NotServed)
    }

    /// The object of this name; `namespace/name` for namespaced kinds.
    ///
    /// # Errors
    /// When the kind cannot be read.
    pub fn get<F: Fact>(&self, name: &str) -> Result<Option<&'a F>, Unavailable> {
        let (kind, table) = self.ready::<F>()?;
        let Some(entry) = table.objects.get(name) else {
            self.record_missing(Owner::Object(kind, name.into()));
            return Ok(None);
        };
        self.record_in(kind, entry.place);
        Ok(entry.fact.as_deref().and_then(downcast))
    }

    /// All objects of the kind, sorted by name.
    ///
    /// # Errors
    /// When the kind cannot be read.
    pub fn all<F: Fact>(&self) -> Result<impl Iterator<Item = &'a F>, Unavailable> {
        let (kind, table) = self.ready::<F>()?;
        self.record_in(kind, table.all_place);
        let facts = table
            .objects
            .values()
            .filter_map(|entry| entry.fact.as_deref());
        Ok(facts.filter_map(downcast))
    }

    /// The objects with this key in an index, sorted by name.
    ///
    /// # Errors
    /// When the kind cannot be read.
    pub fn find<F: Fact>(&self, index: &'static str, key: &str) -> Result<Vec<&'a F>, Unavailable> {
        let (kind, table) = self.ready::<F>()?;
        let entry = table
            .indexes
            .get(index)
            .and_then(|entries| entries.get(key));
        let Some(entry) = entry else {
            self.record_missing(Owner::Index(kind, index, key.into()));
            return Ok(Vec::new());
        };
        let mut found = Vec::with_capacity(entry.objects.len());
        self.read_entry(kind, table, entry, &mut found);
        Ok(found)
    }

    /// Finds objects by many keys of an index, of which few have objects: keys without objects cost nothing to record.
    /// When a key gets its first object or loses its last, all who have called this for the index are evaluated again.
    ///
    /// # Errors
    /// When the kind cannot be read.
    pub fn finder<F: Fact>(&self, index: &'static str) -> Result<Finder<'_, 'a, F>, Unavailable> {
        let (kind, table) = self.ready::<F>()?;
        match table.keys.get(index) {
            Some(place) => self.record_in(kind, *place),
            None => self.record_missing(Owner::Keys(kind, index)),
        }
        Ok(Finder {
            view: self,
            kind,
            table,
            entries: table.indexes.get(index),
            facts: PhantomData,
        })
    }

    fn read_entry<F: Fact>(
        &self,
        kind: usize,
        table: &'a KindTable,
        entry: &'a IndexEntry,
        found: &mut Vec<&'a F>,
    ) {
        self.record_in(kind, entry.place);
        let names = entry.objects.iter();
        for object in names.filter_map(|name| table.objects.get(name)) {
            self.record_in(kind, object.place);
            found.extend(object.fact.as_deref().and_then(downcast::<F>));
        }
    }

    /// The objects of the kind on a node, sorted by name; `None` until they are known. They are read from the API server
    /// only while an evaluation asks for them.
    ///
    /// # Errors
    /// When the kind cannot be read.
    pub fn on_node<F: Fact>(&self, node: &str) -> Result<Option<Vec<&'a F>>, Unavailable> {
        let known = self.table::<F>().and_then(|(kind, table)| {
            let entries = table.indexes.get(ON_NODE);
            let entry = entries.and_then(|entries| entries.get(node));
            match entry {
                Some(entry) => self.record_in(kind, entry.place),
                None => self.record_missing(Owner::Index(kind, ON_NODE, node.into())),
            }
            entry.map(|entry| (table, entry))
        });
        self.ready::<F>()?;
        let known = known.filter(|(_, entry)| entry.is_listed);
        Ok(known.map(|(table, entry)| {
            let names = entry.objects.iter();
            let facts = names.filter_map(|name| table.objects.get(name)?.fact.as_deref());
            facts.filter_map(downcast::<F>).collect()
        }))
    }

    /// The number of nodes with this key; providers set the keys.
    #[must_use]
    pub fn count_nodes(&self, index: &'static str, key: &str) -> usize {
        let entries = self.facts.nodes.get(index);
        let Some(entry) = entries.and_then(|entries| entries.get(key)) else {
            self.record_missing(Owner::Nodes(index, key.into()));
            return 0;
        };
        self.record(entry.place);
        entry.count
    }

    /// The policy of the user.
    #[must_use]
    pub fn policy(&self) -> &'a Policy {
        self.record(self.facts.policy_place);
        &self.facts.policy
    }

    /// Version of the API server, if known.
    #[must_use]
    pub fn api_server_version(&self) -> Option<&'a Arc<str>> {
        self.record(self.facts.api_server_place);
        self.facts.api_server.as_ref()
    }

    /// The generation that the nodes of a pool with this operating system and architecture are updated to, as its
    /// youngest node shows it. Pools are named as their insights.
    #[must_use]
    pub fn generation(
        &self,
        pool: &Arc<str>,
        flavour: (&str, &str),
        precision: Precision,
    ) -> Option<&'a Generation> {
        let Some(entry) = self.facts.pools.get(pool) else {
            self.record_missing(Owner::Pool(Arc::clone(pool)));
            return None;
        };
        self.record(entry.place);
        entry.generations.target(flavour, precision)
    }

    /// The table of a kind; records a read of its availability.
    fn table<F: Fact>(&self) -> Option<(usize, &'a KindTable)> {
        let id = TypeId::of::<F>();
        let kind = self.facts.types.iter().position(|known| *known == id)?;
        let table = self.facts.kinds.get(kind)?;
        self.record(table.availability_place);
        Some((kind, table))
    }

    /// The table of a kind whose list is complete.
    fn ready<F: Fact>(&self) -> Result<(usize, &'a KindTable), Unavailable> {
        let found = self.table::<F>();
        // A kind that no provider has named counts as not served.
        let availability = found.map_or(&Availability::NotServed, |(_, table)| &table.availability);
        match (found, availability) {
            (Some(found), Availability::Ready) => Ok(found),
            (_, availability) => Err(Unavailable {
                kind: F::KIND.label(),
                availability: availability.clone(),
            }),
        }
    }

    /// Records a read of a kind.
    fn record_in(&self, kind: usize, place: Place) {
        #[cfg(test)]
        if super::blind::is_to(kind) {
            return;
        }
        let _ = kind;
        self.record(place);
    }

    fn record(&self, place: Place) {
        self.reads.borrow_mut().places.push(place);
    }

    fn record_missing(&self, owner: Owner) {
        #[cfg(test)]
        if let Owner::Object(kind, _) | Owner::Index(kind, ..) | Owner::Keys(kind, _) = owner
            && super::blind::is_to(kind)
        {
            return;
        }
        self.reads.borrow_mut().missing.push(owner);
    }
}
