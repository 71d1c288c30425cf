//! The centre: the only place where a node is evaluated.
//!
//! Phases of a reconcile: gather (what is known, and what was known before), evaluate, commit,
//! notify. None of them talks to the API server.
//!
//! Owns the inventory, the states and the fan-out. What changes marks the nodes that it affects as
//! dirty; one task evaluates each dirty node once and commits before it notifies. Readers get states
//! and never evaluate. Locks, in order: inventory, then states; neither is held across an await.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::insight_cache::InsightCache;
use super::sync_gate::SyncGate;
use crate::api::NodeProgressInsightStatus;
use crate::api::types::{DesiredVersionSource, Provider};
use crate::domain::evaluate::Evaluator;
use crate::domain::inventory::{Affected, Inventory};
use crate::domain::pool_status::PoolView;
use crate::domain::state::{Desired, History, NodeState};
use crate::registry::dirty::{Marked, Marker, Reader, dirty_set};
use crate::registry::fanout::{Fanout, Inbox};
use crate::registry::store::{Change, Store};
use crate::telemetry::cause::Cause;
use crate::telemetry::health::Health;
use crate::telemetry::metrics::{EvaluationResult, Gauge, Metrics};

/// Evaluations in a row before other tasks get their turn: about 100 µs.
const BATCH: usize = 100;

/// Name under which `/readyz` shows whether every node was evaluated once.
const CHECK: &str = "first evaluation";

/// What a consumer is told about.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum InsightKey {
    /// A node, by name.
    Node(Arc<str>),
    /// A pool, by name of its insight.
    Pool(Arc<str>),
}

/// The clock. Times in the API have whole seconds.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// A clock that tells the time of this machine.
#[must_use]
pub fn system_clock() -> Clock {
    Arc::new(|| whole_seconds(Timestamp::now()))
}

fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

/// A state, and what led to it. Two are equal when their states are: what led there does not show.
#[derive(Debug, Clone)]
pub struct Evaluated {
    /// The state.
    pub state: Arc<NodeState>,
    /// What led to it.
    pub cause: Cause,
}

impl PartialEq for Evaluated {
    fn eq(&self, other: &Self) -> bool {
        self.state == other.state
    }
}

/// What last changed in a pool.
#[derive(Debug, Clone)]
struct PoolChange(Cause);

impl PartialEq for PoolChange {
    fn eq(&self, other: &Self) -> bool {
        self.0.reconcile_id == other.0.reconcile_id
    }
}

/// The centre.
pub struct Centre {
    provider: Provider,
    inventory: Mutex<Inventory>,
    states: Store<Arc<str>, Evaluated, Arc<str>>,
    pool_changes: Store<Arc<str>, PoolChange>,
    dirty: Marker<InsightKey, Cause>,
    fanout: Fanout<InsightKey>,
    history: Option<Arc<InsightCache<NodeProgressInsightStatus>>>,
    evaluated: watch::Sender<bool>,
    metrics: Arc<Metrics>,
    health: Arc<Health>,
    clock: Clock,
}

/// The centre while it is put together: consumers are added here and nowhere else.
pub struct CentreBuilder {
    rules: Box<dyn Evaluator>,
    fanout: Fanout<InsightKey>,
    history: Option<Arc<InsightCache<NodeProgressInsightStatus>>>,
    metrics: Arc<Metrics>,
    health: Arc<Health>,
    clock: Clock,
}

/// What the evaluating task reads.
pub struct DirtyKeys(Reader<InsightKey, Cause>);

impl CentreBuilder {
    /// A centre that judges by `rules` and has no consumer yet.
    #[must_use]
    pub fn new(
        rules: Box<dyn Evaluator>,
        metrics: Arc<Metrics>,
        health: Arc<Health>,
        clock: Clock,
    ) -> Self {
        health.not_ready(CHECK, "waiting until everything is listed");
        Self {
            rules,
            fanout: Fanout::default(),
            history: None,
            metrics,
            health,
            clock,
        }
    }

    /// Adds a consumer of the keys that it `wants`.
    pub fn consumer(
        &mut self,
        name: &'static str,
        wants: fn(&InsightKey) -> bool,
    ) -> Inbox<InsightKey> {
        self.fanout.add(name, wants)
    }

    /// Takes the times of the past from these insights.
    pub fn history(&mut self, insights: Arc<InsightCache<NodeProgressInsightStatus>>) {
        self.history = Some(insights);
    }

    /// The centre, and what its task reads.
    #[must_use]
    pub fn build(self) -> (Arc<Centre>, DirtyKeys) {
        let (dirty, reader) = dirty_set();
        let centre = Centre {
            provider: self.rules.provider(),
            inventory: Mutex::new(Inventory::new(self.rules)),
            states: Store::indexed(|evaluated: &Evaluated| evaluated.state.pool_name()),
            pool_changes: Store::new(),
            dirty,
            fanout: self.fanout,
            history: self.history,
            evaluated: watch::Sender::new(false),
            metrics: self.metrics,
            health: self.health,
            clock: self.clock,
        };
        let centre = Arc::new(centre);
        // Weak: the centre holds the metrics.
        let weak = Arc::downgrade(&centre);
        centre.metrics.register_gauge(Gauge::NodeStates, move || {
            weak.upgrade().map_or(0, |centre| centre.states.count())
        });
        (centre, DirtyKeys(reader))
    }
}

impl Centre {
    /// Takes in a change of the cluster; `change` says whom it affects.
    pub fn observe(&self, cause: &Cause, change: impl FnOnce(&mut Inventory) -> Affected) {
        let Affected { nodes, pools } = change(&mut self.inventory());
        if nodes.is_empty() && pools.is_empty() {
            return;
        }
        tracing::debug!(
            reconcile_id = cause.reconcile_id, trigger = %cause.trigger, resource_version = &*cause.resource_version,
            nodes = nodes.len(), pools = pools.len(), "Taking in a change"
        );
        // Pools after their nodes: a pool is read once its nodes are evaluated.
        for node in nodes {
            self.dirty.mark(InsightKey::Node(node), cause.clone());
        }
        for pool in pools {
            self.dirty.mark(InsightKey::Pool(pool), cause.clone());
        }
    }

    /// Looks something up in the inventory.
    pub fn inspect<T>(&self, look: impl FnOnce(&Inventory) -> T) -> T {
        look(&self.inventory())
    }

    /// Tells the consumers about a key whose insight was touched by somebody else.
    pub fn touch(&self, key: &InsightKey) {
        // Before the first evaluation every insight is compared anyway.
        if *self.evaluated.borrow() {
            self.notify(key);
        }
    }

    /// The state of a node, and what led to it.
    #[must_use]
    pub fn node(&self, name: &Arc<str>) -> Option<Arc<Evaluated>> {
        self.states.get(name)
    }

    /// A pool with a consistent cut of its nodes; `None` when there is no such pool.
    #[must_use]
    pub fn pool(&self, name: &Arc<str>) -> Option<(PoolView, Option<Arc<str>>)> {
        let nodes = || -> Vec<Arc<NodeState>> {
            self.states
                .snapshot_of(name)
                .values
                .iter()
                .map(|evaluated| Arc::clone(&evaluated.state))
                .collect()
        };
        match self.provider {
            Provider::OpenShift => {
                let inventory = self.inventory();
                let pool = inventory.pool(name)?.clone();
                let cluster = inventory.cluster();
                let configured_version = pool
                    .configuration
                    .as_ref()
                    .and_then(|config| cluster.release_versions.get(config).cloned());
                let desired = cluster.cluster_version.clone().map(|version| Desired {
                    version,
                    source: DesiredVersionSource::ClusterVersion,
                });
                drop(inventory);
                let view = PoolView {
                    id: pool.id,
                    provider: self.provider,
                    paused: pool.paused,
                    desired,
                    configured_version,
                    nodes: nodes(),
                };
                Some((view, Some(pool.uid)))
            }
            Provider::Kubernetes => {
                let nodes = nodes();
                let id = nodes.first().and_then(|node| node.pool.clone())?;
                let view = PoolView {
                    id,
                    provider: self.provider,
                    paused: false,
                    desired: None,
                    configured_version: None,
                    nodes,
                };
                Some((view, None))
            }
        }
    }

    /// What last changed in a pool.
    #[must_use]
    pub fn pool_cause(&self, name: &Arc<str>) -> Option<Cause> {
        self.pool_changes.get(name).map(|change| change.0.clone())
    }

    /// Forgets what was kept for a pool that is gone.
    pub fn forget_pool(&self, name: &Arc<str>) {
        self.pool_changes.remove(name);
        self.metrics.forget_pool(name);
    }

    /// Waits until every node that was listed at the start has been evaluated.
    pub async fn evaluated(&self) {
        // The sender is `self`, so the channel cannot close meanwhile.
        let _ = self
            .evaluated
            .subscribe()
            .wait_for(|evaluated| *evaluated)
            .await;
    }

    /// Evaluates what is dirty, once the gate is open, until `shutdown`; then what is dirty still.
    /// `known` are keys that the consumers have to look at once, whatever the evaluation says.
    pub async fn run(
        &self,
        mut dirty: DirtyKeys,
        gate: &SyncGate,
        known: impl FnOnce() -> Vec<InsightKey>,
        shutdown: CancellationToken,
    ) {
        tokio::select! {
            () = gate.opened() => {}
            () = shutdown.cancelled() => return,
        }
        self.evaluate_all(&mut dirty).await;
        if let Some(history) = &self.history {
            history.drop_history();
        }
        // First this, then what is known: an insight that is touched in between is told by one of them.
        self.evaluated.send_replace(true);
        for key in known() {
            self.notify(&key);
        }
        self.health.ready(CHECK);
        tracing::info!(nodes = self.states.count(), "Evaluated every node");
        loop {
            tokio::select! {
                next = dirty.0.next() => match next {
                    Some((key, cause)) => self.reconcile(key, cause),
                    None => return,
                },
                () = shutdown.cancelled() => break,
            }
            self.evaluate_all(&mut dirty).await;
        }
        self.evaluate_all(&mut dirty).await;
    }

    async fn evaluate_all(&self, dirty: &mut DirtyKeys) {
        let mut count = 0;
        while let Some((key, cause)) = dirty.0.try_next() {
            self.reconcile(key, cause);
            count += 1;
            if count % BATCH == 0 {
                tokio::task::yield_now().await;
            }
        }
    }

    fn reconcile(&self, key: InsightKey, cause: Cause) {
        match key {
            InsightKey::Node(name) => {
                let started = std::time::Instant::now();
                let trigger = cause.trigger;
                let before = self.states.get(&name);
                let past = self.gather(&name, before.as_deref());
                let state = self.evaluate(&name, past.as_ref());
                let result = self.commit(&name, state, before.as_deref(), &cause);
                self.metrics
                    .evaluated(trigger, result, started.elapsed().as_secs_f64());
            }
            InsightKey::Pool(name) => {
                self.pool_changes
                    .upsert(Arc::clone(&name), PoolChange(cause));
                self.notify(&InsightKey::Pool(name));
            }
        }
    }

    /// What was known of the node before: by the last evaluation, else by its insight. A node that
    /// was created anew has no past.
    fn gather(&self, name: &Arc<str>, before: Option<&Evaluated>) -> Option<History> {
        let uid = self.inventory().uid(name)?;
        if let Some(before) = before {
            return (before.state.uid == uid).then(|| History::from(&*before.state));
        }
        let insights = self.history.as_ref()?;
        let is_of_this_node = insights
            .base(name)
            .is_some_and(|base| base.owner_uid.as_ref() == Some(&uid));
        let status = insights.take_history(name).filter(|_| is_of_this_node)?;
        Some(History::from_status(&status))
    }

    fn evaluate(&self, name: &str, past: Option<&History>) -> Option<NodeState> {
        let now = (self.clock)();
        self.inventory().evaluate(name, past, now)
    }

    /// Keeps the state, if it differs, and then tells who looks at it.
    fn commit(
        &self,
        name: &Arc<str>,
        state: Option<NodeState>,
        before: Option<&Evaluated>,
        cause: &Cause,
    ) -> EvaluationResult {
        let Some(state) = state.map(Arc::new) else {
            if let Some(gone) = self.states.remove(name) {
                log(&gone.state, cause, "The node is gone");
                self.count(Some(&gone.state), None);
                self.notify_node(name, [gone.state.pool_name(), None], cause);
            }
            return EvaluationResult::Removed;
        };
        let evaluated = Evaluated {
            state: Arc::clone(&state),
            cause: cause.clone(),
        };
        if self.states.upsert(Arc::clone(name), evaluated) == Change::Unchanged {
            return EvaluationResult::Unchanged;
        }
        log(&state, cause, "The state of the node changed");
        self.count(before.map(|before| &*before.state), Some(&state));
        let left = before
            .and_then(|before| before.state.pool_name())
            .filter(|pool| Some(pool) != state.pool_name().as_ref());
        self.notify_node(name, [left, state.pool_name()], cause);
        EvaluationResult::Changed
    }

    fn count(&self, before: Option<&NodeState>, after: Option<&NodeState>) {
        let moved = before.map(|state| (&state.pool, state.phase))
            != after.map(|state| (&state.pool, state.phase));
        for (state, delta) in [(before, -1), (after, 1)] {
            if let Some(state) = state.filter(|_| moved) {
                self.metrics.count_node(
                    state.pool.as_ref().map(|pool| &*pool.name),
                    state.phase,
                    delta,
                );
            }
        }
        if let Some(before) =
            before.filter(|before| Some(before.phase) != after.map(|after| after.phase))
        {
            let seconds = (self.clock)().as_second() - before.phase_start.as_second();
            self.metrics.left_phase(
                before.phase,
                f64::from(i32::try_from(seconds).unwrap_or(i32::MAX)),
            );
        }
    }

    fn notify_node(&self, name: &Arc<str>, pools: [Option<Arc<str>>; 2], cause: &Cause) {
        self.notify(&InsightKey::Node(Arc::clone(name)));
        for pool in pools.into_iter().flatten() {
            self.pool_changes
                .upsert(Arc::clone(&pool), PoolChange(cause.clone()));
            self.notify(&InsightKey::Pool(pool));
        }
    }

    fn notify(&self, key: &InsightKey) {
        self.fanout.notify(key, |consumer, marked| {
            self.metrics.notified(consumer, marked == Marked::Coalesced);
        });
    }

    fn inventory(&self) -> MutexGuard<'_, Inventory> {
        self.inventory
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

fn log(state: &NodeState, cause: &Cause, message: &'static str) {
    tracing::debug!(
        reconcile_id = cause.reconcile_id,
        trigger = %cause.trigger,
        resource_version = &*cause.resource_version,
        node = &*state.name,
        pool = state.pool.as_ref().map(|pool| &*pool.name),
        phase = %state.phase,
        reason = state.updating.reason,
        message
    );
}

#[cfg(test)]
mod tests;
