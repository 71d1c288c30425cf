//! The interface of the node-state controller to the port.
//!
//! The port knows the node-state controller by this trait alone. Each start of the node-state controller has its
//! own engine; before the first, requests get a "not ready" error. Nothing here waits: an engine answers from
//! memory and runs long work as an operation.

use std::sync::Arc;

use serde_json::Value;
use tokio::sync::watch;

use crate::registry::operations::Operation;
use crate::registry::sync::SyncStatus;

/// Maximum number of pools named in a message; the answer lists all of them separately.
const NAMED_POOLS: usize = 10;

/// The current engine, if there is one.
pub type CurrentEngine = watch::Receiver<Option<Arc<dyn Engine>>>;

/// Rows of a potentially long answer: generated while it is sent, from one consistent snapshot.
pub type Rows = Box<dyn Iterator<Item = Value> + Send>;

/// The operations that can be started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Work {
    /// Compare everything.
    Resync,
    /// Evaluate every node of a pool again.
    Reevaluate {
        /// The pool, named as its insight.
        pool: String,
    },
    /// Write out every state, as lines of JSON.
    Export,
}

/// Outcome of a request to start an operation.
#[derive(Debug)]
pub enum Start {
    /// It was started.
    Begun(Operation),
    /// The same operation is already running; nothing was started.
    Runs(Operation),
}

/// Why nothing is started or shown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// The pool does not exist.
    #[error("There is no pool {name:?}{}", named(known))]
    UnknownPool {
        /// The requested pool.
        name: String,
        /// The existing pools.
        known: Vec<String>,
    },
    /// Not yet.
    #[error("Not yet: {why}")]
    NotReady {
        /// What it is waiting for.
        why: String,
    },
    /// Only the leader does this.
    #[error(
        "This replica stands by: ask the leader{}",
        leader.as_ref().map(|leader| format!(", {leader}")).unwrap_or_default()
    )]
    Standby {
        /// The leader, if known.
        leader: Option<String>,
    },
}

/// The node-state controller, as the port sees it.
pub trait Engine: Send + Sync {
    /// Starts an operation unless it is already running.
    ///
    /// # Errors
    /// When it cannot be started; nothing was started then.
    fn start(&self, work: Work) -> Result<Start, EngineError>;

    /// The states of all nodes, or of the nodes of a pool.
    ///
    /// # Errors
    /// When the pool does not exist.
    fn states(&self, pool: Option<&str>) -> Result<Rows, EngineError>;

    /// The state of a node.
    fn state(&self, node: &str) -> Option<Value>;

    /// The pools.
    fn pools(&self) -> Rows;

    /// What is queued for evaluation, and for each consumer to write.
    fn queues(&self) -> Rows;

    /// The running sync, or else the last one.
    fn sync(&self) -> Option<SyncStatus>;
}

fn named(known: &[String]) -> String {
    match known {
        [] => "; there are no pools".to_owned(),
        few if few.len() <= NAMED_POOLS => format!("; there are: {}", few.join(", ")),
        many => format!(
            "; there are {}, some of them: {}",
            many.len(),
            many[..NAMED_POOLS].join(", ")
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_pool_is_reported_with_at_most_ten_existing_pools() {
        let unknown = |known: usize| EngineError::UnknownPool {
            name: "gpus".into(),
            known: (0..known).map(|number| format!("p{number}")).collect(),
        };
        for (known, text) in [
            (0, r#"There is no pool "gpus"; there are no pools"#),
            (2, r#"There is no pool "gpus"; there are: p0, p1"#),
        ] {
            assert_eq!(unknown(known).to_string(), text);
        }
        let text = unknown(5000).to_string();
        assert!(text.contains("there are 5000"), "{text}");
        assert!(text.ends_with("p8, p9"), "{text}");
    }
}
