//! Inventories for tests: every kind is listed, and objects are applied by their types.

use std::sync::Arc;

use super::{Affected, Inventory};
use crate::domain::erased::Erased;
use crate::domain::fact::{Fact, Kind};
use crate::domain::facts::Availability;
use crate::domain::fixtures::at;
use crate::providers::openshift::kinds::{
    CLUSTER_VERSION_NAME, ClusterVersion, MachineConfig, MachineConfigPool,
};
use crate::providers::{Provider, Providers};

impl Inventory {
    /// An inventory of a cluster with this provider only.
    pub(crate) fn of(provider: impl Provider + 'static) -> Self {
        Self::ready(crate::providers::fixtures::only(provider))
    }

    /// An inventory whose kinds are all listed and empty.
    pub(crate) fn ready(providers: Providers) -> Self {
        let inventory = Self::new(providers);
        for place in 0..inventory.providers.kinds().len() {
            inventory.set_availability(place, Availability::Ready);
        }
        inventory.open();
        inventory
    }

    /// Evaluates everything, so that all reads are recorded.
    pub(crate) fn evaluate_all(&self) {
        let nodes = self.world.lock().node_names();
        for name in nodes {
            let _ = self.evaluate(&name, None, None, at(0));
        }
        for name in self.pool_names() {
            let _ = self.describe(&name, at(0));
        }
    }

    /// The place of a kind in the table.
    pub(crate) fn place<F: Fact>(&self) -> usize {
        let mut kinds = self.providers.kinds().iter();
        kinds
            .position(|kind| kind.is_same_type(&Kind::of::<F>()))
            .unwrap()
    }

    pub(crate) fn apply_fact<F: Fact>(&self, name: &str, fact: Option<F>) -> Affected {
        let fact = fact.map(|fact| Arc::new(fact) as Arc<dyn Erased>);
        self.apply_object(self.place::<F>(), &name.into(), fact)
    }

    pub(crate) fn apply_pool(&self, pool: MachineConfigPool) -> Affected {
        let name = Arc::clone(&pool.id.name);
        self.apply_fact(&name, Some(pool))
    }

    pub(crate) fn remove_pool(&self, name: &str) -> Affected {
        self.apply_fact::<MachineConfigPool>(name, None)
    }

    pub(crate) fn set_release_version(&self, config: &str, version: Option<&str>) -> Affected {
        let fact = version.map(|version| MachineConfig {
            release_version: version.into(),
        });
        self.apply_fact(config, fact)
    }

    pub(crate) fn set_cluster_version(&self, version: Option<&str>) -> Affected {
        let fact = version.map(|version| ClusterVersion {
            version: version.into(),
        });
        self.apply_fact(CLUSTER_VERSION_NAME, fact)
    }
}
