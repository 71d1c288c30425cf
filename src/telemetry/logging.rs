//! Structured logs on stderr, as text or as one JSON object per line; and, with the feature `otlp`,
//! spans to a collector.
//!
//! Each line inside the span of a change has one `reconcile_id`: its own, or that of the span.

use std::env;
use std::io::{self, IsTerminal as _};

use clap::ValueEnum;
use tracing::Subscriber;
use tracing_subscriber::filter::{ParseError, Targets};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::JsonFields;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt};

use self::line::{KeepId, Line};
#[cfg(feature = "otlp")]
use super::otlp;

mod line;

/// The format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people
    Text,
    /// For machines: one JSON object per line
    Json,
}

/// Parses a level (`info`) or a filter (`info,node_insights=debug`).
///
/// # Errors
/// When it is neither.
pub fn parse_filter(text: &str) -> Result<String, ParseError> {
    text.parse::<Targets>().map(|_| text.to_owned())
}

/// Exports the remaining spans when it is dropped: hold it until the end of the process.
#[must_use = "spans are not exported after the drop"]
pub struct Telemetry {
    #[cfg(feature = "otlp")]
    _spans: Option<otlp::Flush>,
}

/// Sets up logs on stderr, and the export of spans if the environment configures it.
///
/// # Errors
/// When `filter` is invalid, logs are already set up, or the environment names an unsupported collector.
pub fn init(format: LogFormat, filter: &str) -> anyhow::Result<Telemetry> {
    let lines = lines(format, filter.parse()?, io::stderr);
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

/// Writes a line for each event that passes the filter.
fn lines<S, W>(format: LogFormat, filter: Targets, writer: W) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    // No colours in files and pipes, and with NO_COLOR (no-color.org).
    let no_color = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let lines = fmt::layer()
        .event_format(Line::new(format))
        .with_ansi(io::stderr().is_terminal() && !no_color)
        .with_writer(writer);
    // Both layers see only spans that pass the filter.
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
