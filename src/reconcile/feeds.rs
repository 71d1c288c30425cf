//! What is watched, and how each kind reaches the centre.
//!
//! One function a kind. Each runs for ever in a task of its own; what they share is in [`Feed`].

use std::fmt::Debug;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use kube::core::{DeserializeGuard, PartialObjectMeta};
use kube::runtime::watcher::{self, watcher};
use kube::{Api, Client, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::insight_cache::InsightCache;
use super::insight_key::InsightKey;
use super::node_state::Centre;
use super::steady_version::SteadyVersion;
use super::sync_gate::SyncGate;
use crate::api::NodeProgressInsightStatus;
use crate::api::insight::{GROUP, InsightStatus};
use crate::api::openshift::{
    CLUSTER_VERSION_NAME, ClusterVersion, MACHINE_CONFIG_GROUP, MACHINE_CONFIG_POOLS,
    MachineConfig, MachineConfigPool,
};
use crate::domain::labels::Selector;
use crate::domain::pool::{PoolFacts, PoolId};
use crate::domain::text;
use crate::kubernetes::backoff;
use crate::kubernetes::diagnosis::{Attempt, Diagnosis, diagnose};
use crate::kubernetes::objects::{WatchedInsight, WatchedNode};
use crate::kubernetes::platform::api_server_version;
use crate::kubernetes::relist::{Relist, Wanted};
use crate::kubernetes::watch::{self, Seen, follow};
use crate::telemetry::cause::{Cause, Trigger};
use crate::telemetry::health::Health;
use crate::telemetry::metrics::Metrics;

/// Annotation of a rendered MachineConfig that says the release it belongs to.
const RELEASE_VERSION: &str = "machineconfiguration.openshift.io/release-image-version";
/// How often the API server is asked for its version, which cannot be watched. It changes once a
/// month or so; being a minute late is fine.
const VERSION_INTERVAL: Duration = Duration::from_mins(1);
/// Longest version that is kept, as in the API.
const VERSION_LIMIT: usize = 253;

/// What the feeds share.
#[derive(Clone)]
pub struct Feed {
    /// Whom they feed.
    pub centre: Arc<Centre>,
    /// What they open.
    pub gate: Arc<SyncGate>,
    /// Who asks them for fresh lists.
    pub relist: Arc<Relist>,
    /// Told when a watch that failed works again: something may have been missed.
    pub restarted: Arc<dyn Fn() + Send + Sync>,
    /// Where they say whether they work.
    pub health: Arc<Health>,
    /// Where they count.
    pub metrics: Arc<Metrics>,
}

impl Feed {
    /// Follows one kind for ever. `check` names it in the gate, in health and in metrics.
    async fn follow<K, S>(
        &self,
        check: &'static str,
        attempt: Attempt,
        start: impl Fn() -> S,
        mut sink: impl FnMut(Seen<K>) -> usize,
    ) where
        K: ResourceExt + Debug,
        S: Stream<Item = watcher::Result<watcher::Event<K>>>,
    {
        let mut has_failed = false;
        follow(start, attempt, self.relist.listener(check), |seen| {
            if let Seen::Failing(diagnosis) = &seen {
                has_failed = true;
                self.failing(check, diagnosis);
                return 0;
            }
            self.metrics.watch_event(check);
            let listed = match &seen {
                Seen::Listed(names) => Some(names.len()),
                Seen::Found(..) | Seen::Applied(_) | Seen::Deleted(_) | Seen::Failing(_) => None,
            };
            let news = sink(seen);
            if let Some(count) = listed {
                self.arrived(check, count);
                if std::mem::take(&mut has_failed) {
                    self.metrics.watch_restarted(check);
                    (self.restarted)();
                }
            }
            news
        })
        .await;
    }

    fn failing(&self, check: &'static str, diagnosis: &Diagnosis) {
        self.metrics.watch_failed(check, diagnosis.problem.as_str());
        if self.health.not_ready(check, diagnosis.to_string()) {
            tracing::warn!(kind = check, error = %diagnosis, "Watching fails");
        }
    }

    fn arrived(&self, check: &'static str, count: usize) {
        self.metrics.watch(check, true);
        if self.health.ready(check) {
            tracing::info!(kind = check, count, "Watching");
        }
        self.gate.arrived(check);
    }

    /// An object that cannot be read is counted, named and left out; the others go on.
    fn unreadable(&self, check: &'static str, name: &str, error: &str) {
        self.metrics.unreadable(check);
        tracing::warn!(
            kind = check,
            name,
            error = &*text::summary(error),
            "Leaving out an object that cannot be read"
        );
    }
}

/// Names under which the feeds appear in the gate, in `/readyz` and in metrics.
pub mod check {
    /// Nodes.
    pub const NODES: &str = "nodes";
    /// MachineConfigPools.
    pub const MACHINE_CONFIG_POOLS: &str = "machineconfigpools";
    /// MachineConfigs.
    pub const MACHINE_CONFIGS: &str = "machineconfigs";
    /// ClusterVersion.
    pub const CLUSTER_VERSION: &str = "clusterversions";
    /// The version of the API server.
    pub const API_SERVER_VERSION: &str = "apiserver-version";
    /// Insights of nodes.
    pub const NODE_INSIGHTS: &str = "nodeprogressinsights";
    /// Insights of pools.
    pub const POOL_INSIGHTS: &str = "poolprogressinsights";
}

/// Feeds Nodes.
pub async fn nodes(feed: Feed, client: Client) {
    let api: Api<WatchedNode> = Api::all(client);
    let attempt = Attempt {
        verbs: "list and watch",
        resource: "nodes",
        group: "",
    };
    let centre = Arc::clone(&feed.centre);
    feed.follow(
        check::NODES,
        attempt,
        || watcher(api.clone(), watch::config()),
        |seen| match seen {
            Seen::Found(node, _) | Seen::Applied(node) => {
                let (facts, resource_version) = node.into_parts();
                centre.observe(&Cause::new(Trigger::Node, &resource_version), |inventory| {
                    inventory.apply_node(facts)
                })
            }
            Seen::Deleted(node) => {
                let (facts, resource_version) = node.into_parts();
                let cause = Cause::new(Trigger::NodeDeleted, &resource_version);
                centre.observe(&cause, |inventory| inventory.remove_node(&facts.name))
            }
            Seen::Listed(names) => centre
                .observe(&Cause::new(Trigger::NodeDeleted, ""), |inventory| {
                    inventory.retain_nodes(&names)
                }),
            Seen::Failing(_) => 0,
        },
    )
    .await;
}

/// Feeds MachineConfigPools.
pub async fn machine_config_pools(feed: Feed, client: Client) {
    let api: Api<DeserializeGuard<MachineConfigPool>> = Api::all(client);
    let attempt = Attempt {
        verbs: "list and watch",
        resource: MACHINE_CONFIG_POOLS,
        group: MACHINE_CONFIG_GROUP,
    };
    let centre = Arc::clone(&feed.centre);
    let start = || watcher(api.clone(), watch::config());
    feed.follow(
        check::MACHINE_CONFIG_POOLS,
        attempt,
        start,
        |seen| match seen {
            Seen::Found(DeserializeGuard(Ok(pool)), _)
            | Seen::Applied(DeserializeGuard(Ok(pool))) => {
                let facts = pool_facts(&pool).unwrap_or_else(|(facts, error)| {
                    feed.unreadable(check::MACHINE_CONFIG_POOLS, &pool.name_any(), &error);
                    facts
                });
                let cause = Cause::new(
                    Trigger::MachineConfigPool,
                    &pool.resource_version().unwrap_or_default(),
                );
                centre.observe(&cause, |inventory| inventory.apply_pool(facts))
            }
            Seen::Found(DeserializeGuard(Err(invalid)), _)
            | Seen::Applied(DeserializeGuard(Err(invalid))) => {
                let name = invalid.metadata.name.unwrap_or_default();
                feed.unreadable(check::MACHINE_CONFIG_POOLS, &name, &invalid.error);
                0
            }
            Seen::Deleted(pool) => {
                let cause = Cause::new(
                    Trigger::MachineConfigPool,
                    &pool.resource_version().unwrap_or_default(),
                );
                let name = pool.name_any().into();
                centre.observe(&cause, |inventory| inventory.remove_pool(&name))
            }
            Seen::Listed(names) => {
                let cause = Cause::new(Trigger::MachineConfigPool, "");
                centre.observe(&cause, |inventory| inventory.retain_pools(&names))
            }
            Seen::Failing(_) => 0,
        },
    )
    .await;
}

/// A pool whose selector cannot be understood has no nodes.
pub(crate) fn pool_facts(pool: &MachineConfigPool) -> Result<PoolFacts, (PoolFacts, String)> {
    let selector = Selector::parse(pool.spec.node_selector.as_ref());
    let facts = |selector| PoolFacts {
        id: Arc::new(PoolId::machine_config_pool(&pool.name_any())),
        uid: pool.uid().unwrap_or_default().into(),
        paused: pool.spec.paused.unwrap_or_default(),
        configuration: pool
            .spec
            .configuration
            .as_ref()
            .and_then(|configuration| configuration.name.as_deref())
            .filter(|name| !name.is_empty())
            .map(Arc::from),
        selector,
    };
    selector
        .map(facts)
        .map_err(|error| (facts(None), error.to_string()))
}

/// Feeds the release versions of MachineConfigs, from their metadata.
pub async fn machine_configs(feed: Feed, client: Client) {
    let api: Api<PartialObjectMeta<MachineConfig>> = Api::all(client);
    let attempt = Attempt {
        verbs: "list and watch",
        resource: "machineconfigs",
        group: MACHINE_CONFIG_GROUP,
    };
    let centre = Arc::clone(&feed.centre);
    let start = || watcher(api.clone(), watch::config());
    let set = |config: &PartialObjectMeta<MachineConfig>, version: Option<Arc<str>>| {
        let cause = Cause::new(
            Trigger::MachineConfig,
            &config.resource_version().unwrap_or_default(),
        );
        let name = config.name_any().into();
        centre.observe(&cause, |inventory| {
            inventory.set_release_version(&name, version)
        })
    };
    feed.follow(check::MACHINE_CONFIGS, attempt, start, |seen| match seen {
        Seen::Found(config, _) | Seen::Applied(config) => set(&config, release_version(&config)),
        Seen::Deleted(config) => set(&config, None),
        Seen::Listed(names) => {
            let cause = Cause::new(Trigger::MachineConfig, "");
            centre.observe(&cause, |inventory| {
                inventory.retain_release_versions(&names)
            })
        }
        Seen::Failing(_) => 0,
    })
    .await;
}

/// The release that a rendered MachineConfig belongs to.
pub(crate) fn release_version(config: &PartialObjectMeta<MachineConfig>) -> Option<Arc<str>> {
    let version = config.annotations().get(RELEASE_VERSION)?;
    text::word(version, VERSION_LIMIT).map(Arc::from)
}

/// Feeds the version that ClusterVersion asks for.
pub async fn cluster_version(feed: Feed, client: Client) {
    let api: Api<DeserializeGuard<ClusterVersion>> = Api::all(client);
    let attempt = Attempt {
        verbs: "list and watch",
        resource: "clusterversions",
        group: "config.openshift.io",
    };
    let centre = Arc::clone(&feed.centre);
    let config = watch::config().fields(&format!("metadata.name={CLUSTER_VERSION_NAME}"));
    let start = || watcher(api.clone(), config.clone());
    let set = |resource_version: &str, version: Option<Arc<str>>| {
        let cause = Cause::new(Trigger::ClusterVersion, resource_version);
        centre.observe(&cause, |inventory| inventory.set_cluster_version(version))
    };
    feed.follow(check::CLUSTER_VERSION, attempt, start, |seen| match seen {
        Seen::Found(DeserializeGuard(Ok(cluster)), _)
        | Seen::Applied(DeserializeGuard(Ok(cluster))) => set(
            &cluster.resource_version().unwrap_or_default(),
            newest_version(&cluster),
        ),
        Seen::Found(DeserializeGuard(Err(invalid)), _)
        | Seen::Applied(DeserializeGuard(Err(invalid))) => {
            feed.unreadable(check::CLUSTER_VERSION, CLUSTER_VERSION_NAME, &invalid.error);
            0
        }
        Seen::Deleted(cluster) => set(&cluster.resource_version().unwrap_or_default(), None),
        Seen::Listed(names) => {
            if names.contains(CLUSTER_VERSION_NAME) {
                0
            } else {
                set("", None)
            }
        }
        Seen::Failing(_) => 0,
    })
    .await;
}

/// The version that ClusterVersion asks for, also while it is not there yet.
pub(crate) fn newest_version(cluster: &ClusterVersion) -> Option<Arc<str>> {
    let newest = cluster.status.as_ref()?.history.as_ref()?.first()?;
    text::word(newest.version.as_deref()?, VERSION_LIMIT).map(Arc::from)
}

/// Feeds the version of the API server. What it was before this process says the `history`.
pub async fn api_server(
    feed: Feed,
    client: Client,
    history: Option<Arc<InsightCache<NodeProgressInsightStatus>>>,
) {
    let attempt = Attempt {
        verbs: "get",
        resource: "the path /version",
        group: "",
    };
    let mut delays = backoff::short();
    let mut steady = match history {
        Some(history) => {
            feed.gate.has_arrived(check::NODE_INSIGHTS).await;
            SteadyVersion::of(&history.history(), Instant::now())
        }
        None => SteadyVersion::default(),
    };
    let mut listener = feed.relist.listener(check::API_SERVER_VERSION);
    let mut request: Option<Wanted> = None;
    loop {
        match api_server_version(&client).await {
            Ok(version) => {
                delays = backoff::short();
                let seen = text::word(&version, VERSION_LIMIT).map(Arc::from);
                let version = steady.observe(seen, Instant::now());
                let cause = Cause::new(Trigger::ApiServerVersion, "");
                feed.centre.observe(&cause, |inventory| {
                    inventory.set_api_server_version(version)
                });
                feed.metrics.watch_event(check::API_SERVER_VERSION);
                feed.arrived(check::API_SERVER_VERSION, 1);
                // It is asked for, never told: nothing of it can be missed.
                if let Some(request) = request.take() {
                    request.answer(Ok(0));
                }
                tokio::select! {
                    () = tokio::time::sleep(VERSION_INTERVAL) => {}
                    asked = listener.asked() => request = Some(asked),
                }
            }
            Err(error) => {
                let diagnosis = diagnose(&error, attempt);
                feed.failing(check::API_SERVER_VERSION, &diagnosis);
                if let Some(request) = request.take() {
                    request.answer(Err(diagnosis));
                }
                backoff::wait(&mut delays).await;
            }
        }
    }
}

/// Feeds what the API server holds of our own insights of one kind; `key` makes the key of one.
pub async fn insights<S>(
    feed: Feed,
    client: Client,
    check: &'static str,
    cache: Arc<InsightCache<S>>,
    key: fn(Arc<str>) -> InsightKey,
) where
    S: InsightStatus + DeserializeOwned + Hash,
{
    let api: Api<WatchedInsight<S>> = Api::all(client);
    let attempt = Attempt {
        verbs: "list and watch",
        resource: S::PLURAL,
        group: GROUP,
    };
    let touched = |name: Option<Arc<str>>| {
        name.map_or(0, |name| {
            feed.centre.touch(&key(name));
            1
        })
    };
    let applied = |insight: WatchedInsight<S>, asked| {
        let name: Arc<str> = insight.name_any().into();
        if insight.unreadable {
            feed.unreadable(
                check,
                &name,
                "its status is of another version of this API; it is written anew",
            );
        }
        touched(cache.apply(insight, asked).then_some(name))
    };
    feed.follow(
        check,
        attempt,
        || watcher(api.clone(), watch::config()),
        |seen| match seen {
            Seen::Found(insight, asked) => applied(insight, Some(asked)),
            Seen::Applied(insight) => applied(insight, None),
            Seen::Deleted(insight) => {
                let is_news = cache.remove(&insight);
                touched(is_news.then(|| insight.name_any().into()))
            }
            Seen::Listed(names) => cache
                .retain(&names)
                .into_iter()
                .map(|name| touched(Some(name)))
                .sum(),
            Seen::Failing(_) => 0,
        },
    )
    .await;
}
