//! The API as users see it.
//!
//! Types only: no client, no clock, no evaluation. `crds/` is generated from them (`node-insights crds`), and a test
//! compares both.

pub mod crd;
pub mod insight;
pub mod node;
pub mod pool;
pub mod types;

pub use insight::{Insight, InsightStatus};
pub use node::{NodeProgressInsight, NodeProgressInsightStatus};
pub use pool::{PoolProgressInsight, PoolProgressInsightStatus};
