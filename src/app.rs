//! Puts the parts together, and takes them apart in order.
//!
//! Start: port, client, platform, consumers, centre, watches. A consumer that is disabled is not
//! there, and without any consumer neither is the centre.
//!
//! Stop: watches first, so that nothing new comes; then the centre, which evaluates what is dirty;
//! then the consumers, which write what is dirty or give up at the deadline; the port last, so that
//! whoever asks meanwhile learns that the operator stops.

pub mod config;
pub mod supervisor;
mod wiring;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use kube::Client;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;

use self::config::{Platform, RunConfig};
use self::supervisor::Stage;
use crate::api::types::Provider;
use crate::domain::evaluate::Evaluator;
use crate::domain::evaluate::kubernetes::Kubernetes;
use crate::domain::evaluate::openshift::OpenShift;
use crate::http;
use crate::kubernetes::diagnosis::{Attempt, diagnose};
use crate::kubernetes::{client, platform, watch};
use crate::telemetry::health::Health;
use crate::telemetry::metrics::Metrics;

/// Whatever is not done by then is given up: less than the 10 s that are promised, and than the 30 s
/// after which Kubernetes kills a pod.
const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(9);

const CHECK_PLATFORM: &str = "platform";

/// The parts that run, in the order in which they are stopped.
#[derive(Default)]
struct Parts {
    watches: Stage,
    centre: Stage,
    consumers: Stage,
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
    let mut parts = Parts::default();

    let result = tokio::select! {
        result = operate(&config, &mut parts, &metrics, &health) => result,
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    };
    tracing::info!("Stopping");
    health.not_ready("operator", "it is stopping");
    let complete = parts.stop().await;
    tracing::info!(complete, "Stopped");
    result
}

/// Starts everything; returns only when a part ends that must not.
async fn operate(
    config: &RunConfig,
    parts: &mut Parts,
    metrics: &Arc<Metrics>,
    health: &Arc<Health>,
) -> anyhow::Result<()> {
    let (listener, address) = http::bind(config.metrics_address).await.with_context(|| {
        format!(
            "Cannot listen on {}: choose another address with --metrics-address",
            config.metrics_address
        )
    })?;
    tracing::info!(%address, version = env!("CARGO_PKG_VERSION"), "Serving metrics and health");
    let (port_metrics, port_health) = (Arc::clone(metrics), Arc::clone(health));
    parts.port.spawn("http", |stop| async move {
        if let Err(error) = http::serve(listener, port_metrics, port_health, stop).await {
            tracing::error!(%error, "Serving metrics and health failed");
        }
    });

    if config.enable_node_insights || config.enable_pool_insights {
        health.not_ready(CHECK_PLATFORM, "not known yet");
        let client = client::connect().await?;
        let rules = choose_rules(config, &client, health).await;
        wiring::start(config, rules, client, parts, metrics, health);
    } else {
        health.ready("operator");
        tracing::warn!(
            "Both node and pool insights are disabled: nothing is watched and nothing is written"
        );
    }
    let ended = tokio::select! {
        ended = parts.watches.ended() => ended,
        ended = parts.centre.ended() => ended,
        ended = parts.consumers.ended() => ended,
        ended = parts.port.ended() => ended,
    };
    Err(ended.into())
}

/// The rules of the platform that was asked for, else of the one that the cluster is.
async fn choose_rules(config: &RunConfig, client: &Client, health: &Health) -> Box<dyn Evaluator> {
    let provider = match config.platform {
        Platform::Openshift => Provider::OpenShift,
        Platform::Kubernetes => Provider::Kubernetes,
        Platform::Auto => detect(client, health).await,
    };
    health.ready(CHECK_PLATFORM);
    tracing::info!(platform = ?provider, "Judging nodes by the rules of the platform");
    match provider {
        Provider::OpenShift => {
            if config.target_version.is_some() {
                tracing::warn!(
                    "Ignoring --target-version: on OpenShift, ClusterVersion says the target"
                );
            }
            Box::new(OpenShift)
        }
        Provider::Kubernetes => Box::new(Kubernetes::new(
            &config.pool_label_keys,
            config.target_version.as_deref(),
        )),
    }
}

async fn detect(client: &Client, health: &Health) -> Provider {
    let mut delays = watch::backoff();
    loop {
        match platform::detect(client).await {
            Ok(provider) => return provider,
            Err(error) => {
                let attempt = Attempt {
                    verbs: "get",
                    resource: "the path /apis",
                    group: "",
                };
                let diagnosis = diagnose(&error, attempt);
                if health.not_ready(CHECK_PLATFORM, diagnosis.to_string()) {
                    tracing::warn!(error = %diagnosis, "Finding out the platform fails");
                }
            }
        }
        tokio::time::sleep(delays.next().unwrap_or(SHUTDOWN_DEADLINE)).await;
    }
}

impl Parts {
    /// Stops everything in order; whether everything was done in time.
    async fn stop(self) -> bool {
        let deadline = Instant::now() + SHUTDOWN_DEADLINE;
        let Self {
            watches,
            centre,
            consumers,
            port,
        } = self;
        let mut complete = true;
        for stage in [watches, centre, consumers, port] {
            complete &= stage.stop(deadline).await;
        }
        complete
    }
}
