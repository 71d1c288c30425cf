//! Encodes the data that a backend persists across restarts.
//!
//! For a node, the last phases. Bytes that this version cannot read count as empty: only history is lost, and it builds
//! up again. What is persisted of a pool is a text ([`crate::domain::eta::summary`]).

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::api::node::TimelineEntry;
use crate::api::types::Phase;

/// The last phases of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct PersistedTimeline {
    uid: Box<str>,
    /// Phase, by its place in [`Phase::ALL`], and unix seconds.
    phases: Vec<(u8, i64)>,
}

/// Encodes the timeline of the node with this UID.
#[must_use]
pub fn encode_timeline(uid: &str, timeline: &[TimelineEntry]) -> Vec<u8> {
    let phases = timeline
        .iter()
        .map(|entry| (number(entry.phase), entry.start_time.as_second()))
        .collect();
    encode(&PersistedTimeline {
        uid: uid.into(),
        phases,
    })
}

/// Decodes the timeline of the node with this UID; empty when the bytes belong to another node.
#[must_use]
pub fn decode_timeline(bytes: &[u8], uid: &str) -> Vec<TimelineEntry> {
    let Ok(persisted) = postcard::from_bytes::<PersistedTimeline>(bytes) else {
        return Vec::new();
    };
    if &*persisted.uid != uid {
        return Vec::new();
    }
    let entry = |(phase, second): (u8, i64)| {
        let phase = *Phase::ALL.get(usize::from(phase))?;
        Some(TimelineEntry::entered(
            phase,
            Timestamp::from_second(second).ok()?,
        ))
    };
    let mut timeline: Vec<TimelineEntry> = persisted.phases.into_iter().filter_map(entry).collect();
    let ends: Vec<Timestamp> = timeline
        .iter()
        .skip(1)
        .map(|next| next.start_time)
        .collect();
    for (entry, end) in timeline.iter_mut().zip(ends) {
        *entry = entry.ended(end, None);
    }
    timeline
}

/// The index in [`Phase::ALL`], whose order must not change.
fn number(phase: Phase) -> u8 {
    let place = Phase::ALL.iter().position(|each| *each == phase);
    place
        .and_then(|place| u8::try_from(place).ok())
        .unwrap_or(u8::MAX)
}

/// Encoding numbers and text cannot fail.
fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    postcard::to_allocvec(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(phase: Phase, second: i64) -> TimelineEntry {
        TimelineEntry::entered(phase, Timestamp::from_second(second).unwrap())
    }

    #[test]
    fn a_timeline_is_decoded_only_for_the_same_node() {
        let begin = |second: i64| 1_790_000_000 + 10 * second;
        let entries = (0..).zip(Phase::ALL);
        let mut timeline: Vec<TimelineEntry> = entries
            .map(|(second, phase)| {
                let next = Timestamp::from_second(begin(second + 1)).unwrap();
                entry(phase, begin(second)).ended(next, None)
            })
            .collect();
        timeline.last_mut().unwrap().duration_seconds = None;
        let bytes = encode_timeline("uid-1", &timeline);
        assert_eq!(decode_timeline(&bytes, "uid-1"), timeline);
        assert_eq!(decode_timeline(&bytes, "uid-2"), []);
    }

    #[test]
    fn unreadable_bytes_decode_as_empty() {
        assert_eq!(decode_timeline(b"\xff\xff\xff", "uid"), []);
    }
}
