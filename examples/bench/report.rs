//! The measurements and their targets, as a Markdown table. A missed target is reported, but is not a
//! failure.

use std::fmt::{Display, Write as _};
use std::time::Instant;

use anyhow::{Context as _, Result};

/// One row: a measurement and its target.
pub(crate) struct Row {
    measured: String,
    target: String,
    result: &'static str,
}

impl Row {
    /// A figure without a target.
    pub(crate) fn plain(measured: impl Into<String>) -> Self {
        Self {
            measured: measured.into(),
            target: String::new(),
            result: "",
        }
    }

    /// A figure with its target, and whether it is met.
    pub(crate) fn with_target(
        measured: impl Into<String>,
        target: impl Into<String>,
        is_met: bool,
    ) -> Self {
        Self {
            measured: measured.into(),
            target: target.into(),
            result: if is_met { "ok" } else { "**MISSED**" },
        }
    }

    /// The same row, with more text about the measurement.
    pub(crate) fn and(mut self, more: &str) -> Self {
        self.measured.push_str(more);
        self
    }
}

/// The rows so far.
pub(crate) struct Report {
    started: Instant,
    load: String,
    rows: Vec<(String, Row)>,
}

impl Report {
    /// An empty report of a run that begins now.
    pub(crate) fn new() -> Self {
        Self {
            started: Instant::now(),
            load: load_average(),
            rows: Vec::new(),
        }
    }

    /// Adds a row, or why it was not measured, and prints it on stderr.
    pub(crate) fn add(&mut self, what: &str, row: Result<Row>) {
        let row = row.unwrap_or_else(|error| Row {
            measured: format!("not measured: {error:#}"),
            target: String::new(),
            result: "",
        });
        progress(format_args!("{what}: {} {}", row.measured, row.result));
        self.rows.push((what.to_owned(), row));
    }

    /// Adds the error of a group of rows, if there is one.
    pub(crate) fn group(&mut self, what: &str, result: Result<()>) {
        if let Err(error) = result {
            self.add(what, Err(error));
        }
    }

    /// The table, below a line that describes it.
    pub(crate) fn markdown(&self, description: &str) -> String {
        let minutes = self.started.elapsed().as_secs().div_ceil(60);
        let mut text = format!(
            "{description} Load average before: {}; the run took {minutes} min.\n\n\
             | What | Measured | Target | |\n|---|---|---|---|\n",
            self.load
        );
        for (what, row) in &self.rows {
            let cells = [what, &row.measured, &row.target, row.result].map(cell);
            let _ = writeln!(text, "| {} |", cells.join(" | "));
        }
        text
    }
}

/// Prints a line about the progress.
pub(crate) fn progress(line: impl Display) {
    eprintln!("bench: {line}");
}

/// The text with `part` between the markers of `name`.
///
/// # Errors
/// When the markers are missing.
pub(crate) fn replace(text: &str, name: &str, part: &str) -> Result<String> {
    let begin = format!("<!-- {name}: generated -->\n");
    let end = format!("<!-- end of {name} -->");
    let (before, rest) = text
        .split_once(&begin)
        .with_context(|| format!("it has no line {:?}", begin.trim_end()))?;
    let (_, after) = rest
        .split_once(&end)
        .with_context(|| format!("it has no {end:?}"))?;
    Ok(format!("{before}{begin}\n{part}\n{end}{after}"))
}

/// A number with thousands separators.
pub(crate) fn thousands(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// The text on one line, escaped for a table cell.
fn cell(text: impl AsRef<str>) -> String {
    let words: Vec<&str> = text.as_ref().split_whitespace().collect();
    words.join(" ").replace('|', "\\|")
}

/// The load averages of the last 1, 5 and 15 minutes, to show other activity on the machine.
fn load_average() -> String {
    std::fs::read_to_string("/proc/loadavg").map_or_else(
        |_| "unknown".to_owned(),
        |text| {
            let averages: Vec<&str> = text.split(' ').take(3).collect();
            averages.join(" ")
        },
    )
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    #[test]
    fn a_missed_target_and_a_row_that_could_not_be_measured_are_reported() {
        let mut report = Report::new();
        report.add("A", Ok(Row::with_target("3 s", "≤ 2 s", false)));
        report.add("B", Err(anyhow!("a|b\nc")));
        let text = report.markdown("A run.");
        assert!(
            text.contains("| A | 3 s | ≤ 2 s | **MISSED** |\n"),
            "{text}"
        );
        assert!(
            text.contains("| B | not measured: a\\|b c |  |  |\n"),
            "{text}"
        );
    }

    #[test]
    fn only_the_part_between_the_markers_is_replaced() {
        let text = "a\n<!-- x: generated -->\nold\n<!-- end of x -->\nb\n";
        let once = replace(text, "x", "new\n").unwrap();
        assert_eq!(
            once,
            "a\n<!-- x: generated -->\n\nnew\n\n<!-- end of x -->\nb\n"
        );
        assert_eq!(replace(&once, "x", "new\n").unwrap(), once);
        assert!(replace(text, "y", "").is_err());
    }

    #[test]
    fn thousands_are_separated() {
        let texts = [0, 999, 1000, 1_234_567].map(thousands);
        assert_eq!(texts, ["0", "999", "1,000", "1,234,567"]);
    }
}
