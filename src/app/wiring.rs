//! Wires and starts the consumers, the node-state controller, the watches and the compare.

use std::future::Future;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::watch;

use super::backend;
use super::config::RunConfig;
use super::engine::RunningEngine;
use super::leading::{Writes, gained, lead, stand_by};
use super::notes::Notes;
use super::parts::Parts;
use super::policy::{self, PolicyFile};
use super::sync;
use crate::api::{InsightStatus, NodeProgressInsightStatus, PoolProgressInsightStatus};
use crate::domain::fact::{Kind, Need};
use crate::kubernetes::client::Connection;
use crate::kubernetes::platform;
use crate::kubernetes::relist::Relist;
use crate::providers::Providers;
use crate::reconcile::applier::Applier;
use crate::reconcile::clock::system_clock;
use crate::reconcile::compare::Insights;
use crate::reconcile::discovery::{Discovery, Served};
use crate::reconcile::events::Events;
use crate::reconcile::insight_cache::InsightCache;
use crate::reconcile::insight_key::InsightKey;
use crate::reconcile::inventory::Affected;
use crate::reconcile::keyed_queue::{self, Outcome, QueueStatus};
use crate::reconcile::node_insight::{self, NodeInsights};
use crate::reconcile::node_state::{KnownInsights, NodeStateController};
use crate::reconcile::pool_insight::{self, PoolInsights};
use crate::reconcile::states::States;
use crate::reconcile::sync_gate::SyncGate;
use crate::reconcile::watches::{self, Watches, check};
use crate::registry::Clock;
use crate::registry::election::Leadership;
use crate::registry::fanout::Inbox;
use crate::registry::operations::Operations;
use crate::registry::sync::{SyncHandle, SyncReason};
use crate::telemetry::cause::{Cause, Trigger};
use crate::telemetry::health::Health;
use crate::telemetry::metrics::Metrics;

const CHECK_NODE_WRITES: &str = "writing nodeprogressinsights";
const CHECK_POOL_WRITES: &str = "writing poolprogressinsights";
/// Interval of the backend's health checks.
const BACKEND_CHECK_INTERVAL: Duration = Duration::from_secs(5);
/// Interval between two looks at the estimate of a pool.
const ESTIMATE_AGAIN: Duration = Duration::from_secs(30);
/// Delay before a consumer is attached again after the backend failed.
const ATTACH_AGAIN: Duration = Duration::from_secs(1);

/// The shared dependencies of all parts.
pub(super) struct Surroundings<'a> {
    pub(super) config: &'a RunConfig,
    pub(super) connection: Connection,
    pub(super) leadership: &'a Leadership,
    pub(super) operations: &'a Operations,
    pub(super) events: &'a Events,
    pub(super) notes: &'a Notes,
    pub(super) metrics: &'a Arc<Metrics>,
    pub(super) health: &'a Arc<Health>,
}

/// The started engine, and the kinds that it reads.
pub(super) struct Started {
    pub(super) engine: Arc<RunningEngine>,
    pub(super) kinds: Vec<Kind>,
}

/// Applies the policy of the user, if there is one, before anything is evaluated.
fn follow_policy(
    surroundings: &Surroundings<'_>,
    controller: &Arc<NodeStateController>,
    parts: &mut Parts,
) {
    let Some(file) = PolicyFile::of(&surroundings.config.pools) else {
        return;
    };
    let (controller, health) = (Arc::clone(controller), Arc::clone(surroundings.health));
    let following = policy::follow(file, controller, health, surroundings.notes.clone());
    parts.watches.spawn_until_stopped("policy", following);
}

/// What every watch needs; `restarted` is notified when one had to relist.
fn watching(
    surroundings: &Surroundings<'_>,
    controller: &Arc<NodeStateController>,
    gate: &Arc<SyncGate>,
    relist: &Arc<Relist>,
    restarted: watch::Sender<()>,
) -> Watches {
    Watches {
        controller: Arc::clone(controller),
        gate: Arc::clone(gate),
        relist: Arc::clone(relist),
        restarted: Arc::new(move || {
            restarted.send_replace(());
        }),
        health: Arc::clone(surroundings.health),
        metrics: Arc::clone(surroundings.metrics),
    }
}

/// Starts the configured parts.
pub(super) fn start(
    surroundings: &Surroundings<'_>,
    providers: Providers,
    parts: &mut Parts,
) -> anyhow::Result<Started> {
    let Surroundings {
        config,
        connection,
        leadership,
        operations,
        events,
        metrics,
        health,
        ..
    } = surroundings;
    let kinds = providers.kinds().to_vec();
    let node_cache = config.enable_node_insights.then(Arc::default);
    let pool_cache = config.enable_pool_insights.then(Arc::default);

    let backends = backend::open(&config.state_backend, metrics)?;
    parts.backends = Some(backends.clone());
    let clock = system_clock();
    let (controller, dirty) = NodeStateController::new(
        providers,
        States::new(backends, Arc::clone(metrics), Arc::clone(health)),
        KnownInsights {
            nodes: node_cache.clone(),
            pools: pool_cache.clone(),
        },
        Arc::clone(metrics),
        Arc::clone(health),
        Arc::clone(&clock),
    );

    follow_policy(surroundings, &controller, parts);

    let gate = gate(&kinds, config, metrics, health);
    let relist = Arc::new(Relist::default());
    let (restarted, restarts) = watch::channel(());
    let (discovery, served) = Discovery::new(&kinds, Arc::clone(&gate), Arc::clone(health));
    let watching = watching(surroundings, &controller, &gate, &relist, restarted);
    let (leads, writes) = watch::channel(false);
    let mut wiring = Wiring {
        config,
        writer: connection.writer(leadership)?,
        writes: writes.clone(),
        client: connection.client.clone(),
        parts,
        events,
        metrics,
        health,
        watching,
        insights: Vec::new(),
        queues: Vec::new(),
    };
    if let Some(cache) = &node_cache {
        wiring.node_insights(cache);
    }
    if let Some(cache) = &pool_cache {
        wiring.pool_insights(Arc::clone(&controller), cache, Arc::clone(&clock));
    }
    wiring.watch_cluster(discovery, &served, &kinds, node_cache.clone());
    let Wiring {
        insights, queues, ..
    } = wiring;

    let compare = sync::compare(surroundings, &controller, relist, insights, &queues);
    let coordinator = sync::coordinator(Arc::clone(&compare), surroundings, &clock);
    let handle = coordinator.handle();
    let (engine, jobs) = RunningEngine::new(
        Arc::clone(&controller),
        Operations::clone(operations),
        handle.clone(),
        queues,
        Leadership::clone(leadership),
        Arc::clone(metrics),
    );
    engine.wire_gauges(metrics);
    parts.work.spawn("operations", |stop| jobs.run(stop));
    let standing_by = stand_by(compare, config.sync_interval, writes.clone());
    parts.controller.spawn_until_stopped("standby", standing_by);
    parts.sync.spawn("sync", |stop| async move {
        coordinator.start(gained(writes), stop).await;
    });
    let leading = lead(
        Arc::clone(&controller),
        Leadership::clone(leadership),
        handle.clone(),
        leads,
    );
    parts.controller.spawn_until_stopped("leader", leading);
    let asking = request_syncs(restarts, handle);
    parts.watches.spawn_until_stopped("watch restarts", asking);
    let checks = check_backend(Arc::clone(&controller));
    parts
        .controller
        .spawn_until_stopped("state backend", checks);
    parts
        .controller
        .spawn("node_state", move |stop| async move {
            controller.run(dirty, &gate, stop).await;
        });
    let engine = Arc::new(engine);
    Ok(Started { engine, kinds })
}

/// Lists the keys of the insights in the API server.
fn names<S: InsightStatus + Hash>(
    cache: &Arc<InsightCache<S>>,
    key: fn(Arc<str>) -> InsightKey,
) -> impl FnOnce() -> Vec<InsightKey> + use<S> {
    let cache = Arc::clone(cache);
    move || cache.names().into_iter().map(key).collect()
}

/// Attaches a consumer to the node-state controller; retries while the backend fails.
async fn attach(
    controller: &NodeStateController,
    name: &'static str,
    wants: fn(&InsightKey) -> bool,
) -> Inbox<InsightKey> {
    loop {
        match controller.attach(name, wants) {
            Ok(inbox) => return inbox,
            Err(error) => {
                tracing::error!(consumer = name, %error, "Cannot begin to write: the state backend fails; retrying");
                tokio::time::sleep(ATTACH_AGAIN).await;
            }
        }
    }
}

/// Requests a sync after each restart of a watch, as changes may have been missed.
async fn request_syncs(mut restarts: watch::Receiver<()>, sync: SyncHandle) {
    while restarts.changed().await.is_ok() {
        sync.request(SyncReason::WatchRestarted);
    }
    std::future::pending::<()>().await;
}

/// Looks again at the pools whose rollout is in progress: their estimates change with time.
async fn estimate_again(controller: Arc<NodeStateController>, pools: Arc<PoolInsights>) {
    loop {
        tokio::time::sleep(ESTIMATE_AGAIN).await;
        let affected = Affected {
            nodes: Vec::new(),
            pools: pools.estimated(),
        };
        controller.observe(&Cause::new(Trigger::Time, ""), |_| affected);
    }
}

async fn check_backend(controller: Arc<NodeStateController>) {
    loop {
        tokio::time::sleep(BACKEND_CHECK_INTERVAL).await;
        controller.states().check_health();
    }
}

/// A gate that waits for all initial lists, which are checks of `/readyz`. Discovery adds the served kinds.
fn gate(kinds: &[Kind], config: &RunConfig, metrics: &Metrics, health: &Health) -> Arc<SyncGate> {
    let mut checks = vec![check::NODES, check::API_SERVER_VERSION, check::DISCOVERY];
    if config.enable_node_insights {
        checks.push(check::NODE_INSIGHTS);
    }
    if config.enable_pool_insights {
        checks.push(check::POOL_INSIGHTS);
    }
    let always = kinds.iter().filter(|kind| kind.spec.need == Need::Always);
    checks.extend(always.map(|kind| kind.spec.label()));
    for check in &checks {
        health.not_ready(check, "not listed yet");
        if *check != check::DISCOVERY {
            metrics.watch(check, false);
        }
    }
    Arc::new(SyncGate::new(checks))
}

/// A consumer's name and the status of its queue.
pub(super) type Queue = (&'static str, watch::Receiver<QueueStatus>);

struct Wiring<'a> {
    config: &'a RunConfig,
    client: Client,
    /// A client that only sends requests while this replica may write.
    writer: Client,
    /// Whether this replica writes.
    writes: Writes,
    parts: &'a mut Parts,
    events: &'a Events,
    metrics: &'a Arc<Metrics>,
    health: &'a Arc<Health>,
    watching: Watches,
    insights: Vec<Arc<dyn Insights>>,
    queues: Vec<Queue>,
}

impl Wiring<'_> {
    fn node_insights(&mut self, cache: &Arc<InsightCache<NodeProgressInsightStatus>>) {
        let nodes = Arc::new(NodeInsights::new(
            Arc::clone(&self.watching.controller),
            self.applier(cache, CHECK_NODE_WRITES),
            Arc::clone(cache),
            self.events.clone(),
            Arc::clone(self.metrics),
        ));
        self.insights.push(Arc::clone(&nodes) as Arc<dyn Insights>);
        let names = names(cache, InsightKey::Node);
        let (again, clock) = (Arc::clone(&nodes), system_clock());
        let begin = move || {
            again.record_again(clock());
            names()
        };
        self.consume(node_insight::NAME, node_insight::wants, begin, move |key| {
            let nodes = Arc::clone(&nodes);
            async move { nodes.reconcile(key).await }
        });
        self.watch_insights(
            "watch nodeprogressinsights",
            check::NODE_INSIGHTS,
            cache,
            InsightKey::Node,
        );
    }

    fn pool_insights(
        &mut self,
        controller: Arc<NodeStateController>,
        cache: &Arc<InsightCache<PoolProgressInsightStatus>>,
        clock: Clock,
    ) {
        let pools = Arc::new(PoolInsights::new(
            Arc::clone(&controller),
            self.applier(cache, CHECK_POOL_WRITES),
            Arc::clone(cache),
            Arc::clone(self.metrics),
            clock,
        ));
        self.insights.push(Arc::clone(&pools) as Arc<dyn Insights>);
        let begin = names(cache, InsightKey::Pool);
        let estimates = estimate_again(controller, Arc::clone(&pools));
        self.parts
            .controller
            .spawn_until_stopped("estimates", estimates);
        self.consume(pool_insight::NAME, pool_insight::wants, begin, move |key| {
            let pools = Arc::clone(&pools);
            async move { pools.reconcile(key).await }
        });
        self.watch_insights(
            "watch poolprogressinsights",
            check::POOL_INSIGHTS,
            cache,
            InsightKey::Pool,
        );
    }

    fn applier<S>(&self, cache: &Arc<InsightCache<S>>, check: &'static str) -> Arc<Applier<S>>
    where
        S: InsightStatus + Hash + Serialize + DeserializeOwned,
    {
        Arc::new(Applier::new(
            self.writer.clone(),
            Arc::clone(cache),
            Arc::clone(self.metrics),
            Arc::clone(self.health),
            check,
        ))
    }

    /// Starts a consumer. It is attached once every node is evaluated and this replica leads; until then nothing is
    /// queued for it. Then `begin` prepares it and returns the keys of the insights in the API server, which are
    /// reconciled in addition to every key of the store.
    fn consume<R, F>(
        &mut self,
        name: &'static str,
        wants: fn(&InsightKey) -> bool,
        begin: impl FnOnce() -> Vec<InsightKey> + Send + 'static,
        reconcile: R,
    ) where
        R: Fn(InsightKey) -> F + Send + Sync + 'static,
        F: Future<Output = Outcome> + Send + 'static,
    {
        let (writes, controller) = (self.writes.clone(), Arc::clone(&self.watching.controller));
        let (status, seen) = watch::channel(QueueStatus {
            standby: true,
            ..QueueStatus::default()
        });
        self.queues.push((name, seen));
        let (metrics, concurrency) = (Arc::clone(self.metrics), self.config.concurrency());
        self.parts.consumers.spawn(name, move |stop| async move {
            let attached = async {
                gained(writes).await;
                attach(&controller, name, wants).await
            };
            if let Some(inbox) = stop.run_until_cancelled(attached).await {
                controller.notify_consumer(name, begin());
                keyed_queue::run(name, inbox, concurrency, &metrics, &status, stop, reconcile)
                    .await;
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
        let watch = watches::insights(
            self.watching.clone(),
            self.client.clone(),
            check,
            Arc::clone(cache),
            key,
        );
        self.parts.watches.spawn_until_stopped(task, watch);
    }

    fn watch_cluster(
        &mut self,
        discovery: Discovery,
        served: &Served,
        kinds: &[Kind],
        history: Option<Arc<InsightCache<NodeProgressInsightStatus>>>,
    ) {
        let (watching, client) = (|| self.watching.clone(), || self.client.clone());
        let parts = &mut self.parts.watches;
        parts.spawn_until_stopped("watch nodes", watches::nodes(watching(), client()));
        let version = watches::api_server(watching(), client(), history);
        parts.spawn_until_stopped("API server version", version);
        let (asked, all) = (client(), kinds.to_vec());
        let discovering = discovery.run(move || {
            let (client, kinds) = (asked.clone(), all.clone());
            async move { platform::served(&client, &kinds).await }
        });
        parts.spawn_until_stopped("discovery", discovering);
        for (place, kind) in kinds.iter().enumerate() {
            let watch = watches::kind(watching(), client(), place, *kind, served.clone());
            parts.spawn_until_stopped(kind.spec.label(), watch);
        }
    }
}
