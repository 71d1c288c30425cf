//! A policy that changes while the operator runs.

use super::*;
use crate::api::types::{DesiredVersionSource, Phase};
use crate::domain::fixtures::node;
use crate::providers::fixtures::{only, plain_kubernetes};
use crate::reconcile::events::Events;
use crate::reconcile::node_state::KnownInsights;
use crate::reconcile::states::States;
use crate::reconcile::sync_gate::SyncGate;
use crate::registry::Clock;
use crate::telemetry::metrics::Metrics;
use tokio_util::sync::CancellationToken;

/// An operator with one node in the pool `blue.pool`, and its policy file.
struct Scene {
    controller: Arc<NodeStateController>,
    health: Arc<Health>,
    folder: tempfile::TempDir,
}

impl Scene {
    fn new(policy: Option<&str>) -> Self {
        let (metrics, health) = (
            Arc::new(Metrics::new().unwrap()),
            Arc::new(Health::default()),
        );
        let states = States::in_memory(&metrics, &health);
        let labels = ["example.com/pool".to_owned()];
        let providers = only(plain_kubernetes(&labels, Some("v1.33.0")));
        let clock: Clock = Arc::new(|| crate::domain::fixtures::at(0));
        let (controller, dirty) = NodeStateController::new(
            providers,
            states,
            KnownInsights::default(),
            Arc::clone(&metrics),
            Arc::clone(&health),
            clock,
        );
        let folder = tempfile::tempdir().unwrap();
        let scene = Self {
            controller,
            health,
            folder,
        };
        if let Some(policy) = policy {
            scene.write(policy);
        }
        let node = node("n")
            .label("example.com/pool", "blue")
            .kubelet("v1.32.9");
        let cause = Cause::new(Trigger::Node, "1");
        let node = node.build();
        scene
            .controller
            .observe(&cause, |inventory| inventory.apply_node(node));
        let file = PolicyFile {
            path: scene.folder.path().join("policy.yaml"),
            pool_labels: labels.to_vec(),
        };
        let notes = Notes::about_nothing(Events::off(metrics));
        let (controller, health) = (Arc::clone(&scene.controller), Arc::clone(&scene.health));
        tokio::spawn(follow(file, controller, health, notes));
        let controller = Arc::clone(&scene.controller);
        tokio::spawn(async move {
            let gate = SyncGate::new([]);
            controller.run(dirty, &gate, CancellationToken::new()).await;
        });
        scene
    }

    fn write(&self, policy: &str) {
        std::fs::write(self.folder.path().join("policy.yaml"), policy).unwrap();
    }

    async fn reaches(&self, phase: Phase) -> Option<DesiredVersionSource> {
        loop {
            let node = self.controller.node(&"n".into()).unwrap();
            if let Some(node) = node.filter(|node| node.state.phase == phase) {
                return node.state.desired.as_ref().map(|desired| desired.source);
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_changed_policy_applies_without_a_restart_and_an_invalid_one_keeps_the_last() {
    let scene = Scene::new(Some("pools: {blue.pool: {targetVersion: v1.32.9}}"));
    // Pinned, although the flag wants a newer version.
    let source = scene.reaches(Phase::Completed).await;
    assert_eq!(source, Some(DesiredVersionSource::UserTarget));
    assert!(scene.health.is_ready(CHECK));

    scene.write("pools: {blue.pool: {targetVersion: newest}}");
    while scene.health.is_ready(CHECK) {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let (_, report) = scene.health.report();
    assert!(
        report.contains("[~] policy: ") && report.contains("'newest'"),
        "{report}"
    );
    scene.reaches(Phase::Completed).await;

    scene.write("targetVersion: v1.32.10");
    scene.reaches(Phase::Pending).await;
    assert!(scene.health.is_ready(CHECK));
}

#[tokio::test(start_paused = true)]
async fn a_missing_policy_stops_nothing_and_is_reported() {
    let scene = Scene::new(None);
    scene.reaches(Phase::Pending).await;
    let (_, report) = scene.health.report();
    assert!(
        report.contains("[~] policy: ") && report.contains("cannot be read"),
        "{report}"
    );
}
