//! The centre: the only place where a node is evaluated.
//!
//! Phases of a reconcile: gather (what is known, and what was known before), evaluate, commit,
//! notify. None of them talks to the API server.
//!
//! Owns the inventory, the states and the fan-out. What changes marks the nodes that it affects as
//! dirty; one task evaluates each dirty node once and commits before it notifies. The full compare
//! evaluates from another task; a reconcile awaits nothing, so on the one thread there is no other in between.
//! Readers get states and never evaluate.

mod again;
mod counts;
mod past;
mod read;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use self::again::Again;
use self::counts::Counts;
use self::past::{Known, Past};
use super::insight_cache::InsightCache;
use super::insight_key::InsightKey;
use super::inventory::{Affected, Found, Inventory};
use super::states::{Evaluated, EvaluatedPool, States};
use super::sync_gate::SyncGate;
use crate::api::NodeProgressInsightStatus;
use crate::domain::state::{History, NodeState};
use crate::providers::{Identity, Providers};
use crate::registry::Clock;
use crate::registry::backend::BackendError;
use crate::registry::dirty::{Marked, Marker, Reader, dirty_set};
use crate::registry::fanout::{Fanout, Inbox};
use crate::registry::store::{Change, Store};
use crate::telemetry::cause::{Cause, Step, Trigger};
use crate::telemetry::health::Health;
use crate::telemetry::metrics::{EvaluationResult, Metrics};

/// Evaluations in a row before other tasks get their turn: about 100 µs.
const BATCH: usize = 100;

/// How long a node waits that the backend did not take: a backend that fails does so for all.
const POSTPONEMENT: Duration = Duration::from_secs(1);

/// Name under which `/readyz` shows whether every node was evaluated once.
const CHECK: &str = "first evaluation";

/// How often is looked whether a node is to be evaluated again because time has passed.
const AGAIN_EVERY: Duration = Duration::from_secs(5);

/// The centre.
pub struct Centre {
    inventory: Inventory,
    states: States,
    dirty: Marker<InsightKey, Cause>,
    fanout: Fanout<InsightKey>,
    /// What led to the end of nodes whose insight is still to be deleted.
    departures: Store<Arc<str>, Cause>,
    history: Option<Arc<InsightCache<NodeProgressInsightStatus>>>,
    evaluated: watch::Sender<bool>,
    counts: Counts,
    again: Again,
    past: Past,
    metrics: Arc<Metrics>,
    health: Arc<Health>,
    clock: Clock,
}

/// What the evaluating task reads.
pub struct DirtyKeys(Reader<InsightKey, Cause>);

impl Centre {
    /// A centre whose nodes are evaluated by `providers`, and that keeps what it knows in `states`, takes the times of the past
    /// from `history`, and has no consumer yet. Also what its task reads.
    #[must_use]
    pub fn new(
        providers: Providers,
        states: States,
        history: Option<Arc<InsightCache<NodeProgressInsightStatus>>>,
        metrics: Arc<Metrics>,
        health: Arc<Health>,
        clock: Clock,
    ) -> (Arc<Self>, DirtyKeys) {
        health.not_ready(CHECK, "waiting until everything is listed");
        let (dirty, reader) = dirty_set();
        let centre = Self {
            inventory: Inventory::new(providers),
            states,
            dirty,
            fanout: Fanout::default(),
            departures: Store::new(),
            history,
            evaluated: watch::Sender::new(false),
            counts: Counts::new(Arc::clone(&metrics), Arc::clone(&clock)),
            again: Again::default(),
            past: Past::default(),
            metrics,
            health,
            clock,
        };
        (Arc::new(centre), DirtyKeys(reader))
    }

    /// Adds a consumer of the keys that it `wants`, at any time: it gets every key that there is. Until then
    /// nothing is kept for it.
    ///
    /// # Errors
    /// When the backend fails; then nothing was added.
    pub fn attach(
        &self,
        name: &'static str,
        wants: fn(&InsightKey) -> bool,
    ) -> Result<Inbox<InsightKey>, BackendError> {
        // The keys are told after the consumer is there: one that comes in between is told twice, not never.
        let keys = self.keys()?;
        let inbox = self.fanout.add(name, wants);
        self.tell(name, keys);
        Ok(inbox)
    }

    /// Tells one consumer of keys that it has to look at, whatever the evaluation says.
    pub fn tell(&self, consumer: &'static str, keys: impl IntoIterator<Item = InsightKey>) {
        for key in keys {
            if let Some(marked) = self.fanout.tell(consumer, &key) {
                self.metrics.notified(consumer, marked == Marked::Coalesced);
            }
        }
    }

    /// Takes in a change of the cluster; `change` says whom it affects. How many nodes and pools that
    /// are.
    pub fn observe(&self, cause: &Cause, change: impl FnOnce(&Inventory) -> Affected) -> usize {
        let Affected { nodes, pools } = change(&self.inventory);
        let affected = nodes.len() + pools.len();
        if affected == 0 {
            return 0;
        }
        cause.open();
        cause.in_span(Step::Trigger, || {
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
        });
        affected
    }

    /// Tells the consumers about a key whose insight was touched by somebody else.
    pub fn touch(&self, key: &InsightKey) {
        // Before the first evaluation every insight is compared anyway.
        if *self.evaluated.borrow() {
            self.notify(key);
        }
    }

    /// Whether a consumer was told about this key and has not read it yet.
    pub fn is_pending(&self, key: &InsightKey) -> bool {
        self.fanout.is_pending(key)
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
    pub async fn run(&self, mut dirty: DirtyKeys, gate: &SyncGate, shutdown: CancellationToken) {
        tokio::select! {
            () = gate.opened() => {}
            () = shutdown.cancelled() => return,
        }
        self.observe(&Cause::new(Trigger::Start, ""), Inventory::open);
        let mut postponed = self.evaluate_all(&mut dirty).await;
        self.evaluated.send_replace(true);
        self.health.ready(CHECK);
        tracing::info!(
            nodes = self.states.node_counter().count(),
            "Evaluated every node"
        );
        // Of its own, so that changes that keep coming do not put it off.
        let mut again = tokio::time::interval(POSTPONEMENT);
        // It rests while nothing is postponed, and must not make up for that.
        again.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut time = tokio::time::interval(AGAIN_EVERY);
        time.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                next = dirty.0.next() => match next {
                    Some((key, cause)) => postponed.extend(self.reconcile(key, cause)),
                    None => return,
                },
                _ = again.tick(), if !postponed.is_empty() => {
                    for (key, cause) in postponed.drain(..) {
                        self.dirty.mark(key, cause);
                    }
                }
                _ = time.tick() => self.mark_due(),
                () = shutdown.cancelled() => break,
            }
            postponed.extend(self.evaluate_all(&mut dirty).await);
        }
        self.evaluate_all(&mut dirty).await;
    }

    /// Evaluates a node again, unless it is about to be anyway; what that led to.
    ///
    /// # Errors
    /// When the backend fails.
    pub fn reevaluate(
        &self,
        name: &Arc<str>,
        cause: &Cause,
    ) -> Result<EvaluationResult, BackendError> {
        if self.is_dirty(name) {
            return Ok(EvaluationResult::Unchanged);
        }
        self.reconcile_node(name, cause)
    }

    /// Forgets every state whose node is gone, and tells who looks at it; how many there were. To be
    /// called when every kind was listed.
    ///
    /// # Errors
    /// When the backend fails.
    pub fn reap(&self, cause: &Cause) -> Result<usize, BackendError> {
        let gone = self
            .states
            .evict_nodes(&|name| !self.inventory.has_node(name) && !self.is_dirty(name))?;
        for evaluated in &gone {
            self.after_removal(&evaluated.state, cause)?;
        }
        self.past.expire((self.clock)());
        let pools: HashSet<Arc<str>> = self.inventory.pool_names().into_iter().collect();
        self.states.evict_pools(&|name| !pools.contains(name))?;
        Ok(gone.len())
    }

    fn is_dirty(&self, name: &Arc<str>) -> bool {
        self.dirty.contains(&InsightKey::Node(Arc::clone(name)))
    }

    async fn evaluate_all(&self, dirty: &mut DirtyKeys) -> Vec<(InsightKey, Cause)> {
        let mut count = 0;
        let mut postponed = Vec::new();
        while let Some((key, cause)) = dirty.0.try_next() {
            postponed.extend(self.reconcile(key, cause));
            count += 1;
            if count % BATCH == 0 {
                tokio::task::yield_now().await;
            }
        }
        postponed
    }

    /// What could not be done is given back.
    fn reconcile(&self, key: InsightKey, cause: Cause) -> Option<(InsightKey, Cause)> {
        let result = match &key {
            InsightKey::Node(name) => self.reconcile_node(name, &cause).map(|_| ()),
            InsightKey::Pool(name) => self.notify_pool(name, &cause),
        };
        let error = result.err()?;
        tracing::error!(
            reconcile_id = cause.reconcile_id, trigger = %cause.trigger, key = ?key, %error,
            "Evaluating is put off: the state backend fails"
        );
        Some((key, cause))
    }

    /// Marks the nodes whose time has come.
    fn mark_due(&self) {
        for name in self.again.due((self.clock)()) {
            let cause = Cause::new(Trigger::Time, "");
            self.dirty.mark(InsightKey::Node(name), cause);
        }
    }

    fn reconcile_node(
        &self,
        name: &Arc<str>,
        cause: &Cause,
    ) -> Result<EvaluationResult, BackendError> {
        self.reconcile_with(name, cause, |name| self.gather(name))
    }

    fn reconcile_with(
        &self,
        name: &Arc<str>,
        cause: &Cause,
        gather: impl FnOnce(&Arc<str>) -> Result<Known, BackendError>,
    ) -> Result<EvaluationResult, BackendError> {
        let started = Instant::now();
        let span = cause.reconcile(name);
        let known = span.in_span(Step::Gather, || gather(name))?;
        let state = span.in_span(Step::Evaluate, || {
            let before = known.before.as_ref();
            let pool = before.and_then(|before| before.state.pool.as_ref());
            let now = (self.clock)();
            self.inventory
                .evaluate(name, pool, known.past.as_ref(), now)
        });
        let before = known.before.as_ref().map(|before| &*before.state);
        self.again.schedule(before, state.as_ref());
        let committed = span.in_span(Step::Commit, || self.commit(name, state, &known, cause))?;
        span.in_span(Step::Notify, || {
            self.announce(&committed, known.before.as_deref(), cause)
        })?;
        let result = committed.result();
        self.metrics
            .evaluated(cause.trigger, result, started.elapsed().as_secs_f64());
        Ok(result)
    }

    /// Keeps the state, if it differs.
    fn commit(
        &self,
        name: &Arc<str>,
        state: Option<NodeState>,
        known: &Known,
        cause: &Cause,
    ) -> Result<Committed, BackendError> {
        let before = known.before.as_deref();
        let Some(state) = state.map(Arc::new) else {
            let gone = before.map(|_| self.states.remove_node(name)).transpose();
            return match gone {
                // The reaper was quicker, and told who looks at it.
                Err(BackendError::NotFound { .. }) => Ok(Committed::Removed(None)),
                gone => Ok(Committed::Removed(gone?)),
            };
        };
        let evaluated = Evaluated {
            state: Arc::clone(&state),
            cause: cause.clone(),
        };
        let change = self.states.put_node(evaluated, before)?;
        if matches!(change, Change::Inserted) {
            self.parted(name);
        }
        Ok(match change {
            Change::Unchanged => Committed::Unchanged,
            Change::Inserted | Change::Updated(_) => Committed::Changed(state),
        })
    }

    /// Tells who looks at the node and at its pools.
    fn announce(
        &self,
        committed: &Committed,
        before: Option<&Evaluated>,
        cause: &Cause,
    ) -> Result<(), BackendError> {
        match committed {
            Committed::Unchanged | Committed::Removed(None) => Ok(()),
            Committed::Removed(Some(gone)) => self.after_removal(&gone.state, cause),
            Committed::Changed(state) => {
                log(state, cause, "The state of the node changed");
                let before = before.map(|before| &*before.state);
                self.counts.moved(before, Some(state));
                let left = before
                    .and_then(NodeState::pool_name)
                    .filter(|pool| Some(pool) != state.pool_name().as_ref());
                self.notify_node(&state.name, [left, state.pool_name()], cause)?;
                self.learn(before, state)
            }
        }
    }

    fn after_removal(&self, gone: &NodeState, cause: &Cause) -> Result<(), BackendError> {
        log(gone, cause, "The node is gone");
        self.counts.moved(Some(gone), None);
        self.again.schedule(Some(gone), None);
        // It may come back under its name, and go on where it was.
        if self.inventory.providers().identity(&gone.provider) == Identity::Name {
            let now = (self.clock)();
            self.past.keep(&gone.name, History::from(gone), now);
        }
        // Before it is told: who is told looks for it. There is no state any more to keep it.
        self.departures
            .upsert(Arc::clone(&gone.name), cause.clone());
        if !self.notify(&InsightKey::Node(Arc::clone(&gone.name))) {
            self.parted(&gone.name);
        }
        self.notify_pools([gone.pool_name(), None], cause)
    }

    fn notify_node(
        &self,
        name: &Arc<str>,
        pools: [Option<Arc<str>>; 2],
        cause: &Cause,
    ) -> Result<(), BackendError> {
        if !self.notify(&InsightKey::Node(Arc::clone(name)))
            && let Some(evaluated) = self.states.node(name)?
        {
            evaluated.cause.finish();
        }
        self.notify_pools(pools, cause)
    }

    fn notify_pools(
        &self,
        pools: [Option<Arc<str>>; 2],
        cause: &Cause,
    ) -> Result<(), BackendError> {
        for pool in pools.into_iter().flatten() {
            self.notify_pool(&pool, cause)?;
        }
        Ok(())
    }

    fn notify_pool(&self, name: &Arc<str>, cause: &Cause) -> Result<(), BackendError> {
        match self.inventory.describe(name, (self.clock)()) {
            Found::Here(state) => self.states.put_pool(EvaluatedPool {
                state: Arc::new(state),
                cause: cause.clone(),
            })?,
            Found::Gone => {
                self.states.remove_pool(name)?;
                self.counts.forget_pool(name);
            }
            // What was known of it stays.
            Found::Unknown => {}
        }
        if !self.notify(&InsightKey::Pool(Arc::clone(name)))
            && let Some(change) = self.states.pool(name)?
        {
            change.cause.finish();
        }
        Ok(())
    }

    /// Tells every consumer; whether there was one who wanted to know.
    fn notify(&self, key: &InsightKey) -> bool {
        let mut is_wanted = false;
        self.fanout.notify(key, |consumer, marked| {
            is_wanted = true;
            self.metrics.notified(consumer, marked == Marked::Coalesced);
        });
        is_wanted
    }
}

/// What became of a state.
enum Committed {
    Unchanged,
    Changed(Arc<NodeState>),
    /// The node is gone; what it had, if it was known.
    Removed(Option<Arc<Evaluated>>),
}

impl Committed {
    fn result(&self) -> EvaluationResult {
        match self {
            Self::Unchanged => EvaluationResult::Unchanged,
            Self::Changed(_) => EvaluationResult::Changed,
            Self::Removed(_) => EvaluationResult::Removed,
        }
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
