//! The format of log lines, with the id of the change that they belong to.
//!
//! The id is stored in the extensions of its span. Text lines are formatted as by `tracing_subscriber`, except that
//! only the innermost span is shown, and only if it has fields, such as the HTTP request of the Kubernetes client:
//! the outer spans add nothing to the message.

use std::fmt;

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::fmt::format::{self, Format, Json, Writer};
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields};
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use super::LogFormat;

/// The field with the id of the change that a line belongs to.
const RECONCILE_ID: &str = "reconcile_id";

/// The id of a change, as an extension of its span.
#[derive(Clone, Copy)]
struct ReconcileId(u64);

/// Stores the id of each span that has one.
pub(super) struct KeepId;

impl<S> Layer<S> for KeepId
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut found = FindId(None);
        attributes.record(&mut found);
        if let (Some(reconcile_id), Some(span)) = (found.0, context.span(id)) {
            span.extensions_mut().insert(ReconcileId(reconcile_id));
        }
    }
}

/// Finds the id among the fields.
struct FindId(Option<u64>);

impl Visit for FindId {
    fn record_u64(&mut self, field: &Field, value: u64) {
        if field.name() == RECONCILE_ID {
            self.0 = Some(value);
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn fmt::Debug) {}
}

/// Formats an event as one line.
pub(super) enum Line {
    Text,
    Json(Format<Json>),
}

impl Line {
    pub(super) fn new(format: LogFormat) -> Self {
        match format {
            LogFormat::Text => Self::Text,
            LogFormat::Json => Self::Json(
                format::json()
                    .flatten_event(true)
                    .with_target(false)
                    .with_span_list(false),
            ),
        }
    }
}

impl<S, N> FormatEvent<S, N> for Line
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'w> FormatFields<'w> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let inherited = inherited_id(context, event);
        match self {
            Self::Text => {
                write_head(&mut writer, *event.metadata().level())?;
                if let Some(span) = context.lookup_current()
                    && let Some(fields) = span.extensions().get::<FormattedFields<N>>()
                    && !fields.is_empty()
                {
                    write!(writer, "{}{{{fields}}}: ", span.name())?;
                }
                context.format_fields(writer.by_ref(), event)?;
                if let Some(id) = inherited {
                    write!(writer, " {RECONCILE_ID}={id}")?;
                }
                writeln!(writer)
            }
            Self::Json(json) => {
                let Some(id) = inherited else {
                    return json.format_event(context, writer, event);
                };
                let mut line = String::new();
                json.format_event(context, Writer::new(&mut line), event)?;
                let object = line.trim_end().strip_suffix('}').ok_or(fmt::Error)?;
                writeln!(writer, "{object},\"{RECONCILE_ID}\":{id}}}")
            }
        }
    }
}

/// The id of the enclosing change, unless the event has its own.
fn inherited_id<S, N>(context: &FmtContext<'_, S, N>, event: &Event<'_>) -> Option<u64>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'w> FormatFields<'w> + 'static,
{
    let mut own = FindId(None);
    event.record(&mut own);
    if own.0.is_some() {
        return None;
    }
    context
        .event_scope()?
        .find_map(|span| span.extensions().get::<ReconcileId>().map(|id| id.0))
}

/// Writes time and level, in colours if enabled.
fn write_head(writer: &mut Writer<'_>, level: Level) -> fmt::Result {
    let colour = match level {
        Level::ERROR => 31,
        Level::WARN => 33,
        Level::INFO => 32,
        Level::DEBUG => 34,
        Level::TRACE => 35,
    };
    if writer.has_ansi_escapes() {
        write!(writer, "\x1b[2m")?;
        SystemTime.format_time(writer)?;
        write!(writer, "\x1b[0m \x1b[{colour}m{level:>5}\x1b[0m ")
    } else {
        SystemTime.format_time(writer)?;
        write!(writer, " {level:>5} ")
    }
}
