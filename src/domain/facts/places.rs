//! Places that are added with their first reader and removed with their last.

use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet};

use super::{Facts, IndexEntry, NodesEntry, ObjectEntry, Owner, Place, PoolEntry};
use crate::domain::pool_generations::PoolGenerations;

impl Facts {
    /// The place of `owner`, added if it does not exist.
    pub(super) fn place_of(&mut self, owner: Owner) -> Place {
        let known = match &owner {
            Owner::Object(kind, name) => self
                .kinds
                .get(*kind)
                .and_then(|table| Some(table.objects.get(name)?.place)),
            Owner::Index(kind, index, key) => self
                .kinds
                .get(*kind)
                .and_then(|table| Some(table.indexes.get(index)?.get(key)?.place)),
            Owner::Keys(kind, index) => self
                .kinds
                .get(*kind)
                .and_then(|table| table.keys.get(index).copied()),
            Owner::Pool(pool) => self.pools.get(pool).map(|entry| entry.place),
            Owner::Nodes(index, key) => self
                .nodes
                .get(index)
                .and_then(|entries| Some(entries.get(key)?.place)),
        };
        if let Some(place) = known {
            return place;
        }
        let place = self.readers.add_place();
        self.owners.insert(place, owner.clone());
        if self.is_on_node(place) {
            self.demand += 1;
        }
        match owner {
            Owner::Object(kind, name) => {
                if let Some(table) = self.kinds.get_mut(kind) {
                    table
                        .objects
                        .insert(name, ObjectEntry { fact: None, place });
                }
            }
            Owner::Index(kind, index, key) => {
                if let Some(table) = self.kinds.get_mut(kind) {
                    let entry = IndexEntry {
                        objects: BTreeSet::new(),
                        place,
                        is_listed: false,
                    };
                    table.indexes.entry(index).or_default().insert(key, entry);
                }
            }
            Owner::Keys(kind, index) => {
                if let Some(table) = self.kinds.get_mut(kind) {
                    table.keys.insert(index, place);
                }
            }
            Owner::Pool(pool) => {
                let generations = PoolGenerations::default();
                self.pools.insert(pool, PoolEntry { generations, place });
            }
            Owner::Nodes(index, key) => {
                let entries = self.nodes.entry(index).or_default();
                entries.insert(key, NodesEntry { count: 0, place });
            }
        }
        place
    }

    /// Removes the places that are empty and have no readers.
    pub(super) fn clean(&mut self, places: Vec<Place>) {
        for place in places {
            if !self.readers.of(place).is_empty() {
                continue;
            }
            let Some(owner) = self.owners.get(&place) else {
                continue;
            };
            let is_removed = match owner {
                Owner::Object(kind, name) => {
                    let objects = self.kinds.get_mut(*kind).map(|table| &mut table.objects);
                    remove_if(objects, name, |entry| entry.fact.is_none())
                }
                Owner::Index(kind, index, key) => {
                    let table = self.kinds.get_mut(*kind);
                    let entries = table.and_then(|table| table.indexes.get_mut(index));
                    remove_if(entries, key, |entry| {
                        entry.objects.is_empty() && !entry.is_listed
                    })
                }
                Owner::Keys(kind, index) => self
                    .kinds
                    .get_mut(*kind)
                    .is_some_and(|table| table.keys.remove(index).is_some()),
                Owner::Pool(pool) => remove_if(Some(&mut self.pools), pool, |entry| {
                    entry.generations.is_empty()
                }),
                Owner::Nodes(index, key) => {
                    remove_if(self.nodes.get_mut(index), key, |entry| entry.count == 0)
                }
            };
            if is_removed {
                self.owners.remove(&place);
                self.readers.remove_place(place);
            }
        }
    }
}

/// Removes an empty entry; returns whether it did.
fn remove_if<K: Borrow<str> + Ord, V>(
    entries: Option<&mut BTreeMap<K, V>>,
    key: &str,
    is_empty: impl FnOnce(&V) -> bool,
) -> bool {
    entries.is_some_and(|entries| {
        entries.get(key).is_some_and(is_empty) && entries.remove(key).is_some()
    })
}
