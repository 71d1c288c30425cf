//! Sends spans to an OpenTelemetry collector: OTLP as protobuf over plain HTTP.
//!
//! Configured only by OpenTelemetry's own environment variables; without an endpoint there is no exporter. Spans
//! are batched and sent by a separate thread, so a slow or unreachable collector only costs spans: those that do
//! not fit into the queue are dropped, and a line is logged when sending begins to fail and when it recovers.
//! Deliberately without TLS and gRPC: a collector in the same cluster or pod needs neither.

use std::future::{Future, ready};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, bail};
use opentelemetry::trace::TracerProvider;
use opentelemetry::{Key, KeyValue};
use opentelemetry_otlp::{
    OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_EXPORTER_OTLP_PROTOCOL, OTEL_EXPORTER_OTLP_TRACES_ENDPOINT,
    OTEL_EXPORTER_OTLP_TRACES_PROTOCOL,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SdkTracerProvider, SpanData, SpanExporter};
use tokio::runtime::{self, Runtime};
use tracing::{Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, filter_fn};
use tracing_subscriber::registry::LookupSpan;

/// The default name of the service.
const SERVICE: &str = "node-insights";
/// How long the process waits for the last spans at its end: 10 s together with the 9 s of the shutdown.
const FLUSH_DEADLINE: Duration = Duration::from_secs(1);

/// Sends the remaining spans when it is dropped, for a second at most.
pub(super) struct Flush(SdkTracerProvider);

impl Drop for Flush {
    fn drop(&mut self) {
        // Unsent spans are lost, and logging has already ended.
        let _ = self.0.shutdown_with_timeout(FLUSH_DEADLINE);
    }
}

/// The layer that exports the spans of this program, independently of the log level; `None` when the environment
/// names no collector.
///
/// # Errors
/// When the environment requests anything but OTLP over plain HTTP.
pub(super) fn layer<S>() -> anyhow::Result<Option<(impl Layer<S>, Flush)>>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    if !is_configured(|name| std::env::var(name).ok())? {
        return Ok(None);
    }
    let exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_http()
        .build()
        .context("Cannot set up the export of spans")?;
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("Cannot start the runtime that sends spans")?;
    let provider = SdkTracerProvider::builder()
        .with_resource(resource())
        .with_batch_exporter(Sender::new(exporter, runtime))
        .build();
    let spans = filter_fn(|metadata| {
        metadata.is_span()
            && *metadata.level() <= Level::DEBUG
            && metadata.target().starts_with("node_insights")
    })
    .with_max_level_hint(LevelFilter::DEBUG);
    let layer = tracing_opentelemetry::layer()
        .with_tracer(provider.tracer(SERVICE))
        // The current span of OpenTelemetry is not used.
        .with_context_activation(false)
        .with_location(false)
        .with_threads(false)
        .with_filter(spans);
    Ok(Some((layer, Flush(provider))))
}

/// Whether the environment names a collector; an error when its protocol is not supported.
fn is_configured(env: impl Fn(&str) -> Option<String>) -> anyhow::Result<bool> {
    // As specified: variables for traces have priority, and empty ones count as unset.
    let first = |names: [&'static str; 2]| {
        let mut set = names
            .into_iter()
            .filter_map(|name| Some((name, env(name).filter(|value| !value.is_empty())?)));
        set.next()
    };
    let disabled = env("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"));
    let endpoint = first([
        OTEL_EXPORTER_OTLP_TRACES_ENDPOINT,
        OTEL_EXPORTER_OTLP_ENDPOINT,
    ]);
    let Some((name, endpoint)) = endpoint.filter(|_| !disabled) else {
        return Ok(false);
    };
    let address: http::Uri = endpoint
        .parse()
        .with_context(|| format!("{name} is no valid address"))?;
    if address.scheme_str() != Some("http") {
        bail!(
            "{name} must begin with http:// because spans are sent without TLS: name a collector in the cluster, as in http://otel-collector.observability:4318"
        );
    }
    match first([
        OTEL_EXPORTER_OTLP_TRACES_PROTOCOL,
        OTEL_EXPORTER_OTLP_PROTOCOL,
    ]) {
        Some((name, protocol)) if protocol != "http/protobuf" => bail!(
            "{name} must be http/protobuf, which collectors take on port 4318; it is '{protocol}'"
        ),
        _ => Ok(true),
    }
}

/// The resource that the spans belong to.
fn resource() -> Resource {
    let from_environment = Resource::builder().build();
    let is_named = from_environment
        .get(&Key::from_static_str("service.name"))
        .is_some_and(|name| !name.as_str().starts_with("unknown_service"));
    let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
    let builder = Resource::builder().with_attribute(version);
    if is_named {
        builder.build()
    } else {
        builder.with_service_name(SERVICE).build()
    }
}

/// Sends batches on the calling thread, which has no runtime, and logs when that begins to fail.
#[derive(Debug)]
struct Sender<E> {
    exporter: E,
    runtime: Runtime,
    failing: AtomicBool,
}

impl<E> Sender<E> {
    fn new(exporter: E, runtime: Runtime) -> Self {
        Self {
            exporter,
            runtime,
            failing: AtomicBool::new(false),
        }
    }
}

impl<E: SpanExporter> SpanExporter for Sender<E> {
    fn export(&self, batch: Vec<SpanData>) -> impl Future<Output = OTelSdkResult> + Send {
        let spans = batch.len();
        let result = self.runtime.block_on(self.exporter.export(batch));
        let failed_before = self.failing.swap(result.is_err(), Ordering::Relaxed);
        match &result {
            Err(error) if !failed_before => {
                tracing::warn!(%error, spans, "Cannot send spans to the collector: they are lost");
            }
            Ok(()) if failed_before => tracing::info!("Spans reach the collector again"),
            Ok(()) | Err(_) => {}
        }
        ready(result)
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

#[cfg(test)]
mod tests;
