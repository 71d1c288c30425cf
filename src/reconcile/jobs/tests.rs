//! Jobs: the operations that users request, and how they end.

use std::time::Duration;

use super::*;
use crate::domain::fixtures::{at, node};
use crate::providers::fixtures::only;
use crate::providers::fixtures::plain_kubernetes;
use crate::reconcile::node_state::KnownInsights;
use crate::reconcile::states::States;
use crate::reconcile::sync_gate::SyncGate;
use crate::registry::Clock;
use crate::registry::operations::{Begun, Limits, Operation};
use crate::telemetry::health::Health;
use crate::telemetry::metrics::Metrics;

const POOL: &str = "example.com/pool";

fn clock() -> Clock {
    Arc::new(|| at(0))
}

/// A node-state controller that has evaluated `nodes` nodes of pool `blue`, and one of another pool.
async fn controller_with(nodes: usize) -> Arc<NodeStateController> {
    let (metrics, health) = (
        Arc::new(Metrics::new().unwrap()),
        Arc::new(Health::default()),
    );
    let states = States::in_memory(&metrics, &health);
    let providers = only(plain_kubernetes(&[POOL.to_owned()], Some("v1.36.3")));
    let (controller, dirty) = NodeStateController::new(
        providers,
        states,
        KnownInsights::default(),
        metrics,
        health,
        clock(),
    );
    for index in 0..=nodes {
        let pool = if index == nodes { "green" } else { "blue" };
        let facts = node(&format!("n{index:05}")).label(POOL, pool).build();
        controller.observe(&Cause::new(Trigger::Node, "1"), |inventory| {
            inventory.apply_node(facts)
        });
    }
    let (running, gate) = (Arc::clone(&controller), SyncGate::new([]));
    tokio::spawn(async move {
        running.run(dirty, &gate, CancellationToken::new()).await;
    });
    controller.evaluated().await;
    controller
}

/// Begins an operation.
fn begin(operations: &Operations, kind: &'static str) -> OperationHandle {
    match operations.begin(kind, None) {
        Begun::Started(operation) => operation,
        Begun::Running(running) => panic!("{running:?}"),
    }
}

async fn ended(operations: &Operations) -> Operation {
    let id = operations.list()[0].id.clone();
    operations.finished(id.as_str()).await.unwrap()
}

#[tokio::test]
async fn reevaluating_a_pool_evaluates_all_its_nodes_and_no_other() {
    let controller = controller_with(250).await;
    let mut inbox = controller.attach("test", |_| true).unwrap();
    while inbox.try_next().is_some() {}
    let operations = Operations::new(Limits::default(), clock());
    reevaluate(
        begin(&operations, "reevaluate"),
        controller,
        "blue.pool".into(),
    )
    .await;
    let operation = ended(&operations).await;
    assert_eq!(operation.state, OperationState::Succeeded);
    assert_eq!(
        (operation.progress.done, operation.progress.total),
        (250, 250)
    );
    assert_eq!(operation.counts["changed"], 0);
    // Every insight of the pool is checked, even if its state did not change.
    assert_eq!(std::iter::from_fn(|| inbox.try_next()).count(), 251);
}

#[tokio::test]
async fn an_export_has_every_state_as_a_line_of_json() {
    let controller = controller_with(3).await;
    let operations = Operations::new(Limits::default(), clock());
    export(begin(&operations, "export"), controller).await;
    let operation = ended(&operations).await;
    let lines = operations.result(operation.id.as_str()).unwrap();
    let states: Vec<serde_json::Value> = std::str::from_utf8(&lines)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let names: Vec<_> = states
        .iter()
        .map(|state| state["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["n00000", "n00001", "n00002", "n00003"]);
    assert_eq!(states[0]["poolRef"]["name"], "blue");
    assert_eq!(states[0]["timeline"].as_array().unwrap().len(), 1);
    assert_eq!(states[0]["lastChange"]["trigger"], "node");
}

#[tokio::test]
async fn a_job_that_is_cancelled_stops_between_two_nodes() {
    let controller = controller_with(5_000).await;
    let operations = Operations::new(Limits::default(), clock());
    let (sender, jobs) = Jobs::new(operations.clone());
    let stop = CancellationToken::new();
    let task = tokio::spawn(jobs.run(stop.clone()));
    let operation = begin(&operations, "reevaluate");
    let id = operation.id().clone();
    let job = reevaluate(operation, controller, "blue.pool".into());
    sender.send(Box::pin(job)).unwrap();
    while operations.show(id.as_str()).unwrap().progress.done == 0 {
        tokio::task::yield_now().await;
    }
    operations.cancel(id.as_str()).unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(1), operations.finished(id.as_str()));
    let operation = ended.await.expect("within a second").unwrap();
    assert_eq!(operation.state, OperationState::Cancelled);
    assert!(operation.progress.done < 5_000, "{operation:?}");
    stop.cancel();
    task.await.unwrap();
}

#[tokio::test]
async fn shutdown_cancels_running_jobs_and_waits_for_them() {
    let controller = controller_with(5_000).await;
    let operations = Operations::new(Limits::default(), clock());
    let (sender, jobs) = Jobs::new(operations.clone());
    let stop = CancellationToken::new();
    let job = reevaluate(
        begin(&operations, "reevaluate"),
        controller,
        "blue.pool".into(),
    );
    sender.send(Box::pin(job)).unwrap();
    stop.cancel();
    jobs.run(stop).await;
    assert_eq!(operations.list()[0].state, OperationState::Cancelled);
    // Sending into the closed channel fails.
    assert!(sender.send(Box::pin(async {})).is_err());
}
