//! What an insight shows of a drain changes seldom: while pods go one after the other, it is not written for each.

use jiff::{SignedDuration, Timestamp};

use super::{Blocker, Drain};

/// What is shown changes at most this often.
const SELDOM: SignedDuration = SignedDuration::from_secs(5);
/// Numbers and texts alone change at most this often.
const NUMBERS: SignedDuration = SignedDuration::from_secs(30);

/// What to show of the drain that was `found`, and when to look again if that is not all of it.
pub(super) fn steady(
    found: Drain,
    past: Option<&Drain>,
    now: Timestamp,
) -> (Drain, Option<Timestamp>) {
    let Some((past, shown)) = past.and_then(|past| Some((past, past.shown?))) else {
        return (found, None);
    };
    let is_same = visible(past) == visible(&found);
    let rest = if names(past) == names(&found) && !has_turned(past, &found) {
        NUMBERS
    } else {
        SELDOM
    };
    let due = shown.checked_add(rest).unwrap_or(Timestamp::MAX);
    if !is_same && due <= now {
        return (found, None);
    }
    let gone = |blocker: &Blocker| {
        let mut all = found.blockers.iter();
        let same = all.find(|other| other.key == blocker.key);
        same.and_then(|same| same.gone)
    };
    let blockers = past.blockers.iter().map(|blocker| Blocker {
        gone: gone(blocker),
        ..blocker.clone()
    });
    let kept = Drain {
        pods_left: past.pods_left,
        omitted: past.omitted,
        blockers: blockers.collect(),
        shown: past.shown,
        ..found
    };
    (kept, (!is_same).then_some(due))
}

/// Everything that the insight shows.
fn visible(drain: &Drain) -> impl PartialEq {
    let blockers = drain.blockers.iter().map(Blocker::report);
    (drain.pods_left, drain.omitted, blockers.collect::<Vec<_>>())
}

/// What holds the drain up, without numbers.
fn names(drain: &Drain) -> impl PartialEq {
    let blockers = drain.blockers.iter();
    blockers
        .map(|blocker| blocker.key.clone())
        .collect::<Vec<_>>()
}

/// Whether half of the pods have gone meanwhile, or all.
fn has_turned(past: &Drain, found: &Drain) -> bool {
    let most = found.most;
    let stage = |drain: &Drain| {
        let left = drain.pods_left.unwrap_or_default();
        (left == 0, left * 2 <= most)
    };
    past.pods_left.is_none() || stage(past) != stage(found)
}
