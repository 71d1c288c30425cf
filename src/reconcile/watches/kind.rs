//! The watch of a kind that a provider reads.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use kube::runtime::watcher::watcher;
use kube::{Client, ResourceExt};
use tokio::time::Instant;

use super::{Source, Watches, on_nodes};
use crate::domain::erased::Erased;
use crate::domain::fact::{Kind, KindSpec, Need, Parsed, Read, Select};
use crate::domain::facts::Availability;
use crate::kubernetes::diagnosis::{Attempt, Diagnosis, Problem};
use crate::kubernetes::objects::WatchedObject;
use crate::kubernetes::platform;
use crate::kubernetes::watch::{self, Seen};
use crate::reconcile::discovery::Served;
use crate::reconcile::inventory::{Affected, Inventory};
use crate::telemetry::cause::{Cause, Trigger};

/// A kind that cannot be listed for this long while the API server answers is treated as unavailable, for
/// example when the conversion webhook of its CRD is gone.
const BROKEN_AFTER: Duration = Duration::from_secs(30);
/// How long a kind is still watched that nothing reads any more: one drain follows the other.
const LINGER: Duration = Duration::from_mins(10);

/// Watches a kind that a provider reads, as long as it is served. `place` is its index in the table of kinds.
pub async fn kind(watches: Watches, client: Client, place: usize, kind: Kind, mut served: Served) {
    let spec = kind.spec;
    let mut watch = KindWatch::new(&watches, place, kind);
    if spec.select == Select::OnNode {
        let version = served.version(place).await;
        return on_nodes::follow(&watch, client, version).await;
    }
    if spec.only_while_read {
        let version = served.version(place).await;
        return watch.while_read(client, version).await;
    }
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

/// The watch of a kind, or of its objects on one node.
#[derive(Clone)]
pub(super) struct KindWatch<'a> {
    pub(super) watches: &'a Watches,
    pub(super) place: usize,
    kind: Kind,
    /// Whether it has been listed.
    is_known: bool,
    /// When listing it began to fail.
    failing_since: Option<Instant>,
}

impl<'a> KindWatch<'a> {
    fn new(watches: &'a Watches, place: usize, kind: Kind) -> Self {
        Self {
            watches,
            place,
            kind,
            is_known: false,
            failing_since: None,
        }
    }

    pub(super) fn spec(&self) -> KindSpec {
        self.kind.spec
    }

    /// Watches the kind while evaluations read it, and for a while after the last one; never returns.
    async fn while_read(&mut self, client: Client, version: &str) {
        let (watches, place, label) = (self.watches, self.place, self.spec().label());
        let controller = &watches.controller;
        let mut demand = controller.demand();
        watches.gate.arrived(label);
        loop {
            self.set_availability(Availability::Listing);
            // The sender is the controller, which outlives its watches.
            let _ = demand.wait_for(|_| controller.is_read(place)).await;
            let unread = async {
                loop {
                    let _ = demand.wait_for(|_| !controller.is_read(place)).await;
                    let again = demand.wait_for(|_| controller.is_read(place));
                    if tokio::time::timeout(LINGER, again).await.is_err() {
                        return;
                    }
                }
            };
            tokio::select! {
                () = self.follow(client.clone(), version) => {}
                () = unread => {}
            }
            tracing::info!(kind = label, "No longer watching: nothing reads it");
            let cause = self.cause("");
            controller.observe(&cause, |inventory| {
                inventory.retain_objects(place, &HashSet::new())
            });
            self.is_known = false;
            watches.health.forget(label);
            watches.metrics.forget_watch(label);
        }
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
            Select::All | Select::OnNode => watch::config(),
            Select::Named(name) | Select::Object { name, .. } => {
                watch::config().fields(&format!("metadata.name={name}"))
            }
            Select::Labelled(selector) => watch::config().labels(selector),
        };
        let (source, attempt) = (self.source(), self.attempt());
        let start = || watcher(api.clone(), config.clone());
        let watches = self.watches;
        watches
            .follow(source, attempt, start, |seen| self.handle(seen))
            .await;
    }

    pub(super) fn source(&self) -> Source {
        Source {
            check: self.spec().label(),
            need: self.spec().need,
        }
    }

    pub(super) fn attempt(&self) -> Attempt {
        Attempt {
            verbs: "list and watch",
            resource: self.spec().plural,
            group: self.spec().group,
        }
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
                gone + self.is_readable()
            }
            Seen::Failing(diagnosis) => self.fails(diagnosis),
        }
    }

    /// A list is complete.
    pub(super) fn is_readable(&mut self) -> usize {
        (self.is_known, self.failing_since) = (true, None);
        self.set_availability(Availability::Ready)
    }

    pub(super) fn fails(&mut self, diagnosis: Diagnosis) -> usize {
        let since = *self.failing_since.get_or_insert_with(Instant::now);
        if !self.is_rejected(&diagnosis, since) {
            return 0;
        }
        let affected = self.set_availability(Availability::Rejected(diagnosis.what.into()));
        self.watches.gate.arrived(self.spec().label());
        affected
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

    pub(super) fn apply<const METADATA: bool>(&self, object: &WatchedObject<METADATA>) -> usize {
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

    pub(super) fn put<const METADATA: bool>(
        &self,
        object: &WatchedObject<METADATA>,
        fact: Option<Arc<dyn Erased>>,
    ) -> usize {
        let cause = self.cause(&object.resource_version().unwrap_or_default());
        let name = object.name_any().into();
        self.observe(&cause, |inventory| {
            inventory.apply_object(self.place, &name, fact)
        })
    }

    /// A change of the kind. What is read only while nodes are drained changes often.
    pub(super) fn observe(
        &self,
        cause: &Cause,
        change: impl FnOnce(&Inventory) -> Affected,
    ) -> usize {
        let (controller, spec) = (&self.watches.controller, self.spec());
        if spec.only_while_read || spec.select == Select::OnNode {
            controller.observe_soon(cause, change)
        } else {
            controller.observe(cause, change)
        }
    }

    pub(super) fn set_availability(&self, availability: Availability) -> usize {
        self.watches
            .controller
            .observe(&self.cause(""), |inventory| {
                inventory.set_availability(self.place, availability)
            })
    }

    pub(super) fn cause(&self, resource_version: &str) -> Cause {
        Cause::new(Trigger::Kind(self.spec().kind), resource_version)
    }
}
