//! The watches, and how each kind reaches the node-state controller.
//!
//! Nodes and our own insights have their own functions; every kind that a provider reads goes through [`kind`].
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

use super::discovery::Served;
use super::insight_cache::InsightCache;
use super::insight_key::InsightKey;
use super::node_state::NodeStateController;
use super::steady_version::SteadyVersion;
use super::sync_gate::SyncGate;
use crate::api::NodeProgressInsightStatus;
use crate::api::insight::{GROUP, InsightStatus};
use crate::domain::erased::Erased;
use crate::domain::fact::{Kind, KindSpec, Need, Parsed, Read, Select};
use crate::domain::facts::Availability;
use crate::domain::text;
use crate::kubernetes::backoff;
use crate::kubernetes::diagnosis::{Attempt, Diagnosis, Problem, diagnose};
use crate::kubernetes::objects::{WatchedInsight, WatchedNode, WatchedObject};
use crate::kubernetes::platform::{self, api_server_version};
use crate::kubernetes::relist::{Relist, Wanted};
use crate::kubernetes::watch::{self, Seen, follow};
use crate::telemetry::cause::{Cause, Trigger};
use crate::telemetry::health::Health;
use crate::telemetry::metrics::Metrics;

/// How often the API server's version is polled, as it cannot be watched. It changes about once a month; being
/// a minute late is fine.
const VERSION_INTERVAL: Duration = Duration::from_mins(1);
/// A kind that cannot be listed for this long while the API server answers is treated as unavailable, for
/// example when the conversion webhook of its CRD is gone.
const BROKEN_AFTER: Duration = Duration::from_secs(30);
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

/// Watches a kind that a provider reads, as long as it is served. `place` is its index in the table of kinds.
pub async fn kind(watches: Watches, client: Client, place: usize, kind: Kind, mut served: Served) {
    let spec = kind.spec;
    let mut watch = KindWatch {
        watches: &watches,
        place,
        kind,
        is_known: false,
        failing_since: None,
    };
    if spec.need == Need::Always {
        watch.set_availability(Availability::Listing);
        let version = spec.versions.first().copied().unwrap_or_default();
        watch.follow(client.clone(), version).await;
    }
    loop {
        let version = served.version(place).await;
        watch.set_availability(Availability::Listing);
        let mut version = Some(version);
        // Another version has the same objects, so the known facts stay.
        while let Some(now) = version {
            tokio::select! {
                () = watch.follow(client.clone(), now) => {}
                next = served.other_version(place, now) => version = next,
            }
        }
        tracing::info!(kind = spec.label(), "No longer watching: it is not served");
        watch.is_known = false;
        watch.set_availability(Availability::NotServed);
        watches.health.forget(spec.label());
        watches.metrics.forget_watch(spec.label());
    }
}

struct KindWatch<'a> {
    watches: &'a Watches,
    place: usize,
    kind: Kind,
    /// Whether it has been listed.
    is_known: bool,
    /// When listing it began to fail.
    failing_since: Option<Instant>,
}

impl KindWatch<'_> {
    fn spec(&self) -> KindSpec {
        self.kind.spec
    }

    async fn follow(&mut self, client: Client, version: &str) {
        match self.spec().read {
            Read::Whole => self.follow_as::<false>(client, version).await,
            Read::Metadata => self.follow_as::<true>(client, version).await,
        }
    }

    async fn follow_as<const METADATA: bool>(&mut self, client: Client, version: &str) {
        let spec = self.spec();
        let api = platform::api::<METADATA>(client, &spec, version);
        let config = match spec.select {
            Select::All => watch::config(),
            Select::Named(name) | Select::Object { name, .. } => {
                watch::config().fields(&format!("metadata.name={name}"))
            }
            Select::Labelled(selector) => watch::config().labels(selector),
        };
        let attempt = Attempt {
            verbs: "list and watch",
            resource: spec.plural,
            group: spec.group,
        };
        let source = Source {
            check: spec.label(),
            need: spec.need,
        };
        let start = || watcher(api.clone(), config.clone());
        let watches = self.watches;
        watches
            .follow(source, attempt, start, |seen| self.handle(seen))
            .await;
    }

    fn handle<const METADATA: bool>(&mut self, seen: Seen<WatchedObject<METADATA>>) -> usize {
        match seen {
            Seen::Found(object, _) | Seen::Applied(object) => self.apply(&object),
            Seen::Deleted(object) => self.put(&object, None),
            Seen::Listed(names) => {
                let cause = self.cause("");
                let controller = &self.watches.controller;
                let gone = controller.observe(&cause, |inventory| {
                    inventory.retain_objects(self.place, &names)
                });
                (self.is_known, self.failing_since) = (true, None);
                gone + self.set_availability(Availability::Ready)
            }
            Seen::Failing(diagnosis) => {
                let since = *self.failing_since.get_or_insert_with(Instant::now);
                if !self.is_rejected(&diagnosis, since) {
                    return 0;
                }
                let affected = self.set_availability(Availability::Rejected(diagnosis.what.into()));
                self.watches.gate.arrived(self.spec().label());
                affected
            }
        }
    }

    /// Whether the operator continues without this kind: the API server forbids reading it, or cannot serve it while
    /// it answers other requests. A kind that was listed before is rejected only if it is forbidden now; a required
    /// kind is never rejected.
    fn is_rejected(&self, diagnosis: &Diagnosis, since: Instant) -> bool {
        if self.spec().need != Need::Optional {
            return false;
        }
        match diagnosis.problem {
            Problem::Forbidden => true,
            Problem::NotServed | Problem::Invalid | Problem::Unreadable | Problem::Other => {
                !self.is_known && since.elapsed() >= BROKEN_AFTER
            }
            Problem::Unauthorized
            | Problem::Expired
            | Problem::Overloaded
            | Problem::Unreachable => false,
        }
    }

    fn apply<const METADATA: bool>(&self, object: &WatchedObject<METADATA>) -> usize {
        let unreadable = |error: &str| {
            let name = object.name_any();
            self.watches.unreadable(self.spec().label(), &name, error);
        };
        match self.kind.parse(&object.object()) {
            Parsed::Fact(fact) => self.put(object, Some(fact)),
            Parsed::Ignored => self.put(object, None),
            Parsed::Flawed(fact, error) => {
                unreadable(&error);
                self.put(object, Some(fact))
            }
            Parsed::Unreadable(error) => {
                unreadable(&error);
                0
            }
        }
    }

    fn put<const METADATA: bool>(
        &self,
        object: &WatchedObject<METADATA>,
        fact: Option<Arc<dyn Erased>>,
    ) -> usize {
        let cause = self.cause(&object.resource_version().unwrap_or_default());
        let name = object.name_any().into();
        self.watches.controller.observe(&cause, |inventory| {
            inventory.apply_object(self.place, &name, fact)
        })
    }

    fn set_availability(&self, availability: Availability) -> usize {
        self.watches
            .controller
            .observe(&self.cause(""), |inventory| {
                inventory.set_availability(self.place, availability)
            })
    }

    fn cause(&self, resource_version: &str) -> Cause {
        Cause::new(Trigger::Kind(self.spec().kind), resource_version)
    }
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
