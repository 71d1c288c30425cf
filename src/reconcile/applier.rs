//! Applies the desired state of an insight: the only place that decides whether to write.
//!
//! Phases: gather (what the API server holds), decide, write, record. No difference, no write.

use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Client;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;
use tracing::{Instrument, Span};

use self::contests::Contests;
use self::trouble::Trouble;
use super::insight_cache::{Base, InsightCache};
use super::keyed_queue::Outcome;
use crate::api::insight::{InsightStatus, Reported};
use crate::kubernetes::write::{WriteError, Writer};
use crate::telemetry::cause::{Cause, Step};
use crate::telemetry::health::Health;
use crate::telemetry::metrics::Metrics;

mod contests;
mod trouble;

/// Desired state of an insight.
pub struct Target<S> {
    /// Its owner.
    pub owner: Ownership,
    /// Its status, given the generation of the object.
    pub status: Box<dyn Fn(i64) -> S + Send + Sync>,
}

/// The owner of an insight.
pub enum Ownership {
    /// This object, or none.
    Known(Option<OwnerReference>),
    /// Unknown: an existing insight retains its owner.
    Unknown,
}

impl Ownership {
    /// The reference of a new insight.
    fn reference(&self) -> Option<&OwnerReference> {
        match self {
            Self::Known(owner) => owner.as_ref(),
            Self::Unknown => None,
        }
    }

    /// Whether an insight with this owner can stay.
    #[must_use]
    pub fn allows(&self, uid: Option<&str>) -> bool {
        match self {
            Self::Known(owner) => owner.as_ref().map(|owner| owner.uid.as_str()) == uid,
            Self::Unknown => true,
        }
    }
}

/// Result of an apply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// No difference, so no write.
    Unchanged,
    /// The status was written.
    Written {
        /// The node's progress that it reported before, if any.
        before: Option<Reported>,
        /// Delay before the next write, because another client keeps changing it.
        rest: Duration,
    },
    /// The insight was deleted.
    Deleted {
        /// Delay before the next write of this name, because another client keeps creating it.
        rest: Duration,
    },
}

/// Writes the insights of one kind.
pub struct Applier<S> {
    writer: Writer<S>,
    cache: Arc<InsightCache<S>>,
    metrics: Arc<Metrics>,
    trouble: Trouble,
    contests: Contests,
}

impl<S: InsightStatus + Hash + Serialize + DeserializeOwned> Applier<S> {
    /// Creates an applier that compares with `cache`. `check` is the name of its health check.
    #[must_use]
    pub fn new(
        client: Client,
        cache: Arc<InsightCache<S>>,
        metrics: Arc<Metrics>,
        health: Arc<Health>,
        check: &'static str,
    ) -> Self {
        Self {
            writer: Writer::new(client),
            cache,
            metrics,
            trouble: Trouble::new(S::KIND, health, check),
            contests: Contests::new(S::KIND),
        }
    }

    /// Whether the API server rejects or fails to write this insight, or another client keeps changing it.
    pub fn fails(&self, name: &Arc<str>) -> bool {
        self.trouble.has(name) || self.contests.has(name, Instant::now())
    }

    /// Writes the insight `name` so that it equals `target`, or deletes it without a target. This is the last
    /// step of `cause`, whose span ends on success.
    ///
    /// # Errors
    /// The outcome for the queue when the write failed.
    pub async fn apply(
        &self,
        name: &Arc<str>,
        target: Option<Target<S>>,
        cause: Option<&Cause>,
    ) -> Result<Applied, Outcome> {
        let span = cause.map_or_else(Span::none, |cause| cause.span(Step::Write));
        let id = cause.map(|cause| cause.reconcile_id);
        let applied = self.write(name, target, id).instrument(span).await?;
        if let Some(cause) = cause {
            cause.finish();
        }
        Ok(applied)
    }

    async fn write(
        &self,
        name: &Arc<str>,
        target: Option<Target<S>>,
        reconcile_id: Option<u64>,
    ) -> Result<Applied, Outcome> {
        let base = self.cache.base(name);
        let result = match (base, target) {
            (None, None) => Ok(Applied::Unchanged),
            (Some(base), None) => self.delete(name, &base).await.map(|()| Applied::Deleted {
                rest: self.rest(name, base.is_foreign()),
            }),
            (base, Some(target)) => self.put(name, base, &target).await,
        };
        match result {
            Ok(applied) => {
                let is_proof = applied != Applied::Unchanged;
                self.trouble
                    .works(name, is_proof, self.cache.count(), reconcile_id);
                Ok(applied)
            }
            Err(error) => Err(self.recover(name, error, reconcile_id).await),
        }
    }

    async fn put(
        &self,
        name: &Arc<str>,
        base: Option<Arc<Base>>,
        target: &Target<S>,
    ) -> Result<Applied, WriteError> {
        let mut is_foreign = false;
        let base = match base {
            // It belongs to an earlier node or pool of the same name.
            Some(base) if !target.owner.allows(base.owner_uid.as_deref()) => {
                is_foreign = base.is_foreign();
                self.delete(name, &base).await?;
                self.create(name, target.owner.reference()).await?
            }
            Some(base) => base,
            None => self.create(name, target.owner.reference()).await?,
        };
        let status = (target.status)(base.generation);
        if base.holds(&status) {
            return Ok(Applied::Unchanged);
        }
        let written = self
            .writer
            .put_status(name, &base.resource_version, &status)
            .await?;
        self.cache.apply_own(&written, Some(&status));
        self.metrics.wrote(S::KIND, "updated");
        Ok(Applied::Written {
            before: base.reported,
            rest: self.rest(name, is_foreign || base.was_sent(&status)),
        })
    }

    /// Delay before the next write; not zero if a change by `others` was reverted.
    fn rest(&self, name: &Arc<str>, others: bool) -> Duration {
        if others {
            self.contests.undone(name, Instant::now())
        } else {
            Duration::ZERO
        }
    }

    async fn create(
        &self,
        name: &Arc<str>,
        owner: Option<&OwnerReference>,
    ) -> Result<Arc<Base>, WriteError> {
        let created = self.writer.create(name, owner).await?;
        self.cache.apply_own(&created, None);
        self.metrics.wrote(S::KIND, "created");
        // Missing only if the watch has seen its deletion since.
        self.cache.base(name).ok_or(WriteError::Gone)
    }

    async fn delete(&self, name: &Arc<str>, base: &Base) -> Result<(), WriteError> {
        match self.writer.delete(name, &base.uid).await {
            Ok(()) => self.metrics.wrote(S::KIND, "deleted"),
            // The garbage collector has deleted it already.
            Err(WriteError::Gone) => {}
            Err(error) => return Err(error),
        }
        self.cache.forget(name);
        Ok(())
    }

    /// Updates the cache after a failed write; returns the outcome for the queue.
    async fn recover(
        &self,
        name: &Arc<str>,
        error: WriteError,
        reconcile_id: Option<u64>,
    ) -> Outcome {
        match error {
            WriteError::Conflict => {
                self.metrics.wrote(S::KIND, "conflict");
                let requested_at = Instant::now();
                match self.writer.read(name).await {
                    Ok(insight) => {
                        self.cache.apply(insight, Some(requested_at));
                    }
                    Err(WriteError::Gone) => {
                        self.cache.forget(name);
                    }
                    // The retry gets the conflict again and reads again.
                    Err(error) => {
                        tracing::debug!(
                            reconcile_id, kind = S::KIND, name = &**name, %error,
                            "Reading after a conflict failed"
                        );
                    }
                }
                Outcome::Retry
            }
            WriteError::Gone => {
                self.cache.forget(name);
                Outcome::Retry
            }
            WriteError::Failing { what, retry_after } => {
                self.metrics.wrote(S::KIND, "failed");
                self.trouble
                    .fails(name, &what, self.cache.count(), reconcile_id);
                Outcome::Failing(retry_after)
            }
            WriteError::Rejected(what) => {
                self.metrics.wrote(S::KIND, "failed");
                self.trouble
                    .rejected(name, &what, self.cache.count(), reconcile_id);
                Outcome::Rejected
            }
        }
    }
}

#[cfg(test)]
mod tests;
