//! How long the steps of updates take in each pool: what was learned, and what is expected from it.
//!
//! What was learned of a pool is in its insight, where any replica finds it, and in the state backend. It is read once:
//! from the insight, which is the newest, else from the backend.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::{Committed, NodeStateController};
use crate::api::PoolProgressInsightStatus;
use crate::api::types::{Phase, ProviderName, UpdateKind};
use crate::domain::eta::{
    Estimate, Estimator, InProgress, Learned, Prior, Sources, Stage, summary,
};
use crate::domain::outlook::{self, Durations, Expected};
use crate::domain::pool_status::PoolView;
use crate::domain::state::{History, NodeState};
use crate::reconcile::insight_cache::InsightCache;
use crate::reconcile::states::States;
use crate::registry::backend::BackendError;
use crate::registry::store::Store;

/// For how long expectations of steps that begin are used again.
const FRESH: SignedDuration = SignedDuration::from_secs(10);

/// The insights of pools, as the API server holds them.
type Insights = InsightCache<PoolProgressInsightStatus>;

/// A kind of update in a pool, and a stage of it.
type Step = (Arc<str>, Option<UpdateKind>, Stage);

/// What was learned of the pools.
pub(super) struct Lessons {
    learned: Store<Arc<str>, Learned>,
    expected: Store<Step, Expected>,
    insights: Option<Arc<Insights>>,
}

impl Lessons {
    pub(super) fn new(insights: Option<Arc<Insights>>) -> Self {
        Self {
            learned: Store::new(),
            expected: Store::new(),
            insights,
        }
    }

    /// What was learned of a pool.
    fn of(&self, states: &States, pool: &Arc<str>) -> Result<Arc<Learned>, BackendError> {
        if let Some(learned) = self.learned.get(pool) {
            return Ok(learned);
        }
        let learned = match self.reported(pool) {
            Some(learned) => Some(learned),
            None => states
                .learned(pool)?
                .and_then(|text| decoded(pool, &text, "the state backend")),
        };
        let (learned, _) = self
            .learned
            .get_or_insert(Arc::clone(pool), learned.unwrap_or_default());
        Ok(learned)
    }

    /// What the insight of a pool says, if another process wrote it.
    fn reported(&self, pool: &Arc<str>) -> Option<Learned> {
        let status = self.insights.as_ref()?.peek_history(pool)?;
        let text = status.learned_durations.as_ref()?;
        decoded(pool, text, "the insight")
    }

    /// Replaces what this process has learned by what the previous leader did.
    pub(super) fn take_over(&self) {
        for pool in self.learned.keys() {
            if let Some(learned) = self.reported(&pool) {
                self.learned.upsert(pool, learned);
            }
        }
    }

    /// Forgets a pool that is gone.
    pub(super) fn forget(&self, pool: &Arc<str>) {
        self.learned.remove(pool);
        self.expected.evict_where(|(of, _, _), _| of == pool);
    }
}

fn decoded(pool: &str, text: &str, place: &'static str) -> Option<Learned> {
    match summary::decode(text) {
        Ok(learned) => Some(learned),
        Err(error) => {
            tracing::warn!(
                pool,
                %error,
                "Ignoring the durations that {place} has of a pool: its estimates begin with the provider's constants"
            );
            None
        }
    }
}

/// What is known about the durations of a node's pool.
struct OfNode<'a> {
    controller: &'a NodeStateController,
    state: &'a NodeState,
    pool: &'a Arc<str>,
    own: &'a Learned,
    now: Timestamp,
}

impl OfNode<'_> {
    fn with<T>(&self, ask: impl FnOnce(&Sources<'_>) -> T) -> T {
        let NodeState {
            provider,
            overlays,
            machine,
            ..
        } = self.state;
        let prior = outlook::prior(provider, overlays, *machine);
        self.controller
            .with_sources((self.pool, self.own), provider, &prior, ask)
    }
}

impl Durations for OfNode<'_> {
    fn expected(&self, stage: Stage) -> Expected {
        let lessons = &self.controller.lessons;
        let step = (Arc::clone(self.pool), self.state.kind, stage);
        let known = lessons.expected.get(&step);
        if let Some(known) = known.filter(|known| known.is_younger_than(FRESH, self.now)) {
            return Expected::clone(&known);
        }
        let new = self.with(|sources| Expected::of(stage, sources, self.state, self.now));
        lessons.expected.upsert(step, new.clone());
        new
    }

    fn estimate(&self, node: &InProgress) -> Option<Estimate> {
        let rollout = outlook::of_node(self.state);
        self.with(|sources| Estimator::new(sources, &rollout, self.now).node(node).ok())
    }
}

impl NodeStateController {
    /// The state, with what is expected of it.
    pub(super) fn look_ahead(
        &self,
        state: NodeState,
        past: Option<&History>,
        now: Timestamp,
    ) -> Result<NodeState, BackendError> {
        let Some(pool) = state.pool_name().filter(|_| state.phase.is_in_progress()) else {
            return Ok(state);
        };
        let own = self.lessons.of(&self.states, &pool)?;
        let past = past.filter(|past| past.phase == state.phase);
        let past = past.and_then(|past| past.outlook.as_deref());
        let durations = OfNode {
            controller: self,
            state: &state,
            pool: &pool,
            own: &own,
            now,
        };
        let outlook = outlook::of(&state, past, &durations, now);
        Ok(state.expecting(outlook, now))
    }

    /// Learns from a change of a node.
    pub(super) fn learn(
        &self,
        committed: &Committed,
        before: Option<&NodeState>,
    ) -> Result<(), BackendError> {
        match (committed, before) {
            (Committed::Changed(after), Some(before))
                if before.phase != after.phase && before.pool == after.pool =>
            {
                let is_done = after.phase == Phase::Completed;
                if is_done || after.phase.is_in_progress() {
                    return self.step_ended(before, after.phase_start, is_done);
                }
            }
            // A node that is replaced is done when it is gone, unless it keeps its name: then it comes back.
            (Committed::Removed(Some(gone)), _) if self.is_replaced(&gone.state)? => {
                return self.step_ended(&gone.state, (self.clock)(), true);
            }
            _ => {}
        }
        Ok(())
    }

    fn is_replaced(&self, gone: &NodeState) -> Result<bool, BackendError> {
        let Some(pool) = gone.pool_name() else {
            return Ok(false);
        };
        let pool = self.states.pool(&pool)?;
        Ok(pool.is_some_and(|pool| pool.state.replaces && !pool.state.reuses_names))
    }

    /// Learns how long a step took; `is_done` says whether the node is updated.
    fn step_ended(
        &self,
        before: &NodeState,
        end: Timestamp,
        is_done: bool,
    ) -> Result<(), BackendError> {
        let (Some(stage), Some(pool)) = (Stage::of(before.phase), before.pool_name()) else {
            return Ok(());
        };
        self.teach(&pool, |learned| {
            learned.stage_ended(before.kind, stage, &outlook::span(before, end));
            if let Some(was_long) = outlook::was_long(before, end) {
                learned.outcome(was_long);
            }
            if is_done {
                learned.node_updated(before.kind, &outlook::visited(before));
            }
            true
        })
    }

    /// Changes what was learned of a pool, unless `lesson` returns that there is nothing to learn.
    ///
    /// # Errors
    /// When the backend fails.
    pub fn teach(
        &self,
        pool: &Arc<str>,
        lesson: impl FnOnce(&mut Learned) -> bool,
    ) -> Result<(), BackendError> {
        let mut learned = Learned::clone(&*self.learned(pool)?);
        if lesson(&mut learned) {
            let text = summary::encode(&learned);
            self.lessons.learned.upsert(Arc::clone(pool), learned);
            self.states.keep_learned(pool, text)?;
        }
        Ok(())
    }

    /// What was learned of a pool.
    ///
    /// # Errors
    /// When the backend fails.
    pub fn learned(&self, pool: &Arc<str>) -> Result<Arc<Learned>, BackendError> {
        self.lessons.of(&self.states, pool)
    }

    /// Asks with what is known about the durations in a pool.
    ///
    /// # Errors
    /// When the backend fails.
    pub fn ask_durations<T>(
        &self,
        view: &PoolView,
        ask: impl FnOnce(&Sources<'_>) -> T,
    ) -> Result<T, BackendError> {
        let (pool, provider) = (&view.state.id.name, &view.state.provider);
        let own = self.learned(pool)?;
        let overlays = view.nodes.iter().find(|node| node.is_outdated());
        let overlays = overlays.map_or(&[][..], |node| &node.overlays);
        let prior = outlook::prior(provider, overlays, outlook::machine(view));
        Ok(self.with_sources((pool, &own), provider, &prior, ask))
    }

    /// Asks with what was learned of a pool, with what was learned of the others, and with the constants.
    fn with_sources<T>(
        &self,
        (pool, own): (&Arc<str>, &Learned),
        provider: &ProviderName,
        prior: &Prior,
        ask: impl FnOnce(&Sources<'_>) -> T,
    ) -> T {
        let others = self.others(pool, provider);
        let others: Vec<&Learned> = others.iter().map(|other| &**other).collect();
        ask(&Sources {
            pool: own,
            others: &others,
            prior,
        })
    }

    /// What was learned of other pools of the provider. Without an answer of the backend, nothing.
    fn others(&self, pool: &Arc<str>, provider: &ProviderName) -> Vec<Arc<Learned>> {
        let pools = self.states.pools().map(|pools| pools.values);
        let pools = pools.unwrap_or_default();
        let names = pools
            .iter()
            .filter(|other| other.state.provider == *provider)
            .map(|other| &other.state.id.name)
            .filter(|name| *name != pool);
        names.filter_map(|name| self.learned(name).ok()).collect()
    }
}
