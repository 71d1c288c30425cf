//! What is true of the nodes of a simulated cluster at every moment, and a verifier of what insights show.
//!
//! ```text
//! simulator ─► Truth: which phases each node is in ──┐
//!     │                                              ├─► Verifier ─► violations
//!     └─► API server ─► operator ─► insights ────────┘
//! ```
//!
//! A simulator announces a step before it writes. Until the last of these writes is answered, what was true before is
//! allowed beside what is true from now on; after that an insight has a second to follow. Phases are text: the harness
//! does not depend on the operator.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use anyhow::Result;

pub mod verifier;
pub mod watch;

pub use verifier::{Verifier, Violation};
pub use watch::{Report, Watch};

/// Outdated, and waiting.
pub const PENDING: &str = "Pending";
/// Its pods are moved away.
pub const DRAINING: &str = "Draining";
/// It is being changed, or terminated.
pub const UPDATING: &str = "Updating";
/// The machine restarts.
pub const REBOOTING: &str = "Rebooting";
/// Outdated, and held back by a user.
pub const PAUSED: &str = "Paused";
/// Up to date.
pub const COMPLETED: &str = "Completed";
/// Nothing can be known yet: the node is joining.
pub const UNKNOWN: &str = "Unknown";

/// The phases of which each is a true description of a node.
pub type Phases = &'static [&'static str];

/// What is true of the nodes, shared by whoever simulates and whoever verifies.
#[derive(Debug, Clone, Default)]
pub struct Truth(Arc<Mutex<BTreeMap<String, Vec<Fact>>>>);

/// What is true of a node for a while.
#[derive(Debug, Clone, Copy)]
pub struct Fact {
    /// What is true.
    pub state: State,
    /// When the first write was about to be made that makes it true.
    pub since: Instant,
    /// When the last of these writes was answered; `None` until then.
    pub settled: Option<Instant>,
    /// When the last write was answered that made something else true; `None` until then.
    pub until: Option<Instant>,
}

/// What a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// In one of these phases.
    In(Phases),
    /// It does not exist.
    Gone,
}

impl State {
    fn has(self, phase: &str) -> bool {
        match self {
            Self::In(phases) => phases.contains(&phase),
            Self::Gone => false,
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::In(phases) => formatter.write_str(&phases.join(" or ")),
            Self::Gone => formatter.write_str("gone"),
        }
    }
}

impl Fact {
    /// Whether it holds at this moment.
    fn holds(&self, at: Instant) -> bool {
        self.since <= at && self.until.is_none_or(|until| at <= until)
    }
}

impl Truth {
    /// These phases are true of a node from now on, once `writes` are done.
    ///
    /// # Errors
    /// Those of `writes`; so for every method here.
    pub fn step<T>(
        &self,
        node: &str,
        phases: Phases,
        writes: impl Future<Output = Result<T>>,
    ) -> impl Future<Output = Result<T>> {
        self.enter([node], State::In(phases), writes)
    }

    /// The same for several nodes.
    ///
    /// # Errors
    /// As [`Truth::step`].
    pub fn step_of<T>(
        &self,
        nodes: &[&str],
        phases: Phases,
        writes: impl Future<Output = Result<T>>,
    ) -> impl Future<Output = Result<T>> {
        self.enter(nodes, State::In(phases), writes)
    }

    /// The node joins and becomes ready within `writes`, and is in one of these phases then.
    ///
    /// # Errors
    /// As [`Truth::step`].
    pub fn joins<T>(
        &self,
        node: &str,
        phases: Phases,
        writes: impl Future<Output = Result<T>>,
    ) -> impl Future<Output = Result<T>> {
        let joined = self.enter([node], State::In(phases), writes);
        async move {
            self.begin(&[node], State::In(&[UNKNOWN]), Instant::now());
            joined.await
        }
    }

    /// The node does not exist any more, once `writes` are done.
    ///
    /// # Errors
    /// As [`Truth::step`].
    pub fn gone<T>(
        &self,
        node: &str,
        writes: impl Future<Output = Result<T>>,
    ) -> impl Future<Output = Result<T>> {
        self.enter([node], State::Gone, writes)
    }

    /// Not an `async fn`, which would have the writes in it several times.
    fn enter<'a, T, N: AsRef<[&'a str]>>(
        &self,
        nodes: N,
        state: State,
        writes: impl Future<Output = Result<T>>,
    ) -> impl Future<Output = Result<T>> {
        let writes = Box::pin(writes);
        async move {
            let nodes = nodes.as_ref();
            self.begin(nodes, state, Instant::now());
            let done = writes.await?;
            self.settle(nodes, state, Instant::now());
            Ok(done)
        }
    }

    /// A step of these nodes begins at this moment.
    pub fn begin(&self, nodes: &[&str], state: State, at: Instant) {
        let fact = Fact {
            state,
            since: at,
            settled: None,
            until: None,
        };
        let mut all = self.lock();
        for node in nodes {
            all.entry((*node).to_owned()).or_default().push(fact);
        }
    }

    /// The last write of the step of these nodes to this state is answered at this moment: what was true before no longer
    /// is.
    pub fn settle(&self, nodes: &[&str], state: State, at: Instant) {
        let is_it = |fact: &Fact| fact.state == state && fact.settled.is_none();
        let mut all = self.lock();
        for node in nodes {
            let Some(facts) = all.get_mut(*node) else {
                continue;
            };
            // Another step may have begun meanwhile.
            let Some(index) = facts.iter().rposition(is_it) else {
                continue;
            };
            facts[index].settled = Some(at);
            for fact in &mut facts[..index] {
                fact.until.get_or_insert(at);
            }
        }
    }

    /// What has been true of a node, in order.
    #[must_use]
    pub fn facts(&self, node: &str) -> Vec<Fact> {
        self.lock().get(node).cloned().unwrap_or_default()
    }

    /// The nodes that something is known of.
    #[must_use]
    pub fn nodes(&self) -> Vec<String> {
        self.lock().keys().cloned().collect()
    }

    /// Since when a phase is not true of a node, at this moment.
    fn false_since(&self, node: &str, phase: &str, at: Instant) -> False {
        let all = self.lock();
        let Some(facts) = all.get(node) else {
            return False::NotKnown;
        };
        let has_phase = facts.iter().filter(|fact| fact.state.has(phase));
        let began = has_phase.filter(|fact| fact.since <= at);
        let mut last = None;
        for fact in began {
            match fact.until {
                Some(until) if until < at => last = last.max(Some(until)),
                Some(_) | None => return False::No,
            }
        }
        last.map_or(False::Always, False::Since)
    }

    /// What is true of a node at this moment, as text.
    fn describe(&self, node: &str, at: Instant) -> String {
        let facts = self.facts(node);
        let now = facts.iter().filter(|fact| fact.holds(at));
        let states: Vec<String> = now.map(|fact| fact.state.to_string()).collect();
        states.join(" or ")
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Vec<Fact>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Since when a phase is not true of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum False {
    /// Nothing is known of the node.
    NotKnown,
    /// It is true.
    No,
    /// It was true until then.
    Since(Instant),
    /// It never was true.
    Always,
}
