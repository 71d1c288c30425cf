//! The cause of a change, passed along from the watch event to the written insight, so that the change can be
//! followed through logs and traces by its reconcile id.
//!
//! A change is one tree of spans: `change`, and below it a span for each [`Step`]. A cause holds the span only while
//! the change is in flight, because states store their cause for days and a span ends when its last clone is
//! dropped. All spans have the level DEBUG: at INFO they are disabled and cost nothing.

use std::borrow::Cow;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tracing::{Span, debug_span};

static NEXT: AtomicU64 = AtomicU64::new(1);

/// The cause of a change. A clone is equal to the original, and releases its span independently.
#[derive(Debug, Clone)]
pub struct Cause {
    /// The number of the cause in this process.
    pub reconcile_id: u64,
    /// The kind of change.
    pub trigger: Trigger,
    /// The resource version of the changed object; empty without one.
    pub resource_version: Arc<str>,
    /// When this process observed it.
    pub observed_at: Instant,
    span: Slot,
}

impl PartialEq for Cause {
    fn eq(&self, other: &Self) -> bool {
        self.reconcile_id == other.reconcile_id
    }
}

impl Cause {
    /// A cause with a new id, observed now. It has no span yet, as most observations change nothing.
    #[must_use]
    pub fn new(trigger: Trigger, resource_version: &str) -> Self {
        Self {
            reconcile_id: NEXT.fetch_add(1, Ordering::Relaxed),
            trigger,
            resource_version: resource_version.into(),
            observed_at: Instant::now(),
            span: Slot::default(),
        }
    }

    /// Opens the span of the change, the root of its tree; later clones hold it too.
    pub fn open(&self) {
        self.span.put(debug_span!(
            parent: None,
            "change",
            reconcile_id = self.reconcile_id,
            trigger = %self.trigger,
            resource_version = &*self.resource_version,
        ));
    }

    /// Releases the span; further steps have none.
    pub fn finish(&self) {
        self.span.put(Span::none());
    }

    /// The span of a step of the change, for example for a future: `work.instrument(cause.span(step))`. Disabled
    /// unless the change has an open span.
    #[must_use]
    pub fn span(&self, step: Step) -> Span {
        step.below(&self.span.get())
    }

    /// Does a step in its span.
    pub fn in_span<T>(&self, step: Step, work: impl FnOnce() -> T) -> T {
        self.span(step).in_scope(work)
    }

    /// Starts the reconcile of an affected node; its steps are below it.
    pub fn reconcile(&self, node: &str) -> Reconcile {
        let change = self.span.get();
        Reconcile(if change.is_disabled() {
            change
        } else {
            debug_span!(parent: &change, "reconcile", node)
        })
    }
}

/// The reconcile of one node, as a span. Ends when it is dropped.
#[derive(Debug)]
#[must_use = "the span ends when it is dropped"]
pub struct Reconcile(Span);

impl Reconcile {
    /// Does a step in its span.
    pub fn in_span<T>(&self, step: Step, work: impl FnOnce() -> T) -> T {
        step.below(&self.0).in_scope(work)
    }
}

/// A step of a change, each with a span of its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Stores the change and marks the affected nodes.
    Trigger,
    /// Collects the facts about a node.
    Gather,
    /// Evaluates the node.
    Evaluate,
    /// Stores the state.
    Commit,
    /// Notifies the consumers.
    Notify,
    /// Compares an insight and writes it if it differs.
    Write,
}

impl Step {
    /// A span below `parent`; disabled without a parent, as it would be the root of a separate tree.
    fn below(self, parent: &Span) -> Span {
        if parent.is_disabled() {
            return Span::none();
        }
        match self {
            Self::Trigger => debug_span!(parent: parent, "trigger"),
            Self::Gather => debug_span!(parent: parent, "gather"),
            Self::Evaluate => debug_span!(parent: parent, "evaluate"),
            Self::Commit => debug_span!(parent: parent, "commit"),
            Self::Notify => debug_span!(parent: parent, "notify"),
            Self::Write => debug_span!(parent: parent, "write"),
        }
    }
}

/// Holds a span until it is replaced. A clone is a separate slot with the same span.
#[derive(Debug)]
struct Slot(Mutex<Span>);

impl Slot {
    fn get(&self) -> Span {
        self.lock().clone()
    }

    fn put(&self, span: Span) {
        // Dropped after the lock is released: a span that ends calls the subscriber.
        let before = std::mem::replace(&mut *self.lock(), span);
        drop(before);
    }

    fn lock(&self) -> MutexGuard<'_, Span> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Slot {
    fn default() -> Self {
        Self(Mutex::new(Span::none()))
    }
}

impl Clone for Slot {
    fn clone(&self) -> Self {
        Self(Mutex::new(self.get()))
    }
}

/// The kind of change that leads to an evaluation. A metric label, so bounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trigger {
    /// The first list is complete.
    Start,
    /// A Node appeared or changed.
    Node,
    /// A Node was deleted.
    NodeDeleted,
    /// An object of this kind (in CamelCase) was added, changed or deleted, or the kind itself was.
    Kind(&'static str),
    /// The API server has another version.
    ApiServerVersion,
    /// The user has another policy.
    Policy,
    /// The outcome changed with time alone.
    Time,
    /// The full compare evaluates every node again.
    Sync,
    /// A client requested it.
    Requested,
    /// This replica became the leader, and takes over from the last one.
    Leadership,
}

impl Trigger {
    /// The metric label; for a kind its name in snake case, as in `machine_config_pool`.
    #[must_use]
    pub fn label(self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Self::Start => "start",
            Self::Node => "node",
            Self::NodeDeleted => "node_deleted",
            Self::Kind(kind) => return Cow::Owned(snake_case(kind)),
            Self::ApiServerVersion => "api_server_version",
            Self::Policy => "policy",
            Self::Time => "time",
            Self::Sync => "sync",
            Self::Requested => "requested",
            Self::Leadership => "leadership",
        })
    }
}

fn snake_case(name: &str) -> String {
    let mut snake = String::with_capacity(name.len() + 4);
    let mut before_is_lower = false;
    for c in name.chars() {
        if c.is_ascii_uppercase() && before_is_lower {
            snake.push('_');
        }
        before_is_lower = !c.is_ascii_uppercase();
        snake.push(c.to_ascii_lowercase());
    }
    snake
}

impl fmt::Display for Trigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.label())
    }
}

#[cfg(test)]
mod tests;
