//! What a backend keeps across restarts, as bytes.
//!
//! Of a node the last phases, of a pool how long its nodes were in each phase. Bytes that this
//! version cannot read count as none: what is lost is history, which comes again.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::api::node::TimelineEntry;
use crate::api::types::Phase;

/// Durations of a phase that are remembered of a pool: enough for a median that a few odd nodes do
/// not move, and 160 bytes.
const DURATIONS_KEPT: usize = 32;

/// The last phases of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct KeptTimeline {
    uid: Box<str>,
    /// Phase, by its place in [`Phase::ALL`], and unix seconds.
    phases: Vec<(u8, i64)>,
}

/// The timeline of the node with this UID as bytes.
#[must_use]
pub fn encode_timeline(uid: &str, timeline: &[TimelineEntry]) -> Vec<u8> {
    let phases = timeline
        .iter()
        .map(|entry| (number(entry.phase), entry.start_time.as_second()))
        .collect();
    encode(&KeptTimeline {
        uid: uid.into(),
        phases,
    })
}

/// The timeline of the node with this UID; empty when the bytes are not of it.
#[must_use]
pub fn decode_timeline(bytes: &[u8], uid: &str) -> Vec<TimelineEntry> {
    let Ok(kept) = postcard::from_bytes::<KeptTimeline>(bytes) else {
        return Vec::new();
    };
    if &*kept.uid != uid {
        return Vec::new();
    }
    let entry = |(phase, second): (u8, i64)| {
        Some(TimelineEntry {
            phase: *Phase::ALL.get(usize::from(phase))?,
            start_time: Timestamp::from_second(second).ok()?,
        })
    };
    kept.phases.into_iter().filter_map(entry).collect()
}

/// How long the nodes of a pool were in each phase, in seconds, the newest last.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PhaseDurations(BTreeMap<u8, Vec<u32>>);

impl PhaseDurations {
    /// From what was kept.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Self {
        postcard::from_bytes(bytes).unwrap_or_default()
    }

    /// As bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        encode(self)
    }

    /// A node was in this phase for so long.
    pub fn learn(&mut self, phase: Phase, seconds: u32) {
        let durations = self.0.entry(number(phase)).or_default();
        if durations.len() == DURATIONS_KEPT {
            durations.remove(0);
        }
        durations.push(seconds);
    }

    /// How often each phase was seen to end, and the median of its durations in seconds.
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

/// The place in [`Phase::ALL`], which is not to change.
fn number(phase: Phase) -> u8 {
    let place = Phase::ALL.iter().position(|each| *each == phase);
    place
        .and_then(|place| u8::try_from(place).ok())
        .unwrap_or(u8::MAX)
}

/// Numbers and text always have a form in bytes, so there is no error to speak of.
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
    fn a_timeline_comes_back_for_the_same_node_only() {
        let timeline: Vec<TimelineEntry> = (0..)
            .zip(Phase::ALL)
            .map(|(second, phase)| entry(phase, 1_790_000_000 + second))
            .collect();
        let bytes = encode_timeline("uid-1", &timeline);
        assert_eq!(decode_timeline(&bytes, "uid-1"), timeline);
        assert_eq!(decode_timeline(&bytes, "uid-2"), []);
    }

    #[test]
    fn what_cannot_be_read_is_no_history() {
        assert_eq!(decode_timeline(b"\xff\xff\xff", "uid"), []);
        assert_eq!(PhaseDurations::decode(b"\xff"), PhaseDurations::default());
    }

    #[test]
    fn the_last_durations_of_each_phase_are_kept_and_their_median_is_known() {
        let mut durations = PhaseDurations::default();
        for seconds in 0..100 {
            durations.learn(Phase::Draining, seconds);
        }
        durations.learn(Phase::Rebooting, 7);
        let kept = PhaseDurations::decode(&durations.encode());
        assert_eq!(
            kept.medians(),
            [(Phase::Draining, 32, 84), (Phase::Rebooting, 1, 7)]
        );
        assert!(kept.encode().len() < 200);
    }
}
