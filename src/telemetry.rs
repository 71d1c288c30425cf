//! What the operator says of itself: logs, metrics, health.

pub mod cause;
pub mod health;
pub mod logging;
pub mod metrics;
