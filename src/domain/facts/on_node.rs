//! What is read from the API server only while an evaluation asks for it: objects on nodes ([`Select::OnNode`]), and
//! kinds with `only_while_read`.
//!
//! The read of a node's objects is the demand for them, also while they are not known yet. Whoever reads them from the
//! API server asks which nodes are [`Facts::wanted`], says when all objects of a node are listed, and releases a node
//! that nobody reads any more. Until then the objects of the node are known, read or not.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use super::{Availability, Facts, IndexEntry, ObjectEntry, Owner, Place, Reader};
use crate::domain::erased::Erased;
use crate::domain::fact::{ON_NODE, Select};

impl Facts {
    /// Changes whenever [`Facts::wanted`] or [`Facts::is_read`] may have changed.
    #[must_use]
    pub fn demand(&self) -> u64 {
        self.demand
    }

    /// Whether an evaluation reads the kind.
    #[must_use]
    pub fn is_read(&self, kind: usize) -> bool {
        let table = self.kinds.get(kind);
        table.is_some_and(|table| !self.readers.of(table.availability_place).is_empty())
    }

    /// How many of the kinds that are watched only while they are read are read.
    pub(super) fn read_on_demand(&self) -> usize {
        let places = self.on_demand.iter();
        places
            .filter(|place| !self.readers.of(**place).is_empty())
            .count()
    }

    /// The nodes whose objects of this kind are read.
    #[must_use]
    pub fn wanted(&self, kind: usize) -> Vec<Arc<str>> {
        let table = self.kinds.get(kind);
        let entries = table.and_then(|table| table.indexes.get(ON_NODE));
        let is_read = |entry: &&IndexEntry| !self.readers.of(entry.place).is_empty();
        let nodes = entries.into_iter().flatten();
        nodes
            .filter(|(_, entry)| is_read(entry))
            .map(|(node, _)| Arc::from(&**node))
            .collect()
    }

    /// The objects of a node are these, and no others: removes the rest, and returns the readers to evaluate. A list that
    /// arrives when the kind is no longer served says nothing.
    pub fn listed(&mut self, kind: usize, node: &str, listed: &HashSet<String>) -> Vec<Reader> {
        if self.availability(kind) == Some(&Availability::NotServed) {
            return Vec::new();
        }
        let mut readers: Vec<Reader> = self
            .on_node(kind, node)
            .iter()
            .filter(|name| !listed.contains(&***name))
            .filter_map(|name| self.apply(kind, name, None))
            .flatten()
            .collect();
        self.place_of(Owner::Index(kind, ON_NODE, node.into()));
        if let Some(entry) = self.node_entry(kind, node)
            && !entry.is_listed
        {
            entry.is_listed = true;
            let place = entry.place;
            readers.extend(self.readers.of(place));
        }
        readers.sort_unstable();
        readers.dedup();
        readers
    }

    /// The objects of no node are known any more.
    pub(super) fn unlist(&mut self, kind: usize) {
        let table = self.kinds.get_mut(kind);
        let entries = table.and_then(|table| table.indexes.get_mut(ON_NODE));
        let mut places = Vec::new();
        for entry in entries.into_iter().flat_map(BTreeMap::values_mut) {
            entry.is_listed = false;
            places.push(entry.place);
        }
        self.clean(places);
    }

    /// Removes the objects of a node that nobody reads; returns false if somebody does.
    pub fn release(&mut self, kind: usize, node: &str) -> bool {
        let Some(entry) = self.node_entry(kind, node) else {
            return true;
        };
        let place = entry.place;
        if !self.readers.of(place).is_empty() {
            return false;
        }
        if let Some(entry) = self.node_entry(kind, node) {
            entry.is_listed = false;
        }
        for name in self.on_node(kind, node) {
            self.apply(kind, &name, None);
        }
        self.clean(vec![place]);
        true
    }

    /// Stores the fact of an object on a node, which is read with its node: it has no place of its own unless somebody
    /// has asked for it by its name.
    pub(super) fn put_on_node(
        &mut self,
        kind: usize,
        name: &Arc<str>,
        fact: Option<&Arc<dyn Erased>>,
    ) -> Option<Place> {
        let table = self.kinds.get_mut(kind)?;
        let place = table.all_place;
        let known = table.objects.get(name);
        let has_own = known.is_some_and(|entry| entry.place != place);
        if table.kind.spec.select != Select::OnNode || has_own {
            return None;
        }
        match fact {
            Some(fact) => {
                let fact = Some(Arc::clone(fact));
                table
                    .objects
                    .insert(Arc::clone(name), ObjectEntry { fact, place });
            }
            None => {
                table.objects.remove(name);
            }
        }
        Some(place)
    }

    /// Names of the objects of a node.
    fn on_node(&self, kind: usize, node: &str) -> Vec<Arc<str>> {
        let table = self.kinds.get(kind);
        let entries = table.and_then(|table| table.indexes.get(ON_NODE));
        let entry = entries.and_then(|entries| entries.get(node));
        entry.map_or_else(Vec::new, |entry| entry.objects.iter().cloned().collect())
    }

    fn node_entry(&mut self, kind: usize, node: &str) -> Option<&mut IndexEntry> {
        let table = self.kinds.get_mut(kind)?;
        table.indexes.get_mut(ON_NODE)?.get_mut(node)
    }

    /// The place of the node that an object is on: every change of the object is one of its node.
    pub(super) fn node_of(&self, kind: usize, fact: Option<&dyn Erased>) -> Option<Place> {
        let table = self.kinds.get(kind)?;
        let keys = table.kind.keys(fact?);
        let (index, node) = keys.iter().find(|(index, _)| *index == ON_NODE)?;
        Some(table.indexes.get(index)?.get(node)?.place)
    }

    pub(super) fn is_on_node(&self, place: Place) -> bool {
        let Some(Owner::Index(kind, index, _)) = self.owners.get(&place) else {
            return false;
        };
        let table = self.kinds.get(*kind);
        *index == ON_NODE && table.is_some_and(|table| table.kind.spec.select == Select::OnNode)
    }
}
