//! The API as users see it.
//!
//! Types only: no client, no clock, no rule of how an update is judged. `crds/` is generated from
//! here (`node-insights crds`), and a test says that the two agree.

pub mod crd;
pub mod insight;
pub mod node;
pub mod pool;
pub mod types;

pub use insight::{Insight, InsightStatus};
pub use node::{NodeProgressInsight, NodeProgressInsightStatus};
pub use pool::{PoolProgressInsight, PoolProgressInsightStatus};
