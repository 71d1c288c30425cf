//! What of the cluster, beside the node itself, a judgement depends on.

use std::sync::Arc;

use super::pool::PoolFacts;

/// What of the cluster a judgement depends on. What a platform does not have is not there.
pub trait Cluster {
    /// A MachineConfigPool.
    fn pool(&self, name: &Arc<str>) -> Option<Arc<PoolFacts>>;

    /// All MachineConfigPools, ordered by name.
    fn pools(&self) -> Vec<Arc<PoolFacts>>;

    /// Release version of a rendered MachineConfig, if it says one.
    fn release_version(&self, config: &Arc<str>) -> Option<Arc<str>>;

    /// Version that OpenShift's ClusterVersion asks for.
    fn cluster_version(&self) -> Option<Arc<str>>;

    /// Version of the API server.
    fn api_server_version(&self) -> Option<Arc<str>>;

    /// Newest kubelet version in a pool, by name of the pool's insight, of those that are newer than `own`.
    fn newer_in_pool(&self, pool: &Arc<str>, own: &str) -> Option<Arc<str>>;
}
