//! What of the cluster, beside the node itself, a judgement depends on.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::pool::PoolFacts;

/// What of the cluster a judgement depends on. What a platform does not have stays empty.
#[derive(Debug, Clone, Default)]
pub struct ClusterFacts {
    /// MachineConfigPools by name.
    pub pools: BTreeMap<Arc<str>, PoolFacts>,
    /// Release version of each rendered MachineConfig that says one.
    pub release_versions: HashMap<Arc<str>, Arc<str>>,
    /// Version that OpenShift's ClusterVersion asks for.
    pub cluster_version: Option<Arc<str>>,
    /// Version of the API server.
    pub api_server_version: Option<Arc<str>>,
    /// Newest kubelet version of each pool, by name of the pool's insight.
    pub newest_in_pool: HashMap<Arc<str>, Arc<str>>,
}
