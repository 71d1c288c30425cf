//! Puts the parts together, and takes them apart in order.
//!
//! Start: port, client, platform, consumers, centre, watches. A consumer that is disabled is not
//! there, and without any consumer neither is the centre.
//!
//! Stop: watches first, so that nothing new comes; then the centre, which evaluates what is dirty;
//! then the consumers, which write what is dirty or give up at the deadline; the port last, so that
//! whoever asks meanwhile learns that the operator stops.

pub mod config;
mod rules;
pub mod supervisor;
pub mod sync_status_file;
mod wiring;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::Instant;

use self::config::RunConfig;
use self::supervisor::{Ended, Stage};
use crate::http::engine::Engine;
use crate::http::{self, Port};
use crate::kubernetes::access::Access;
use crate::kubernetes::client;
use crate::reconcile::node_state::system_clock;
use crate::registry::operations::{Limits, Operations};
use crate::telemetry::health::Health;
use crate::telemetry::metrics::Metrics;

/// Whatever is not done by then is given up: less than the 10 s that are promised, and than the 30 s
/// after which Kubernetes kills a pod.
const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(9);

/// The parts that run, in the order in which they are stopped.
#[derive(Default)]
struct Parts {
    watches: Stage,
    centre: Stage,
    consumers: Stage,
}

/// The parts that run, and the port, which outlives them.
#[derive(Default)]
struct Running {
    parts: Parts,
    port: Stage,
}

/// Runs the operator until it is told to stop.
///
/// # Errors
/// When it cannot start, or when a part of it ends that must not.
pub async fn run(config: RunConfig) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("Cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("Cannot listen for SIGINT")?;
    let metrics = Arc::new(Metrics::new().context("Cannot set up metrics")?);
    let health = Arc::new(Health::default());
    let mut running = Running::default();

    let result = tokio::select! {
        result = operate(&config, &mut running, &metrics, &health) => result,
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    };
    tracing::info!("Stopping");
    health.not_ready("operator", "it is stopping");
    let deadline = Instant::now() + SHUTDOWN_DEADLINE;
    let complete = running.parts.stop(deadline).await & running.port.stop(deadline).await;
    tracing::info!(complete, "Stopped");
    result
}

/// Starts everything; returns only when a part ends that must not.
async fn operate(
    config: &RunConfig,
    running: &mut Running,
    metrics: &Arc<Metrics>,
    health: &Arc<Health>,
) -> anyhow::Result<()> {
    let Running { parts, port } = running;
    let (_engine, current_engine) = watch::channel::<Option<Arc<dyn Engine>>>(None);
    let (access, current_access) = watch::channel(None);
    let shown = Port {
        metrics: Arc::clone(metrics),
        health: Arc::clone(health),
        operations: Operations::new(Limits::default(), system_clock()),
        engine: current_engine,
        access: current_access,
    };
    serve(config, port, shown).await?;
    if !config.enable_node_insights && !config.enable_pool_insights {
        health.ready("operator");
        tracing::warn!(
            "Both node and pool insights are disabled: nothing is watched and nothing is written"
        );
        return Err(port.ended().await.into());
    }
    let client = client::connect().await?;
    access.send_replace(Some(Arc::new(Access::new(client.clone()))));
    loop {
        let provider = rules::provider(config, &client, health).await;
        let rules = rules::of(provider, config);
        wiring::start(config, rules, client.clone(), parts, metrics, health);
        let ended = tokio::select! {
            () = rules::outdated(config, provider, &client) => None,
            ended = parts.ended() => Some(ended),
            ended = port.ended() => Some(ended),
        };
        if let Some(ended) = ended {
            return Err(ended.into());
        }
        tracing::warn!(
            "OpenShift's APIs are served now: starting again with the rules of OpenShift"
        );
        std::mem::take(parts)
            .stop(Instant::now() + SHUTDOWN_DEADLINE)
            .await;
        health.clear();
        metrics.forget_nodes();
    }
}

/// Opens the port, and the one for debugging if there shall be one, and answers on both.
async fn serve(config: &RunConfig, port: &mut Stage, shown: Port) -> anyhow::Result<()> {
    let (listener, address) = http::bind(config.metrics_address).await.with_context(|| {
        format!(
            "Cannot listen on {}: choose another address with --metrics-address",
            config.metrics_address
        )
    })?;
    tracing::info!(%address, version = env!("CARGO_PKG_VERSION"), "Serving metrics and health");
    let engine = shown.engine.clone();
    port.spawn("http", |stop| async move {
        if let Err(error) = http::serve(listener, shown, stop).await {
            tracing::error!(%error, "Serving metrics and health failed");
        }
    });

    let Some(address) = config.debug_address else {
        return Ok(());
    };
    let (listener, address) = http::bind(address).await.with_context(|| {
        format!("Cannot listen on {address}: choose another address with --debug-address")
    })?;
    if address.ip().is_loopback() {
        tracing::info!(%address, "Serving /debug");
    } else {
        tracing::warn!(%address, "Serving /debug to whoever reaches this address: every state can be read there");
    }
    port.spawn("debug", |stop| async move {
        if let Err(error) = http::serve_debug(listener, engine, stop).await {
            tracing::error!(%error, "Serving /debug failed");
        }
    });
    Ok(())
}

impl Parts {
    /// Waits for a task to end, which none must.
    async fn ended(&mut self) -> Ended {
        tokio::select! {
            ended = self.watches.ended() => ended,
            ended = self.centre.ended() => ended,
            ended = self.consumers.ended() => ended,
        }
    }

    /// Stops everything in order; whether everything was done in time.
    async fn stop(self, deadline: Instant) -> bool {
        let Self {
            watches,
            centre,
            consumers,
        } = self;
        let mut complete = true;
        for stage in [watches, centre, consumers] {
            complete &= stage.stop(deadline).await;
        }
        complete
    }
}
