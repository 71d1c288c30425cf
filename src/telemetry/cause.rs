//! What set a change off: goes with it from the watch event to the written insight, so that one
//! change can be followed through logs and traces by its reconcile id.
//!
//! One change is one tree of spans: `change`, and below it a span for each [`Step`]. A cause holds
//! the span of its change only while the change is in flight, because states keep their cause for
//! days and a span ends when its last holder lets go of it. All spans have the level DEBUG: at INFO
//! none is made, and nothing is paid for them.

use std::borrow::Cow;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tracing::{Span, debug_span};

static NEXT: AtomicU64 = AtomicU64::new(1);

/// What set a change off. A clone is the same change, equal to it, and lets go of its span on its own.
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
    span: Slot,
}

impl PartialEq for Cause {
    fn eq(&self, other: &Self) -> bool {
        self.reconcile_id == other.reconcile_id
    }
}

impl Cause {
    /// A cause with an id of its own, observed now. It has no span yet: most of what is observed
    /// changes nothing.
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

    /// Opens the span of the change, the root of its tree; clones from now on hold it too.
    pub fn open(&self) {
        self.span.put(debug_span!(
            parent: None,
            "change",
            reconcile_id = self.reconcile_id,
            trigger = %self.trigger,
            resource_version = &*self.resource_version,
        ));
    }

    /// Lets go of the span: what this cause was kept for is done. Further steps have no span.
    pub fn finish(&self) {
        self.span.put(Span::none());
    }

    /// The span of a step of the change, as for a future: `work.instrument(cause.span(step))`. None
    /// when the change has no span, or none any more.
    #[must_use]
    pub fn span(&self, step: Step) -> Span {
        step.below(&self.span.get())
    }

    /// Does a step in its span.
    pub fn in_span<T>(&self, step: Step, work: impl FnOnce() -> T) -> T {
        self.span(step).in_scope(work)
    }

    /// The reconcile of one node that the change affects: its steps are below it.
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
    /// The change is taken in, and what it affects is marked.
    Trigger,
    /// What is known of a node is collected.
    Gather,
    /// The node is judged.
    Evaluate,
    /// The state is kept.
    Commit,
    /// The consumers are told.
    Notify,
    /// An insight is compared and, if it differs, written.
    Write,
}

impl Step {
    /// A span below `parent`. Without a parent there is none: it would be the root of a tree that
    /// belongs to no change.
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

/// Holds a span until it is told to let go. A clone holds the same span in a slot of its own.
#[derive(Debug)]
struct Slot(Mutex<Span>);

impl Slot {
    fn get(&self) -> Span {
        self.lock().clone()
    }

    fn put(&self, span: Span) {
        // Dropped after the lock: a span that ends calls the subscriber.
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

/// What kind of change leads to an evaluation. A label of metrics: bounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trigger {
    /// Everything is listed for the first time.
    Start,
    /// A Node appeared or changed.
    Node,
    /// A Node is gone.
    NodeDeleted,
    /// An object of this kind, in CamelCase, appeared, changed or is gone, or the kind itself.
    Kind(&'static str),
    /// The API server has another version.
    ApiServerVersion,
    /// Time alone has changed the answer.
    Time,
    /// The full compare looked at every node again.
    Sync,
    /// Somebody asked for it.
    Requested,
    /// This replica leads now, and takes over what the last leader wrote.
    Leadership,
}

impl Trigger {
    /// As a label: of a kind its name in snake case, as in `machine_config_pool`.
    #[must_use]
    pub fn label(self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Self::Start => "start",
            Self::Node => "node",
            Self::NodeDeleted => "node_deleted",
            Self::Kind(kind) => return Cow::Owned(snake_case(kind)),
            Self::ApiServerVersion => "api_server_version",
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
