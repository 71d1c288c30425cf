//! What was observed of one stage: how often it ended in each bin, and for how long it was at risk of doing so.
//!
//! The ratio of the two is a hazard, so a stage that still runs counts for what it has lasted (right-censored), and one
//! that was first seen midway for what was seen of it (left-truncated). A mean of the stages that have ended would be
//! too short as long as others run. Kaplan, Meier, "Nonparametric estimation from incomplete observations", 1958.

use super::bins::{BINS, beginnings, bin_of, position};

/// More stages than this say nothing new, and would only make the pool slow to learn that something has changed.
const LIMIT: f64 = 200.0;

/// Exits and exposure by bin. An exposure of 1 is one stage that lasted through the whole bin.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct LifeTable {
    exits: [f64; BINS],
    exposure: [f64; BINS],
}

impl Default for LifeTable {
    fn default() -> Self {
        Self {
            exits: [0.0; BINS],
            exposure: [0.0; BINS],
        }
    }
}

impl LifeTable {
    /// A table of these numbers, in the order of the bins. Those below 0, or no numbers, count as 0.
    pub(super) fn of(exits: &[f64; BINS], exposure: &[f64; BINS]) -> Self {
        Self {
            exits: exits.map(|number| number.max(0.0)),
            exposure: exposure.map(|number| number.max(0.0)),
        }
    }

    /// Adds a stage that was seen to end after `duration`, and was first seen when it had lasted `seen_from`; both in
    /// seconds.
    pub(super) fn add_ended(&mut self, seen_from: f64, duration: f64) {
        if self.exits() >= LIMIT {
            self.scale(1.0 - 1.0 / LIMIT);
        }
        let to = position(duration);
        self.expose(position(seen_from), to);
        if let Some(exits) = self.exits.get_mut(bin_of(to)) {
            *exits += 1.0;
        }
    }

    /// Adds a stage that still runs, and has lasted `elapsed` seconds.
    pub(super) fn add_running(&mut self, seen_from: f64, elapsed: f64) {
        self.expose(position(seen_from), position(elapsed));
    }

    fn expose(&mut self, from: f64, to: f64) {
        let ends = beginnings().skip(1).chain([f64::INFINITY]);
        for ((begin, end), exposure) in beginnings().zip(ends).zip(&mut self.exposure) {
            *exposure += (to.min(end) - from.max(begin)).max(0.0);
        }
    }

    /// Gives everything so far this weight.
    pub(super) fn scale(&mut self, weight: f64) {
        for number in self.exits.iter_mut().chain(&mut self.exposure) {
            *number *= weight;
        }
    }

    /// Adds another table with this weight.
    pub(super) fn merge(&mut self, other: &Self, weight: f64) {
        let mine = self.exits.iter_mut().chain(&mut self.exposure);
        for (mine, other) in mine.zip(other.exits.iter().chain(&other.exposure)) {
            *mine += weight * other;
        }
    }

    /// How many stages have ended.
    #[must_use]
    pub(super) fn exits(&self) -> f64 {
        self.exits.iter().sum()
    }

    /// Exits and exposure of each bin.
    pub(super) fn bins(&self) -> impl Iterator<Item = (f64, f64)> {
        self.exits
            .iter()
            .copied()
            .zip(self.exposure.iter().copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exposure(table: &LifeTable) -> f64 {
        table.bins().map(|(_, exposure)| exposure).sum()
    }

    fn close(left: f64, right: f64) -> bool {
        (left - right).abs() < 1e-9
    }

    #[test]
    fn a_stage_that_ended_counts_once_and_for_every_bin_that_it_passed() {
        let mut table = LifeTable::default();
        table.add_ended(0.0, 100.0);
        assert!(close(table.exits(), 1.0));
        assert!(close(exposure(&table), position(100.0)));
        let passed = table.bins().filter(|(_, exposure)| close(*exposure, 1.0));
        assert_eq!(passed.count(), 12, "100 s is in the thirteenth bin");
    }

    #[test]
    fn a_running_stage_counts_for_what_it_has_lasted() {
        let mut table = LifeTable::default();
        table.add_running(0.0, 100.0);
        assert!(close(table.exits(), 0.0));
        assert!(close(exposure(&table), position(100.0)));
    }

    #[test]
    fn a_stage_first_seen_midway_counts_for_what_was_seen() {
        let mut table = LifeTable::default();
        table.add_ended(60.0, 100.0);
        assert!(close(exposure(&table), position(100.0) - position(60.0)));
    }

    #[test]
    fn a_stage_of_a_month_and_one_of_no_time_are_in_the_table() {
        let mut table = LifeTable::default();
        table.add_ended(0.0, 1e9);
        table.add_ended(0.0, 0.0);
        assert!(close(table.exits(), 2.0));
    }

    #[test]
    fn old_stages_give_way_to_new_ones() {
        let mut table = LifeTable::default();
        for _ in 0..1_000 {
            table.add_ended(0.0, 60.0);
        }
        assert!(table.exits() <= LIMIT + 1.0);
    }
}
