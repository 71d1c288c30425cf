//! Objects on nodes, such as pods, which are read only while an evaluation of their node asks for them: nothing is read
//! at rest.
//!
//! A few nodes are watched, those that have been asked for the longest. The others are listed one after the other, at a
//! limited rate, so that a cluster of which every node is drained at once costs its API server little. Lists come from
//! the API server's cache: one from etcd would read the objects of all nodes.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::future::{AbortHandle, BoxFuture, FutureExt, abortable};
use futures::stream::FuturesUnordered;
use kube::api::ListParams;
use kube::runtime::watcher::watcher;
use kube::{Api, Client, ResourceExt};
use tokio::time::{Interval, MissedTickBehavior};

use super::kind::KindWatch;
use crate::domain::facts::Availability;
use crate::kubernetes::diagnosis::diagnose;
use crate::kubernetes::objects::WatchedObject;
use crate::kubernetes::platform;
use crate::kubernetes::watch::{self, Seen};

type Object = WatchedObject<false>;

/// Nodes whose objects are watched at once. Each watch needs a connection.
const WATCHED: usize = 64;
/// How often the objects of another node are listed: those of 500 nodes within two minutes.
const LISTED_EVERY: Duration = Duration::from_millis(250);

/// Reads the objects of a kind on the nodes that evaluations ask for; never returns.
pub(super) async fn follow(kind: &KindWatch<'_>, client: Client, version: &str) {
    let spec = kind.spec();
    // Nothing is listed until it is asked for.
    kind.set_availability(Availability::Ready);
    kind.watches.arrived(spec.label(), 0);
    let mut reading = Reading {
        kind,
        api: platform::api(client, &spec, version),
        watched: BTreeMap::new(),
        watches: FuturesUnordered::new(),
        listed: VecDeque::new(),
    };
    let mut demand = kind.watches.controller.demand();
    let mut turns = tokio::time::interval(LISTED_EVERY);
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        reading.follow_demand();
        let Reading {
            kind,
            api,
            watches,
            listed,
            ..
        } = &mut reading;
        tokio::select! {
            // The sender is the controller, which outlives its watches.
            _ = demand.changed() => {}
            // The watch of a node that is released has ended.
            Some(()) = watches.next() => {}
            () = list_next(kind, api, listed, &mut turns) => {}
        }
    }
}

struct Reading<'a> {
    kind: &'a KindWatch<'a>,
    api: Api<Object>,
    watched: BTreeMap<Arc<str>, AbortHandle>,
    watches: FuturesUnordered<BoxFuture<'a, ()>>,
    /// The nodes that are listed in turns, the next one first.
    listed: VecDeque<Arc<str>>,
}

impl Reading<'_> {
    /// Reads the objects of the nodes that are asked for, and forgets those of all others.
    fn follow_demand(&mut self) {
        let (controller, place) = (&self.kind.watches.controller, self.kind.place);
        let wanted: BTreeSet<Arc<str>> = controller.wanted(place).into_iter().collect();
        let is_released =
            |node: &Arc<str>| !wanted.contains(node) && controller.release(place, node);
        for (_, handle) in self.watched.extract_if(.., |node, _| is_released(node)) {
            handle.abort();
        }
        self.listed.retain(|node| !is_released(node));
        let is_new =
            |node: &&Arc<str>| !self.watched.contains_key(*node) && !self.listed.contains(*node);
        let new: Vec<Arc<str>> = wanted.iter().filter(is_new).cloned().collect();
        self.listed.extend(new);
        while self.watched.len() < WATCHED
            && let Some(node) = self.listed.pop_front()
        {
            let (watch, handle) = abortable(watch_node(
                self.kind.clone(),
                self.api.clone(),
                Arc::clone(&node),
            ));
            self.watches.push(watch.map(drop).boxed());
            self.watched.insert(node, handle);
        }
    }
}

/// Lists the objects of the next node in turn; never returns while there is none.
async fn list_next(
    kind: &KindWatch<'_>,
    api: &Api<Object>,
    nodes: &mut VecDeque<Arc<str>>,
    turns: &mut Interval,
) {
    let Some(node) = nodes.front().cloned() else {
        return std::future::pending().await;
    };
    turns.tick().await;
    let mut kind = kind.clone();
    let params = ListParams::default().fields(&on(&node)).match_any();
    match api.list(&params).await {
        Ok(list) => {
            for object in &list.items {
                kind.apply(object);
            }
            let names = list.items.iter().map(ResourceExt::name_any).collect();
            listed(&mut kind, &node, &names);
            kind.watches.arrived(kind.spec().label(), names.len());
        }
        Err(error) => {
            let diagnosis = diagnose(&error, kind.attempt());
            kind.watches.failing(kind.source(), &diagnosis);
            kind.fails(diagnosis);
        }
    }
    nodes.rotate_left(1);
}

/// Watches the objects of a node, until it is aborted.
async fn watch_node(mut kind: KindWatch<'_>, api: Api<Object>, node: Arc<str>) {
    let config = watch::config().fields(&on(&node)).any_semantic();
    let (watches, source, attempt) = (kind.watches, kind.source(), kind.attempt());
    let start = || watcher(api.clone(), config.clone());
    let sink = |seen: Seen<Object>| match seen {
        Seen::Found(object, _) | Seen::Applied(object) => kind.apply(&object),
        Seen::Deleted(object) => kind.put(&object, None),
        Seen::Listed(names) => listed(&mut kind, &node, &names),
        Seen::Failing(diagnosis) => kind.fails(diagnosis),
    };
    watches.follow(source, attempt, start, sink).await;
}

/// All objects of a node are known.
fn listed(kind: &mut KindWatch<'_>, node: &str, names: &HashSet<String>) -> usize {
    let (cause, place) = (kind.cause(""), kind.place);
    let changes = kind.observe(&cause, |inventory| {
        inventory.listed_on_node(place, node, names)
    });
    changes + kind.is_readable()
}

fn on(node: &str) -> String {
    format!("spec.nodeName={node}")
}
