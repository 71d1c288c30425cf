//! What set a change off: goes with it from the watch event to the written insight, so that one
//! change can be followed through the logs by its reconcile id.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

static NEXT: AtomicU64 = AtomicU64::new(1);

/// What set a change off.
#[derive(Debug, Clone)]
pub struct Cause {
    /// Counts the causes of this process.
    pub reconcile_id: u64,
    /// What kind of change it was.
    pub trigger: Trigger,
    /// Resource version of the object that changed; empty when there is none.
    pub resource_version: Arc<str>,
    /// When this process learned of it.
    pub observed_at: Instant,
}

impl Cause {
    /// A cause with an id of its own, observed now.
    #[must_use]
    pub fn new(trigger: Trigger, resource_version: &str) -> Self {
        Self {
            reconcile_id: NEXT.fetch_add(1, Ordering::Relaxed),
            trigger,
            resource_version: resource_version.into(),
            observed_at: Instant::now(),
        }
    }
}

/// What kind of change leads to an evaluation. A label of metrics: bounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trigger {
    /// A Node appeared or changed.
    Node,
    /// A Node is gone.
    NodeDeleted,
    /// A MachineConfigPool appeared, changed or is gone.
    MachineConfigPool,
    /// The release annotation of a MachineConfig changed.
    MachineConfig,
    /// The ClusterVersion changed.
    ClusterVersion,
    /// The API server has another version.
    ApiServerVersion,
}

impl Trigger {
    /// As a label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::NodeDeleted => "node_deleted",
            Self::MachineConfigPool => "machine_config_pool",
            Self::MachineConfig => "machine_config",
            Self::ClusterVersion => "cluster_version",
            Self::ApiServerVersion => "api_server_version",
        }
    }
}

impl fmt::Display for Trigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
