//! Other replicas that may still write, according to the lease.
//!
//! A holder trusts its lease for less than the duration that it wrote, from its last renewal on, and
//! does not see what others write into the object. So a duration that was seen once counts until its
//! end, whatever the lease contains later; only a release by the holder itself ends it earlier.
//!
//! A duration that no replica can have ([`Timing::LONGEST_LEASE`]) counts too, but only while the lease
//! contains it. The times in the lease are not used: they are from another clock.

use std::time::Duration;

use tokio::time::Instant;

use super::{Record, Timing};

/// A lease that is missing at the first read may just have been deleted. A leader that can reach it
/// reads it every [`Timing::LONGEST_PAUSE`], and recreates it.
const DELETED: Duration = Duration::from_secs(3);

/// A holder that was seen in the lease.
#[derive(Debug)]
struct Claim {
    /// Empty if unknown.
    holder: String,
    until: Instant,
}

/// What a candidate has to wait for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wait {
    pub(super) holder: Option<String>,
    pub(super) until: Instant,
    /// The duration in the lease, if no replica can have it.
    pub(super) absurd: Option<Duration>,
}

/// The claims of other replicas, as seen by this one.
#[derive(Debug)]
pub(super) struct Claims {
    /// The lease duration of this replica: no claim counts for less.
    least: Duration,
    /// Whether this replica has read the lease.
    has_looked: bool,
    /// The last lease seen, if there was one.
    seen: Option<Record>,
    /// The last holder named by the lease.
    last: Option<Claim>,
    /// When the last of the earlier, unreleased claims ends.
    earlier: Option<Instant>,
    /// When a duration that no replica can have ends.
    absurd: Option<(Duration, Instant)>,
}

impl Claims {
    pub(super) fn new(least: Duration) -> Self {
        Self {
            least,
            has_looked: false,
            seen: None,
            last: None,
            earlier: None,
            absurd: None,
        }
    }

    /// Records the lease found `now`; returns what to wait for, if anything.
    pub(super) fn observe(&mut self, found: Option<&Record>, now: Instant) -> Option<Wait> {
        let is_first = !std::mem::replace(&mut self.has_looked, true);
        if is_first || self.seen.as_ref() != found {
            self.seen = found.cloned();
            self.change(found, is_first, now);
        }
        self.last.take_if(|claim| now >= claim.until);
        self.earlier.take_if(|until| now >= *until);
        self.absurd.take_if(|(_, until)| now >= *until);
        let ends = [
            self.last.as_ref().map(|claim| claim.until),
            self.earlier,
            self.absurd.map(|(_, until)| until),
        ];
        let holder = self.last.as_ref().map(|claim| claim.holder.clone());
        Some(Wait {
            holder: holder.filter(|holder| !holder.is_empty()),
            until: ends.into_iter().flatten().max()?,
            absurd: self.absurd.map(|(duration, _)| duration),
        })
    }

    fn change(&mut self, found: Option<&Record>, is_first: bool, now: Instant) {
        self.absurd = None;
        let Some(record) = found else {
            if is_first {
                self.claim("", now + DELETED);
            }
            return;
        };
        let holder = record.holder.as_deref().unwrap_or_default();
        let released = record.released_by.as_deref().filter(|_| holder.is_empty());
        let last = self.last.as_ref().map(|claim| claim.holder.as_str());
        match released {
            Some(by) if last == Some(by) => self.last = None,
            // Released before this process first read it, or by another replica than the one seen.
            Some(_) => {}
            // Emptied by hand: the last holder does not know, and its claim continues.
            None if holder.is_empty() && last.is_some() => {}
            None => {
                self.claim(holder, now + self.counts_for(record.duration));
                if record.duration > Timing::LONGEST_LEASE {
                    self.absurd = Some((record.duration, now + record.duration));
                }
            }
        }
    }

    fn counts_for(&self, duration: Duration) -> Duration {
        duration.min(Timing::LONGEST_LEASE).max(self.least)
    }

    /// Adds a claim; existing claims never end earlier because of it.
    fn claim(&mut self, holder: &str, until: Instant) {
        match &mut self.last {
            Some(claim) if claim.holder == holder => claim.until = claim.until.max(until),
            last => {
                let before = last.replace(Claim {
                    holder: holder.to_owned(),
                    until,
                });
                self.earlier = self.earlier.max(before.map(|claim| claim.until));
            }
        }
    }
}
