//! What was known of a node before: by the last evaluation, by its insight, and by what the backend kept.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::{BATCH, Centre};
use crate::domain::state::{History, NodeState};
use crate::providers::Identity;
use crate::reconcile::states::Evaluated;
use crate::registry::backend::BackendError;
use crate::registry::store::Store;
use crate::telemetry::cause::{Cause, Trigger};

/// What was known of a node.
pub(super) struct Known {
    pub(super) before: Option<Arc<Evaluated>>,
    pub(super) past: Option<History>,
}

/// How long a node that is gone may take to register again under its name and be the same node: an update of one
/// node, with the drain before it.
const AWAITED_FOR: SignedDuration = SignedDuration::from_hours(2);

/// What was known of nodes that are gone, and that go on where they were if they come back under their name.
#[derive(Default)]
pub(super) struct Past(Store<Arc<str>, Gone>);

#[derive(PartialEq)]
struct Gone {
    history: History,
    since: Timestamp,
}

impl Past {
    pub(super) fn keep(&self, name: &Arc<str>, history: History, now: Timestamp) {
        self.0.upsert(
            Arc::clone(name),
            Gone {
                history,
                since: now,
            },
        );
    }

    fn take(&self, name: &Arc<str>) -> Option<History> {
        self.0.remove(name).map(|gone| gone.history.clone())
    }

    pub(super) fn expire(&self, now: Timestamp) {
        self.0
            .evict_where(|_, gone| now.duration_since(gone.since) > AWAITED_FOR);
    }
}

impl Centre {
    /// Takes the times over from whoever wrote the insights until now: what they said of a node since it was
    /// first evaluated counts, as after a start. From then on this process is the one who writes.
    ///
    /// # Errors
    /// When the backend fails.
    pub async fn take_over(&self) -> Result<(), BackendError> {
        let Some(insights) = &self.history else {
            return Ok(());
        };
        let cause = Cause::new(Trigger::Leadership, "");
        for (count, name) in insights.names_with_history().into_iter().enumerate() {
            if let Some(before) = self.states.node(&name)?
                // With what this process has seen before, of which the insight shows only the last.
                && let Some(past) = self.kept_history(&name, &before.state.uid)?
                // Else this process knows better since when.
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

    /// What was known of the node before: by the last evaluation, else by its insight and by what the
    /// backend kept. A node that was created anew has no past.
    pub(super) fn gather(&self, name: &Arc<str>) -> Result<Known, BackendError> {
        let before = self.states.node(name)?;
        let past = match (self.inventory.identity(name), &before) {
            (None, _) => None,
            (Some((uid, identity)), Some(before)) => {
                let is_same = before.state.uid == uid || identity == Identity::Name;
                is_same.then(|| History::from(&*before.state))
            }
            (Some((uid, identity)), None) => match identity {
                Identity::Uid => self.kept_history(name, &uid)?,
                Identity::Name => match self.past.take(name) {
                    Some(past) => Some(past),
                    None => self.kept_history(name, &uid)?,
                },
            },
        };
        Ok(Known { before, past })
    }

    /// How long the step of an update took is what its pool is remembered by.
    pub(super) fn learn(
        &self,
        before: Option<&NodeState>,
        after: &NodeState,
    ) -> Result<(), BackendError> {
        let ended = before.filter(|before| {
            before.phase != after.phase
                && before.phase.is_in_progress()
                && before.pool == after.pool
        });
        let Some((before, pool)) = ended.and_then(|before| Some((before, before.pool_name()?)))
        else {
            return Ok(());
        };
        let seconds = after.phase_start.as_second() - before.phase_start.as_second();
        let seconds = u32::try_from(seconds.max(0)).unwrap_or(u32::MAX);
        self.states.learn(&pool, before.phase, seconds)
    }

    /// What is known from before the start.
    fn kept_history(
        &self,
        name: &Arc<str>,
        uid: &Arc<str>,
    ) -> Result<Option<History>, BackendError> {
        let kept = self.states.kept_timeline(name, uid)?;
        Ok(match self.said_history(name, uid) {
            Some(said) => Some(said.with_earlier(&kept)),
            None => History::from_timeline(&kept),
        })
    }

    /// What the insight said that another process wrote.
    fn said_history(&self, name: &Arc<str>, uid: &Arc<str>) -> Option<History> {
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
    use crate::domain::fixtures::{NodeBuilder, at, node};
    use crate::domain::node_status::project;
    use crate::providers::fixtures::only;
    use crate::providers::kubernetes::Kubernetes;
    use crate::reconcile::insight_cache::InsightCache;
    use crate::reconcile::states::States;
    use crate::reconcile::sync_gate::SyncGate;
    use crate::registry::Clock;
    use crate::telemetry::health::Health;
    use crate::telemetry::metrics::Metrics;

    /// A replica that stands by, its clock, and what it knows of the insights.
    struct Standby {
        centre: Arc<Centre>,
        insights: Arc<InsightCache<crate::api::NodeProgressInsightStatus>>,
        now: Arc<AtomicI64>,
    }

    impl Standby {
        /// Has evaluated the node.
        async fn with(node: NodeBuilder) -> Self {
            let (metrics, health) = (
                Arc::new(Metrics::new().unwrap()),
                Arc::new(Health::default()),
            );
            let states = States::in_memory(&metrics, &health);
            let now = Arc::new(AtomicI64::new(0));
            let time = Arc::clone(&now);
            let clock: Clock = Arc::new(move || at(time.load(Ordering::Relaxed)));
            let insights = Arc::new(InsightCache::default());
            let providers = only(Kubernetes::new(&[], Some("v1.36.3")));
            let history = Some(Arc::clone(&insights));
            let (centre, dirty) = Centre::new(providers, states, history, metrics, health, clock);
            let standby = Self {
                centre,
                insights,
                now,
            };
            standby.see(node);
            let (gate, centre) = (SyncGate::new([]), Arc::clone(&standby.centre));
            tokio::spawn(async move {
                let stop = CancellationToken::new();
                centre.run(dirty, &gate, stop).await;
            });
            standby.centre.evaluated().await;
            standby
        }

        fn see(&self, node: NodeBuilder) {
            let cause = Cause::new(Trigger::Node, "1");
            let change = |inventory: &crate::reconcile::inventory::Inventory| {
                inventory.apply_node(node.build())
            };
            self.centre.observe(&cause, change);
        }

        fn state(&self) -> Arc<Evaluated> {
            self.centre.node(&"a".into()).unwrap().unwrap()
        }

        async fn until(&self, phase: Phase) {
            while self.state().state.phase != phase {
                tokio::task::yield_now().await;
            }
        }

        /// The leader writes what this replica would, but `seconds` as the start of the phase.
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
    async fn who_takes_over_says_what_the_last_leader_said() {
        let standby = Standby::with(node("a").kubelet("v1.36.3")).await;
        standby.now.store(100, Ordering::Relaxed);
        standby.see(node("a").kubelet("v1.35.0"));
        standby.until(Phase::Pending).await;
        assert_eq!(standby.state().state.phase_start, at(100));
        standby.leader_writes(2, 97);
        standby.centre.take_over().await.unwrap();
        let state = standby.state().state.clone();
        assert_eq!(state.phase_start, at(97));
        assert_eq!(state.timeline.last().unwrap().start_time, at(97));
        // From now on what others write is no history.
        assert!(standby.insights.names_with_history().is_empty());
    }

    #[tokio::test]
    async fn what_the_last_leader_did_not_know_yet_is_told_as_this_replica_saw_it() {
        let standby = Standby::with(node("a").kubelet("v1.35.0")).await;
        standby.leader_writes(2, 7);
        standby.now.store(100, Ordering::Relaxed);
        standby.see(node("a").kubelet("v1.36.3"));
        standby.until(Phase::Completed).await;
        standby.centre.take_over().await.unwrap();
        assert_eq!(standby.state().state.phase_start, at(100));
    }

    #[tokio::test]
    async fn who_takes_over_keeps_the_earlier_phases_that_the_insight_does_not_show() {
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
        standby.centre.take_over().await.unwrap();
        let timeline = standby.state().state.timeline.clone();
        assert_eq!(timeline.len(), own.len());
        assert_eq!(timeline[0], own[0]);
        assert_eq!(timeline.last().unwrap().start_time, at(119));
    }
}
