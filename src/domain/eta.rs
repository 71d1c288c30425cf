//! When a node, and a pool, will be updated.
//!
//! ```text
//!  stages that ended ─► Learned: a life table by kind of update and stage ─┐
//!  other pools of the provider ────────────────────────────────────────────┼─► Model ─► simulation ─► Estimate
//!  constants of the provider (Prior) ──────────────────────────────────────┘             ▲
//!  nodes in progress, how many are pending, how many may be in progress (Rollout) ───────┘
//! ```
//!
//! [`Learned`] is the only state, one a pool. Its owner reports to it each stage that was seen to end
//! ([`Learned::stage_ended`]), each node that is done ([`Learned::node_updated`]), how many are in progress
//! ([`Learned::in_progress`]) and the end of a rollout ([`Learned::rollout_ended`]); [`summary`] makes it a short text
//! and reads it back. An [`Estimator`] brings it together with a [`Rollout`] as it is now, and answers for the pool and
//! for each node. [`should_publish`] decides whether an answer is worth a write.
//!
//! The remaining time of a stage is conditional on how long it has lasted: it never counts down to zero, and with a
//! heavy tail it grows. Time in which something that needs a human blocks a drain does not count, and a node that is
//! blocked now has no estimate; that of its pool leaves it out and says so.
//!
//! Deliberately absent: a clock, and chance. The random numbers depend on the pool and its target alone, so every
//! replica gives the same answer, and one that differs does so because something has changed. `docs/eta.md` has the
//! figures, measured by `make bench-eta`.

mod bins;
mod calibration;
mod curve;
mod estimate;
mod learned;
mod life_table;
mod model;
mod posterior;
mod prior;
mod publish;
mod random;
mod simulation;
mod stage;
pub mod summary;

pub use self::calibration::{Calibration, Spread};
pub use self::estimate::{Estimate, Estimator, InProgress, NoEstimate, Rollout};
pub use self::learned::Learned;
pub use self::model::Sources;
pub use self::prior::{Machine, Prior};
pub use self::publish::{Candidate, Decision, Evaluated, Published, passes, should_publish};
pub use self::stage::{Span, Stage};

#[cfg(test)]
mod tests;
