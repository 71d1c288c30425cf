//! Observability of the operator itself: logs, spans, metrics, health.

pub mod cause;
pub mod health;
pub mod logging;
pub mod metrics;
#[cfg(feature = "otlp")]
mod otlp;
#[cfg(test)]
pub(crate) mod subscribed;
