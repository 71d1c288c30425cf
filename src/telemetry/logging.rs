//! Structured logs on stderr, as text or as one JSON object a line; and, with the feature `otlp`,
//! spans to a collector.
//!
//! A line that is logged inside the span of a change has the change's `reconcile_id`, once: its own,
//! else the span's.

use std::env;
use std::io::{self, IsTerminal as _};

use clap::ValueEnum;
use tracing::Subscriber;
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::JsonFields;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, fmt};

use self::line::{KeepId, Line};
#[cfg(feature = "otlp")]
use super::otlp;

mod line;

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines: one JSON object a line.
    Json,
}

/// Reads a level (`info`) or a filter (`info,node_insights=debug`).
///
/// # Errors
/// When it is neither.
pub fn parse_filter(text: &str) -> Result<String, ParseError> {
    EnvFilter::try_new(text).map(|_| text.to_owned())
}

/// Sends on what is left when it is dropped: keep it until the end of the process.
#[must_use = "what is dropped at once sends nothing"]
pub struct Telemetry {
    #[cfg(feature = "otlp")]
    _spans: Option<otlp::Flush>,
}

/// Sends the logs of this process to stderr from now on, and its spans to where the environment says.
///
/// # Errors
/// When `filter` is none, when logs were set up already, or when the environment names a collector
/// that spans cannot be sent to.
pub fn init(format: LogFormat, filter: &str) -> anyhow::Result<Telemetry> {
    let lines = lines(format, EnvFilter::try_new(filter)?, io::stderr);
    let subscriber = tracing_subscriber::registry().with(lines);
    #[cfg(feature = "otlp")]
    let (subscriber, spans) = {
        let (layer, spans) = otlp::layer()?.unzip();
        (subscriber.with(layer), spans)
    };
    subscriber
        .try_init()
        .map_err(|error| anyhow::anyhow!("Cannot set up logging: {error}"))?;
    Ok(Telemetry {
        #[cfg(feature = "otlp")]
        _spans: spans,
    })
}

/// Writes a line for each event that the filter lets through.
fn lines<S, W>(format: LogFormat, filter: EnvFilter, writer: W) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    // A file and a pipe get no colours, nor does whoever wants none (no-color.org).
    let wants_none = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let lines = fmt::layer()
        .event_format(Line::new(format))
        .with_ansi(io::stderr().is_terminal() && !wants_none)
        .with_writer(writer);
    // Both see the spans that the filter lets through, and no others.
    match format {
        LogFormat::Text => KeepId.and_then(lines).with_filter(filter).boxed(),
        LogFormat::Json => KeepId
            .and_then(lines.fmt_fields(JsonFields::new()))
            .with_filter(filter)
            .boxed(),
    }
}

#[cfg(test)]
mod tests;
