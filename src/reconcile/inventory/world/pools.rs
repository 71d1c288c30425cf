//! The pools that exist: as an object, or as long as they have nodes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Purpose, World};
use crate::domain::facts::Reader;
use crate::domain::pool::PoolId;
use crate::providers::Providers;

/// An existing pool.
pub(super) struct Pool {
    pub(super) reader: Reader,
    /// By the index of the provider; not empty. Nodes of several providers can be in pools of the same name, for a
    /// moment when a node shows another provider.
    holders: BTreeMap<usize, Holder>,
}

/// What a provider has of a pool.
#[derive(Clone, PartialEq)]
struct Holder {
    id: Arc<PoolId>,
    is_object: bool,
    nodes: usize,
}

impl Pool {
    /// The provider that describes the pool, whatever the order in which it was found: the one whose object it is,
    /// otherwise the first one with nodes.
    pub(super) fn owner(&self) -> Option<(usize, &Arc<PoolId>, bool)> {
        let mut objects = self.holders.iter().filter(|(_, holder)| holder.is_object);
        let owner = objects.next().or_else(|| self.holders.iter().next());
        owner.map(|(provider, holder)| (*provider, &holder.id, holder.is_object))
    }
}

impl World {
    /// Adds a node to a pool of the provider.
    pub(super) fn join(&mut self, provider: usize, id: &Arc<PoolId>) -> Option<Purpose> {
        self.change(provider, id, |holder| holder.nodes += 1)
    }

    /// Removes a node from a pool of the provider.
    pub(super) fn leave(&mut self, provider: usize, id: &Arc<PoolId>) -> Option<Purpose> {
        self.change(provider, id, |holder| {
            holder.nodes = holder.nodes.saturating_sub(1);
        })
    }

    /// Changes what a provider has of a pool; returns the pool if it is new, gone, or described otherwise than before.
    fn change(
        &mut self,
        provider: usize,
        id: &Arc<PoolId>,
        change: impl FnOnce(&mut Holder),
    ) -> Option<Purpose> {
        if !self.pools.contains_key(&id.name) {
            let reader = self.facts.add_reader();
            self.set_purpose(reader, Some(Purpose::Pool(Arc::clone(&id.name))));
            let holders = BTreeMap::new();
            let pool = Pool { reader, holders };
            self.pools.insert(Arc::clone(&id.name), pool);
        }
        let pool = self.pools.get_mut(&id.name)?;
        let owned = |pool: &Pool| {
            let (provider, id, is_object) = pool.owner()?;
            Some((provider, Arc::clone(id), is_object))
        };
        let before = owned(pool);
        let holder = pool.holders.entry(provider).or_insert_with(|| Holder {
            id: Arc::clone(id),
            is_object: false,
            nodes: 0,
        });
        change(holder);
        if !holder.is_object && holder.nodes == 0 {
            pool.holders.remove(&provider);
        }
        let (after, reader) = (owned(pool), pool.reader);
        if after.is_none() {
            self.facts.remove_reader(reader);
            self.set_purpose(reader, None);
            self.pools.remove(&id.name);
        }
        (before != after).then(|| Purpose::Pool(Arc::clone(&id.name)))
    }

    /// Lists the pools of a provider that are objects; returns the pools that are new or gone.
    pub(super) fn list_pools(&mut self, providers: &Providers, provider: usize) -> Vec<Purpose> {
        if !self.is_open {
            return Vec::new();
        }
        let view = self.facts.view();
        let listed = providers.pools(provider, &view);
        let reads = view.into_reads();
        let Some(known) = self.object_pools.get_mut(provider) else {
            return Vec::new();
        };
        let reader = known.reader;
        self.facts.record(reader, reads);
        let listed = match listed {
            Ok(listed) => listed,
            Err(error) => {
                // The known pools stay.
                known.unavailable = Some(error);
                return Vec::new();
            }
        };
        let was_unavailable = known.unavailable.take().is_some();
        let mut affected = Vec::new();
        for id in &listed {
            affected.extend(self.change(provider, id, |holder| {
                holder.is_object = true;
                holder.id = Arc::clone(id);
            }));
        }
        let names: BTreeSet<&Arc<str>> = listed.iter().map(|id| &id.name).collect();
        let held = self
            .pools
            .values()
            .filter_map(|pool| pool.holders.get(&provider));
        let gone = held.filter(|holder| holder.is_object && !names.contains(&holder.id.name));
        let gone: Vec<Arc<PoolId>> = gone.map(|holder| Arc::clone(&holder.id)).collect();
        for id in gone {
            affected.extend(self.change(provider, &id, |holder| holder.is_object = false));
        }
        if was_unavailable {
            // Only now are pools that do not exist known to be gone.
            let names = self.pools.keys().cloned();
            affected.extend(names.map(Purpose::Pool));
        }
        affected
    }
}
