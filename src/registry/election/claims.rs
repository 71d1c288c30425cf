//! Who else may still write, as far as the lease has said.
//!
//! Whoever holds the lease believes in it for less than the duration that it wrote, from its last renewal on,
//! and knows nothing of what others write into the object. So a duration that was seen once counts to its
//! end, whatever the lease says afterwards; only a holder that says itself that it has let go ends it.
//!
//! A duration that no replica can have ([`Timing::LONGEST_LEASE`]) is believed as well, but no longer than
//! the lease says so. Deliberately absent: the times in the lease, which are of somebody else's clock.

use std::time::Duration;

use tokio::time::Instant;

use super::{Record, Timing};

/// A lease that is not there at the first look may have been deleted just now. A leader that can reach it
/// looks every [`Timing::LONGEST_PAUSE`], and makes it again.
const DELETED: Duration = Duration::from_secs(3);

/// One that held the lease when it was seen.
#[derive(Debug)]
struct Claim {
    /// Empty: it is not known who.
    holder: String,
    until: Instant,
}

/// What there is to wait for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wait {
    pub(super) holder: Option<String>,
    pub(super) until: Instant,
    /// The duration that the lease names, if no replica can have it.
    pub(super) absurd: Option<Duration>,
}

/// What one replica knows of the claims of others.
#[derive(Debug)]
pub(super) struct Claims {
    /// How long the lease of this replica is: nobody's counts for less.
    least: Duration,
    /// Whether this replica has looked once.
    has_looked: bool,
    /// What was last seen, if there was a lease.
    seen: Option<Record>,
    /// Of whom the lease spoke last.
    last: Option<Claim>,
    /// When the last claim ends of those before, who have not let go.
    earlier: Option<Instant>,
    /// When the duration ends that the lease names and that no replica can have.
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

    /// Takes in what the lease says `now`; what has to be waited for, if anything.
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
            // One that did so before this process looked first, or that is not the one who was seen.
            Some(_) => {}
            // Emptied by hand: whose time goes on does not know.
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

    /// One more claim; none that there is ends earlier for it.
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
