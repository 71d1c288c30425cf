//! The node-state controller: the only place where a node is evaluated.
//!
//! Phases of a reconcile: gather (the previous state and history), evaluate, commit, notify. None of them
//! talks to the API server.
//!
//! Owns the inventory, the states and the fan-out. A change marks the affected nodes as dirty; one task
//! evaluates each dirty node once and commits before it notifies. The full compare evaluates from another
//! task; since a reconcile never awaits and both run on one thread, reconciles never interleave.
//! Readers get states and never evaluate.

mod again;
mod announce;
mod counts;
mod durations;
mod past;
mod read;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use self::again::Again;
use self::counts::Counts;
use self::durations::Lessons;
use self::past::{Known, Past};
use super::insight_cache::InsightCache;
use super::insight_key::InsightKey;
use super::inventory::{Affected, Inventory};
use super::states::{Evaluated, States};
use super::sync_gate::SyncGate;
use crate::api::{NodeProgressInsightStatus, PoolProgressInsightStatus};
use crate::domain::rollout::Update;
use crate::domain::state::NodeState;
use crate::providers::Providers;
use crate::registry::Clock;
use crate::registry::backend::BackendError;
use crate::registry::dirty::{Marked, Marker, Reader, dirty_set};
use crate::registry::fanout::{Fanout, Inbox};
use crate::registry::store::{Change, Store};
use crate::telemetry::cause::{Cause, Step, Trigger};
use crate::telemetry::health::Health;
use crate::telemetry::metrics::{EvaluationResult, Metrics};

/// Evaluations in a row before yielding to other tasks: about 100 µs.
const BATCH: usize = 100;

/// Delay before retrying nodes whose state could not be stored: a failing backend fails for all nodes.
const POSTPONEMENT: Duration = Duration::from_secs(1);

/// Name of the `/readyz` check that passes once every node has been evaluated.
const CHECK: &str = "first evaluation";

/// Longest interval between checks for nodes that are due for a time-based evaluation: the clock may be set meanwhile.
const AGAIN_EVERY: Duration = Duration::from_secs(5);
/// Shortest one.
const AGAIN_AT_MOST_EVERY: Duration = Duration::from_millis(200);

/// The node-state controller.
pub struct NodeStateController {
    inventory: Inventory,
    states: States,
    dirty: Marker<InsightKey, Cause>,
    fanout: Fanout<InsightKey>,
    /// Causes of node deletions whose insight is not deleted yet.
    pending_deletions: Store<Arc<str>, Cause>,
    history: Option<Arc<InsightCache<NodeProgressInsightStatus>>>,
    evaluated: watch::Sender<bool>,
    counts: Counts,
    again: Again,
    /// A node is due earlier than those before it.
    sooner: Notify,
    past: Past,
    lessons: Lessons,
    /// How many nodes have left each pool other than by being updated or replaced.
    removed: Store<Arc<str>, usize>,
    /// The longest update of each pool's nodes that have just been replaced.
    replaced: Store<Arc<str>, Update>,
    metrics: Arc<Metrics>,
    health: Arc<Health>,
    clock: Clock,
}

/// The insights as the API server holds them; `None` where they are disabled.
#[derive(Default)]
pub struct KnownInsights {
    /// Those of nodes.
    pub nodes: Option<Arc<InsightCache<NodeProgressInsightStatus>>>,
    /// Those of pools.
    pub pools: Option<Arc<InsightCache<PoolProgressInsightStatus>>>,
}

/// The dirty keys, read by [`NodeStateController::run`].
pub struct DirtyKeys(Reader<InsightKey, Cause>);

impl NodeStateController {
    /// Creates a node-state controller without consumers. It evaluates nodes with `providers`, stores the results in
    /// `states` and takes earlier times and durations from the insights of nodes and pools. Also returns the keys for [`Self::run`].
    #[must_use]
    pub fn new(
        providers: Providers,
        states: States,
        insights: KnownInsights,
        metrics: Arc<Metrics>,
        health: Arc<Health>,
        clock: Clock,
    ) -> (Arc<Self>, DirtyKeys) {
        health.not_ready(CHECK, "waiting until everything is listed");
        let (dirty, reader) = dirty_set();
        let controller = Self {
            inventory: Inventory::new(providers),
            states,
            dirty,
            fanout: Fanout::default(),
            pending_deletions: Store::new(),
            history: insights.nodes,
            evaluated: watch::Sender::new(false),
            counts: Counts::new(Arc::clone(&metrics), Arc::clone(&clock)),
            again: Again::default(),
            sooner: Notify::new(),
            past: Past::default(),
            lessons: Lessons::new(insights.pools),
            removed: Store::new(),
            replaced: Store::new(),
            metrics,
            health,
            clock,
        };
        (Arc::new(controller), DirtyKeys(reader))
    }

    /// Adds a consumer of the keys that it `wants`. It is notified of all existing keys, so it can be added at any
    /// time.
    ///
    /// # Errors
    /// When the backend fails; then no consumer is added.
    pub fn attach(
        &self,
        name: &'static str,
        wants: fn(&InsightKey) -> bool,
    ) -> Result<Inbox<InsightKey>, BackendError> {
        // Notify after adding the consumer: a key that changes in between is notified twice rather than never.
        let keys = self.keys()?;
        let inbox = self.fanout.add(name, wants);
        self.notify_consumer(name, keys);
        Ok(inbox)
    }

    /// Notifies one consumer of these keys, whether or not their state changed.
    pub fn notify_consumer(
        &self,
        consumer: &'static str,
        keys: impl IntoIterator<Item = InsightKey>,
    ) {
        for key in keys {
            if let Some(marked) = self.fanout.notify_consumer(consumer, &key) {
                self.metrics.notified(consumer, marked == Marked::Coalesced);
            }
        }
    }

    /// Applies a `change` to the inventory and marks the affected nodes and pools as dirty; returns their number.
    pub fn observe(&self, cause: &Cause, change: impl FnOnce(&Inventory) -> Affected) -> usize {
        self.take_in(cause, change, |node| {
            self.dirty.mark(InsightKey::Node(node), cause.clone());
        })
    }

    /// The same for what changes often and may wait: each affected node is evaluated within a second, and once.
    pub fn observe_soon(
        &self,
        cause: &Cause,
        change: impl FnOnce(&Inventory) -> Affected,
    ) -> usize {
        let now = (self.clock)();
        self.take_in(cause, change, |node| {
            self.again.soon(node, cause, now);
            self.sooner.notify_one();
        })
    }

    fn take_in(
        &self,
        cause: &Cause,
        change: impl FnOnce(&Inventory) -> Affected,
        mark: impl Fn(Arc<str>),
    ) -> usize {
        let Affected { nodes, pools } = change(&self.inventory);
        let affected = nodes.len() + pools.len();
        if affected == 0 {
            return 0;
        }
        cause.open();
        cause.in_span(Step::Trigger, || {
            tracing::debug!(
                reconcile_id = cause.reconcile_id, trigger = %cause.trigger,
                resource_version = &*cause.resource_version, nodes = nodes.len(), pools = pools.len(),
                "Taking in a change"
            );
            // Pools after their nodes, so that a pool is read after its nodes are evaluated.
            nodes.into_iter().for_each(&mark);
            for pool in pools {
                self.dirty.mark(InsightKey::Pool(pool), cause.clone());
            }
        });
        affected
    }

    /// Notifies the consumers of a key so that they compare its insight again.
    pub fn touch(&self, key: &InsightKey) {
        // Skipped before the first evaluation: all insights are compared then anyway.
        if *self.evaluated.borrow() {
            self.notify(key);
        }
    }

    /// Whether a consumer was notified of this key and has not read it yet.
    pub fn is_pending(&self, key: &InsightKey) -> bool {
        self.fanout.is_pending(key)
    }

    /// Waits until every node listed at the start has been evaluated.
    pub async fn evaluated(&self) {
        // The sender is `self`, so the channel cannot close meanwhile.
        let _ = self
            .evaluated
            .subscribe()
            .wait_for(|evaluated| *evaluated)
            .await;
    }

    /// Evaluates dirty keys from the opening of the gate until `shutdown`, then those that are still dirty.
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
        // A separate timer, so that a stream of changes does not delay the retries.
        let mut again = tokio::time::interval(POSTPONEMENT);
        // Ticks missed while nothing is postponed are skipped.
        again.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut checked = tokio::time::Instant::now();
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
                () = self.sooner.notified() => {}
                () = tokio::time::sleep_until(checked + self.until_due()) => {
                    checked = tokio::time::Instant::now();
                    self.mark_due();
                }
                () = shutdown.cancelled() => break,
            }
            postponed.extend(self.evaluate_all(&mut dirty).await);
        }
        self.evaluate_all(&mut dirty).await;
    }

    /// Evaluates a node again, unless it is dirty and will be evaluated anyway.
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

    /// Removes every state whose node is gone and notifies the consumers; returns the number removed. Call it only
    /// after every kind was listed.
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
        for pool in self.past.expire((self.clock)()) {
            self.notify_pool(&pool, cause)?;
        }
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

    /// Returns the key if the backend failed, for a retry.
    fn reconcile(&self, key: InsightKey, cause: Cause) -> Option<(InsightKey, Cause)> {
        let result = match &key {
            InsightKey::Node(name) => self.reconcile_node(name, &cause).map(|_| ()),
            InsightKey::Pool(name) => self.notify_pool(name, &cause),
        };
        let error = result.err()?;
        tracing::error!(
            reconcile_id = cause.reconcile_id, trigger = %cause.trigger, key = ?key, %error,
            "Postponing the evaluation: the state backend fails"
        );
        Some((key, cause))
    }

    /// How long to wait for the next time-based evaluation.
    fn until_due(&self) -> Duration {
        let due = self.again.next().map(|at| {
            let left = at.duration_since((self.clock)());
            Duration::try_from(left).unwrap_or_default()
        });
        due.unwrap_or(AGAIN_EVERY)
            .clamp(AGAIN_AT_MOST_EVERY, AGAIN_EVERY)
    }

    /// Marks the nodes that are due for a time-based evaluation.
    fn mark_due(&self) {
        for (name, cause) in self.again.due((self.clock)()) {
            let cause = cause.unwrap_or_else(|| Cause::new(Trigger::Time, ""));
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
            let (past, now) = (known.past.as_ref(), (self.clock)());
            let state = self.inventory.evaluate(name, pool, past, now);
            state
                .map(|state| self.look_ahead(state, past, now))
                .transpose()
        })?;
        let before = known.before.as_ref().map(|before| &*before.state);
        self.again.schedule(before, state.as_ref());
        let committed = span.in_span(Step::Commit, || self.commit(name, state, &known, cause))?;
        span.in_span(Step::Notify, || {
            // Before the pool is notified, as its insight holds what was learned.
            let learned = self.learn(&committed, before);
            self.announce(&committed, known.before.as_deref(), cause)?;
            learned
        })?;
        let result = committed.result();
        self.metrics
            .evaluated(cause.trigger, result, started.elapsed().as_secs_f64());
        Ok(result)
    }

    /// Stores the state if it differs.
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
                // `reap` has removed it and notified the consumers.
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
            self.deletion_written(name);
        }
        Ok(match change {
            Change::Unchanged => Committed::Unchanged,
            Change::Inserted | Change::Updated(_) => Committed::Changed(state),
        })
    }
}

/// Result of a commit.
enum Committed {
    Unchanged,
    Changed(Arc<NodeState>),
    /// The node is gone; its last state, if any.
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

#[cfg(test)]
mod tests;
