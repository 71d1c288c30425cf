//! The watches, and how each kind reaches the node-state controller.
//!
//! Nodes and our own insights have their own functions; every kind that a provider reads goes through [`kind()`].
//! Each watch runs for ever in its own task; shared parts are in [`Watches`].

use std::fmt::Debug;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use kube::runtime::watcher::{self, watcher};
use kube::{Api, Client, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::insight_cache::InsightCache;
use super::insight_key::InsightKey;
use super::node_state::NodeStateController;
use super::steady_version::SteadyVersion;
use super::sync_gate::SyncGate;
use crate::api::NodeProgressInsightStatus;
use crate::api::insight::{GROUP, InsightStatus};
use crate::domain::fact::Need;
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

mod kind;
mod on_nodes;

pub use kind::kind;

/// How often the API server's version is polled, as it cannot be watched. It changes about once a month; being
/// a minute late is fine.
const VERSION_INTERVAL: Duration = Duration::from_mins(1);
/// Maximum length of a version, as in the API.
const VERSION_LIMIT: usize = 253;

/// Shared by all watches.
#[derive(Clone)]
pub struct Watches {
    /// Receives the observed changes.
    pub controller: Arc<NodeStateController>,
    /// Opens once all sources have been read.
    pub gate: Arc<SyncGate>,
    /// Requests relists.
    pub relist: Arc<Relist>,
    /// Called when a failed watch works again: events may have been missed.
    pub restarted: Arc<dyn Fn() + Send + Sync>,
    /// Receives the health of each watch.
    pub health: Arc<Health>,
    /// Receives the counts of each watch.
    pub metrics: Arc<Metrics>,
}

impl Watches {
    /// Follows one kind for ever.
    async fn follow<K, S>(
        &self,
        source: Source,
        attempt: Attempt,
        start: impl Fn() -> S,
        mut sink: impl FnMut(Seen<K>) -> usize,
    ) where
        K: ResourceExt + Debug,
        S: Stream<Item = watcher::Result<watcher::Event<K>>>,
    {
        let check = source.check;
        let mut has_failed = false;
        let listener = self.relist.listener(check, source.need == Need::Optional);
        follow(start, attempt, listener, |seen| {
            if let Seen::Failing(diagnosis) = &seen {
                has_failed = true;
                self.failing(source, diagnosis);
                return sink(seen);
            }
            self.metrics.watch_event(check);
            let listed = match &seen {
                Seen::Listed(names) => Some(names.len()),
                Seen::Found(..) | Seen::Applied(_) | Seen::Deleted(_) | Seen::Failing(_) => None,
            };
            let changes = sink(seen);
            if let Some(count) = listed {
                self.arrived(check, count);
                if std::mem::take(&mut has_failed) {
                    self.metrics.watch_restarted(check);
                    (self.restarted)();
                }
            }
            changes
        })
        .await;
    }

    fn failing(&self, source: Source, diagnosis: &Diagnosis) {
        let check = source.check;
        self.metrics.watch_failed(check, diagnosis.problem.as_str());
        let is_new = if source.need == Need::Optional {
            self.health.degraded(check, diagnosis.to_string())
        } else {
            self.health.not_ready(check, diagnosis.to_string())
        };
        if is_new {
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

    /// Counts and logs an object that cannot be parsed; it is skipped.
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

/// A watched source.
#[derive(Debug, Clone, Copy)]
struct Source {
    /// Its name in the gate, in `/readyz` and in metrics.
    check: &'static str,
    need: Need,
}

impl Source {
    const fn always(check: &'static str) -> Self {
        Self {
            check,
            need: Need::Always,
        }
    }
}

/// Names of the sources that are always watched, in the gate, in `/readyz` and in metrics.
pub mod check {
    /// Nodes.
    pub const NODES: &str = "nodes";
    /// Which kinds the API server serves.
    pub const DISCOVERY: &str = "discovery";
    /// The version of the API server.
    pub const API_SERVER_VERSION: &str = "apiserver-version";
    /// Insights of nodes.
    pub const NODE_INSIGHTS: &str = "nodeprogressinsights";
    /// Insights of pools.
    pub const POOL_INSIGHTS: &str = "poolprogressinsights";
}

/// Watches Nodes.
pub async fn nodes(watches: Watches, client: Client) {
    let api: Api<WatchedNode> = Api::all(client);
    let attempt = Attempt {
        verbs: "list and watch",
        resource: "nodes",
        group: "",
    };
    let controller = Arc::clone(&watches.controller);
    watches
        .follow(
            Source::always(check::NODES),
            attempt,
            || watcher(api.clone(), watch::config()),
            |seen| match seen {
                Seen::Found(node, _) | Seen::Applied(node) => {
                    let (node, resource_version) = node.into_parts();
                    controller.observe(&Cause::new(Trigger::Node, &resource_version), |inventory| {
                        inventory.apply_node_object(node)
                    })
                }
                Seen::Deleted(node) => {
                    let (node, resource_version) = node.into_parts();
                    let cause = Cause::new(Trigger::NodeDeleted, &resource_version);
                    controller.observe(&cause, |inventory| inventory.remove_node(&node.name))
                }
                Seen::Listed(names) => controller
                    .observe(&Cause::new(Trigger::NodeDeleted, ""), |inventory| {
                        inventory.retain_nodes(&names)
                    }),
                Seen::Failing(_) => 0,
            },
        )
        .await;
}

/// Polls the version of the API server; `history` provides the version before a restart.
pub async fn api_server(
    watches: Watches,
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
            watches.gate.has_arrived(check::NODE_INSIGHTS).await;
            SteadyVersion::of(&history.history(), Instant::now())
        }
        None => SteadyVersion::default(),
    };
    let mut listener = watches.relist.listener(check::API_SERVER_VERSION, false);
    let mut request: Option<Wanted> = None;
    loop {
        match api_server_version(&client).await {
            Ok(version) => {
                delays = backoff::short();
                let seen = text::word(&version, VERSION_LIMIT).map(Arc::from);
                let version = steady.observe(seen, Instant::now());
                let cause = Cause::new(Trigger::ApiServerVersion, "");
                watches.controller.observe(&cause, |inventory| {
                    inventory.set_api_server_version(version)
                });
                watches.metrics.watch_event(check::API_SERVER_VERSION);
                watches.arrived(check::API_SERVER_VERSION, 1);
                // It is polled, so no event can be missed.
                if let Some(request) = request.take() {
                    request.answer(Ok(0));
                }
                tokio::select! {
                    () = tokio::time::sleep(VERSION_INTERVAL) => {}
                    wanted = listener.asked() => request = Some(wanted),
                }
            }
            Err(error) => {
                let diagnosis = diagnose(&error, attempt);
                watches.failing(Source::always(check::API_SERVER_VERSION), &diagnosis);
                if let Some(request) = request.take() {
                    request.answer(Err(diagnosis));
                }
                backoff::wait(&mut delays).await;
            }
        }
    }
}

/// Watches our own insights of one kind; `key` builds the key from a name.
pub async fn insights<S>(
    watches: Watches,
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
            watches.controller.touch(&key(name));
            1
        })
    };
    let applied = |insight: WatchedInsight<S>, requested_at| {
        let name: Arc<str> = insight.name_any().into();
        if insight.unreadable {
            watches.unreadable(
                check,
                &name,
                "its status has another version of this API; it is rewritten",
            );
        }
        touched(cache.apply(insight, requested_at).then_some(name))
    };
    watches
        .follow(
            Source::always(check),
            attempt,
            || watcher(api.clone(), watch::config()),
            |seen| match seen {
                Seen::Found(insight, requested_at) => applied(insight, Some(requested_at)),
                Seen::Applied(insight) => applied(insight, None),
                Seen::Deleted(insight) => {
                    let was_cached = cache.remove(&insight);
                    touched(was_cached.then(|| insight.name_any().into()))
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
