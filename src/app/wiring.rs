//! Wires consumers, centre and watches to one another, and starts them.

use std::future::Future;
use std::hash::Hash;
use std::sync::Arc;

use kube::Client;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Parts;
use super::config::RunConfig;
use crate::api::InsightStatus;
use crate::api::types::Provider;
use crate::domain::evaluate::Evaluator;
use crate::reconcile::applier::Applier;
use crate::reconcile::feeds::{self, Feed, check};
use crate::reconcile::insight_cache::InsightCache;
use crate::reconcile::keyed_queue::{self, Outcome};
use crate::reconcile::node_insight;
use crate::reconcile::node_state::{Centre, CentreBuilder, InsightKey, system_clock};
use crate::reconcile::pool_insight::{self, PoolInsights};
use crate::reconcile::sync_gate::SyncGate;
use crate::registry::fanout::Inbox;
use crate::telemetry::health::Health;
use crate::telemetry::metrics::Metrics;

const CHECK_NODE_WRITES: &str = "writing nodeprogressinsights";
const CHECK_POOL_WRITES: &str = "writing poolprogressinsights";

/// Starts what the configuration asks for.
pub(super) fn start(
    config: &RunConfig,
    rules: Box<dyn Evaluator>,
    client: Client,
    parts: &mut Parts,
    metrics: &Arc<Metrics>,
    health: &Arc<Health>,
) {
    let provider = rules.provider();
    let node_cache = config.enable_node_insights.then(Arc::default);
    let pool_cache = config.enable_pool_insights.then(Arc::default);

    let clock = system_clock();
    let mut builder = CentreBuilder::new(
        rules,
        Arc::clone(metrics),
        Arc::clone(health),
        Arc::clone(&clock),
    );
    let node_inbox = node_cache.as_ref().map(|cache| {
        builder.history(Arc::clone(cache));
        builder.consumer(node_insight::NAME, node_insight::wants)
    });
    let pool_inbox = pool_cache
        .as_ref()
        .map(|_| builder.consumer(pool_insight::NAME, pool_insight::wants));
    let (centre, dirty) = builder.build();

    let checks = checks(provider, config);
    for check in &checks {
        health.not_ready(check, "not listed yet");
        metrics.watch(check, false);
    }
    let gate = Arc::new(SyncGate::new(checks));
    let feed = Feed {
        centre: Arc::clone(&centre),
        gate: Arc::clone(&gate),
        health: Arc::clone(health),
        metrics: Arc::clone(metrics),
    };
    let mut wiring = Wiring {
        config,
        client,
        parts,
        metrics,
        health,
        feed,
    };

    if let (Some(inbox), Some(cache)) = (node_inbox, &node_cache) {
        let applier = wiring.applier(cache, CHECK_NODE_WRITES);
        let (centre, metrics) = (Arc::clone(&centre), Arc::clone(metrics));
        let reconcile = move |key| {
            let (centre, applier, metrics) = (
                Arc::clone(&centre),
                Arc::clone(&applier),
                Arc::clone(&metrics),
            );
            async move { node_insight::reconcile(key, &centre, &applier, &metrics).await }
        };
        wiring.consume(node_insight::NAME, inbox, reconcile);
        wiring.watch_insights(
            "watch nodeprogressinsights",
            check::NODE_INSIGHTS,
            cache,
            InsightKey::Node,
        );
    }
    if let (Some(inbox), Some(cache)) = (pool_inbox, &pool_cache) {
        let applier = wiring.applier(cache, CHECK_POOL_WRITES);
        let (centre, cache_too) = (Arc::clone(&centre), Arc::clone(cache));
        let pools = Arc::new(PoolInsights::new(
            centre,
            applier,
            cache_too,
            Arc::clone(metrics),
            clock,
        ));
        let reconcile = move |key| {
            let pools = Arc::clone(&pools);
            async move { pools.reconcile(key).await }
        };
        wiring.consume(pool_insight::NAME, inbox, reconcile);
        wiring.watch_insights(
            "watch poolprogressinsights",
            check::POOL_INSIGHTS,
            cache,
            InsightKey::Pool,
        );
    }
    wiring.watch_cluster(provider);
    parts.centre.spawn("node_state", move |stop| async move {
        let known = || {
            let nodes = node_cache
                .iter()
                .flat_map(|cache| cache.names())
                .map(InsightKey::Node);
            let pools = pool_cache
                .iter()
                .flat_map(|cache| cache.names())
                .map(InsightKey::Pool);
            nodes.chain(pools).collect()
        };
        centre.run(dirty, &gate, known, stop).await;
    });
}

/// Everything that has to be known before anything is evaluated.
fn checks(provider: Provider, config: &RunConfig) -> Vec<&'static str> {
    let mut checks = vec![check::NODES];
    match provider {
        Provider::OpenShift => {
            checks.extend([
                check::MACHINE_CONFIG_POOLS,
                check::MACHINE_CONFIGS,
                check::CLUSTER_VERSION,
            ]);
        }
        Provider::Kubernetes => checks.push(check::API_SERVER_VERSION),
    }
    if config.enable_node_insights {
        checks.push(check::NODE_INSIGHTS);
    }
    if config.enable_pool_insights {
        checks.push(check::POOL_INSIGHTS);
    }
    checks
}

struct Wiring<'a> {
    config: &'a RunConfig,
    client: Client,
    parts: &'a mut Parts,
    metrics: &'a Arc<Metrics>,
    health: &'a Arc<Health>,
    feed: Feed,
}

impl Wiring<'_> {
    fn applier<S>(&self, cache: &Arc<InsightCache<S>>, check: &'static str) -> Arc<Applier<S>>
    where
        S: InsightStatus + Hash + Serialize + DeserializeOwned,
    {
        Arc::new(Applier::new(
            self.client.clone(),
            Arc::clone(cache),
            Arc::clone(self.metrics),
            Arc::clone(self.health),
            check,
        ))
    }

    /// Starts a consumer; it begins once every node was evaluated.
    fn consume<R, F>(&mut self, name: &'static str, inbox: Inbox<InsightKey>, reconcile: R)
    where
        R: Fn(InsightKey) -> F + Send + Sync + 'static,
        F: Future<Output = Outcome> + Send + 'static,
    {
        let centre: Arc<Centre> = Arc::clone(&self.feed.centre);
        let (metrics, concurrency) = (Arc::clone(self.metrics), self.config.concurrency());
        self.parts.consumers.spawn(name, move |stop| async move {
            if stop.run_until_cancelled(centre.evaluated()).await.is_some() {
                keyed_queue::run(name, inbox, concurrency, &metrics, stop, reconcile).await;
            }
        });
    }

    fn watch_insights<S>(
        &mut self,
        task: &'static str,
        check: &'static str,
        cache: &Arc<InsightCache<S>>,
        key: fn(Arc<str>) -> InsightKey,
    ) where
        S: InsightStatus + DeserializeOwned + Hash,
    {
        let feed = feeds::insights(
            self.feed.clone(),
            self.client.clone(),
            check,
            Arc::clone(cache),
            key,
        );
        self.parts.watches.spawn_until_stopped(task, feed);
    }

    fn watch_cluster(&mut self, provider: Provider) {
        let (feed, client) = (|| self.feed.clone(), || self.client.clone());
        let watches = &mut self.parts.watches;
        watches.spawn_until_stopped("watch nodes", feeds::nodes(feed(), client()));
        match provider {
            Provider::OpenShift => {
                let pools = feeds::machine_config_pools(feed(), client());
                watches.spawn_until_stopped("watch machineconfigpools", pools);
                watches.spawn_until_stopped(
                    "watch machineconfigs",
                    feeds::machine_configs(feed(), client()),
                );
                watches.spawn_until_stopped(
                    "watch clusterversions",
                    feeds::cluster_version(feed(), client()),
                );
            }
            Provider::Kubernetes => {
                let version = feeds::api_server(feed(), client());
                watches.spawn_until_stopped("ask the API server for its version", version);
            }
        }
    }
}
