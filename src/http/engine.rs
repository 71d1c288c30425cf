//! What the port shows of the centre, and what it has it do.
//!
//! The port knows the centre by this trait alone. There is one engine for each start of the centre and
//! none before the first, so whoever asks meanwhile is told so. Nothing here waits: an engine answers
//! from what it knows, and what takes long it runs as an operation.

use std::sync::Arc;

use serde_json::Value;
use tokio::sync::watch;

use crate::registry::operations::Operation;
use crate::registry::sync::SyncStatus;

/// At most so many pools stand in a message; the answer has them all beside it.
const NAMED_POOLS: usize = 10;

/// The engine there is now, if there is one.
pub type CurrentEngine = watch::Receiver<Option<Arc<dyn Engine>>>;

/// Rows of an answer that may be long: made one by one while it is sent, of one consistent cut.
pub type Rows = Box<dyn Iterator<Item = Value> + Send>;

/// What can be started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Work {
    /// Compare everything.
    Resync,
    /// Evaluate every node of a pool again.
    Reevaluate {
        /// The pool, as its insight is called.
        pool: String,
    },
    /// Write out every state, as lines of JSON.
    Export,
}

/// What came of a wish to start something.
#[derive(Debug)]
pub enum Start {
    /// It runs now.
    Begun(Operation),
    /// The same work runs already, and nothing was begun.
    Runs(Operation),
}

/// Why nothing is started or shown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// There is no such pool.
    #[error("There is no pool {name:?}{}", named(known))]
    UnknownPool {
        /// What was asked for.
        name: String,
        /// Those that there are.
        known: Vec<String>,
    },
    /// Not yet.
    #[error("Not yet: {why}")]
    NotReady {
        /// What it waits for.
        why: String,
    },
    /// Only the replica that leads does that.
    #[error("This replica stands by: ask the one that leads{}", leader.as_ref().map(|leader| format!(", {leader}")).unwrap_or_default())]
    Standby {
        /// Which that is, if it is known.
        leader: Option<String>,
    },
}

/// The centre, as the port sees it.
pub trait Engine: Send + Sync {
    /// Starts an operation, unless it runs already.
    ///
    /// # Errors
    /// When it cannot be started; then nothing was.
    fn start(&self, work: Work) -> Result<Start, EngineError>;

    /// The states of all nodes, or of those of a pool.
    ///
    /// # Errors
    /// When there is no such pool.
    fn states(&self, pool: Option<&str>) -> Result<Rows, EngineError>;

    /// The state of a node.
    fn state(&self, node: &str) -> Option<Value>;

    /// The pools.
    fn pools(&self) -> Rows;

    /// What waits to be evaluated, and to be written by each consumer.
    fn queues(&self) -> Rows;

    /// The sync that runs or else the last one.
    fn sync(&self) -> Option<SyncStatus>;
}

fn named(known: &[String]) -> String {
    match known {
        [] => "; there is none at all".to_owned(),
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
    fn an_unknown_pool_is_named_with_those_that_there_are_and_never_with_thousands() {
        let unknown = |known: usize| EngineError::UnknownPool {
            name: "gpus".into(),
            known: (0..known).map(|number| format!("p{number}")).collect(),
        };
        for (known, text) in [
            (0, r#"There is no pool "gpus"; there is none at all"#),
            (2, r#"There is no pool "gpus"; there are: p0, p1"#),
        ] {
            assert_eq!(unknown(known).to_string(), text);
        }
        let text = unknown(5000).to_string();
        assert!(text.contains("there are 5000"), "{text}");
        assert!(text.ends_with("p8, p9"), "{text}");
    }
}
