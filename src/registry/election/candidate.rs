//! A replica's view of the lease, and its next action.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use super::claims::{Claims, Wait};
use super::{LeaseError, LeaseStore, Record, Timing};

/// The outcome of reading the lease.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Attempt {
    /// This replica holds it since the read began.
    Holds,
    /// This replica has lost it, for this reason.
    Lost(String),
    /// Another replica may hold it.
    Waits(Wait),
    /// Another replica was faster: the next read shows which one.
    Beaten,
}

/// The lease held by this replica.
struct Held<V> {
    record: Record,
    version: V,
    renewed: Instant,
}

/// One replica.
pub(super) struct Candidate<V> {
    identity: String,
    timing: Timing,
    held: Option<Held<V>>,
    /// Other replicas that may still write.
    claims: Claims,
    /// The last record written to take the lease: a write whose answer was lost may have succeeded.
    tried: Option<Record>,
    /// Why the last attempts failed.
    trouble: Option<LeaseError>,
}

impl<V: Clone + Send + Sync> Candidate<V> {
    pub(super) fn new(identity: &str, timing: Timing) -> Self {
        Self {
            identity: identity.to_owned(),
            timing,
            held: None,
            claims: Claims::new(timing.lease),
            tried: None,
            trouble: None,
        }
    }

    /// When the attempt that renewed the lease began; `None` when it is not held.
    pub(super) fn renewed(&self) -> Option<Instant> {
        self.held.as_ref().map(|held| held.renewed)
    }

    /// Records a renewal by an attempt that began at `began`: what was read may be that old.
    pub(super) fn renewed_at(&mut self, began: Instant) {
        self.trouble = None;
        if let Some(held) = &mut self.held {
            held.renewed = began;
        }
    }

    /// Records a failed attempt.
    pub(super) fn failed(&mut self, error: &LeaseError) {
        self.trouble = Some(error.clone());
    }

    /// Returns why the lease could not be renewed in time.
    pub(super) fn overdue(&self) -> String {
        let deadline = self.timing.renew_deadline;
        match &self.trouble {
            Some(error) => format!("it could not be renewed for {deadline:?}: {error}"),
            None => format!("it was not renewed for {deadline:?}: this process was held up"),
        }
    }

    /// Renews the lease, or takes it if that is allowed.
    pub(super) async fn look<S: LeaseStore<Version = V>>(
        &mut self,
        store: &S,
        now: Timestamp,
    ) -> Result<Attempt, LeaseError> {
        if let Some(held) = &mut self.held {
            let record = renewed(&held.record, now);
            match store.replace(&record, &held.version).await {
                Ok(version) => {
                    held.version = version;
                    held.record = record;
                    return Ok(Attempt::Holds);
                }
                Err(LeaseError::Conflict) => {}
                Err(error) => return Err(error),
            }
        }
        let read = store.read().await?;
        if self.held.is_some() {
            self.defend(store, read, now).await
        } else {
            self.stand_by(store, read, now).await
        }
    }

    /// Handles a held lease that was changed by another client.
    async fn defend<S: LeaseStore<Version = V>>(
        &mut self,
        store: &S,
        read: Option<(Record, V)>,
        now: Timestamp,
    ) -> Result<Attempt, LeaseError> {
        let Some(held) = &mut self.held else {
            return Ok(Attempt::Lost("it is not held".to_owned()));
        };
        let record = renewed(&held.record, now);
        let version = match read {
            // No replica takes it before this replica's time has expired.
            None => store.create(&record).await,
            Some((found, version)) if found.holder.as_deref() == Some(&*self.identity) => {
                store.replace(&record, &version).await
            }
            Some((found, _)) => {
                let holder = found.holder.unwrap_or_default();
                self.held = None;
                return Ok(Attempt::Lost(if holder.is_empty() {
                    "its holder was removed".to_owned()
                } else {
                    format!("{holder} holds it now")
                }));
            }
        };
        held.version = version?;
        held.record = record;
        Ok(Attempt::Holds)
    }

    /// Handles a lease that this replica does not hold.
    async fn stand_by<S: LeaseStore<Version = V>>(
        &mut self,
        store: &S,
        read: Option<(Record, V)>,
        now: Timestamp,
    ) -> Result<Attempt, LeaseError> {
        if let Some((record, version)) = &read
            && self.tried.as_ref() == Some(record)
        {
            self.hold(record.clone(), version.clone());
            return self.defend(store, read, now).await;
        }
        let found = read.as_ref().map(|(record, _)| record);
        if let Some(wait) = self.claims.observe(found, Instant::now()) {
            return Ok(Attempt::Waits(wait));
        }
        let record = Record {
            holder: Some(self.identity.clone()),
            duration: self.timing.lease,
            acquired: Some(now),
            renewed: Some(now),
            transitions: found.map_or(0, |found| found.transitions.saturating_add(1)),
            released_by: None,
        };
        self.tried = Some(record.clone());
        let taken = match &read {
            None => store.create(&record).await,
            Some((_, version)) => store.replace(&record, version).await,
        };
        match taken {
            Ok(version) => {
                self.hold(record, version);
                Ok(Attempt::Holds)
            }
            Err(LeaseError::Conflict) => Ok(Attempt::Beaten),
            Err(error) => Err(error),
        }
    }

    fn hold(&mut self, record: Record, version: V) {
        self.tried = None;
        self.held = Some(Held {
            record,
            version,
            renewed: Instant::now(),
        });
    }

    /// Releases the lease, if it is held.
    pub(super) async fn release<S: LeaseStore<Version = V>>(
        &mut self,
        store: &S,
        now: Timestamp,
    ) -> Result<(), LeaseError> {
        let Some(held) = self.held.take() else {
            return Ok(());
        };
        let record = Record {
            holder: None,
            duration: Duration::from_secs(1),
            acquired: held.record.acquired,
            renewed: Some(now),
            transitions: held.record.transitions,
            released_by: Some(self.identity.clone()),
        };
        match store.replace(&record, &held.version).await {
            // There is nothing to release.
            Ok(_) | Err(LeaseError::Conflict) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// Returns the lease renewed at `now`. Other replicas detect a renewal by a changed record, so the time
/// always changes, also when the clock stands still or steps back a little.
fn renewed(record: &Record, now: Timestamp) -> Record {
    let second = SignedDuration::from_secs(1);
    let renewed = match record.renewed {
        Some(last) if last >= now && last.duration_since(now) <= second => last
            .checked_add(SignedDuration::from_micros(1))
            .unwrap_or(now),
        _ => now,
    };
    Record {
        renewed: Some(renewed),
        ..record.clone()
    }
}
