//! What one replica knows of the lease, and what it may do with it.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use super::claims::{Claims, Wait};
use super::{LeaseError, LeaseStore, Record, Timing};

/// What came of a look at the lease.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// This replica holds it, since the look began.
    Holds,
    /// This replica held it; why it does not any more.
    Lost(String),
    /// Another one may hold it.
    Waits(Wait),
    /// Another one was quicker: the next look says which.
    Beaten,
}

/// What this replica holds.
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
    /// Who else may still write.
    claims: Claims,
    /// What this replica last tried to take it with: an answer that got lost may have been a yes.
    tried: Option<Record>,
    /// Why the last tries failed.
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

    /// When the try began that renewed the lease; none when it is not held.
    pub(super) fn renewed(&self) -> Option<Instant> {
        self.held.as_ref().map(|held| held.renewed)
    }

    /// The lease was renewed by a try that began then: what it says may be as old.
    pub(super) fn renewed_at(&mut self, began: Instant) {
        self.trouble = None;
        if let Some(held) = &mut self.held {
            held.renewed = began;
        }
    }

    /// A try failed.
    pub(super) fn failed(&mut self, error: &LeaseError) {
        self.trouble = Some(error.clone());
    }

    /// Why the lease is lost that could not be renewed.
    pub(super) fn overdue(&self) -> String {
        let deadline = self.timing.renew_deadline;
        match &self.trouble {
            Some(error) => format!("it could not be renewed for {deadline:?}: {error}"),
            None => format!("it was not renewed for {deadline:?}: this process was held up"),
        }
    }

    /// Renews the lease, or takes it if that is right.
    pub(super) async fn look<S: LeaseStore<Version = V>>(
        &mut self,
        store: &S,
        now: Timestamp,
    ) -> Result<Verdict, LeaseError> {
        if let Some(held) = &mut self.held {
            let record = renewed(&held.record, now);
            match store.replace(&record, &held.version).await {
                Ok(version) => {
                    held.version = version;
                    held.record = record;
                    return Ok(Verdict::Holds);
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

    /// This replica holds a lease that is not as it left it.
    async fn defend<S: LeaseStore<Version = V>>(
        &mut self,
        store: &S,
        read: Option<(Record, V)>,
        now: Timestamp,
    ) -> Result<Verdict, LeaseError> {
        let Some(held) = &mut self.held else {
            return Ok(Verdict::Lost("it is not held".to_owned()));
        };
        let record = renewed(&held.record, now);
        let version = match read {
            // Nobody takes it before this replica's time is over.
            None => store.create(&record).await,
            Some((found, version)) if found.holder.as_deref() == Some(&*self.identity) => {
                store.replace(&record, &version).await
            }
            Some((found, _)) => {
                let holder = found.holder.unwrap_or_default();
                self.held = None;
                return Ok(Verdict::Lost(if holder.is_empty() {
                    "somebody has emptied it".to_owned()
                } else {
                    format!("{holder} holds it now")
                }));
            }
        };
        held.version = version?;
        held.record = record;
        Ok(Verdict::Holds)
    }

    /// This replica does not hold the lease.
    async fn stand_by<S: LeaseStore<Version = V>>(
        &mut self,
        store: &S,
        read: Option<(Record, V)>,
        now: Timestamp,
    ) -> Result<Verdict, LeaseError> {
        if let Some((record, version)) = &read
            && self.tried.as_ref() == Some(record)
        {
            self.hold(record.clone(), version.clone());
            return self.defend(store, read, now).await;
        }
        let found = read.as_ref().map(|(record, _)| record);
        if let Some(wait) = self.claims.observe(found, Instant::now()) {
            return Ok(Verdict::Waits(wait));
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
                Ok(Verdict::Holds)
            }
            Err(LeaseError::Conflict) => Ok(Verdict::Beaten),
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

    /// Lets go of the lease, if it is held.
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
            // Nothing to let go of.
            Ok(_) | Err(LeaseError::Conflict) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// The lease renewed at `now`. Others see by the record that it has changed, so it does, also by a clock that
/// stands still or steps back a little.
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
