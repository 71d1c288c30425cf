//! The history of a node: from its last evaluation, its insight, and the backend.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::{BATCH, NodeStateController};
use crate::domain::state::{History, NodeState};
use crate::providers::Identity;
use crate::reconcile::states::Evaluated;
use crate::registry::backend::BackendError;
use crate::registry::store::Store;
use crate::telemetry::cause::{Cause, Trigger};

/// The last evaluation and the history of a node.
pub(super) struct Known {
    pub(super) before: Option<Arc<Evaluated>>,
    pub(super) past: Option<History>,
}

/// How long a deleted node may take to register again under its name and still count as the same node: the update of
/// one node, including its drain.
const AWAITED_FOR: SignedDuration = SignedDuration::from_hours(2);

/// Histories of deleted nodes, which continue if a node of the same name registers again.
pub(super) struct Past(Store<Arc<str>, Gone, Arc<str>>);

#[derive(PartialEq)]
struct Gone {
    history: History,
    since: Timestamp,
    /// The pool of a node that was being updated.
    updated_in: Option<Arc<str>>,
}

impl Default for Past {
    fn default() -> Self {
        Self(Store::indexed(|gone: &Gone| gone.updated_in.clone()))
    }
}

impl Past {
    pub(super) fn keep(&self, node: &NodeState, now: Timestamp) {
        let is_updated = node.phase.is_in_progress();
        let gone = Gone {
            history: History::from(node),
            since: now,
            updated_in: node.pool_name().filter(|_| is_updated),
        };
        self.0.upsert(Arc::clone(&node.name), gone);
    }

    /// How many nodes of the pool were deleted during their update.
    pub(super) fn awaited(&self, pool: &Arc<str>) -> usize {
        self.0.keys_of(pool).len()
    }

    fn take(&self, name: &Arc<str>) -> Option<History> {
        self.0.remove(name).map(|gone| gone.history.clone())
    }

    /// Forgets the nodes that did not register again; returns the pools that awaited them.
    pub(super) fn expire(&self, now: Timestamp) -> Vec<Arc<str>> {
        let gone = self
            .0
            .evict_where(|_, gone| now.duration_since(gone.since) > AWAITED_FOR);
        let pools = gone.iter().filter_map(|(_, gone)| gone.updated_in.clone());
        pools.collect()
    }
}

impl NodeStateController {
    /// Takes the times over from the insights that the previous leader wrote after this process first evaluated their
    /// nodes, as after a start. From then on, this process writes the insights.
    ///
    /// # Errors
    /// When the backend fails.
    pub async fn take_over(&self) -> Result<(), BackendError> {
        self.lessons.take_over();
        let Some(insights) = &self.history else {
            return Ok(());
        };
        let cause = Cause::new(Trigger::Leadership, "");
        for (count, name) in insights.names_with_history().into_iter().enumerate() {
            if let Some(before) = self.states.node(&name)?
                // Includes older phases that this process saw: the insight shows only the last ones.
                && let Some(past) = self.persisted_history(&name, &before.state.uid)?
                // In another phase, this process knows the start better.
                && past.phase == before.state.phase
            {
                self.reconcile_with(&name, &cause, |_| {
                    Ok(Known {
                        before: Some(before),
                        past: Some(past),
                    })
                })?;
            }
            if count % BATCH == 0 {
                tokio::task::yield_now().await;
            }
        }
        insights.drop_history();
        Ok(())
    }

    /// Returns the last evaluation of a node and its history: from that evaluation, else from its insight and the
    /// backend. A recreated node has no history unless its name identifies it.
    pub(super) fn gather(&self, name: &Arc<str>) -> Result<Known, BackendError> {
        let before = self.states.node(name)?;
        let past = match (self.inventory.identity(name), &before) {
            (None, _) => None,
            (Some((uid, identity)), Some(before)) => {
                let is_same = before.state.uid == uid || identity == Identity::Name;
                is_same.then(|| History::from(&*before.state))
            }
            (Some((uid, identity)), None) => match identity {
                Identity::Uid => self.persisted_history(name, &uid)?,
                Identity::Name => match self.past.take(name) {
                    Some(past) => Some(past),
                    None => self.persisted_history(name, &uid)?,
                },
            },
        };
        Ok(Known { before, past })
    }

    /// Returns the history from before the start.
    fn persisted_history(
        &self,
        name: &Arc<str>,
        uid: &Arc<str>,
    ) -> Result<Option<History>, BackendError> {
        let persisted = self.states.persisted_timeline(name, uid)?;
        Ok(match self.insight_history(name, uid) {
            Some(reported) => Some(reported.with_earlier(&persisted)),
            None => History::from_timeline(&persisted),
        })
    }

    /// Returns the history in the insight that another process wrote.
    fn insight_history(&self, name: &Arc<str>, uid: &Arc<str>) -> Option<History> {
        let insights = self.history.as_ref()?;
        let base = insights.base(name)?;
        let status = insights.take_history(name)?;
        (base.owner_uid.as_ref() == Some(uid)).then(|| History::from_status(&status))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};

    use serde_json::{Value, json};
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::api::types::Phase;
    use crate::domain::eta::{Learned, Span, Stage, summary};
    use crate::domain::fixtures::{NodeBuilder, at, node};
    use crate::domain::node_status::project;
    use crate::providers::fixtures::only;
    use crate::providers::fixtures::plain_kubernetes;
    use crate::reconcile::insight_cache::InsightCache;
    use crate::reconcile::node_state::KnownInsights;
    use crate::reconcile::states::States;
    use crate::reconcile::sync_gate::SyncGate;
    use crate::registry::Clock;
    use crate::telemetry::health::Health;
    use crate::telemetry::metrics::Metrics;

    /// A standby replica, its clock, and its cache of insights.
    struct Standby {
        controller: Arc<NodeStateController>,
        insights: Arc<InsightCache<crate::api::NodeProgressInsightStatus>>,
        pools: Arc<InsightCache<crate::api::PoolProgressInsightStatus>>,
        now: Arc<AtomicI64>,
    }

    impl Standby {
        /// Starts a replica that has evaluated the node.
        async fn with(node: NodeBuilder) -> Self {
            let (metrics, health) = (
                Arc::new(Metrics::new().unwrap()),
                Arc::new(Health::default()),
            );
            let states = States::in_memory(&metrics, &health);
            let now = Arc::new(AtomicI64::new(0));
            let time = Arc::clone(&now);
            let clock: Clock = Arc::new(move || at(time.load(Ordering::Relaxed)));
            let (cache, pools) = <(Arc<InsightCache<_>>, Arc<InsightCache<_>>)>::default();
            let providers = only(plain_kubernetes(&[], Some("v1.36.3")));
            let insights = KnownInsights {
                nodes: Some(Arc::clone(&cache)),
                pools: Some(Arc::clone(&pools)),
            };
            let (controller, dirty) =
                NodeStateController::new(providers, states, insights, metrics, health, clock);
            let standby = Self {
                controller,
                insights: cache,
                pools,
                now,
            };
            standby.see(node);
            let (gate, controller) = (SyncGate::new([]), Arc::clone(&standby.controller));
            tokio::spawn(async move {
                let stop = CancellationToken::new();
                controller.run(dirty, &gate, stop).await;
            });
            standby.controller.evaluated().await;
            standby
        }

        fn see(&self, node: NodeBuilder) {
            let cause = Cause::new(Trigger::Node, "1");
            let change = |inventory: &crate::reconcile::inventory::Inventory| {
                inventory.apply_node(node.build())
            };
            self.controller.observe(&cause, change);
        }

        fn state(&self) -> Arc<Evaluated> {
            self.controller.node(&"a".into()).unwrap().unwrap()
        }

        async fn until(&self, phase: Phase) {
            while self.state().state.phase != phase {
                tokio::task::yield_now().await;
            }
        }

        /// The leader writes the insight of this replica's state, but with `seconds` as the start of the phase.
        fn leader_writes(&self, version: u64, seconds: i64) {
            let state = self.state().state.clone();
            let mut status = serde_json::to_value(project(&state)).unwrap();
            let start: Value = at(seconds).to_string().into();
            status["phaseStartTime"] = start.clone();
            let last = status["timeline"]
                .as_array_mut()
                .unwrap()
                .last_mut()
                .unwrap();
            last["startTime"] = start;
            let owner =
                json!({"apiVersion": "v1", "kind": "Node", "name": "a", "uid": &*state.uid});
            let insight = json!({
                "apiVersion": "nodeinsights.dev/v1alpha1", "kind": "NodeProgressInsight",
                "metadata": {
                    "name": "a", "uid": "u", "resourceVersion": version.to_string(),
                    "ownerReferences": [owner],
                },
                "status": status,
            });
            assert!(
                self.insights
                    .apply(serde_json::from_value(insight).unwrap(), None)
            );
        }
    }

    #[tokio::test]
    async fn a_new_leader_reports_the_phase_start_that_the_previous_leader_reported() {
        let standby = Standby::with(node("a").kubelet("v1.36.3")).await;
        standby.now.store(100, Ordering::Relaxed);
        standby.see(node("a").kubelet("v1.35.0"));
        standby.until(Phase::Pending).await;
        assert_eq!(standby.state().state.phase_start, at(100));
        standby.leader_writes(2, 97);
        standby.controller.take_over().await.unwrap();
        let state = standby.state().state.clone();
        assert_eq!(state.phase_start, at(97));
        assert_eq!(state.timeline.last().unwrap().start_time, at(97));
        // From now on, writes by other processes are not history.
        assert!(standby.insights.names_with_history().is_empty());
    }

    #[tokio::test]
    async fn a_phase_that_the_previous_leader_did_not_report_starts_when_this_replica_saw_it() {
        let standby = Standby::with(node("a").kubelet("v1.35.0")).await;
        standby.leader_writes(2, 7);
        standby.now.store(100, Ordering::Relaxed);
        standby.see(node("a").kubelet("v1.36.3"));
        standby.until(Phase::Completed).await;
        standby.controller.take_over().await.unwrap();
        assert_eq!(standby.state().state.phase_start, at(100));
    }

    #[tokio::test]
    async fn a_new_leader_goes_on_with_the_durations_that_the_previous_one_learned() {
        let standby = Standby::with(node("a").kubelet("v1.36.3")).await;
        let pool = standby.state().state.pool_name().unwrap();
        let known = || standby.controller.learned(&pool).unwrap();
        assert_eq!(*known(), Learned::default());
        let mut learned = Learned::default();
        let minute = Span::seen(at(0), at(60));
        learned.stage_ended(None, Stage::Rebooting, &minute);
        let insight = json!({
            "apiVersion": "nodeinsights.dev/v1alpha1", "kind": "PoolProgressInsight",
            "metadata": {"name": &*pool, "uid": "u", "resourceVersion": "2"},
            "status": {
                "name": &*pool, "poolRef": {"group": "", "resource": "role", "name": &*pool},
                "provider": "Kubernetes", "scope": "WorkerPool", "assessment": "Completed",
                "progress": "1/1", "completionPercent": 100, "summaries": [], "conditions": [],
                "observedGeneration": 1, "learnedDurations": summary::encode(&learned),
            },
        });
        let insight = serde_json::from_value(insight).unwrap();
        assert!(standby.pools.apply(insight, None));
        standby.controller.take_over().await.unwrap();
        assert_eq!(summary::encode(&known()), summary::encode(&learned));
    }

    #[tokio::test]
    async fn a_new_leader_retains_earlier_phases_that_the_insight_does_not_show() {
        let standby = Standby::with(node("a").kubelet("v1.36.3")).await;
        for (second, version, phase) in [
            (10, "v1.35.0", Phase::Pending),
            (20, "v1.36.3", Phase::Completed),
        ]
        .repeat(6)
        .into_iter()
        .zip(0..)
        .map(|((second, version, phase), round)| (second + 20 * (round / 2), version, phase))
        {
            standby.now.store(second, Ordering::Relaxed);
            standby.see(node("a").kubelet(version));
            standby.until(phase).await;
        }
        let own = standby.state().state.timeline.clone();
        assert!(own.len() > 8, "{own:?}");
        standby.leader_writes(2, 119);
        standby.controller.take_over().await.unwrap();
        let timeline = standby.state().state.timeline.clone();
        assert_eq!(timeline.len(), own.len());
        assert_eq!(timeline[0], own[0]);
        assert_eq!(timeline.last().unwrap().start_time, at(119));
    }
}
