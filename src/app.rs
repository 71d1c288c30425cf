//! Starts all parts, and stops them in order.
//!
//! Start: port, client, Events, lease, backend, consumers, watches, operations, sync, node-state controller. Disabled
//! consumers are not started; without any consumer, the node-state controller is not started either.
//!
//! Stop: in the order of [`Parts`], one after the other; then pending Events are written, the lease is released, and
//! the ports close last, so that clients can see that the operator is stopping.

mod backend;
pub mod config;
mod descriptors;
pub mod doctor;
mod engine;
mod leading;
mod lease;
mod notes;
mod parts;
mod policy;
mod ports;
pub mod preflight;
mod requirements;
pub mod supervisor;
mod sync;
mod sync_status_file;
mod wiring;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::Instant;

use self::config::RunConfig;
use self::notes::Notes;
use self::parts::Parts;
use self::supervisor::Stage;
use self::wiring::Surroundings;
use crate::http::Port;
use crate::http::engine::Engine;
use crate::kubernetes::access::Access;
use crate::kubernetes::client;
use crate::kubernetes::events::EventWriter;
use crate::kubernetes::pod;
use crate::kubernetes::requirements::Requirements;
use crate::providers::Providers;
use crate::reconcile::clock::system_clock;
use crate::reconcile::events::Events;
use crate::registry::operations::{Limits, Operations};
use crate::telemetry::health::Health;
use crate::telemetry::metrics::Metrics;

/// Deadline of the shutdown: below the documented 10 s, and the 30 s after which Kubernetes kills a pod.
const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(9);

/// This replica led and lost its lease: it may not write any more.
#[derive(Debug, thiserror::Error)]
#[error("The lease is lost: {0}")]
struct LeaseLost(String);

/// The running parts, and the stages that outlive them.
#[derive(Default)]
struct Running {
    parts: Parts,
    /// Stopped after the last write, so that each write has its Event.
    events: Stage,
    /// The lease is released once nothing writes any more.
    election: Stage,
    port: Stage,
}

/// Runs the operator until SIGTERM or SIGINT; `providers` evaluate the nodes.
///
/// # Errors
/// When it cannot start, or when one of its parts ends unexpectedly.
pub async fn run(config: RunConfig, providers: Providers) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("Cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("Cannot listen for SIGINT")?;
    let metrics = Arc::new(Metrics::new().context("Cannot set up metrics")?);
    if config.enable_node_metrics {
        metrics.enable_node_series();
    }
    let health = Arc::new(Health::default());
    let checks = Arc::clone(&health);
    metrics.register_readiness(move || checks.readiness());
    let mut running = Running::default();

    let result = tokio::select! {
        result = operate(&config, providers, &mut running, &metrics, &health) => result,
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    };
    if let Err(error) = &result
        && error.is::<LeaseLost>()
    {
        // No further request may be sent: pending work is dropped.
        tracing::info!("Ending at once");
        return result;
    }
    tracing::info!("Stopping");
    health.not_ready("operator", "it is stopping");
    let deadline = Instant::now() + SHUTDOWN_DEADLINE;
    let complete = running.parts.stop(deadline).await
        & running.events.stop(deadline).await
        & running.election.stop(deadline).await
        & running.port.stop(deadline).await;
    tracing::info!(complete, "Stopped");
    result
}

/// Starts everything; returns only when a part ends unexpectedly.
async fn operate(
    config: &RunConfig,
    providers: Providers,
    running: &mut Running,
    metrics: &Arc<Metrics>,
    health: &Arc<Health>,
) -> anyhow::Result<()> {
    let Running {
        parts,
        events: event_stage,
        election,
        port,
    } = running;
    let (engine, current_engine) = watch::channel::<Option<Arc<dyn Engine>>>(None);
    let operations = Operations::new(Limits::default(), system_clock());
    let (access, current_access) = watch::channel(None);
    let shown = Port {
        metrics: Arc::clone(metrics),
        operations: operations.clone(),
        engine: current_engine,
        access: current_access,
    };
    ports::open(config, port, health, shown)?;
    if !config.enable_node_insights && !config.enable_pool_insights {
        health.ready("operator");
        tracing::warn!(
            "Both node and pool insights are disabled: nothing is watched and nothing is written"
        );
        return Err(port.ended().await.into());
    }
    let connection = client::connect().await?;
    let client = connection.client.clone();
    let events = if config.needs.enable_events {
        let writer = EventWriter::new(client.clone(), &pod::host());
        let (events, recorder) = Events::new(writer, Arc::clone(metrics));
        event_stage.spawn("events", |stop| recorder.run(stop));
        events
    } else {
        Events::off(Arc::clone(metrics))
    };
    let notes = Notes::new(config, events.clone());
    let leadership = lease::stand(config, &connection, election, &notes, metrics, health)?;
    let surroundings = Surroundings {
        config,
        connection,
        leadership: &leadership,
        operations: &operations,
        events: &events,
        notes: &notes,
        metrics,
        health,
    };
    access.send_replace(Some(Arc::new(Access::new(client.clone()))));
    let started = wiring::start(&surroundings, providers, parts)?;
    engine.send_replace(Some(started.engine));
    let scope = requirements::scope(&config.needs, started.kinds);
    let needs = Requirements::new(client.clone(), scope);
    let following = requirements::follow(needs, Arc::clone(health), notes.clone());
    parts.watches.spawn_until_stopped("requirements", following);
    let ended = tokio::select! {
        // First: when the lease is lost its task ends too, with a less specific error.
        biased;
        why = leadership.lost() => {
            // Kubernetes restarts the container.
            return Err(LeaseLost(why).into());
        }
        ended = parts.ended() => ended,
        ended = port.ended() => ended,
        ended = event_stage.ended() => ended,
        ended = election.ended() => ended,
    };
    Err(ended.into())
}
