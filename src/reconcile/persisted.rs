//! Encodes the data that a backend persists across restarts.
//!
//! For a node, the last phases; for a pool, how long its nodes were in each phase. Bytes that this
//! version cannot read count as empty: only history is lost, and it builds up again.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::api::node::TimelineEntry;
use crate::api::types::Phase;

/// Durations stored per phase of a pool: enough for a median that a few outliers do not move, in 160 bytes.
const DURATIONS_LIMIT: usize = 32;

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
        Some(TimelineEntry {
            phase: *Phase::ALL.get(usize::from(phase))?,
            start_time: Timestamp::from_second(second).ok()?,
        })
    };
    persisted.phases.into_iter().filter_map(entry).collect()
}

/// How long the nodes of a pool were in each phase, in seconds, the newest last.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PhaseDurations(BTreeMap<u8, Vec<u32>>);

impl PhaseDurations {
    /// Decodes persisted durations.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Self {
        postcard::from_bytes(bytes).unwrap_or_default()
    }

    /// Encodes the durations.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        encode(self)
    }

    /// Records how long a node was in this phase.
    pub fn learn(&mut self, phase: Phase, seconds: u32) {
        let durations = self.0.entry(number(phase)).or_default();
        if durations.len() == DURATIONS_LIMIT {
            durations.remove(0);
        }
        durations.push(seconds);
    }

    /// Each phase with the number of its stored durations and their median in seconds.
    #[must_use]
    pub fn medians(&self) -> Vec<(Phase, usize, u32)> {
        let median = |(number, durations): (&u8, &Vec<u32>)| {
            let phase = *Phase::ALL.get(usize::from(*number))?;
            let mut sorted = durations.clone();
            sorted.sort_unstable();
            let median = *sorted.get(sorted.len() / 2)?;
            Some((phase, sorted.len(), median))
        };
        self.0.iter().filter_map(median).collect()
    }
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
        TimelineEntry {
            phase,
            start_time: Timestamp::from_second(second).unwrap(),
        }
    }

    #[test]
    fn a_timeline_is_decoded_only_for_the_same_node() {
        let timeline: Vec<TimelineEntry> = (0..)
            .zip(Phase::ALL)
            .map(|(second, phase)| entry(phase, 1_790_000_000 + second))
            .collect();
        let bytes = encode_timeline("uid-1", &timeline);
        assert_eq!(decode_timeline(&bytes, "uid-1"), timeline);
        assert_eq!(decode_timeline(&bytes, "uid-2"), []);
    }

    #[test]
    fn unreadable_bytes_decode_as_empty() {
        assert_eq!(decode_timeline(b"\xff\xff\xff", "uid"), []);
        assert_eq!(PhaseDurations::decode(b"\xff"), PhaseDurations::default());
    }

    #[test]
    fn the_last_durations_of_each_phase_and_their_median_survive_encoding() {
        let mut durations = PhaseDurations::default();
        for seconds in 0..100 {
            durations.learn(Phase::Draining, seconds);
        }
        durations.learn(Phase::Rebooting, 7);
        let decoded = PhaseDurations::decode(&durations.encode());
        assert_eq!(
            decoded.medians(),
            [(Phase::Draining, 32, 84), (Phase::Rebooting, 1, 7)]
        );
        assert!(decoded.encode().len() < 200);
    }
}
