//! What is watched, and how each kind reaches the node-state controller.
//!
//! Nodes and our own insights have a function each; every kind that a provider reads goes through [`kind`]. Each
//! runs for ever in a task of its own; what they share is in [`Watches`].

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
use super::node_state::Centre;
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

/// How often the API server is asked for its version, which cannot be watched. It changes once a
/// month or so; being a minute late is fine.
const VERSION_INTERVAL: Duration = Duration::from_mins(1);
/// A kind that cannot be listed for so long, while the API server answers, is done without: as where the conversion
/// webhook of its definition is gone.
const BROKEN_AFTER: Duration = Duration::from_secs(30);
/// Longest version that is kept, as in the API.
const VERSION_LIMIT: usize = 253;

/// What all watches share.
#[derive(Clone)]
pub struct Watches {
    /// Who takes in what they see.
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

    fn failing(&self, source: Source, diagnosis: &Diagnosis) {
        let check = source.check;
        self.metrics.watch_failed(check, diagnosis.problem.as_str());
        let is_news = if source.need == Need::Optional {
            self.health.degraded(check, diagnosis.to_string())
        } else {
            self.health.not_ready(check, diagnosis.to_string())
        };
        if is_news {
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

/// A source of what is known.
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

/// Names of what is always watched, in the gate, in `/readyz` and in metrics.
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
    let centre = Arc::clone(&watches.centre);
    watches
        .follow(
            Source::always(check::NODES),
            attempt,
            || watcher(api.clone(), watch::config()),
            |seen| match seen {
                Seen::Found(node, _) | Seen::Applied(node) => {
                    let (node, resource_version) = node.into_parts();
                    centre.observe(&Cause::new(Trigger::Node, &resource_version), |inventory| {
                        inventory.apply_node_object(node)
                    })
                }
                Seen::Deleted(node) => {
                    let (node, resource_version) = node.into_parts();
                    let cause = Cause::new(Trigger::NodeDeleted, &resource_version);
                    centre.observe(&cause, |inventory| inventory.remove_node(&node.name))
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

/// Watches a kind that a provider reads, as long as it is served. `place` is its place in the table of kinds.
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
        watch.is_now(Availability::Listing);
        let version = spec.versions.first().copied().unwrap_or_default();
        watch.follow(client.clone(), version).await;
    }
    loop {
        let version = served.version(place).await;
        watch.is_now(Availability::Listing);
        let mut version = Some(version);
        // Another version has the same objects: what is known of them stays.
        while let Some(now) = version {
            tokio::select! {
                () = watch.follow(client.clone(), now) => {}
                next = served.other_version(place, now) => version = next,
            }
        }
        tracing::info!(kind = spec.plural, "No longer watching: it is not served");
        watch.is_known = false;
        watch.is_now(Availability::NotServed);
        watches.health.forget(spec.plural);
        watches.metrics.forget_watch(spec.plural);
    }
}

struct KindWatch<'a> {
    watches: &'a Watches,
    place: usize,
    kind: Kind,
    /// It was listed, so that something is known of it.
    is_known: bool,
    /// Since when it has not been listed.
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
        let resource = platform::resource(&spec, version);
        let api: Api<WatchedObject<METADATA>> = Api::all_with(client, &resource);
        let config = match spec.select {
            Select::All => watch::config(),
            Select::Named(name) => watch::config().fields(&format!("metadata.name={name}")),
            Select::Labelled(selector) => watch::config().labels(selector),
        };
        let attempt = Attempt {
            verbs: "list and watch",
            resource: spec.plural,
            group: spec.group,
        };
        let source = Source {
            check: spec.plural,
            need: spec.need,
        };
        let start = || watcher(api.clone(), config.clone());
        let watches = self.watches;
        watches
            .follow(source, attempt, start, |seen| self.take_in(seen))
            .await;
    }

    fn take_in<const METADATA: bool>(&mut self, seen: Seen<WatchedObject<METADATA>>) -> usize {
        match seen {
            Seen::Found(object, _) | Seen::Applied(object) => self.apply(&object),
            Seen::Deleted(object) => self.put(&object, None),
            Seen::Listed(names) => {
                let cause = self.cause("");
                let centre = &self.watches.centre;
                let gone = centre.observe(&cause, |inventory| {
                    inventory.retain_objects(self.place, &names)
                });
                (self.is_known, self.failing_since) = (true, None);
                gone + self.is_now(Availability::Ready)
            }
            Seen::Failing(diagnosis) => {
                let since = *self.failing_since.get_or_insert_with(Instant::now);
                if !self.is_rejected(&diagnosis, since) {
                    return 0;
                }
                let affected = self.is_now(Availability::Rejected(diagnosis.what.into()));
                self.watches.gate.arrived(self.spec().plural);
                affected
            }
        }
    }

    /// Whether the operator goes on without this kind, because the API server does not let it read the kind, or cannot
    /// serve it while it answers otherwise. What was known before that stays, unless it is forbidden now. A kind that
    /// is needed is waited for.
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
            self.watches.unreadable(self.spec().plural, &name, error);
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
        self.watches.centre.observe(&cause, |inventory| {
            inventory.apply_object(self.place, &name, fact)
        })
    }

    fn is_now(&self, availability: Availability) -> usize {
        self.watches.centre.observe(&self.cause(""), |inventory| {
            inventory.set_availability(self.place, availability)
        })
    }

    fn cause(&self, resource_version: &str) -> Cause {
        Cause::new(Trigger::Kind(self.spec().kind), resource_version)
    }
}

/// Asks for the version of the API server. What it was before this process says the `history`.
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
                watches.centre.observe(&cause, |inventory| {
                    inventory.set_api_server_version(version)
                });
                watches.metrics.watch_event(check::API_SERVER_VERSION);
                watches.arrived(check::API_SERVER_VERSION, 1);
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
                watches.failing(Source::always(check::API_SERVER_VERSION), &diagnosis);
                if let Some(request) = request.take() {
                    request.answer(Err(diagnosis));
                }
                backoff::wait(&mut delays).await;
            }
        }
    }
}

/// Watches what the API server holds of our own insights of one kind; `key` makes the key of one.
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
            watches.centre.touch(&key(name));
            1
        })
    };
    let applied = |insight: WatchedInsight<S>, asked| {
        let name: Arc<str> = insight.name_any().into();
        if insight.unreadable {
            watches.unreadable(
                check,
                &name,
                "its status is of another version of this API; it is written anew",
            );
        }
        touched(cache.apply(insight, asked).then_some(name))
    };
    watches
        .follow(
            Source::always(check),
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
